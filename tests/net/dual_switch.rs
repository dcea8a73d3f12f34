//! Switching between TCP and UDP while messages are on their way: nothing that was acknowledged is lost,
//! nothing is handled twice.

use crate::dual::{auto, until};
use crate::relay::{Link, Relay};
use crate::stream_relay::StreamRelay;
use crate::util::{Kind, LONG, certs};
use crossbeam_channel::bounded;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vstp::net::auto::AutoConfig;
use vstp::net::clock;
use vstp::proto::auto::{AutoSwitchConfig, Transport, Via};
use vstp::serve::{DualPeer, DualServerHandle};
use vstp::{Frame, VstpAutoClient, VstpDualServer};

const MS: Duration = Duration::from_millis(1);
const DWELL: Duration = Duration::from_millis(200);

/// Decides in about a second.
fn quick() -> AutoConfig {
    auto().switch(
        AutoSwitchConfig::default()
            .probe_interval(200 * MS)
            .probe_timeout(200 * MS)
            .failure_threshold(2)
            .dwell_time(DWELL)
            .cooldown(Duration::from_secs(2)),
    )
}

/// How often each message was handled, and by which transport first.
type Log = Arc<Mutex<HashMap<Vec<u8>, (usize, Transport)>>>;

fn serve(kind: Kind) -> (DualServerHandle, Log) {
    let log = Log::default();
    let mine = Arc::clone(&log);
    let server = match kind {
        Kind::Plain => VstpDualServer::bind_auto_plain("127.0.0.1:0"),
        Kind::Tls => VstpDualServer::bind_auto("127.0.0.1:0", certs().server().unwrap()),
    };
    let server = server.unwrap();
    let handle = server.spawn(move |peer: &DualPeer<'_>, frame: Frame| {
        let mut log = mine.lock().unwrap();
        let entry = log.entry(frame.payload.clone());
        entry.or_insert((0, peer.transport())).0 += 1;
        frame
            .header("correlation-id")
            .is_some()
            .then(|| Frame::data(frame.payload))
    });
    (handle.unwrap(), log)
}

/// Both transports of a server, each behind a relay, TCP the slower one.
struct Setup {
    handle: DualServerHandle,
    log: Log,
    tcp: StreamRelay,
    udp: Relay,
    client: VstpAutoClient,
}

fn setup(kind: Kind) -> Setup {
    let (handle, log) = serve(kind);
    let tcp = StreamRelay::new(handle.local_addr(), 40 * MS);
    let udp = Relay::new(handle.local_addr(), Link::default(), 1);
    let config = quick().udp_addr(Some(udp.addr));
    let client = match kind {
        Kind::Plain => VstpAutoClient::connect_auto_plain_with(tcp.addr, config),
        Kind::Tls => {
            VstpAutoClient::connect_auto_with(tcp.addr, &certs().client().unwrap(), config)
        }
    };
    let client = client.unwrap();
    assert_eq!(client.transports().is_udp_sealed, kind == Kind::Tls);
    Setup {
        handle,
        log,
        tcp,
        udp,
        client,
    }
}

#[test]
fn slow_tcp_then_dead_udp_loses_nothing_and_doubles_nothing() {
    lossless(Kind::Plain);
}

#[test]
fn slow_tcp_then_dead_sealed_udp_loses_nothing_and_doubles_nothing() {
    lossless(Kind::Tls);
}

fn lossless(kind: Kind) {
    let began = clock::now();
    let setup = setup(kind);
    let client = &setup.client;
    let done = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (done, sent) = (&done, &sent);
            scope.spawn(move || {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    let frame = Frame::data(format!("{thread}/{number}"));
                    // An error here is a message that was lost.
                    if thread % 2 == 0 {
                        client.send_with_ack(frame, Via::Auto).unwrap();
                    } else {
                        let payload = frame.payload.clone();
                        assert_eq!(client.call(frame, Via::Auto).unwrap().payload, payload);
                    }
                    number += 1;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let finish = Finish(&done);
        until(client, || client.transports().current == Transport::Udp);
        let by_udp = sent.load(Ordering::Relaxed) + 40;
        until(client, || sent.load(Ordering::Relaxed) >= by_udp);
        for cut in [&setup.udp.cut_forth, &setup.udp.cut_back] {
            cut.store(true, Ordering::Relaxed);
        }
        until(client, || client.transports().current == Transport::Tcp);
        let by_tcp = sent.load(Ordering::Relaxed) + 12;
        until(client, || sent.load(Ordering::Relaxed) >= by_tcp);
        drop(finish);
    });
    let switches = client.transports().switches;
    let most = 1 + clock::now().duration_since(began).as_millis() / DWELL.as_millis();
    assert!(switches >= 2 && u128::from(switches) <= most, "{switches}");
    let log = setup.log.lock().unwrap();
    assert_eq!(
        log.len(),
        sent.load(Ordering::Relaxed),
        "one entry for each message"
    );
    for (message, (times, _)) in log.iter() {
        assert_eq!(*times, 1, "{}", String::from_utf8_lossy(message));
    }
    for transport in [Transport::Tcp, Transport::Udp] {
        let count = log.values().filter(|(_, by)| *by == transport).count();
        assert!(count >= 10, "{count} by {transport}");
    }
    drop(log);
    drop(setup.client);
    setup.handle.shutdown(LONG);
}

/// Ends the threads of a test also when it fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The request arrives, the acknowledgement and the answer do not.
#[test]
fn an_answer_that_is_lost_on_udp_comes_by_tcp_without_handling_the_request_again() {
    let setup = setup(Kind::Tls);
    let client = &setup.client;
    until(client, || client.transports().current == Transport::Udp);
    setup.udp.cut_back.store(true, Ordering::Relaxed);
    let answer = client.call(Frame::data("once"), Via::Auto).unwrap();
    assert_eq!(answer.payload, b"once");
    client.send_with_ack(Frame::data("too"), Via::Auto).unwrap();
    let log = setup.log.lock().unwrap().clone();
    assert_eq!(log[&b"once"[..]], (1, Transport::Udp));
    assert_eq!(log[&b"too"[..]].0, 1);
    // What comes late by UDP is dropped.
    setup.udp.cut_back.store(false, Ordering::Relaxed);
    client.call(Frame::data("after"), Via::Tcp).unwrap();
    drop(setup.client);
    setup.handle.shutdown(LONG);
    let log = setup.log.lock().unwrap();
    assert!(log.values().all(|(times, _)| *times == 1), "{log:?}");
}

#[test]
fn a_request_that_is_still_being_handled_is_answered_by_tcp() {
    let (entered, entering) = bounded(10);
    let (release, released) = bounded::<()>(1);
    let server = VstpDualServer::bind_auto_plain("127.0.0.1:0").unwrap();
    let handle = server
        .spawn(move |peer: &DualPeer<'_>, frame: Frame| {
            entered.send(peer.transport()).unwrap();
            released.recv_timeout(LONG).unwrap();
            Frame::data(frame.payload)
        })
        .unwrap();
    let tcp = StreamRelay::new(handle.local_addr(), 40 * MS);
    let udp = Relay::new(handle.local_addr(), Link::default(), 1);
    let config = quick().udp_addr(Some(udp.addr));
    let client = VstpAutoClient::connect_auto_plain_with(tcp.addr, config).unwrap();
    until(&client, || client.transports().current == Transport::Udp);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.call(Frame::data("slow"), Via::Auto));
        assert_eq!(entering.recv_timeout(LONG), Ok(Transport::Udp));
        udp.cut_back.store(true, Ordering::Relaxed);
        until(&client, || client.transports().current == Transport::Tcp);
        // The request has gone over TCP too: two PINGs that are answered after that are behind it.
        let frames = client.tcp_stats().frames_received;
        until(&client, || client.tcp_stats().frames_received >= frames + 3);
        release.send(()).unwrap();
        assert_eq!(call.join().unwrap().unwrap().payload, b"slow");
    });
    drop(client);
    handle.shutdown(LONG);
    assert!(entering.try_recv().is_err(), "handled once");
}

/// The message that UDP lost is sent again by TCP, and the copy on UDP arrives much later.
#[test]
fn a_copy_that_arrives_late_is_not_handled() {
    let setup = setup(Kind::Plain);
    let client = &setup.client;
    until(client, || client.transports().current == Transport::Udp);
    setup.udp.cut_forth.store(true, Ordering::Relaxed);
    client
        .send_with_ack(Frame::data("late"), Via::Auto)
        .unwrap();
    assert_eq!(setup.log.lock().unwrap()[&b"late"[..]], (1, Transport::Tcp));
    setup.udp.cut_forth.store(false, Ordering::Relaxed);
    // UDP works again, and what is sent by it arrives.
    client.call(Frame::data("by UDP"), Via::Udp).unwrap();
    assert_eq!(setup.log.lock().unwrap()[&b"late"[..]].0, 1);
    drop(setup.client);
    setup.handle.shutdown(LONG);
}

#[test]
fn a_session_on_udp_that_ends_is_opened_again() {
    let (handle, _log) = serve(Kind::Plain);
    let udp = Relay::new(handle.local_addr(), Link::default(), 1);
    let ping = vstp::net::udp::UdpConfig::default().ping_interval(100 * MS);
    let config = quick()
        .udp_addr(Some(udp.addr))
        .udp(ping)
        .udp_retry(100 * MS);
    let client = VstpAutoClient::connect_auto_plain_with(handle.local_addr(), config).unwrap();
    for cut in [&udp.cut_forth, &udp.cut_back] {
        cut.store(true, Ordering::Relaxed);
    }
    let is_open = || client.transports().udp_status == vstp::net::auto::UdpStatus::Open;
    until(&client, || !is_open());
    client.send_with_ack(Frame::data("x"), Via::Auto).unwrap();
    for cut in [&udp.cut_forth, &udp.cut_back] {
        cut.store(false, Ordering::Relaxed);
    }
    until(&client, is_open);
    client.send_with_ack(Frame::data("y"), Via::Udp).unwrap();
    client.close().unwrap();
    handle.shutdown(LONG);
}

#[test]
fn tcp_that_becomes_fast_again_is_returned_to() {
    let setup = setup(Kind::Plain);
    let client = &setup.client;
    until(client, || client.transports().current == Transport::Udp);
    setup.tcp.set_delay(Duration::ZERO);
    for cut in [&setup.udp.cut_forth, &setup.udp.cut_back] {
        cut.store(true, Ordering::Relaxed);
    }
    until(client, || client.transports().current == Transport::Tcp);
    assert!(!client.transports().udp.is_working);
    drop(setup.client);
    setup.handle.shutdown(LONG);
}

//! Typed clients that share, keep, remake and spread their connections, against servers that go away.

use crate::limits::until;
use crate::util::{LONG, certs, config};
use crossbeam_channel::{Receiver, bounded};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use vstp::easy::{
    Balancer, BalancerConfig, CallOptions, ConnectionState, Connector, Policy, Pool, PoolConfig,
    ReconnectConfig, ReconnectingClient, ServerHandle, SharedClient, VstpServer,
};
use vstp::error::TimeoutKind;
use vstp::net::Meter;
use vstp::net::tcp::TcpConfig;
use vstp::net::{CallError, Sent};
use vstp::serve::ServerConfig;
use vstp::wire::Buffer;
use vstp::{Frame, FrameType, VstpError, encode_frame, try_decode_frame};

const NOW: Duration = Duration::ZERO;
const IDEMPOTENT: CallOptions = CallOptions::new().timeout(LONG).idempotent();

fn plain(addr: SocketAddr) -> Connector {
    Connector::plain(addr, config()).unwrap()
}

/// A server that answers with its name and the number, at this address.
fn named(name: &'static str, addr: &str) -> (ServerHandle, SocketAddr) {
    let config = ServerConfig::default().concurrency(16);
    let server = VstpServer::bind_tcp_plain(addr, config).unwrap();
    let addr = server.local_addr();
    let handler = move |n: u64| Ok::<_, String>(format!("{name} {n}"));
    (server.spawn(handler).unwrap(), addr)
}

/// A server that answers 0 when it is told to, and everything else at once.
fn slow_zero(addr: &str, go: Receiver<()>) -> (ServerHandle, SocketAddr) {
    let config = ServerConfig::default().concurrency(16);
    let server = VstpServer::bind_tcp_plain(addr, config).unwrap();
    let addr = server.local_addr();
    let handler = move |n: u64| {
        if n == 0 {
            // Not told: the test cuts the server off.
            let _ = go.recv_timeout(LONG);
        }
        Ok::<_, String>(n)
    };
    (server.spawn(handler).unwrap(), addr)
}

/// A plaintext server that speaks for itself.
struct Raw {
    listener: TcpListener,
}

struct RawConnection {
    stream: TcpStream,
    buffer: Buffer,
}

impl Raw {
    fn new() -> (Self, Connector) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let config = config().hello(false);
        (Self { listener }, Connector::plain(addr, config).unwrap())
    }

    fn accept(&self) -> RawConnection {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        RawConnection {
            stream,
            buffer: Buffer::new(),
        }
    }
}

impl RawConnection {
    /// The next request, as an answer that repeats it; `None` at the end.
    fn next(&mut self) -> Option<Frame> {
        let mut chunk = [0; 4096];
        loop {
            match try_decode_frame(&mut self.buffer, 1 << 20).unwrap() {
                Some(frame) if frame.typ == FrameType::Data => {
                    let id = frame.header("correlation-id").unwrap();
                    return Some(
                        Frame::data(frame.payload.clone()).with_header("correlation-id", id),
                    );
                }
                Some(_) => {}
                None => match self.stream.read(&mut chunk).unwrap_or(0) {
                    0 => return None,
                    len => self.buffer.extend_from_slice(&chunk[..len]),
                },
            }
        }
    }

    fn answer(&mut self) {
        let bytes = encode_frame(&self.next().unwrap()).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }
}

#[test]
fn sixteen_threads_share_a_client_and_the_fast_do_not_wait_for_the_slow() {
    let (go, wait) = bounded(1);
    let config = ServerConfig::default().concurrency(16);
    let tls = certs().server().unwrap();
    let server = VstpServer::bind_tcp_with("127.0.0.1:0", tls, config).unwrap();
    let addr = server.local_addr();
    let handler = move |n: u64| match n {
        0 => wait
            .recv_timeout(LONG)
            .map(|()| 0)
            .map_err(|e| e.to_string()),
        1 => Err("one is refused".to_owned()),
        n => Ok(n * 2),
    };
    let handle = server.spawn(handler).unwrap();
    let tls = certs().client().unwrap();
    let connector = Connector::tcp_with(addr, &tls, crate::util::config()).unwrap();
    let client = SharedClient::connect(&connector).unwrap();
    thread::scope(|scope| {
        let slow = scope.spawn(|| client.call::<u64>(&0).unwrap());
        until(|| client.tcp().call_stats().in_flight == 1, "the slow call");
        let fast: Vec<_> = (0..16_u64)
            .map(|thread| {
                let client = client.clone();
                scope.spawn(move || {
                    for n in 0..30 {
                        let n = 2 + thread * 100 + n;
                        assert_eq!(client.call::<u64>(&n).unwrap(), n * 2);
                    }
                    let failed = client.call_timeout::<u64>(&1, LONG).unwrap_err();
                    assert!(matches!(failed.error, VstpError::ServerError(_)));
                    let failed = client.call::<String>(&2).unwrap_err();
                    assert!(matches!(failed.error, VstpError::Deserialization(_)));
                    let failed = client.call::<u64>("no number").unwrap_err();
                    assert!(matches!(failed.error, VstpError::ServerError(_)));
                })
            })
            .collect();
        fast.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!slow.is_finished());
        go.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), 0);
    });
    client.close().unwrap();
    assert_eq!(handle.shutdown(LONG).stuck, 0);
}

fn number(meter: &Meter, name: &str) -> u64 {
    meter.snapshot().value(name, &[]).unwrap()
}

// The pool.

/// Connections that a pool did not keep: for their age, dead, cleared, not clean.
fn discards(meter: &Meter) -> [u64; 4] {
    let numbers = meter.snapshot();
    ["age", "dead", "cleared", "unclean"].map(|reason| {
        let labels = [("reason", reason)];
        let count = numbers.value("vstp_pool_discards_total", &labels);
        count.unwrap()
    })
}

#[test]
fn d26_a_pool_counts_what_it_uses_again_and_what_it_does_not_keep() {
    let (server, addr) = named("a", "127.0.0.1:0");
    let given = Meter::new();
    let connector = Connector::plain(addr, config().meter(given.clone())).unwrap();
    let pool = Pool::new(connector.clone());
    let opened = || number(pool.meter(), "vstp_connections_opened_total");
    let reused = || number(pool.meter(), "vstp_pool_reuses_total");
    drop([pool.get().unwrap(), pool.get().unwrap()]);
    assert_eq!(pool.call::<String>(&1).unwrap(), "a 1");
    assert_eq!((opened(), reused()), (2, 1));
    // What may still come would reach the next user.
    pool.get().unwrap().send(&2).unwrap();
    assert_eq!((opened(), reused()), (2, 2));
    assert_eq!(discards(pool.meter()), [0, 0, 0, 1]);
    pool.close_idle();
    assert_eq!(discards(pool.meter()), [0, 0, 1, 1]);
    assert_eq!(pool.call::<String>(&3).unwrap(), "a 3");
    server.shutdown(LONG);
    let (_server, _) = named("b", &addr.to_string());
    assert_eq!(pool.call::<String>(&4).unwrap(), "b 4");
    assert_eq!((opened(), reused()), (4, 2));
    assert_eq!(discards(pool.meter()), [0, 1, 1, 1]);

    let young = PoolConfig::default().max_idle_age(Duration::from_nanos(1));
    let other = Pool::with(connector, young).unwrap();
    (0..3).for_each(|n| drop(other.call::<String>(&n).unwrap()));
    assert_eq!(discards(other.meter()), [2, 0, 0, 0]);
    // What the settings give has both, and what their connections counted.
    assert_eq!(discards(&given), [2, 1, 1, 1]);
    let numbers = given.snapshot();
    let sent = [("direction", "sent"), ("type", "data")];
    assert_eq!(numbers.value("vstp_frames_total", &sent), Some(7));
    drop((pool, other));
    assert_eq!(number(&given, "vstp_connections_opened_total"), 4 + 3);
    assert_eq!(number(&given, "vstp_connections_active"), 0);
}

#[test]
fn a_pool_uses_its_connections_again_and_has_no_more_than_allowed() {
    let (server, addr) = named("a", "127.0.0.1:0");
    let pool = Pool::with(plain(addr), PoolConfig::default().max_connections(3)).unwrap();
    thread::scope(|scope| {
        for thread in 0..12_u64 {
            let pool = pool.clone();
            scope.spawn(move || {
                for n in 0..20 {
                    let n = thread * 100 + n;
                    assert_eq!(pool.call::<String>(&n).unwrap(), format!("a {n}"));
                }
            });
        }
    });
    let stats = pool.stats();
    assert!(stats.connected <= 3, "{stats:?}");
    assert_eq!(stats.connected + stats.reused, 240, "{stats:?}");
    assert_eq!((stats.in_use, stats.dead, stats.retried), (0, 0, 0));
    let stats = server.tcp().unwrap().stats();
    assert!(stats.connections_accepted <= 3);
    drop(pool);
    until(
        || server.tcp().unwrap().stats().connections_active == 0,
        "the pool has closed its connections",
    );
}

#[test]
fn a_connection_that_has_grown_old_is_not_used_again() {
    let (_server, addr) = named("a", "127.0.0.1:0");
    for (age, connected) in [(Duration::from_nanos(1), 5), (Duration::from_secs(15), 1)] {
        let config = PoolConfig::default().max_idle_age(age);
        let pool = Pool::with(plain(addr), config).unwrap();
        (0..5).for_each(|n| drop(pool.call::<String>(&n).unwrap()));
        let stats = pool.stats();
        assert_eq!((stats.connected, stats.expired), (connected, connected - 1));
        assert_eq!(stats.idle, 1);
        pool.close_idle();
        assert_eq!(pool.stats().idle, 0);
    }
    let too_old = PoolConfig::default().max_idle_age(Duration::from_secs(60));
    assert!(matches!(
        Pool::with(plain(addr), too_old),
        Err(VstpError::Config(_))
    ));
}

#[test]
fn an_exhausted_pool_is_waited_for_within_the_deadline() {
    let (_server, addr) = named("a", "127.0.0.1:0");
    let pool = Pool::with(plain(addr), PoolConfig::default().max_connections(1)).unwrap();
    let mut taken = pool.get().unwrap();
    assert_eq!(taken.call::<String>(&1).unwrap(), "a 1");
    let failed = pool.get_timeout(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(failed, VstpError::Timeout(TimeoutKind::Connect)));
    let options = CallOptions::new().timeout(Duration::from_millis(20));
    let failed = pool.call_with::<String>(&2, options).unwrap_err();
    assert_eq!(failed.sent, Sent::No);
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.call::<String>(&3).unwrap());
        drop(taken);
        assert_eq!(waits.join().unwrap(), "a 3");
    });
    assert_eq!(pool.stats().connected, 1);
}

#[test]
fn a_connection_with_which_more_was_done_is_not_used_again() {
    let (_server, addr) = named("a", "127.0.0.1:0");
    let pool = Pool::new(plain(addr));
    for n in 1..4 {
        let mut client = pool.get().unwrap();
        // Its answer will come when the next user waits for his.
        client.send(&n).unwrap();
        drop(client);
        assert_eq!(pool.stats().idle, 0);
    }
    let mut client = pool.get().unwrap();
    assert!(client.call::<u64>(&1).is_err(), "an answer of another type");
    drop(client);
    assert_eq!(pool.stats().idle, 1, "was answered all the same");
    assert_eq!(pool.stats().connected, 4);
}

#[test]
fn an_idle_connection_that_died_costs_no_call() {
    let (server, addr) = named("old", "127.0.0.1:0");
    let pool = Pool::new(plain(addr));
    let clients: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    drop(clients);
    assert_eq!(pool.stats().idle, 3);
    server.shutdown(LONG);
    let (_server, _) = named("new", &addr.to_string());
    assert_eq!(pool.call::<String>(&1).unwrap(), "new 1");
    let stats = pool.stats();
    assert_eq!((stats.dead, stats.connected, stats.retried), (3, 4, 0));
}

#[test]
fn e13_a_server_that_is_more_impatient_than_the_pool_costs_no_call() {
    let tcp = TcpConfig::default().idle_timeout(Some(Duration::from_secs(1)));
    let settings = ServerConfig::default().tcp(tcp);
    let server = VstpServer::bind_tcp_plain("127.0.0.1:0", settings).unwrap();
    let addr = server.local_addr();
    let server = server.spawn(|n: u64| Ok::<_, String>(n)).unwrap();
    let pool = Pool::new(plain(addr));
    for n in 1..3 {
        // Not idempotent, and yet none fails.
        assert_eq!(pool.call::<u64>(&n).unwrap(), n);
        let active = || server.tcp().unwrap().stats().connections_active;
        until(|| active() == 0, "the server has ended it");
        assert_eq!(pool.stats().idle, 1, "which the pool has not looked at yet");
    }
    let stats = pool.stats();
    assert_eq!((stats.connected, stats.dead, stats.retried), (2, 1, 0));
}

#[test]
fn a_reused_connection_that_dies_under_a_call_is_replaced_once_where_that_is_safe() {
    for (options, is_safe) in [(IDEMPOTENT, true), (CallOptions::new(), false)] {
        let (raw, connector) = Raw::new();
        let pool = Pool::new(connector);
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut first = raw.accept();
                first.answer();
                // The second request has arrived when this ends.
                first.next().unwrap();
                drop(first);
                if is_safe {
                    raw.accept().answer();
                }
            });
            assert_eq!(pool.call::<u64>(&1).unwrap(), 1);
            let second = pool.call_with::<u64>(&2, options);
            server.join().unwrap();
            if is_safe {
                assert_eq!(second.unwrap(), 2);
            } else {
                let failed = second.unwrap_err();
                assert_eq!(failed.sent, Sent::Yes);
                assert!(failed.error.is_closed());
            }
        });
        assert_eq!(pool.stats().retried, u64::from(is_safe));
        let retried = number(pool.meter(), "vstp_call_retries_total");
        assert_eq!(retried, u64::from(is_safe));
    }
}

#[test]
fn a_call_is_not_made_again_after_a_byte_of_its_answer_nor_on_a_new_connection() {
    for is_reused in [true, false] {
        let (raw, connector) = Raw::new();
        let pool = Pool::new(connector);
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut connection = raw.accept();
                if is_reused {
                    connection.answer();
                }
                let answer = encode_frame(&connection.next().unwrap()).unwrap();
                if is_reused {
                    connection.stream.write_all(&answer[..1]).unwrap();
                }
            });
            if is_reused {
                assert_eq!(pool.call::<u64>(&1).unwrap(), 1);
            }
            let failed = pool.call_with::<u64>(&2, IDEMPOTENT).unwrap_err();
            server.join().unwrap();
            assert_eq!(failed.sent, Sent::Yes);
        });
        assert_eq!(pool.stats().retried, 0);
        assert_eq!(pool.stats().in_use, 0);
    }
}

// Reconnecting.

/// Short times, and what it told of.
fn reconnecting(connector: Connector) -> (ReconnectingClient, Arc<Mutex<Vec<&'static str>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let config = ReconnectConfig::default()
        .backoff(Duration::from_millis(1), Duration::from_millis(50))
        .seed(1)
        .on_state(move |state| {
            let name = match state {
                ConnectionState::Connecting => "connecting",
                ConnectionState::Connected => "connected",
                ConnectionState::Lost { .. } => "lost",
                ConnectionState::Failed { .. } => "failed",
                ConnectionState::Closed => "closed",
                _ => "?",
            };
            let mut told = tell.lock().unwrap();
            // Repeated attempts are one.
            if !(told.ends_with(&["failed"]) && matches!(name, "connecting" | "failed")) {
                told.push(name);
            }
        });
    (ReconnectingClient::with(connector, config).unwrap(), told)
}

#[test]
fn a_client_comes_back_when_its_server_does_and_tells_of_it() {
    let (stuck, wait) = bounded(1);
    let (server, addr) = slow_zero("127.0.0.1:0", wait);
    let (client, told) = reconnecting(plain(addr));
    assert_eq!(client.call::<u64>(&1).unwrap(), 1);
    thread::scope(|scope| {
        let ends = scope.spawn(|| client.call::<u64>(&0).unwrap_err());
        let comes_back = scope.spawn(|| client.call_with::<u64>(&0, IDEMPOTENT).unwrap());
        until(
            || server.tcp().unwrap().stats().frames_in == 3,
            "both requests at the server",
        );
        // Killed in the middle of both.
        server.shutdown(NOW);
        drop(stuck);
        let failed: CallError = ends.join().unwrap();
        assert_eq!(failed.sent, Sent::Yes);
        assert!(failed.error.is_closed(), "{failed:?}");
        until(
            || matches!(client.state(), ConnectionState::Failed { .. }),
            "nobody listens",
        );
        let options = CallOptions::new().timeout(Duration::from_millis(20));
        let failed = client.call_with::<u64>(&2, options).unwrap_err();
        assert_eq!(failed.sent, Sent::No);
        assert!(matches!(
            failed.error,
            VstpError::Timeout(TimeoutKind::Connect)
        ));

        let (go, wait) = bounded(1);
        let (server, _) = slow_zero(&addr.to_string(), wait);
        assert_eq!(client.call::<u64>(&3).unwrap(), 3, "waits for the server");
        until(
            || server.tcp().unwrap().stats().frames_in == 2,
            "the idempotent request came again",
        );
        assert_eq!(number(client.meter(), "vstp_reconnects_total"), 1);
        assert_eq!(number(client.meter(), "vstp_call_retries_total"), 1);
        go.send(()).unwrap();
        assert_eq!(comes_back.join().unwrap(), 0);
        assert_eq!(client.connected_count(), 2);
        let clone = client.clone();
        drop(clone);
        assert_eq!(client.call::<u64>(&4).unwrap(), 4);
        server.shutdown(LONG);
    });
    drop(client);
    let told = told.lock().unwrap();
    let expected = [
        "connecting",
        "connected",
        "lost",
        "connecting",
        "failed",
        "connected",
        "lost",
    ];
    assert_eq!(&told[..expected.len()], expected, "{told:?}");
    assert_eq!(told.last(), Some(&"closed"));
}

#[test]
fn a_server_may_come_after_its_clients() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (client, _) = reconnecting(plain(addr));
    thread::scope(|scope| {
        let waits = scope.spawn(|| client.call::<String>(&1).unwrap());
        until(
            || matches!(client.state(), ConnectionState::Failed { .. }),
            "nobody listens",
        );
        let (_server, _) = named("late", &addr.to_string());
        assert_eq!(waits.join().unwrap(), "late 1");
    });
}

#[test]
fn the_loss_of_a_quiet_connection_is_noticed_without_a_call() {
    let (server, addr) = named("a", "127.0.0.1:0");
    let (client, _) = reconnecting(plain(addr));
    assert_eq!(client.call::<String>(&1).unwrap(), "a 1");
    server.shutdown(LONG);
    until(
        || !matches!(client.state(), ConnectionState::Connected),
        "the loss",
    );
    let (_server, _) = named("b", &addr.to_string());
    // Not idempotent, and yet it need not fail: it has not been sent.
    assert_eq!(client.call::<String>(&2).unwrap(), "b 2");
}

#[test]
fn a_server_that_accepts_and_dies_is_not_hammered() {
    let (raw, connector) = Raw::new();
    let config = ReconnectConfig::default().seed(3);
    let client = ReconnectingClient::with(connector, config).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                drop(raw.listener.accept().unwrap());
                count += 1;
            }
            count
        });
        let options = CallOptions::new()
            .timeout(Duration::from_secs(1))
            .idempotent();
        client.call_with::<u64>(&1, options).unwrap_err();
        done.store(true, Ordering::Relaxed);
        let accepted = accepting.join().unwrap();
        // Up to 100 ms, then 200, 400 and so on: whatever the load, no more than a few.
        assert!(accepted < 30, "{accepted} connections in a second or so");
    });
}

#[test]
fn a_client_that_is_dropped_while_nobody_listens_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (client, told) = reconnecting(plain(addr));
    until(
        || matches!(client.state(), ConnectionState::Failed { .. }),
        "nobody listens",
    );
    drop(client);
    assert_eq!(told.lock().unwrap().last(), Some(&"closed"));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let connector = || plain(SocketAddr::from(([127, 0, 0, 1], 1)));
    let zero = ReconnectConfig::default().backoff(NOW, LONG);
    assert!(ReconnectingClient::with(connector(), zero).is_err());
    let reversed = ReconnectConfig::default().backoff(LONG, Duration::from_secs(1));
    assert!(ReconnectingClient::with(connector(), reversed).is_err());
    assert!(Pool::with(connector(), PoolConfig::default().max_connections(0)).is_err());
    assert!(Balancer::new([]).is_err());
    let never = BalancerConfig::default().max_failures(0);
    assert!(Balancer::with([connector()], never).is_err());
    assert!(Connector::plain("", TcpConfig::default()).is_err());
}

// Several servers.

fn balancer(addrs: &[SocketAddr], policy: Policy) -> Balancer {
    let config = BalancerConfig::default()
        .policy(policy)
        .backoff(Duration::from_millis(1), Duration::from_millis(50))
        .probe_timeout(Duration::from_secs(10))
        .check_interval(Duration::from_millis(50));
    Balancer::with(addrs.iter().map(|addr| plain(*addr)), config).unwrap()
}

fn all_up(balancer: &Balancer) {
    until(|| balancer.stats().iter().all(|b| b.is_up), "all are up");
}

#[test]
fn a_server_that_is_killed_and_restarted_under_load_costs_the_calls_on_it() {
    const THREADS: usize = 8;
    for policy in [Policy::RoundRobin, Policy::LeastOutstanding] {
        let names = ["a", "b", "c"];
        let mut servers: Vec<_> = names
            .iter()
            .map(|name| named(name, "127.0.0.1:0"))
            .collect();
        let addrs: Vec<_> = servers.iter().map(|(_, addr)| *addr).collect();
        let balancer = balancer(&addrs, policy);
        all_up(&balancer);
        let (done, right) = (AtomicBool::new(false), AtomicUsize::new(0));
        let errors = Mutex::new(Vec::new());
        let answered = |index: usize| balancer.stats()[index].answered;
        thread::scope(|scope| {
            for thread in 0..THREADS as u64 {
                let (balancer, done, right, errors) = (balancer.clone(), &done, &right, &errors);
                scope.spawn(move || {
                    let mut n = thread << 32;
                    while !done.load(Ordering::Relaxed) {
                        n += 1;
                        // Every second one may be made again.
                        let options = if n % 2 == 0 {
                            IDEMPOTENT
                        } else {
                            CallOptions::new()
                        };
                        match balancer.call_with::<String>(&n, options) {
                            Ok(answer) => {
                                let (name, number) = answer.split_once(' ').unwrap();
                                assert!(names.contains(&name));
                                assert_eq!(number, n.to_string(), "the answer to another");
                                right.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(failed) => errors.lock().unwrap().push((n, failed)),
                        }
                    }
                });
            }
            until(|| (0..3).all(|index| answered(index) > 20), "load on all");
            let (server, addr) = servers.remove(1);
            server.shutdown(NOW);
            until(|| !balancer.stats()[1].is_up, "it is left alone");
            let before = (answered(0), answered(2));
            until(
                || answered(0) > before.0 + 20 && answered(2) > before.1 + 20,
                "the others serve on",
            );
            let before = answered(1);
            servers.insert(1, named("b", &addr.to_string()));
            until(|| answered(1) > before + 20, "traffic returns");
            done.store(true, Ordering::Relaxed);
        });
        let errors = errors.into_inner().unwrap();
        assert!(errors.len() <= THREADS, "{errors:?}");
        for (n, failed) in &errors {
            assert!(n % 2 == 1, "an idempotent call failed: {failed:?}");
            assert_ne!(failed.sent, Sent::No, "it could have been made again");
        }
        let stats = balancer.stats();
        assert!(stats[1].ejected >= 1 && stats[0].ejected + stats[2].ejected == 0);
        assert!(stats.iter().all(|backend| backend.outstanding == 0));
        let total: u64 = stats.iter().map(|backend| backend.answered).sum();
        assert_eq!(total, right.into_inner() as u64);
        let number = |name| number(balancer.meter(), name);
        assert_eq!(number("vstp_backend_ejections_total"), stats[1].ejected);
        assert_eq!(number("vstp_backend_returns_total"), stats[1].ejected);
    }
}

#[test]
fn d26_a_balancer_counts_retries_and_backends_that_go_and_return() {
    let (raw, connector) = Raw::new();
    let given = Meter::new();
    let (_server, addr) = named("good", "127.0.0.1:0");
    let good = Connector::plain(addr, config().meter(given.clone())).unwrap();
    let config = BalancerConfig::default()
        .policy(Policy::RoundRobin)
        .backoff(Duration::from_millis(1), Duration::from_millis(50))
        .check_interval(LONG)
        .probe_timeout(LONG);
    let balancer = Balancer::with([connector, good], config).unwrap();
    let number = |name| number(balancer.meter(), name);
    let counted = || {
        [
            number("vstp_call_retries_total"),
            number("vstp_backend_ejections_total"),
            number("vstp_backend_returns_total"),
        ]
    };
    // A backend that answers PING, takes a request, and is gone.
    let first = pong(raw.accept().stream);
    all_up(&balancer);
    assert_eq!(counted(), [0, 0, 0]);
    thread::scope(|scope| {
        let goes = scope.spawn(|| {
            let mut first = RawConnection {
                stream: first,
                buffer: Buffer::new(),
            };
            first.next().unwrap();
        });
        let answer = balancer.call_with::<String>(&1, IDEMPOTENT).unwrap();
        assert_eq!(answer, "good 1", "made again on the other");
        goes.join().unwrap();
    });
    assert_eq!(counted(), [1, 1, 0]);
    let _second = pong(raw.accept().stream);
    all_up(&balancer);
    assert_eq!(counted(), [1, 1, 1]);
    // Two connections to the one, one to the other, and all of it where the settings say.
    assert_eq!(number("vstp_connections_opened_total"), 3);
    let numbers = given.snapshot();
    assert_eq!(numbers.value("vstp_connections_opened_total", &[]), Some(3));
    assert_eq!(numbers.value("vstp_backend_returns_total", &[]), Some(1));
}

#[test]
fn a_backend_with_another_meter_counts_there() {
    let (_server, addr) = named("a", "127.0.0.1:0");
    let meters = [Meter::new(), Meter::new()];
    let backend = |meter: &Meter| Connector::plain(addr, config().meter(meter.clone())).unwrap();
    let balancer = Balancer::new(meters.iter().map(backend)).unwrap();
    all_up(&balancer);
    let opened = |meter: &Meter| number(meter, "vstp_connections_opened_total");
    assert_eq!(meters.each_ref().map(opened), [1, 1]);
    assert_eq!(opened(balancer.meter()), 1, "the first one's");
}

#[test]
fn round_robin_gives_each_server_its_share() {
    let servers: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| named(name, "127.0.0.1:0"))
        .collect();
    let addrs: Vec<_> = servers.iter().map(|(_, addr)| *addr).collect();
    let balancer = balancer(&addrs, Policy::RoundRobin);
    all_up(&balancer);
    let names: BTreeSet<_> = (0..3)
        .map(|n| balancer.call::<String>(&n).unwrap())
        .collect();
    assert_eq!(names.len(), 3);
    assert_eq!(
        balancer
            .stats()
            .iter()
            .map(|b| b.answered)
            .collect::<Vec<_>>(),
        [1, 1, 1]
    );
}

#[test]
fn least_outstanding_goes_around_a_slow_server() {
    let (go, wait) = bounded(1);
    let (_slow, slow) = slow_zero("127.0.0.1:0", wait.clone());
    let (_fast, fast) = slow_zero("127.0.0.1:0", wait);
    let balancer = balancer(&[slow, fast], Policy::LeastOutstanding);
    all_up(&balancer);
    thread::scope(|scope| {
        let waits = scope.spawn(|| balancer.call::<u64>(&0).unwrap());
        let busy = || balancer.stats().iter().position(|b| b.outstanding == 1);
        until(|| busy().is_some(), "a slow call");
        let busy = busy().unwrap();
        (1..50).for_each(|n| assert_eq!(balancer.call::<u64>(&n).unwrap(), n));
        assert_eq!(balancer.stats()[busy].answered, 0);
        go.send(()).unwrap();
        assert_eq!(waits.join().unwrap(), 0);
    });
}

#[test]
fn a_server_that_does_not_answer_is_left_alone_until_it_answers_pings() {
    let (raw, connector) = Raw::new();
    let (_server, addr) = named("good", "127.0.0.1:0");
    let config = BalancerConfig::default()
        .policy(Policy::RoundRobin)
        .max_failures(2)
        .backoff(Duration::from_millis(1), Duration::from_millis(50))
        .check_interval(LONG)
        .probe_timeout(Duration::from_millis(200));
    let silent = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let silent_addr = raw.listener.local_addr().unwrap();
    thread::scope(|scope| {
        // Answers PING unless it is silent, and never a request.
        scope.spawn(|| {
            let mut open = Vec::new();
            while let Ok((stream, _)) = raw.listener.accept() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                if !silent.load(Ordering::Relaxed) {
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    open.push(pong(stream));
                } else {
                    open.push(stream);
                }
            }
        });
        let balancer = Balancer::with([connector, plain(addr)], config).unwrap();
        all_up(&balancer);
        silent.store(true, Ordering::Relaxed);
        let options = CallOptions::new().timeout(Duration::from_millis(100));
        let mut timeouts = 0;
        for n in 0..20 {
            match balancer.call_with::<String>(&n, options) {
                Ok(answer) => assert_eq!(answer, format!("good {n}")),
                Err(failed) => {
                    assert!(failed.error.is_timeout());
                    timeouts += 1;
                }
            }
        }
        assert!(
            (2..8).contains(&timeouts),
            "{timeouts} calls on the silent one"
        );
        let stats = balancer.stats();
        assert!(!stats[0].is_up && stats[1].is_up, "{stats:?}");
        silent.store(false, Ordering::Relaxed);
        until(|| balancer.stats()[0].is_up, "a probe succeeds");
        drop(balancer);
        done.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(silent_addr));
    });
}

/// Answers one PING.
fn pong(mut stream: TcpStream) -> TcpStream {
    let mut buffer = Buffer::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = try_decode_frame(&mut buffer, 1 << 20).unwrap() {
            let pong = Frame::new(FrameType::Pong).with_payload(frame.payload);
            let _ = stream.write_all(&encode_frame(&pong).unwrap());
            return stream;
        }
        match stream.read(&mut chunk) {
            Ok(len) if len > 0 => buffer.extend_from_slice(&chunk[..len]),
            _ => return stream,
        }
    }
}

#[test]
fn a_call_that_was_not_sent_waits_for_a_backend_to_come_back() {
    let (server, addr) = named("old", "127.0.0.1:0");
    let balancer = balancer(&[addr], Policy::RoundRobin);
    assert_eq!(balancer.call::<String>(&1).unwrap(), "old 1");
    server.shutdown(LONG);
    thread::scope(|scope| {
        let waits = scope.spawn(|| balancer.call::<String>(&2));
        until(|| !balancer.stats()[0].is_up, "the loss");
        let (_server, _) = named("new", &addr.to_string());
        // It was written before the loss was seen, or it waited.
        match waits.join().unwrap() {
            Ok(answer) => assert_eq!(answer, "new 2"),
            Err(failed) => assert_eq!(failed.sent, Sent::Yes),
        }
        assert_eq!(balancer.call::<String>(&3).unwrap(), "new 3");
    });
}

#[test]
fn without_any_server_calls_end_in_time_and_are_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let balancer = balancer(&[addr, addr], Policy::RoundRobin);
    let options = CallOptions::new().timeout(Duration::from_millis(50));
    let failed = balancer.call_with::<u64>(&1, options).unwrap_err();
    assert_eq!(failed.sent, Sent::No);
    assert!(matches!(
        failed.error,
        VstpError::Timeout(TimeoutKind::Connect)
    ));
}

/// Threads, descriptors: both back to what they were after each kind of client, used and dropped.
#[test]
fn f10_dropped_clients_leave_nothing_behind() {
    const NAME: &str = "resilient::f10_dropped_clients_leave_nothing_behind";
    if std::env::var_os("VSTP_CHILD").is_none() {
        // Other tests of this binary come and go; so it is done in a process of its own.
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env("VSTP_CHILD", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let count =
        |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).map_or(0, Iterator::count);
    let cycle = || {
        let (a, addr_a) = named("a", "127.0.0.1:0");
        let (b, addr_b) = named("b", "127.0.0.1:0");
        let shared = SharedClient::connect(&plain(addr_a)).unwrap();
        let pool = Pool::new(plain(addr_a));
        let (reconnecting, _) = reconnecting(plain(addr_b));
        let balancer = balancer(&[addr_a, addr_b], Policy::RoundRobin);
        all_up(&balancer);
        thread::scope(|scope| {
            for n in 0..4_u64 {
                let (shared, pool, reconnecting, balancer) =
                    (&shared, &pool, &reconnecting, &balancer);
                scope.spawn(move || {
                    shared.call::<String>(&n).unwrap();
                    pool.call::<String>(&n).unwrap();
                    reconnecting.call::<String>(&n).unwrap();
                    balancer.call::<String>(&n).unwrap();
                });
            }
        });
        // One server goes before its clients, the other after them.
        b.shutdown(LONG);
        drop((shared, pool, reconnecting, balancer));
        let report = a.shutdown(LONG);
        assert_eq!((report.cut_off, report.stuck), (0, 0));
    };
    cycle();
    let before = (count("task"), count("fd"));
    (0..10).for_each(|_| cycle());
    until(
        || (count("task"), count("fd")) <= before,
        "threads and descriptors are back",
    );
}

#[test]
fn a_client_that_has_given_up_makes_no_call_wait() {
    // Whoever connects is turned away.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let config = ReconnectConfig::default()
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .give_up_on(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("which means no"),
            number => number == 2,
        });
    let connector = plain(listener.local_addr().unwrap());
    let client = ReconnectingClient::with(connector, config).unwrap();
    for _ in 0..3 {
        drop(listener.accept().unwrap());
    }
    for _ in 0..2 {
        let failed = client.call_with::<u64>(&1, IDEMPOTENT).unwrap_err();
        assert_eq!(failed.sent, Sent::No);
        assert!(matches!(failed.error, VstpError::ConnectionClosed(_)));
    }
    assert!(matches!(client.state(), ConnectionState::GaveUp { .. }));
    drop(client);
    assert_eq!(seen.load(Ordering::Relaxed), 3);
    // Nobody connects any more.
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

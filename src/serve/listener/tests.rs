//! The listening socket on real addresses: waking, restarting, binding twice.

use super::*;
use crate::net::clock;
use crate::serve::accept::run;
use crate::serve::lifecycle::Lifecycle;
use crate::serve::stats::Counters;
use crate::serve::testing::{LONG, Task, task};
use crossbeam_channel::{Receiver, bounded};
use std::io::{Read, Write};
use std::sync::Arc;

/// 200 ms, and what a busy machine adds.
const WAKE: Duration = Duration::from_millis(700);

/// An accept loop on a thread of its own.
struct Running {
    lifecycle: Lifecycle,
    acceptor: Arc<TcpAcceptor>,
    conns: Receiver<TcpStream>,
    task: Task<io::Result<()>>,
}

/// Starts the loop; returns when it is about to accept.
fn start(acceptor: TcpAcceptor) -> Running {
    let acceptor = Arc::new(acceptor);
    let lifecycle = Lifecycle::new();
    let (send, conns) = bounded(100);
    let (ready, is_ready) = bounded(1);
    let (listener, inside) = (Arc::clone(&acceptor), lifecycle.clone());
    let task = task(move || {
        let counters = Counters::default();
        let before = || {
            // Only the first is waited for.
            let _ = ready.try_send(());
            Some(())
        };
        let on_conn = |(), conn, _| send.send_timeout(conn, LONG).unwrap();
        run(&*listener, &inside, before, on_conn, &counters)
    });
    is_ready.recv_timeout(LONG).unwrap();
    Running {
        lifecycle,
        acceptor,
        conns,
        task,
    }
}

impl Running {
    /// Ends the loop and returns how long that took.
    fn stop(self, wake: bool) -> Duration {
        let begin = clock::now();
        self.lifecycle.begin_drain(begin + LONG);
        if wake {
            self.acceptor.wake();
        }
        self.task.wait().unwrap();
        clock::now() - begin
    }
}

fn acceptor(addr: &str, waiting: Waiting) -> io::Result<TcpAcceptor> {
    let listener = TcpAcceptor::bind(addr, DEFAULT_BACKLOG)?.listener;
    TcpAcceptor::with_waiting(listener, waiting)
}

fn ways() -> Vec<Waiting> {
    if cfg!(target_os = "linux") {
        vec![Waiting::Blocked, Waiting::Polling]
    } else {
        vec![Waiting::Polling]
    }
}

fn connect(running: &Running) -> TcpStream {
    let mut addr = running.acceptor.local_addr().unwrap();
    if addr.ip().is_unspecified() {
        addr.set_ip([127, 0, 0, 1].into());
    }
    let stream = TcpStream::connect_timeout(&addr, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

#[test]
fn f02_a_blocked_accept_wakes_on_every_address() {
    for addr in ["0.0.0.0:0", "127.0.0.1:0", "[::1]:0"] {
        for waiting in ways() {
            let acceptor = match acceptor(addr, waiting) {
                Ok(acceptor) => acceptor,
                Err(error) if addr == "[::1]:0" => {
                    eprintln!("skipped, {addr} cannot be bound: {error}");
                    continue;
                }
                Err(error) => panic!("{addr}: {error}"),
            };
            // First by the tick alone; after a wake-up the socket is of no use.
            for wake in [false, true] {
                let listener = acceptor.listener.try_clone().unwrap();
                let took = start(TcpAcceptor { listener, waiting }).stop(wake);
                assert!(took < WAKE, "{addr} {waiting:?} wake={wake}: {took:?}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn f02_the_wake_up_does_not_need_the_tick() {
    let acceptor = acceptor("127.0.0.1:0", Waiting::Blocked).unwrap();
    SockRef::from(&acceptor.listener)
        .set_read_timeout(Some(LONG))
        .unwrap();
    let took = start(acceptor).stop(true);
    assert!(took < WAKE, "{took:?}");
}

#[test]
fn f04_waking_twice_and_after_the_end_is_harmless() {
    let running = start(TcpAcceptor::bind("127.0.0.1:0", 1).unwrap());
    let acceptor = Arc::clone(&running.acceptor);
    running.lifecycle.begin_drain(clock::now() + LONG);
    acceptor.wake();
    assert!(running.stop(true) < WAKE);
    acceptor.wake();
}

#[test]
fn connections_come_through_and_inherit_nothing() {
    for waiting in ways() {
        let running = start(acceptor("0.0.0.0:0", waiting).unwrap());
        let mut client = connect(&running);
        let mut server = running.conns.recv_timeout(LONG).unwrap();
        assert_eq!(server.read_timeout().unwrap(), None, "{waiting:?}");
        #[cfg(unix)]
        assert!(
            !SockRef::from(&server).nonblocking().unwrap(),
            "{waiting:?}"
        );
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        server.set_read_timeout(Some(LONG)).unwrap();
        server.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        running.stop(true);
    }
}

#[test]
fn a_reset_before_accept_does_not_end_the_loop() {
    let acceptor = TcpAcceptor::bind("127.0.0.1:0", DEFAULT_BACKLOG).unwrap();
    let addr = acceptor.local_addr().unwrap();
    for _ in 0..20 {
        let gone = TcpStream::connect_timeout(&addr, LONG).unwrap();
        // Closing with a linger of zero sends RST.
        SockRef::from(&gone)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    let running = start(acceptor);
    let client = connect(&running);
    let mine = client.local_addr().unwrap();
    // Those that were reset may be handed over, or not.
    loop {
        let server = running.conns.recv_timeout(LONG).unwrap();
        if server.peer_addr().is_ok_and(|peer| peer == mine) {
            break;
        }
    }
    running.stop(true);
}

#[test]
fn f09_a_restart_on_the_same_port_needs_no_wait() {
    // An address of its own, so that no other test can be given the port meanwhile.
    let host = if cfg!(target_os = "linux") {
        "127.47.11.9"
    } else {
        "127.0.0.1"
    };
    let running = start(TcpAcceptor::bind((host, 0), DEFAULT_BACKLOG).unwrap());
    let port = running.acceptor.local_addr().unwrap().port();
    let mut client = connect(&running);
    let server = running.conns.recv_timeout(LONG).unwrap();
    // The side that closes first is the one left in TIME_WAIT.
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    running.stop(true);

    let again = start(TcpAcceptor::bind((host, port), DEFAULT_BACKLOG).unwrap());
    connect(&again);
    again.conns.recv_timeout(LONG).unwrap();

    let twice = TcpAcceptor::bind((host, port), DEFAULT_BACKLOG).unwrap_err();
    assert_eq!(twice.kind(), io::ErrorKind::AddrInUse);
    again.stop(true);
}

#[test]
fn f09_a_port_is_never_shared() {
    let one = TcpAcceptor::bind("127.0.0.1:0", DEFAULT_BACKLOG).unwrap();
    #[cfg(target_os = "linux")]
    assert!(!SockRef::from(&one.listener).reuse_port().unwrap());
    let taken = one.local_addr().unwrap();
    let error = TcpAcceptor::bind(taken, DEFAULT_BACKLOG).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    // The first address that can be bound is taken.
    let free: SocketAddr = ([127, 0, 0, 1], 0).into();
    let two = TcpAcceptor::bind(&[taken, free][..], DEFAULT_BACKLOG).unwrap();
    assert_ne!(two.local_addr().unwrap(), taken);
    let none: &[SocketAddr] = &[];
    let error = TcpAcceptor::bind(none, DEFAULT_BACKLOG).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

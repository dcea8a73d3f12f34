//! The accept loop against scripted listeners: each errno, back-off, shutdown.

use super::*;
use crate::serve::permits::{Permit, Permits};
use crate::serve::testing::{LONG, task};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

fn soon() -> Instant {
    clock::now() + LONG
}

fn peer() -> SocketAddr {
    ([192, 0, 2, 1], 7).into()
}

/// Answers as its script says; at its end it begins the shutdown, so that every test ends.
struct Script {
    steps: Mutex<VecDeque<Step>>,
    lifecycle: Lifecycle,
    counters: Counters,
}

enum Step {
    Conn(u32),
    Error(io::Error),
    /// The server begins to shut down while `accept` waits; then the answer comes.
    Shutdown(Box<Self>),
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: Mutex::new(steps.into_iter().collect()),
            lifecycle: Lifecycle::new(),
            counters: Counters::default(),
        }
    }

    /// Runs the loop to the end of the script: its result and the connections handed over.
    fn run(&self) -> (io::Result<()>, Vec<u32>) {
        let mut conns = Vec::new();
        let result = run(
            self,
            &self.lifecycle,
            || Some(()),
            |(), conn, from| {
                assert_eq!(from, peer());
                conns.push(conn);
            },
            &self.counters,
        );
        (result, conns)
    }

    fn answer(&self, step: Step) -> io::Result<(u32, SocketAddr)> {
        match step {
            Step::Conn(conn) => Ok((conn, peer())),
            Step::Error(error) => Err(error),
            Step::Shutdown(then) => {
                self.lifecycle.begin_drain(soon());
                self.answer(*then)
            }
        }
    }
}

impl Listener for Script {
    type Conn = u32;

    fn accept(&self) -> io::Result<(u32, SocketAddr)> {
        let step = self.steps.lock().unwrap().pop_front();
        self.answer(step.unwrap_or_else(|| {
            Step::Shutdown(Box::new(Step::Error(io::ErrorKind::WouldBlock.into())))
        }))
    }
}

fn kind(kind: io::ErrorKind) -> io::Error {
    kind.into()
}

#[cfg(unix)]
mod errno {
    use super::*;
    use rustix::io::Errno;

    fn raw(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    const SHORT: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    const PEER: &[Errno] = &[
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PROTO,
        Errno::PERM,
        Errno::CONNRESET,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ];
    const BROKEN: [Errno; 3] = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK];

    #[test]
    fn e02_a_shortage_does_not_end_the_loop() {
        for errno in SHORT {
            let script = Script::new([
                Step::Conn(1),
                Step::Error(raw(errno)),
                Step::Error(raw(errno)),
                Step::Conn(2),
            ]);
            let begin = clock::now();
            let (result, conns) = script.run();
            result.unwrap();
            assert_eq!(conns, [1, 2], "{errno}");
            assert_eq!(script.counters.snapshot().accept_errors_resources, 2);
            let took = clock::now() - begin;
            assert!(took >= Duration::from_millis(10 + 20), "{errno}: {took:?}");
        }
    }

    #[test]
    fn e03_an_error_of_one_connection_does_not_end_the_loop() {
        for &errno in PEER {
            let script = Script::new([
                Step::Error(raw(errno)),
                Step::Error(raw(errno)),
                Step::Error(raw(errno)),
                Step::Conn(1),
            ]);
            let (result, conns) = script.run();
            result.unwrap();
            assert_eq!(conns, [1], "{errno}");
            let stats = script.counters.snapshot();
            assert_eq!(stats.accept_errors_connection, 3, "{errno}");
            assert_eq!(stats.accept_errors_resources, 0, "{errno}: no pause");
        }
    }

    #[test]
    fn e03_a_broken_listener_ends_the_loop_with_its_error() {
        for errno in BROKEN {
            let script = Script::new([Step::Conn(1), Step::Error(raw(errno)), Step::Conn(2)]);
            let (result, conns) = script.run();
            let error = result.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
            assert_eq!(conns, [1]);
            assert_eq!(script.counters.snapshot().accept_errors_listener, 1);
        }
    }

    #[test]
    fn e03_after_shutdown_it_ends_quietly() {
        for errno in BROKEN {
            let broken = Step::Error(raw(errno));
            let script = Script::new([Step::Shutdown(Box::new(broken)), Step::Conn(1)]);
            let (result, conns) = script.run();
            result.unwrap();
            assert_eq!(conns, [0_u32; 0]);
            assert_eq!(script.counters.snapshot().accept_errors_listener, 0);
        }
    }

    #[test]
    fn an_unknown_error_pauses_and_goes_on() {
        let script = Script::new([Step::Error(raw(Errno::IO)), Step::Conn(1)]);
        assert_eq!(script.run().1, [1]);
        assert_eq!(script.counters.snapshot().accept_errors_resources, 1);
    }

    /// Always out of descriptors; tells of each call.
    struct Short {
        called: Sender<()>,
    }

    impl Listener for Short {
        type Conn = ();

        fn accept(&self) -> io::Result<((), SocketAddr)> {
            self.called.send_timeout((), LONG).unwrap();
            Err(raw(Errno::MFILE))
        }
    }

    #[test]
    fn e02_shutdown_ends_the_pause() {
        let (called, calls) = bounded(100);
        let lifecycle = Lifecycle::new();
        let inside = lifecycle.clone();
        let running = task(move || {
            let counters = Counters::default();
            run(
                &Short { called },
                &inside,
                || Some(()),
                |(), (), _| {},
                &counters,
            )
        });
        // After the seventh call the pause is 640 ms.
        let begin = clock::now();
        for _ in 0..7 {
            calls.recv_timeout(LONG).unwrap();
        }
        let took = clock::now() - begin;
        assert!(took >= Duration::from_millis(630), "no busy loop: {took:?}");
        let begin = clock::now();
        lifecycle.begin_drain(soon());
        running.wait().unwrap();
        let took = clock::now() - begin;
        assert!(took < Duration::from_millis(500), "{took:?}");
    }

    #[test]
    fn an_endless_error_of_connections_does_not_use_up_a_core() {
        let errors = (0..10 * Errors::MANY).map(|_| Step::Error(raw(Errno::OPNOTSUPP)));
        let script = Script::new(errors);
        let begin = clock::now();
        script.run().0.unwrap();
        let took = clock::now() - begin;
        assert!(took >= Duration::from_millis(10 * 10), "{took:?}");
    }
}

#[test]
fn pauses_double_up_to_a_second_and_begin_again() {
    let mut errors = Errors::default();
    let pauses: Vec<_> = (0..9).map(|_| errors.backoff.next().as_millis()).collect();
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    errors.reset();
    assert_eq!(errors.backoff.next().as_millis(), 10);
}

#[test]
fn errors_without_a_number_are_told_by_their_kind() {
    use io::ErrorKind as Kind;
    for (kind, class) in [
        (Kind::WouldBlock, Class::Tick),
        (Kind::TimedOut, Class::Tick),
        (Kind::ConnectionAborted, Class::Connection),
        (Kind::ConnectionReset, Class::Connection),
        (Kind::Interrupted, Class::Connection),
        (Kind::OutOfMemory, Class::Resources),
        (Kind::Other, Class::Resources),
        (Kind::InvalidInput, Class::Listener),
    ] {
        assert_eq!(classify(&kind.into()), class, "{kind:?}");
    }
}

#[test]
fn ticks_are_no_errors() {
    let script = Script::new([
        Step::Error(kind(io::ErrorKind::WouldBlock)),
        Step::Error(kind(io::ErrorKind::TimedOut)),
        Step::Conn(1),
    ]);
    assert_eq!(script.run().1, [1]);
    let stats = script.counters.snapshot();
    let errors = stats.accept_errors_connection + stats.accept_errors_resources;
    assert_eq!((errors, stats.connections_accepted), (0, 1));
}

#[test]
fn f06_a_connection_that_comes_with_the_shutdown_is_refused_whole() {
    let script = Script::new([Step::Conn(1), Step::Shutdown(Box::new(Step::Conn(2)))]);
    let permits = Permits::new(5);
    let mut held = Vec::new();
    run(
        &script,
        &script.lifecycle,
        || permits.try_acquire(),
        |permit, conn, _| held.push((permit, conn)),
        &script.counters,
    )
    .unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(permits.in_use(), 1, "the second one's is free again");
    let stats = script.counters.snapshot();
    assert_eq!(
        (stats.connections_accepted, stats.refused_shutting_down),
        (2, 1)
    );
}

/// Connections without end; counts how many were taken.
struct Endless {
    taken: Arc<AtomicU64>,
}

impl Listener for Endless {
    type Conn = u64;

    fn accept(&self) -> io::Result<(u64, SocketAddr)> {
        Ok((self.taken.fetch_add(1, Ordering::SeqCst), peer()))
    }
}

#[test]
fn e01_nothing_is_accepted_without_a_permit() {
    let taken = Arc::new(AtomicU64::new(0));
    let listener = Endless {
        taken: Arc::clone(&taken),
    };
    let (permits, lifecycle) = (Permits::new(2), Lifecycle::new());
    let (send, conns): (_, Receiver<(Permit, u64)>) = bounded(100);
    let (before, inside) = (permits.clone(), lifecycle.clone());
    let running = task(move || {
        run(
            &listener,
            &inside,
            || before.acquire(&inside),
            |permit, conn, _| send.send_timeout((permit, conn), LONG).unwrap(),
            &Counters::default(),
        )
    });
    let (first, number) = conns.recv_timeout(LONG).unwrap();
    let _second = conns.recv_timeout(LONG).unwrap();
    assert_eq!(number, 0);
    assert!(conns.recv_timeout(Duration::from_millis(30)).is_err());
    assert_eq!(
        taken.load(Ordering::SeqCst),
        2,
        "the third stays in the backlog"
    );
    drop(first);
    let _third = conns.recv_timeout(LONG).unwrap();
    assert_eq!(taken.load(Ordering::SeqCst), 3);
    // Full, and shut down while it waits for a permit.
    lifecycle.begin_drain(soon());
    running.wait().unwrap();
    assert_eq!(permits.high_water(), 2);
}

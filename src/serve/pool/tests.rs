//! The pool: bounds, panics, stuck jobs, joining.

use super::*;
use crate::serve::lifecycle::Lifecycle;
use crate::serve::testing::{LONG, task, until};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::panic::{panic_any, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize};

fn pool(max_workers: usize) -> Pool {
    Pool::new(PoolConfig {
        max_workers,
        ..PoolConfig::default()
    })
}

fn soon() -> Instant {
    clock::now() + LONG
}

/// Fills one worker until the sender is dropped; returns when the job has begun.
fn occupy(pool: &Pool) -> Sender<()> {
    let (release, wait) = bounded::<()>(0);
    let (begun, began) = bounded(1);
    pool.execute(move || {
        begun.send(()).unwrap();
        // A deadline, so that a failed test does not leave the thread behind for ever.
        let _ = wait.recv_timeout(LONG);
    })
    .unwrap();
    began.recv_timeout(LONG).unwrap();
    release
}

/// What `job` returns on a worker.
fn ask<T: Send + 'static>(pool: &Pool, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (send, answer) = bounded(1);
    pool.execute(move || send.send(job()).unwrap()).unwrap();
    answer
}

fn name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

#[test]
fn workers_are_named_and_know_their_pool() {
    let (one, other) = (pool(2), pool(2));
    assert!(!one.on_worker());
    let (a, b) = (one.clone(), other.clone());
    let answer = ask(&one, move || (name(), a.on_worker(), b.on_worker()));
    let (name, own, foreign) = answer.recv_timeout(LONG).unwrap();
    assert_eq!(name, "vstp-conn-1");
    assert!(own && !foreign);
    assert_eq!(one.join(soon()) + other.join(soon()), 0);
}

#[test]
fn an_idle_worker_is_used_again() {
    let pool = pool(8);
    let mut names = Vec::new();
    for _ in 0..100 {
        names.push(ask(&pool, name).recv_timeout(LONG).unwrap());
        until("the worker is idle", || pool.busy() == 0);
    }
    assert!(names.iter().all(|name| name == "vstp-conn-1"), "{names:?}");
    assert_eq!((pool.workers(), pool.started()), (1, 1));
}

#[test]
fn a_full_pool_gives_the_job_back_at_once() {
    let pool = pool(2);
    let held = [occupy(&pool), occupy(&pool)];
    let token = Arc::new(());
    let job = {
        let token = Arc::clone(&token);
        move || drop(token)
    };
    let refused = pool.execute(job).unwrap_err();
    assert!(matches!(refused.reason, RefusedReason::Full));
    assert_eq!(Arc::strong_count(&token), 2, "the job is whole");
    (refused.job)();
    assert_eq!(Arc::strong_count(&token), 1);
    drop(held);
    assert_eq!(pool.join(soon()), 0);
}

#[test]
fn idle_workers_end_after_a_while() {
    struct AtExit(Sender<()>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    thread_local!(static EXIT: Cell<Option<AtExit>> = const { Cell::new(None) });
    let pool = Pool::new(PoolConfig {
        idle: Duration::from_millis(5),
        ..PoolConfig::default()
    });
    let (exit, exited) = bounded(1);
    pool.execute(move || EXIT.set(Some(AtExit(exit)))).unwrap();
    exited.recv_timeout(LONG).unwrap();
    assert_eq!(pool.workers(), 0);
    // And the next job gets a new one.
    assert_eq!(ask(&pool, name).recv_timeout(LONG).unwrap(), "vstp-conn-2");
}

#[test]
fn e04_a_thread_that_cannot_start_gives_the_job_back() {
    let broken = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&broken);
    let spawner = move |builder: thread::Builder, body: Job| {
        if seen.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        builder.spawn(body)
    };
    let config = PoolConfig {
        max_workers: 1,
        ..PoolConfig::default()
    };
    let pool = Pool::with_spawner(config, Box::new(spawner));
    let token = Arc::new(());
    for _ in 0..10 {
        let inside = Arc::clone(&token);
        let refused = pool.execute(move || drop(inside)).unwrap_err();
        let RefusedReason::Spawn(error) = &refused.reason else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(Arc::strong_count(&token), 2, "the job is whole");
        assert_eq!(pool.workers(), 0, "the place is free again");
    }
    broken.store(false, Ordering::SeqCst);
    assert!(ask(&pool, || true).recv_timeout(LONG).unwrap());
    assert_eq!(pool.join(soon()), 0);
}

#[test]
fn e10_a_thousand_panics_leave_the_pool_as_it_was() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            resume_unwind(Box::new("in drop"));
        }
    }
    let pool = pool(4);
    // All four, so that a worker that dies would be replaced under a new number.
    let held: Vec<_> = (0..4).map(|_| occupy(&pool)).collect();
    drop(held);
    until("all are idle", || pool.busy() == 0);
    for number in 0..1000_u64 {
        let panics = move || match number % 4 {
            0 if number < 20 => panic!("as usual"),
            1 if number < 20 => panic_any(PanicsInDrop),
            2 => resume_unwind(Box::new(PanicsInDrop)),
            3 => {
                let _dropped_while_it_returns = PanicsInDrop;
            }
            _ => resume_unwind(Box::new(number)),
        };
        pool.execute(panics).unwrap();
        until("it has panicked", || pool.panics() == number + 1);
        until("the worker is idle", || pool.busy() == 0);
    }
    assert_eq!((pool.workers(), pool.started()), (4, 4));
    assert!(ask(&pool, || true).recv_timeout(LONG).unwrap());
    assert_eq!(pool.join(soon()), 0);
}

#[test]
fn e11_one_free_worker_of_four_still_serves() {
    let pool = pool(4);
    let stuck: Vec<_> = (0..3).map(|_| occupy(&pool)).collect();
    for number in 0..100 {
        assert_eq!(ask(&pool, move || number).recv_timeout(LONG), Ok(number));
        until("the fourth is idle", || pool.busy() == 3);
    }
    assert_eq!(pool.workers(), 4);
    drop(stuck);
    assert_eq!(pool.join(soon()), 0);
}

#[test]
fn f05_join_counts_the_stuck_and_leaves_them() {
    let pool = pool(4);
    let stuck = [occupy(&pool), occupy(&pool)];
    ask(&pool, || ()).recv_timeout(LONG).unwrap();
    until("the third is idle", || pool.busy() == 2);
    let begin = clock::now();
    assert_eq!(pool.join(begin + Duration::from_millis(100)), 2);
    let took = clock::now() - begin;
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert!(took < Duration::from_millis(300) + LONG / 20, "{took:?}");
    assert!(matches!(
        pool.execute(|| ()).unwrap_err().reason,
        RefusedReason::Closed
    ));
    assert_eq!(pool.join(clock::now()), 2, "it can be asked again");
    drop(stuck);
    assert_eq!(pool.join(soon()), 0, "and they end by themselves");
    assert_eq!(pool.workers(), 0);
}

#[test]
fn f04_join_twice_at_once_and_from_workers() {
    let pool = pool(4);
    // Two workers and two others, all at once: nobody waits for a worker that waits.
    let barrier = Arc::new(std::sync::Barrier::new(4));
    let from_workers: Vec<_> = (0..2)
        .map(|_| {
            let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
            ask(&pool.clone(), move || {
                barrier.wait();
                pool.join(soon())
            })
        })
        .collect();
    let from_outside: Vec<_> = (0..2)
        .map(|_| {
            let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
            task(move || {
                barrier.wait();
                pool.join(soon())
            })
        })
        .collect();
    for answer in from_workers {
        assert_eq!(answer.recv_timeout(LONG), Ok(0));
    }
    for answer in from_outside {
        assert_eq!(answer.wait(), 0);
    }
    assert_eq!(pool.join(soon()), 0);
    assert_eq!(pool.workers(), 0);
}

#[test]
fn f04_join_on_a_worker_waits_for_the_others_only() {
    let pool = pool(2);
    let release = occupy(&pool);
    let inside = pool.clone();
    let late = ask(&pool, move || {
        inside.join(clock::now() + Duration::from_millis(20))
    });
    assert_eq!(late.recv_timeout(LONG), Ok(1), "the other one, not itself");
    drop(release);
    assert_eq!(pool.join(soon()), 0);
}

#[test]
fn f06_every_job_taken_is_run_and_none_after_the_end() {
    for round in 0..200 {
        let pool = pool(3);
        let ran = Arc::new(AtomicUsize::new(0));
        let makers: Vec<_> = (0..2)
            .map(|_| {
                let (pool, ran) = (pool.clone(), Arc::clone(&ran));
                task(move || {
                    let mut taken = 0;
                    loop {
                        let ran = Arc::clone(&ran);
                        let job = move || {
                            ran.fetch_add(1, Ordering::SeqCst);
                        };
                        match pool.execute(job).map_err(|refused| refused.reason) {
                            Ok(()) => taken += 1,
                            Err(RefusedReason::Full) => thread::yield_now(),
                            Err(RefusedReason::Closed) => return taken,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        until("some have run", || ran.load(Ordering::SeqCst) > round % 20);
        assert_eq!(pool.join(soon()), 0);
        let taken: usize = makers.into_iter().map(|maker| maker.wait()).sum();
        assert_eq!(ran.load(Ordering::SeqCst), taken);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn f10_two_hundred_starts_and_stops_leave_no_thread() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        let names = tasks.filter_map(name);
        names.filter(|name| name.starts_with("vstp-f10-")).count()
    };
    for _ in 0..200 {
        let pool = Pool::new(PoolConfig {
            name: "vstp-f10-",
            ..PoolConfig::default()
        });
        let held = [occupy(&pool), occupy(&pool), occupy(&pool)];
        // A listing may miss a thread while others of the process come and go.
        until("three threads are listed", || threads() == 3);
        drop(held);
        assert_eq!(pool.join(soon()), 0);
        // The kernel may list a thread for a moment after it was joined.
        until("no thread is left", || threads() == 0);
    }
}

#[test]
fn join_returns_after_the_threads_have_ended() {
    struct AtExit(Arc<AtomicUsize>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            // Time for a join that does not wait for this to return too early.
            thread::yield_now();
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local!(static EXIT: Cell<Option<AtExit>> = const { Cell::new(None) });
    for _ in 0..100 {
        let pool = pool(3);
        let exits = Arc::new(AtomicUsize::new(0));
        let held = [occupy(&pool), occupy(&pool)];
        let exit = AtExit(Arc::clone(&exits));
        ask(&pool, move || EXIT.set(Some(exit)))
            .recv_timeout(LONG)
            .unwrap();
        drop(held);
        assert_eq!(pool.join(soon()), 0);
        assert_eq!(exits.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn f11_the_last_handle_dropped_on_a_worker_closes_the_pool() {
    let pool = pool(2);
    let shared = Arc::downgrade(&pool.owner.shared);
    let idle = ask(&pool, || ());
    idle.recv_timeout(LONG).unwrap();
    let (go, wait) = bounded::<()>(1);
    let inside = pool.clone();
    let (done, ended) = bounded(1);
    pool.execute(move || {
        wait.recv_timeout(LONG).unwrap();
        drop(inside);
        done.send(()).unwrap();
    })
    .unwrap();
    drop(pool);
    go.send(()).unwrap();
    ended.recv_timeout(LONG).unwrap();
    until("every worker has ended", || shared.strong_count() == 0);
}

#[test]
fn f11_a_handle_dropped_while_a_thread_panics() {
    let pool = pool(2);
    let (_held, watched) = (occupy(&pool), Arc::downgrade(&pool.owner));
    let result = catch_unwind(AssertUnwindSafe(move || {
        let _pool = pool;
        resume_unwind(Box::new(()));
    }));
    assert!(result.is_err());
    assert_eq!(watched.strong_count(), 0);
}

#[test]
fn a_pause_on_a_worker_ends_with_the_server() {
    let (pool, lifecycle) = (pool(1), Lifecycle::new());
    let inside = lifecycle.clone();
    let paused = ask(&pool, move || inside.wait_change(LONG));
    lifecycle.begin_drain(soon());
    assert_eq!(paused.recv_timeout(LONG), Ok(true));
    assert_eq!(pool.join(soon()), 0);
}

//! The semaphore: exact counts, waiting, shutdown.

use super::*;
use crate::net::clock;
use crate::serve::testing::{LONG, task, until};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn permits_are_freed_exactly_on_drop() {
    let permits = Permits::new(2);
    let one = permits.try_acquire().unwrap();
    let two = permits.try_acquire().unwrap();
    assert!(permits.try_acquire().is_none());
    assert_eq!(permits.in_use(), 2);
    drop(one);
    assert_eq!(permits.in_use(), 1);
    let three = permits.try_acquire().unwrap();
    drop((two, three));
    assert_eq!((permits.in_use(), permits.high_water()), (0, 2));
}

#[test]
fn e01_a_full_limit_waits_for_the_next_permit() {
    let permits = Permits::new(1);
    let held = permits.try_acquire().unwrap();
    let waiting = {
        let permits = permits.clone();
        task(move || permits.acquire(&Lifecycle::new()))
    };
    assert!(waiting.is_busy_for(Duration::from_millis(20)));
    drop(held);
    assert!(waiting.wait().is_some());
    assert_eq!(permits.in_use(), 0);
}

#[test]
fn shutdown_ends_every_wait() {
    let permits = Permits::new(0);
    let lifecycle = Lifecycle::new();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let (permits, lifecycle) = (permits.clone(), lifecycle.clone());
            task(move || permits.acquire(&lifecycle).is_none())
        })
        .collect();
    // So that they wait and do not just find the server ended.
    for waiter in &waiting {
        assert!(waiter.is_busy_for(Duration::from_millis(20)));
    }
    lifecycle.begin_drain(clock::now() + LONG);
    assert!(waiting.into_iter().all(|waiter| waiter.wait()));
    let free = Permits::new(1);
    assert!(
        free.acquire(&lifecycle).is_none(),
        "a server that ends takes nothing"
    );
}

#[test]
fn the_end_of_one_server_keeps_no_wake_up_from_another() {
    for _ in 0..100 {
        let permits = Permits::new(1);
        let held = permits.try_acquire().unwrap();
        let (ends, runs) = (Lifecycle::new(), Lifecycle::new());
        let waiter = |lifecycle: &Lifecycle| {
            let (permits, lifecycle) = (permits.clone(), lifecycle.clone());
            task(move || permits.acquire(&lifecycle).is_some())
        };
        let (first, second) = (waiter(&ends), waiter(&runs));
        let freed = task(move || drop(held));
        ends.close();
        freed.wait();
        first.wait();
        assert!(second.wait(), "a free permit and nobody takes it");
    }
}

#[test]
fn many_threads_never_exceed_the_limit() {
    let permits = Permits::new(3);
    let holders = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (permits, holders) = (permits.clone(), Arc::clone(&holders));
            task(move || {
                let lifecycle = Lifecycle::new();
                for _ in 0..500 {
                    let permit = permits.acquire(&lifecycle).expect("the server runs");
                    assert!(holders.fetch_add(1, Ordering::SeqCst) < 3);
                    holders.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| task.wait());
    assert_eq!(permits.in_use(), 0);
    assert!(permits.high_water() <= 3);
}

#[test]
fn a_panic_frees_the_permit() {
    let permits = Permits::new(1);
    let permit = permits.try_acquire().unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _permit = permit;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(result.is_err());
    until("the permit is free", || permits.in_use() == 0);
}

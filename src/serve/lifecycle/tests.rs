//! The lifecycle: it only moves forward, and every wait sees it.

use super::*;
use crate::serve::testing::{LONG, task};
use std::sync::atomic::AtomicUsize;

fn soon() -> Instant {
    clock::now() + LONG
}

#[test]
fn phases_only_go_forward() {
    let lifecycle = Lifecycle::new();
    let deadline = soon();
    assert!(lifecycle.is_running());
    assert_eq!(lifecycle.drain_deadline(), None);
    assert!(lifecycle.begin_drain(deadline));
    assert!(!lifecycle.is_running());
    assert_eq!(lifecycle.phase(), Phase::Draining { deadline });
    assert!(lifecycle.close());
    assert!(!lifecycle.close());
    assert!(!lifecycle.begin_drain(deadline));
    assert_eq!(lifecycle.phase(), Phase::Closed);
    assert!(!lifecycle.is_running());
}

#[test]
fn f04_an_earlier_deadline_wins() {
    let lifecycle = Lifecycle::new();
    let (early, late) = (soon(), soon() + LONG);
    lifecycle.begin_drain(late);
    assert!(
        !lifecycle.begin_drain(early),
        "only one call leaves Running"
    );
    assert_eq!(lifecycle.drain_deadline(), Some(early));
    lifecycle.begin_drain(late);
    assert_eq!(lifecycle.drain_deadline(), Some(early));
}

#[test]
fn f04_concurrent_shutdown_has_one_winner_and_frees_every_waiter() {
    for _ in 0..50 {
        let lifecycle = Lifecycle::new();
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let lifecycle = lifecycle.clone();
                task(move || lifecycle.wait_closed(Some(soon())))
            })
            .collect();
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let lifecycle = lifecycle.clone();
                task(move || (lifecycle.begin_drain(soon()), lifecycle.close()))
            })
            .collect();
        let results: Vec<_> = callers.into_iter().map(|caller| caller.wait()).collect();
        // A close may come before every begin_drain, which then changes nothing.
        assert!(results.iter().filter(|result| result.0).count() <= 1);
        assert_eq!(results.iter().filter(|result| result.1).count(), 1);
        assert!(waiters.into_iter().all(|waiter| waiter.wait()));
    }
}

#[test]
fn waiting_for_the_end_gives_up_at_the_deadline() {
    let lifecycle = Lifecycle::new();
    assert!(!lifecycle.wait_closed(Some(clock::now() + Duration::from_millis(5))));
    lifecycle.begin_drain(soon());
    assert!(
        !lifecycle.wait_closed(Some(clock::now())),
        "draining is not closed"
    );
}

#[test]
fn a_pause_ends_with_the_server_and_does_not_begin_after_it() {
    let lifecycle = Lifecycle::new();
    assert!(!lifecycle.wait_change(Duration::from_millis(5)));
    let paused = {
        let lifecycle = lifecycle.clone();
        task(move || lifecycle.wait_change(Duration::MAX))
    };
    lifecycle.begin_drain(soon());
    assert!(paused.wait());
    // Would hang if the phase at entry were what the pause waits to change.
    let late = lifecycle.clone();
    assert!(task(move || late.wait_change(Duration::MAX)).wait());
}

#[test]
fn waiting_for_another_phase_ends_with_each_step() {
    let lifecycle = Lifecycle::new();
    let step = |seen: Phase| {
        let lifecycle = lifecycle.clone();
        task(move || lifecycle.wait_other(seen, Some(soon())))
    };
    let deadline = soon();
    let draining = step(Phase::Running);
    lifecycle.begin_drain(deadline);
    assert_eq!(draining.wait(), Phase::Draining { deadline });
    let closed = step(Phase::Draining { deadline });
    lifecycle.close();
    assert_eq!(closed.wait(), Phase::Closed);
}

#[test]
fn watchers_are_told_once_per_change_while_they_live() {
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Watcher for Count {
        fn phase_changed(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let lifecycle = Lifecycle::new();
    let count = Arc::new(Count::default());
    let watcher: Arc<dyn Watcher> = count.clone();
    lifecycle.watch(&watcher);
    lifecycle.watch(&watcher);
    let gone: Arc<dyn Watcher> = Arc::new(Count::default());
    lifecycle.watch(&gone);
    drop(gone);
    lifecycle.begin_drain(soon());
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    lifecycle.close();
    lifecycle.close();
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    lifecycle.watch(&watcher);
    assert_eq!(lifecycle.lock().watchers.len(), 1, "the dead one is gone");
}

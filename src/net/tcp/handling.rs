//! [`Handling`]: which handlers of a connection are running, and since when.
//!
//! One runs on the thread of the connection; a server with concurrency runs others beside it. Their
//! number is bounded, and whoever ends the session waits for them, so that their answers go before its
//! goodbye. It starts no thread: [`crate::serve`] does.

use crate::metrics::TimeLane;
use crate::net::{Meter, clock};
use crate::proto::tally::Times;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Handling {
    /// The handler on the thread of the connection.
    pub(crate) own: Box<HandlerClock>,
    /// The others, each at its place; none unless the server has concurrency.
    others: OnceLock<Box<[HandlerClock]>>,
    /// Protects the places; no other lock is taken inside it.
    places: Mutex<Places>,
    /// A place became free, or nobody shall wait any more.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Places {
    free: Vec<usize>,
    taken: usize,
    /// Threads that wait for a change. Waking nobody costs a system call all the same.
    waiting: usize,
    given_up: bool,
}

impl Handling {
    /// Lets so many handlers run beside the thread of the connection; called once.
    pub(crate) fn allow(&self, count: usize) {
        let clocks = (0..count).map(|_| HandlerClock::default()).collect();
        if self.others.set(clocks).is_ok() {
            self.lock().free = (0..count).collect();
        }
    }

    /// Takes a place, as soon as one is free; `None` once the connection is given up.
    pub(crate) fn take(&self) -> Option<usize> {
        let mut places = self.lock();
        loop {
            if places.given_up {
                return None;
            }
            if let Some(place) = places.free.pop() {
                places.taken += 1;
                return Some(place);
            }
            places = self.wait(places, None);
        }
    }

    /// Gives a place back.
    pub(crate) fn give_back(&self, place: usize) {
        let mut places = self.lock();
        places.free.push(place);
        places.taken -= 1;
        let is_awaited = places.waiting > 0;
        drop(places);
        if is_awaited {
            self.changed.notify_all();
        }
    }

    /// The clock of the handler at a place.
    pub(crate) fn clock(&self, place: usize) -> &HandlerClock {
        let others = self.others.get().and_then(|clocks| clocks.get(place));
        others.unwrap_or(&self.own)
    }

    /// Waits until no handler runs beside the thread of the connection, or the connection is given up.
    /// With a deadline it waits for the handlers of a connection that was given up as well; `false` when
    /// they still run then.
    pub(crate) fn wait_idle(&self, until: Option<Instant>) -> bool {
        let mut places = self.lock();
        while places.taken > 0 {
            places = match until {
                None if places.given_up => return false,
                None => self.wait(places, None),
                Some(at) => {
                    let left = at.saturating_duration_since(clock::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.wait(places, Some(left))
                }
            };
        }
        true
    }

    /// The connection is over: nobody waits for a place, or to say goodbye.
    pub(crate) fn give_up(&self) {
        self.lock().given_up = true;
        self.changed.notify_all();
    }

    /// The clocks of all handlers, running or not.
    pub(crate) fn clocks(&self) -> impl Iterator<Item = &HandlerClock> {
        let others = self.others.get().map_or(&[][..], |clocks| clocks);
        std::iter::once(&*self.own).chain(others)
    }

    /// How long all of them took so far, if that is counted.
    pub(crate) fn times(&self) -> Times {
        let mut all = self.own.times.times();
        for clock in self.others.get().map_or(&[][..], |clocks| clocks) {
            all.add(&clock.times.times());
        }
        all
    }

    fn wait<'a>(
        &'a self,
        mut places: MutexGuard<'a, Places>,
        left: Option<Duration>,
    ) -> MutexGuard<'a, Places> {
        places.waiting += 1;
        let mut places = match left {
            None => self
                .changed
                .wait(places)
                .unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                let waited = self.changed.wait_timeout(places, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        places.waiting -= 1;
        places
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when a handler has been running. Written by the one thread that runs it.
#[derive(Debug)]
pub(crate) struct HandlerClock {
    base: Instant,
    /// Milliseconds after `base` at which the handler that is running was called, and one; 0: none.
    since: AtomicU64,
    /// Calls so far, and the last of them that was told of as slow.
    calls: AtomicU64,
    told: AtomicU64,
    /// How long they took, if that is counted.
    times: TimeLane,
}

impl Default for HandlerClock {
    fn default() -> Self {
        Self {
            base: clock::now(),
            since: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            told: AtomicU64::new(0),
            times: TimeLane::default(),
        }
    }
}

impl HandlerClock {
    pub(crate) fn begins(&self) -> Instant {
        let now = clock::now();
        let since = now.saturating_duration_since(self.base).as_millis() as u64;
        // Only one thread at a time counts. The number changes while there is no time, so a time
        // belongs to the number that is the same before and after it.
        let calls = self.calls.load(Ordering::Relaxed) + 1;
        self.calls.store(calls, Ordering::Release);
        self.since.store(since + 1, Ordering::Release);
        now
    }

    pub(crate) fn ended(&self, began: Instant, meter: &Meter) {
        self.since.store(0, Ordering::Release);
        if meter.is_on() {
            let elapsed = clock::now().saturating_duration_since(began);
            self.times.note(elapsed);
        }
    }

    /// How long the handler has been running, if one is.
    pub(crate) fn time(&self, now: Instant) -> Option<Duration> {
        let since = self.since.load(Ordering::Acquire).checked_sub(1)?;
        Some(
            now.saturating_duration_since(self.base)
                .saturating_sub(Duration::from_millis(since)),
        )
    }

    /// How long the handler has been running, if that is over the limit; once for each call of it.
    /// Asked by one thread.
    pub(crate) fn slow(&self, now: Instant, limit: Duration) -> Option<Duration> {
        // The number before and after the time: where a call has ended and another begun in between,
        // they differ, and the next look will do.
        let call = self.calls.load(Ordering::Acquire);
        let elapsed = self.time(now).filter(|time| *time >= limit)?;
        let is_same = self.calls.load(Ordering::Acquire) == call;
        if !is_same || self.told.load(Ordering::Relaxed) == call {
            return None;
        }
        self.told.store(call, Ordering::Relaxed);
        Some(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_waited_for_and_given_up_with_the_connection() {
        let handling = Handling::default();
        handling.allow(1);
        let place = handling.take().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| handling.take());
            handling.give_back(place);
            assert_eq!(waiting.join().unwrap(), Some(place), "the free place");
            let waiting = scope.spawn(|| handling.take());
            handling.give_up();
            assert_eq!(waiting.join().unwrap(), None, "the connection is over");
        });
        assert!(!handling.wait_idle(None), "one still runs");
        assert!(!handling.wait_idle(Some(clock::now())), "one still runs");
        handling.give_back(place);
        assert!(handling.wait_idle(None) && handling.wait_idle(Some(clock::now())));
    }

    #[test]
    fn a_slow_handler_is_told_of_once_for_each_call() {
        let clock = HandlerClock::default();
        let limit = Duration::from_secs(30);
        let later = clock.base + Duration::from_secs(60);
        assert_eq!((clock.time(later), clock.slow(later, limit)), (None, None));
        let began = clock.begins();
        assert!(clock.slow(clock.base, limit).is_none(), "not slow yet");
        assert!(clock.slow(later, limit).is_some_and(|time| time >= limit));
        assert!(clock.slow(later, limit).is_none(), "told of already");
        clock.ended(began, &Meter::off());
        clock.begins();
        assert!(clock.slow(later, limit).is_some(), "another call");
    }
}

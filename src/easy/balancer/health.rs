//! [`Health`]: which backend gets the next call, and which are left alone. Pure; time is passed in.
//!
//! ```text
//!           probe succeeded
//!   Down ───────────────────> Up ──┐ check due: Checking (still Up), back when it succeeded
//!    │  ^                     │ <──┘
//!    │  └── connection lost, ─┘
//!    │      or too many failures in a row
//!    └──due──> Probing ──failed──> Down, for longer
//! ```

use crate::easy::backoff::Backoff;
use std::time::{Duration, Instant};

/// Which backend gets the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// One after another.
    RoundRobin,
    /// The one with the fewest calls that are being made; among equals one after another.
    #[default]
    LeastOutstanding,
}

/// The settings of [`Health`].
#[derive(Debug, Clone, Copy)]
pub(super) struct HealthConfig {
    pub(super) policy: Policy,
    /// Failures in a row after which a backend is left alone.
    pub(super) max_failures: u32,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) check_interval: Duration,
}

/// What is to be done about a backend, by whoever asks [`Health::due`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Connect and PING.
    Probe(usize),
    /// PING on its connection.
    Check(usize),
}

#[derive(Debug)]
pub(super) struct Health {
    config: HealthConfig,
    backends: Vec<Backend>,
    /// Where the next round begins.
    next: usize,
}

#[derive(Debug)]
struct Backend {
    state: State,
    /// Calls that are being made.
    outstanding: usize,
    /// In a row.
    failures: u32,
    backoff: Backoff,
    up_since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up { check_at: Instant },
    Checking,
    Down { probe_at: Instant },
    Probing,
}

impl Backend {
    const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. } | State::Checking)
    }
}

impl Health {
    /// So many backends, all of them to be probed now.
    pub(super) fn new(count: usize, config: HealthConfig, seed: u64, now: Instant) -> Self {
        let backend = |index| Backend {
            state: State::Down { probe_at: now },
            outstanding: 0,
            failures: 0,
            backoff: Backoff::new(
                config.first_pause,
                config.longest_pause,
                seed.wrapping_add(index as u64),
            ),
            up_since: now,
        };
        Self {
            config,
            backends: (0..count).map(backend).collect(),
            next: 0,
        }
    }

    /// The backend for the next call, which counts as begun; none of those that `tried` names.
    pub(super) fn pick(&mut self, tried: &[bool]) -> Option<usize> {
        let count = self.backends.len();
        let round = (self.next..count).chain(0..self.next);
        let is_free = |index: &usize| {
            self.backends[*index].is_up() && !tried.get(*index).copied().unwrap_or(false)
        };
        let mut free = round.filter(is_free);
        let picked = match self.config.policy {
            Policy::RoundRobin => free.next(),
            // The first of the round among equals, so that idle backends take turns.
            Policy::LeastOutstanding => free.min_by_key(|index| self.backends[*index].outstanding),
        }?;
        self.next = (picked + 1) % count;
        self.backends[picked].outstanding += 1;
        Some(picked)
    }

    /// A call ended with an answer.
    pub(super) fn answered(&mut self, index: usize) {
        let backend = &mut self.backends[index];
        backend.outstanding -= 1;
        backend.failures = 0;
    }

    /// A call ended without an answer, and the connection lives: after so many in a row the backend is left
    /// alone, unless it is the last; `true` then.
    pub(super) fn failed(&mut self, index: usize, now: Instant) -> bool {
        let up = self.up_count();
        let backend = &mut self.backends[index];
        backend.outstanding -= 1;
        backend.failures = backend.failures.saturating_add(1);
        if backend.failures < self.config.max_failures || up == 1 || !backend.is_up() {
            return false;
        }
        self.lost(index, now);
        true
    }

    /// A call ended that says nothing about its backend.
    pub(super) fn ended(&mut self, index: usize) {
        self.backends[index].outstanding -= 1;
    }

    /// The connection to a backend is gone, or shall not be used.
    pub(super) fn lost(&mut self, index: usize, now: Instant) {
        let backend = &mut self.backends[index];
        if backend.is_up() {
            backend
                .backoff
                .lived(now.saturating_duration_since(backend.up_since));
            backend.state = State::Down {
                probe_at: now + backend.backoff.next(),
            };
        }
    }

    /// The next thing that is due now, which counts as begun.
    pub(super) fn due(&mut self, now: Instant) -> Option<Task> {
        // The one that waits longest, so that a slow probe does not keep the others from theirs.
        let (index, _) = (0..self.backends.len())
            .filter_map(|index| Some((index, self.due_at(index)?)))
            .filter(|(_, at)| *at <= now)
            .min_by_key(|(_, at)| *at)?;
        let backend = &mut self.backends[index];
        Some(if backend.is_up() {
            backend.state = State::Checking;
            Task::Check(index)
        } else {
            backend.state = State::Probing;
            Task::Probe(index)
        })
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        (0..self.backends.len())
            .filter_map(|index| self.due_at(index))
            .min()
    }

    fn due_at(&self, index: usize) -> Option<Instant> {
        match self.backends[index].state {
            State::Up { check_at } => Some(check_at),
            State::Down { probe_at } => Some(probe_at),
            State::Checking | State::Probing => None,
        }
    }

    /// How a task ended. A check of a backend that was lost meanwhile says nothing.
    pub(super) fn done(&mut self, task: Task, succeeded: bool, now: Instant) {
        let (Task::Probe(index) | Task::Check(index)) = task;
        let check_at = now + self.config.check_interval;
        let backend = &mut self.backends[index];
        match (backend.state, succeeded) {
            (State::Probing, true) => {
                backend.state = State::Up { check_at };
                backend.failures = 0;
                backend.up_since = now;
            }
            (State::Probing, false) => {
                backend.state = State::Down {
                    probe_at: now + backend.backoff.next(),
                };
            }
            (State::Checking, true) => backend.state = State::Up { check_at },
            (State::Checking, false) => self.lost(index, now),
            (State::Up { .. } | State::Down { .. }, _) => {}
        }
    }

    pub(super) fn is_up(&self, index: usize) -> bool {
        self.backends[index].is_up()
    }

    pub(super) fn outstanding(&self, index: usize) -> usize {
        self.backends[index].outstanding
    }

    pub(super) fn up_count(&self) -> usize {
        self.backends.iter().filter(|b| b.is_up()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    const CONFIG: HealthConfig = HealthConfig {
        policy: Policy::RoundRobin,
        max_failures: 3,
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(30),
        check_interval: Duration::from_secs(5),
    };

    fn up(count: usize, config: HealthConfig) -> (Health, Instant) {
        let now = clock::now();
        let mut health = Health::new(count, config, 1, now);
        assert_eq!(health.pick(&[]), None, "nobody has been probed");
        while let Some(task) = health.due(now) {
            assert!(matches!(task, Task::Probe(_)));
            health.done(task, true, now);
        }
        assert_eq!(health.up_count(), count);
        (health, now)
    }

    #[test]
    fn round_robin_takes_turns_and_leaves_out_what_was_tried() {
        let (mut health, _) = up(3, CONFIG);
        let picks: Vec<_> = (0..6).map(|_| health.pick(&[]).unwrap()).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
        assert_eq!(health.pick(&[true, false, true]), Some(1));
        assert_eq!(health.pick(&[true, true, true]), None);
    }

    #[test]
    fn least_outstanding_takes_the_idlest_and_turns_among_equals() {
        let policy = Policy::LeastOutstanding;
        let (mut health, _) = up(3, HealthConfig { policy, ..CONFIG });
        let picks: Vec<_> = (0..3).map(|_| health.pick(&[]).unwrap()).collect();
        assert_eq!(picks, [0, 1, 2]);
        health.answered(1);
        assert_eq!(health.pick(&[]), Some(1), "the only idle one");
        health.answered(0);
        health.answered(1);
        health.answered(2);
        let picks: Vec<_> = (0..3).map(|_| health.pick(&[]).unwrap()).collect();
        assert_eq!(picks, [2, 0, 1]);
    }

    #[test]
    fn failures_in_a_row_eject_and_a_probe_brings_back() {
        let (mut health, now) = up(2, CONFIG);
        for n in 1..=3 {
            assert_eq!(health.pick(&[false, true]), Some(0));
            assert_eq!(health.failed(0, now), n == 3);
        }
        assert!(!health.is_up(0));
        assert!(
            (0..4).all(|_| health.pick(&[]) == Some(1)),
            "only the other"
        );
        let probe_at = health.next_due().unwrap();
        assert!(probe_at <= now + CONFIG.first_pause);
        assert_eq!(health.due(probe_at), Some(Task::Probe(0)));
        assert_eq!(health.due(probe_at), None, "one probe at a time");
        health.done(Task::Probe(0), false, probe_at);
        assert!(!health.is_up(0));
        let probe_at = health.next_due().unwrap();
        assert_eq!(health.due(probe_at), Some(Task::Probe(0)));
        health.done(Task::Probe(0), true, probe_at);
        assert_eq!(health.pick(&[false, true]), Some(0), "traffic returns");
    }

    #[test]
    fn an_answer_between_failures_keeps_a_backend() {
        let (mut health, now) = up(2, CONFIG);
        for _ in 0..10 {
            for _ in 0..2 {
                health.pick(&[false, true]).unwrap();
                assert!(!health.failed(0, now));
            }
            health.pick(&[false, true]).unwrap();
            health.answered(0);
        }
        assert!(health.is_up(0));
    }

    #[test]
    fn the_last_backend_is_kept_for_its_failures_but_not_without_its_connection() {
        let (mut health, now) = up(1, CONFIG);
        for _ in 0..10 {
            assert_eq!(health.pick(&[]), Some(0));
            assert!(!health.failed(0, now));
        }
        health.lost(0, now);
        assert_eq!(health.pick(&[]), None);
    }

    #[test]
    fn a_quiet_backend_is_checked_and_lost_when_it_does_not_answer() {
        let (mut health, now) = up(1, CONFIG);
        assert_eq!(health.due(now), None);
        let check_at = now + CONFIG.check_interval;
        assert_eq!(health.due(check_at), Some(Task::Check(0)));
        assert_eq!(health.pick(&[]), Some(0), "it is used meanwhile");
        health.done(Task::Check(0), true, check_at);
        assert_eq!(health.next_due(), Some(check_at + CONFIG.check_interval));
        let check_at = check_at + CONFIG.check_interval;
        assert_eq!(health.due(check_at), Some(Task::Check(0)));
        health.done(Task::Check(0), false, check_at);
        assert!(!health.is_up(0));
        health.ended(0);
        assert_eq!(health.outstanding(0), 0);
    }

    #[test]
    fn a_check_that_ends_after_the_loss_changes_nothing() {
        let (mut health, now) = up(2, CONFIG);
        let check_at = now + CONFIG.check_interval;
        let task = health.due(check_at).unwrap();
        let Task::Check(index) = task else {
            panic!("{task:?}")
        };
        health.lost(index, check_at);
        health.done(task, true, check_at);
        assert!(!health.is_up(index));
    }

    #[test]
    fn a_backend_that_comes_and_goes_is_probed_ever_less() {
        let (mut health, mut now) = up(1, CONFIG);
        let mut probes = 0;
        let end = now + Duration::from_secs(600);
        while now < end {
            health.lost(0, now);
            now = health.next_due().unwrap().max(now);
            let task = health.due(now).unwrap();
            assert_eq!(task, Task::Probe(0));
            health.done(task, true, now);
            probes += 1;
        }
        assert!(probes < 150, "{probes} in ten minutes");
    }
}

//! Worker threads: created when needed, reused, bounded.

use crate::net::clock;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A worker without work ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// Something to do.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads `vstp-conn-N` of a server.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<PoolShared>,
}

struct PoolShared {
    /// Tells the pools of a process apart, for [`Pool::on_worker`].
    id: usize,
    max_count: usize,
    stack_size: usize,
    /// Nothing is taken inside the lock, and no job runs under it.
    state: Mutex<PoolState>,
    /// A job was queued, or the pool closed.
    work: Condvar,
    /// A worker ended.
    ended: Condvar,
}

impl std::fmt::Debug for PoolShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("max_count", &self.max_count)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct PoolState {
    /// At most one for each idle worker, so it is bounded by them.
    jobs: VecDeque<Job>,
    idle: usize,
    running: usize,
    created: usize,
    closed: bool,
    threads: Vec<JoinHandle<()>>,
}

/// Why a job was not taken; the job is dropped with it.
#[derive(Debug)]
pub(super) enum Refused {
    /// All workers are busy, or the pool is closed.
    Full,
    /// The system has no thread left.
    Spawn(std::io::Error),
}

thread_local! {
    /// The pool that this thread works for; 0 is none.
    static WORKS_FOR: Cell<usize> = const { Cell::new(0) };
}

impl Pool {
    pub(super) fn new(max_count: usize, stack_size: usize) -> Self {
        static NEXT_ID: AtomicUsize = AtomicUsize::new(1);
        Self {
            shared: Arc::new(PoolShared {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                max_count,
                stack_size,
                state: Mutex::default(),
                work: Condvar::new(),
                ended: Condvar::new(),
            }),
        }
    }

    /// Gives the job to an idle worker, or to a new one. Never waits.
    pub(super) fn execute(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Refused::Full);
        }
        if state.idle > state.jobs.len() {
            state.jobs.push_back(job);
            drop(state);
            self.shared.work.notify_one();
            return Ok(());
        }
        if state.running >= self.shared.max_count {
            return Err(Refused::Full);
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(format!("vstp-conn-{}", state.created))
            .stack_size(self.shared.stack_size)
            .spawn(move || shared.work_from(job))
            .map_err(Refused::Spawn)?;
        state.created += 1;
        state.running += 1;
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(thread);
        Ok(())
    }

    /// Whether the current thread is one of this pool.
    pub(super) fn on_worker(&self) -> bool {
        WORKS_FOR.with(Cell::get) == self.shared.id
    }

    /// Takes no more jobs and waits for the workers; how many are still busy at the deadline. Their
    /// threads end by themselves.
    pub(super) fn join(&self, until: Option<Instant>) -> usize {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.work.notify_all();
        let own = usize::from(self.on_worker());
        while state.running > own {
            let left = until.map(|at| at.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return state.running - own;
            }
            let tick = left.unwrap_or(IDLE).min(IDLE);
            let waited = self.shared.ended.wait_timeout(state, tick);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let current = std::thread::current().id();
        let threads: Vec<_> = state
            .threads
            .drain(..)
            .filter(|thread| thread.thread().id() != current)
            .collect();
        drop(state);
        for thread in threads {
            // Each has left its last job, so this is a matter of moments.
            let _ = thread.join();
        }
        0
    }
}

impl PoolShared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_from(&self, first: Job) {
        WORKS_FOR.with(|id| id.set(self.id));
        let mut next = Some(first);
        while let Some(job) = next {
            // A job that panics ends its connection by being dropped; the worker goes on.
            let _ = catch_unwind(AssertUnwindSafe(job));
            next = self.next_job();
        }
        self.lock().running -= 1;
        self.ended.notify_all();
    }

    fn next_job(&self) -> Option<Job> {
        let until = clock::after(IDLE);
        let mut state = self.lock();
        state.idle += 1;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.idle -= 1;
                return Some(job);
            }
            let left = until.map_or(IDLE, |at| at.saturating_duration_since(clock::now()));
            if state.closed || left.is_zero() {
                state.idle -= 1;
                return None;
            }
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    const LONG: Duration = Duration::from_secs(10);

    /// Gives the job to the pool as soon as it has a free worker.
    fn execute(pool: &Pool, make: impl Fn() -> Job) {
        let until = clock::after(LONG);
        loop {
            match pool.execute(make()) {
                Ok(()) => return,
                Err(Refused::Full) => {
                    assert!(
                        until.is_some_and(|at| clock::now() < at),
                        "no worker came free"
                    );
                    std::thread::yield_now();
                }
                Err(Refused::Spawn(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn e10_a_thousand_panics_leave_the_pool_as_it_was() {
        let pool = Pool::new(2, 128 * 1024);
        for _ in 0..1000 {
            // `resume_unwind` does not print, unlike `panic!`.
            execute(&pool, || {
                Box::new(|| std::panic::resume_unwind(Box::new("handler")))
            });
        }
        let (done, is_done) = bounded(1);
        execute(&pool, || {
            let done = done.clone();
            Box::new(move || done.send(()).unwrap())
        });
        is_done.recv_timeout(LONG).unwrap();
        assert!(pool.shared.lock().created <= 2, "workers survive panics");
        assert_eq!(pool.join(clock::after(LONG)), 0);
    }

    #[test]
    fn e11_stuck_workers_leave_the_others_working() {
        let pool = Pool::new(4, 128 * 1024);
        let (release, wait) = bounded::<()>(0);
        for _ in 0..3 {
            let wait = wait.clone();
            pool.execute(Box::new(move || drop(wait.recv()))).unwrap();
        }
        for _ in 0..50 {
            let (done, is_done) = bounded(1);
            execute(&pool, || {
                let done = done.clone();
                Box::new(move || done.send(()).unwrap())
            });
            is_done.recv_timeout(LONG).unwrap();
        }
        assert_eq!(
            pool.join(clock::after(Duration::from_millis(50))),
            3,
            "three are stuck"
        );
        drop(release);
        assert_eq!(pool.join(clock::after(LONG)), 0);
    }

    #[test]
    fn a_full_pool_refuses_and_a_closed_one_too() {
        let pool = Pool::new(1, 128 * 1024);
        let (release, wait) = bounded::<()>(0);
        pool.execute(Box::new(move || drop(wait.recv()))).unwrap();
        assert!(matches!(pool.execute(Box::new(|| {})), Err(Refused::Full)));
        drop(release);
        assert_eq!(pool.join(clock::after(LONG)), 0);
        assert!(matches!(pool.execute(Box::new(|| {})), Err(Refused::Full)));
    }

    #[test]
    fn f04_a_worker_that_joins_does_not_wait_for_itself() {
        let pool = Arc::new(Pool::new(2, 128 * 1024));
        let (done, is_done) = bounded(1);
        let own = Arc::clone(&pool);
        let job = move || {
            done.send((own.on_worker(), own.join(clock::after(LONG))))
                .unwrap()
        };
        pool.execute(Box::new(job)).unwrap();
        assert_eq!(is_done.recv_timeout(LONG).unwrap(), (true, 0));
        assert!(!pool.on_worker());
    }
}

//! Worker threads for work that blocks: made on demand up to a limit, reused, ended when idle.
//!
//! There is no queue to wait in: a job goes to an idle worker or to a new one, or it comes back
//! to the caller at once. The accept thread calls [`Pool::execute`]; shutdown calls
//! [`Pool::join`], from any thread, also from a worker.
//!
//! With `panic = "abort"` a panic of a job ends the process; nothing here can change that.

use crate::net::clock;
use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

/// How a [`Pool`] is made.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Most workers at once.
    pub max_workers: usize,
    /// Bytes of stack of each worker.
    pub stack_len: usize,
    /// How long a worker waits for its next job before it ends.
    pub idle: Duration,
    /// The workers are named this and a number.
    pub name: &'static str,
}

impl Default for PoolConfig {
    /// 1,024 workers with 256 KiB of stack that end after 10 s without work, `vstp-conn-N`.
    fn default() -> Self {
        Self {
            max_workers: 1024,
            stack_len: 256 * 1024,
            idle: Duration::from_secs(10),
            name: "vstp-conn-",
        }
    }
}

/// A job that was not taken.
pub struct Refused<F> {
    /// The job, untouched. Dropping it closes what it owns.
    pub job: F,
    /// Why.
    pub reason: RefusedReason,
}

/// Why a job was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedReason {
    /// Every worker is busy, and there may be no more.
    #[error("all workers are busy")]
    Full,
    /// The system gives no thread.
    #[error("no thread can be started")]
    Spawn(#[source] io::Error),
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

/// A bounded set of worker threads; clones are the same pool, dropping the last one closes it.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::net::clock;
/// use vstp::serve::pool::{Pool, PoolConfig};
/// let pool = Pool::new(PoolConfig { max_workers: 2, ..PoolConfig::default() });
/// let (done, wait) = std::sync::mpsc::sync_channel(1);
/// pool.execute(move || done.send(42).expect("the receiver waits")).map_err(|no| no.reason)?;
/// assert_eq!(wait.recv_timeout(Duration::from_secs(5)), Ok(42));
/// assert_eq!(pool.join(clock::now() + Duration::from_secs(5)), 0, "nobody is stuck");
/// # Ok::<(), vstp::serve::pool::RefusedReason>(())
/// ```
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

/// What the pool's handles share and its workers do not have: its end closes the pool.
struct Owner {
    shared: Arc<Shared>,
}

type Job = Box<dyn FnOnce() + Send>;
type Spawn = dyn Fn(thread::Builder, Job) -> io::Result<JoinHandle<()>> + Send + Sync;

struct Shared {
    id: u64,
    config: PoolConfig,
    /// `thread::Builder::spawn`, or what a test puts in its place.
    spawn: Box<Spawn>,
    panics: AtomicU64,
    /// Protects the counts and the hand-over. The last of all locks: no other is taken under it, no
    /// thread is started or joined under it, no job runs or is dropped under it.
    state: Mutex<State>,
    /// A job was handed over, or the pool was closed.
    work: Condvar,
    /// A worker ended, or began to join.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// Workers that exist, or are being started.
    live: usize,
    /// Workers that wait for a job, those for which one is in `jobs` included.
    idle: usize,
    /// Handed over and not yet taken; never more than `idle`.
    jobs: VecDeque<Job>,
    /// Workers that are inside `join` themselves, and which nobody can wait for.
    joining: usize,
    started: u64,
    handles: Vec<JoinHandle<()>>,
}

impl State {
    /// Workers that have a job and are not waiting here for the others.
    fn busy(&self) -> usize {
        (self.live + self.jobs.len()).saturating_sub(self.idle + self.joining)
    }
}

thread_local! {
    /// The pool that this thread works for; 0 for none.
    static WORKS_FOR: Cell<u64> = const { Cell::new(0) };
}

impl Pool {
    /// A pool without threads; they come with the jobs.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        Self::with_spawner(config, Box::new(|builder, body| builder.spawn(body)))
    }

    fn with_spawner(config: PoolConfig, spawn: Box<Spawn>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let shared = Arc::new(Shared {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            config,
            spawn,
            panics: AtomicU64::new(0),
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
        });
        Self {
            owner: Arc::new(Owner { shared }),
        }
    }

    /// Has a worker run `job`, or gives it back; never waits for a worker.
    ///
    /// A panic of the job is caught and counted, its worker lives on. A job that was taken is run,
    /// even if the pool is closed before it begins.
    ///
    /// # Errors
    /// [`Refused`], with the job: every worker is busy, no thread can be started, or the pool is
    /// closed.
    pub fn execute<F>(&self, job: F) -> Result<(), Refused<F>>
    where
        F: FnOnce() + Send + 'static,
    {
        let shared = &self.owner.shared;
        let refuse = |job, reason| Err(Refused { job, reason });
        let number = {
            let mut state = shared.lock();
            if state.closed {
                drop(state);
                return refuse(job, RefusedReason::Closed);
            }
            if state.idle > state.jobs.len() {
                state.jobs.push_back(Box::new(job));
                drop(state);
                shared.work.notify_one();
                return Ok(());
            }
            if state.live >= shared.config.max_workers {
                drop(state);
                return refuse(job, RefusedReason::Full);
            }
            state.live += 1;
            state.started += 1;
            state.started
        };
        shared.start(number, job).or_else(|(job, error)| {
            shared.lock().live -= 1;
            shared.ended.notify_all();
            refuse(job, RefusedReason::Spawn(error))
        })
    }

    /// Takes no more jobs and ends the idle workers; the others end after their job.
    pub fn close(&self) {
        self.owner.shared.close();
    }

    /// Closes the pool and waits for its workers; how many are still busy at the deadline.
    ///
    /// Those cannot be ended from outside: they keep their name, finish their job some day and
    /// end then. Calling this again, later or at the same time, is fine. On a worker of this
    /// pool it does not wait for that worker, which is not counted either.
    ///
    /// # Blocking
    /// Until every other worker has ended, or until `deadline`.
    pub fn join(&self, deadline: Instant) -> usize {
        let shared = &self.owner.shared;
        shared.close();
        let on_worker = usize::from(self.on_worker());
        let mut state = shared.lock();
        state.joining += on_worker;
        // Another worker that waits in `join` need not wait for this one any longer.
        shared.ended.notify_all();
        while state.live > state.joining {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            state = shared
                .ended
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let busy = state.busy();
        state.joining -= on_worker;
        let mut ended = Vec::new();
        if state.live == on_worker {
            ended = std::mem::take(&mut state.handles);
        }
        drop(state);
        // All that is left of these threads is their exit, so this does not wait for user code. The
        // others, and the calling one, are detached.
        let me = thread::current().id();
        for handle in ended
            .into_iter()
            .filter(|handle| handle.thread().id() != me)
        {
            // A worker does not panic: jobs run inside `catch_unwind`.
            let _ = handle.join();
        }
        busy
    }

    /// Whether the current thread is a worker of this pool.
    #[must_use]
    pub fn on_worker(&self) -> bool {
        WORKS_FOR.get() == self.owner.shared.id
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.owner.shared.lock().live
    }

    /// How many workers have a job.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.owner.shared.lock().busy()
    }

    /// How many threads were started in total.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.owner.shared.lock().started
    }

    /// How many jobs have panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.owner.shared.panics.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Starts worker `number` with its first job; the job comes back if there is no thread.
    fn start<F>(self: &Arc<Self>, number: u64, job: F) -> Result<(), (F, io::Error)>
    where
        F: FnOnce() + Send + 'static,
    {
        // A failed spawn drops its closure, so the job travels beside it.
        let slot = Arc::new(Mutex::new(Some(job)));
        let (pool, first) = (Arc::clone(self), Arc::clone(&slot));
        let builder = thread::Builder::new()
            .name(format!("{}{number}", self.config.name))
            .stack_size(self.config.stack_len);
        let body = Box::new(move || {
            WORKS_FOR.set(pool.id);
            let job = take(&first);
            drop(first);
            if let Some(job) = job {
                pool.run(job);
            }
            pool.work();
        });
        match (self.spawn)(builder, body) {
            Ok(handle) => {
                let mut state = self.lock();
                state.handles.retain(|handle| !handle.is_finished());
                state.handles.push(handle);
                Ok(())
            }
            Err(error) => match take(&slot) {
                Some(job) => Err((job, error)),
                // Without a thread nobody took it; if somebody did, it runs and is not ours.
                None => Ok(()),
            },
        }
    }

    /// The life of a worker after its first job.
    fn work(&self) {
        while let Some(job) = self.next_job() {
            self.run(job);
        }
    }

    /// Waits for a job; `None` when the worker has to end, which is then counted.
    fn next_job(&self) -> Option<Job> {
        let until = clock::now().checked_add(self.config.idle);
        let mut state = self.lock();
        state.idle += 1;
        let job = loop {
            if let Some(job) = state.jobs.pop_front() {
                break Some(job);
            }
            let left = until.map_or(Duration::MAX, |until| {
                until.saturating_duration_since(clock::now())
            });
            if state.closed || left.is_zero() {
                break None;
            }
            state = self
                .work
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        };
        state.idle -= 1;
        if job.is_none() {
            state.live -= 1;
            drop(state);
            self.ended.notify_all();
        }
        job
    }

    fn run(&self, job: impl FnOnce()) {
        // What a job leaves half-done is its own: nothing of the pool is inside it.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
            self.panics.fetch_add(1, Ordering::Relaxed);
            drop_payload(payload);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what a job panicked with, which may panic itself.
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It would go on for ever; leaking it ends it.
        std::mem::forget(again);
    }
}

fn take<F>(slot: &Mutex<Option<F>>) -> Option<F> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Drop for Owner {
    /// Does not wait: the last handle may be dropped by a worker, or by a thread that panics.
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.owner.shared.lock();
        f.debug_struct("Pool")
            .field("workers", &state.live)
            .field("idle", &state.idle)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

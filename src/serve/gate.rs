//! [`Gate`]: the threads of a server that run its authenticator, and the clients that wait for them.
//!
//! ```text
//!  connection, or the UDP socket ──submit──> queue ──> vstp-auth-N ──> authenticator ──> the answer
//!                                     └── full: the client is refused as `busy`
//! ```
//!
//! Whoever submits never waits here; a client's time is over when that of its submitter is. A client whose
//! time is over before a thread comes to it is not judged at all.

use super::log_limit::LogLimit;
use super::pool::{Pool, PoolConfig};
use crate::error::VstpError;
use crate::metrics::{Family, Metrics};
use crate::net::clock;
use crate::net::identity::{Answer, Authentication, Authenticator, Credentials, Judge, Refusal};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients that may wait for a thread.
const QUEUE_COUNT: usize = 1024;
/// How long the end of the gate waits for an authenticator; one that takes longer keeps its thread.
const CUT_OFF: Duration = Duration::from_millis(200);

/// A client that waits.
struct Job {
    client: Credentials,
    until: Instant,
    answer: Answer,
}

/// See the module.
pub(super) struct Gate {
    /// Gone when the gate closes, which ends the threads.
    queue: Option<Sender<Job>>,
    pool: Pool,
    timeout: Duration,
    is_stopping: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Gate {
    /// Starts the threads.
    pub(super) fn start(
        authentication: &Authentication,
        metrics: &Arc<Metrics>,
        is_stopping: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Arc<dyn Judge>, VstpError> {
        let (queue, jobs) = bounded(QUEUE_COUNT);
        let log = Arc::new(LogLimit::default());
        let pool = Pool::new(PoolConfig {
            max_workers: authentication.workers,
            name: "vstp-auth-",
            // It may ask a service, with all that this takes. Only what is touched is memory.
            stack_len: 1024 * 1024,
            ..PoolConfig::default()
        });
        for _ in 0..authentication.workers {
            let authenticator = Arc::clone(&authentication.authenticator);
            let (jobs, metrics) = (Receiver::clone(&jobs), Arc::clone(metrics));
            let log = Arc::clone(&log);
            pool.execute(move || work(&*authenticator, &jobs, &metrics, &log))
                .map_err(|refused| VstpError::Io(std::io::Error::other(refused.reason)))?;
        }
        Ok(Arc::new(Self {
            queue: Some(queue),
            pool,
            timeout: authentication.timeout,
            is_stopping: Box::new(is_stopping),
        }))
    }
}

/// The body of `vstp-auth-N`.
fn work(
    authenticator: &dyn Authenticator,
    jobs: &Receiver<Job>,
    metrics: &Metrics,
    log: &LogLimit,
) {
    for Job {
        client,
        until,
        answer,
    } in jobs
    {
        if clock::now() >= until {
            continue;
        }
        // Nothing of ours is in the authenticator, so nothing half-done is seen after a panic.
        let decision = catch_unwind(AssertUnwindSafe(|| authenticator.authenticate(&client)));
        let decision = decision.unwrap_or_else(|_| {
            metrics.add(Family::AuthenticatorPanics, 0, 1);
            Err(Refusal::new("the authenticator panicked"))
        });
        let now = clock::now();
        if now >= until {
            metrics.add(Family::AuthenticatorLate, 0, 1);
            continue;
        }
        if let Err(refusal) = &decision {
            if let Some(more) = log.allow("not recognised", now) {
                let peer = client.peer_addr();
                log::debug!("{peer} was not recognised: {refusal} ({more} more)");
            }
        }
        answer(decision);
    }
}

impl Judge for Gate {
    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn submit(&self, client: Credentials, until: Instant, answer: Answer) -> bool {
        let job = Job {
            client,
            until,
            answer,
        };
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.try_send(job).is_ok())
    }

    fn is_stopping(&self) -> bool {
        (self.is_stopping)()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.queue = None;
        self.pool.join(clock::after_or_far(CUT_OFF));
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::identity::Identity;
    use std::net::SocketAddr;

    const LONG: Duration = Duration::from_secs(20);

    fn client(token: &str) -> Credentials {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        Credentials::new(Some(token.into()), None, addr)
    }

    type Decision = Result<Identity, Refusal>;

    /// Submits, and gives what the answer will come through.
    fn ask(gate: &Arc<dyn Judge>, token: &str, until: Instant) -> Receiver<Decision> {
        let (sender, receiver) = bounded(1);
        let answer = Box::new(move |decision| {
            let _ = sender.send(decision);
        });
        assert!(gate.submit(client(token), until, answer));
        receiver
    }

    #[test]
    fn a_panic_refuses_and_its_thread_lives_on() {
        let authenticator = |client: &Credentials| match client.token() {
            Some(b"!") => panic!("as asked"),
            _ => Ok(Identity::new("ann")),
        };
        let settings = Authentication::new(authenticator).workers(1);
        let metrics = Arc::default();
        let gate = Gate::start(&settings, &metrics, || false).unwrap();
        let until = clock::after_or_far(LONG);
        for _ in 0..3 {
            let refused = ask(&gate, "!", until).recv_timeout(LONG).unwrap();
            assert!(refused.is_err());
            let accepted = ask(&gate, "?", until).recv_timeout(LONG).unwrap();
            assert_eq!(accepted, Ok(Identity::new("ann")));
        }
        assert_eq!(metrics.load(Family::AuthenticatorPanics, 0), 3);
    }

    #[test]
    fn a_late_decision_is_dropped_and_who_waited_too_long_is_not_judged() {
        let (begun, has_begun) = bounded(8);
        let (release, released) = bounded::<()>(8);
        let authenticator = move |_: &Credentials| {
            let _ = begun.send(());
            let _ = released.recv_timeout(LONG);
            Ok(Identity::new("ann"))
        };
        let settings = Authentication::new(authenticator).workers(1);
        let metrics = Arc::default();
        let gate = Gate::start(&settings, &metrics, || false).unwrap();
        let soon = clock::after_or_far(Duration::from_secs(1));
        let late = ask(&gate, "a", soon);
        has_begun.recv_timeout(LONG).unwrap();
        let waiting = ask(&gate, "b", soon);
        // Its answer goes away with the time: this is the end of the channel, not of a wait.
        assert!(late.recv_deadline(soon).is_err());
        release.send(()).unwrap();
        assert!(late.recv_timeout(LONG).is_err());
        assert!(waiting.recv_timeout(LONG).is_err());
        assert_eq!(metrics.load(Family::AuthenticatorLate, 0), 1);
        assert!(has_begun.is_empty(), "the second was never judged");
    }

    #[test]
    fn a_full_queue_takes_nobody_and_the_end_does_not_wait_for_a_stuck_authenticator() {
        let (release, released) = bounded::<()>(1);
        let authenticator = move |_: &Credentials| {
            let _ = released.recv_timeout(LONG);
            Err(Refusal::new("no"))
        };
        let settings = Authentication::new(authenticator).workers(1);
        let gate = Gate::start(&settings, &Arc::default(), || false).unwrap();
        let until = clock::after_or_far(LONG);
        let submit = || gate.submit(client("x"), until, Box::new(|_| ()));
        let taken = (0..QUEUE_COUNT + 10).filter(|_| submit()).count();
        assert!((QUEUE_COUNT..=QUEUE_COUNT + 1).contains(&taken), "{taken}");
        let began = clock::now();
        drop(gate);
        assert!(clock::now() - began < LONG / 2);
        drop(release);
    }
}

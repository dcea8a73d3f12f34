//! [`AutoSwitch`]: which transport the next message takes, from what was measured and the time.
//!
//! A state machine without I/O. The shell ([`crate::net::auto`]) sends the probes that come out of
//! [`AutoSwitch::poll_output`], and reports what became of them.
//!
//! ```text
//!           UDP failed (1), or TCP scores better by the margin (2)
//!        ┌──────────────────────────────────────────────────────┐
//!        v                                                      │
//!   on TCP                                                    on UDP
//!        │                                                      ^
//!        └──────────────────────────────────────────────────────┘
//!           TCP failed (1), or UDP scores better by the margin (2)
//!
//!   (1) not within `dwell_time` of the last switch, (2) not within `cooldown` of it;
//!   never to a transport that is not there, or that has failed itself.
//! ```
//!
//! The score of a transport is the smoothed time of its round trips; a PING that is not answered counts as
//! one of `probe_timeout`. The conditions hold for any input, so there is at most one switch in a dwell time,
//! and at most one in a cooldown as long as nothing fails: measurements can be wrong or made up, they cannot
//! make it flap.

mod config;
#[cfg(test)]
mod tests;

pub use config::{AutoSwitchConfig, Transport, Via};

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Answers to PING before a score means something.
const MIN_SAMPLES: u32 = 3;

/// What the shell is to do, or to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send PING on this transport, and report the PONG with this number.
    Probe {
        /// On which.
        transport: Transport,
        /// What PONG repeats.
        number: u64,
    },
    /// Messages take this transport from now on.
    Switched {
        /// Which.
        to: Transport,
        /// The other one has failed; otherwise this one is better.
        failed: bool,
    },
}

/// One transport, as measured.
#[derive(Debug)]
struct Path {
    available: bool,
    /// The PING that is out.
    probe: Option<(u64, Instant)>,
    next_probe: Instant,
    /// Smoothed round-trip time, failures included (nanoseconds).
    score: u64,
    samples: u32,
    failures: u32,
}

impl Path {
    const fn new(available: bool, now: Instant) -> Self {
        Self {
            available,
            probe: None,
            next_probe: now,
            score: 0,
            samples: 0,
            failures: 0,
        }
    }

    fn add(&mut self, sample: Duration) {
        // An hour is as bad as any longer time, and leaves room for the arithmetic.
        let sample = sample.min(Duration::from_secs(3600)).as_nanos() as u64;
        self.score = match self.samples {
            0 => sample,
            _ => self.score - self.score / 4 + sample / 4,
        };
        self.samples = self.samples.saturating_add(1);
    }

    fn fail(&mut self, cost: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.add(cost);
    }

    const fn is_working(&self, threshold: u32) -> bool {
        self.available && self.failures < threshold
    }
}

/// See the module.
///
/// # Example
/// ```
/// use std::time::{Duration, Instant};
/// use vstp::proto::auto::{AutoSwitch, AutoSwitchConfig, Output, Transport};
/// # let start = vstp::net::clock::now();
/// let mut switch = AutoSwitch::new(AutoSwitchConfig::default(), start);
/// switch.set_available(start, Transport::Udp, true);
/// // A network that answers on UDP in 10 ms, and on TCP in 50 ms.
/// for second in 0..60 {
///     let now = start + Duration::from_secs(second);
///     switch.handle_timeout(now);
///     let sent: Vec<Output> = std::iter::from_fn(|| switch.poll_output()).collect();
///     for (answers, delay) in [(Transport::Udp, 10), (Transport::Tcp, 50)] {
///         for output in &sent {
///             let Output::Probe { transport, number } = *output else { continue };
///             if transport == answers {
///                 switch.handle_pong(now + Duration::from_millis(delay), transport, number);
///             }
///         }
///     }
/// }
/// assert_eq!(switch.choose(100), Transport::Udp);
/// assert_eq!(switch.choose(1_000_000), Transport::Tcp);
/// ```
#[derive(Debug)]
pub struct AutoSwitch {
    config: AutoSwitchConfig,
    current: Transport,
    switched_at: Option<Instant>,
    tcp: Path,
    udp: Path,
    next_number: u64,
    output: VecDeque<Output>,
    switches: u64,
    /// The latest time seen; a clock that goes back is held here.
    now: Instant,
}

impl AutoSwitch {
    /// Begins with TCP, and without UDP until [that is there](Self::set_available).
    #[must_use]
    pub const fn new(config: AutoSwitchConfig, now: Instant) -> Self {
        Self {
            config,
            current: Transport::Tcp,
            switched_at: None,
            tcp: Path::new(true, now),
            udp: Path::new(false, now),
            next_number: 1,
            output: VecDeque::new(),
            switches: 0,
            now,
        }
    }

    const fn path(&self, transport: Transport) -> &Path {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        }
    }

    const fn path_mut(&mut self, transport: Transport) -> &mut Path {
        match transport {
            Transport::Tcp => &mut self.tcp,
            Transport::Udp => &mut self.udp,
        }
    }

    fn clamp(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    // What the shell asks.

    /// The transport that small messages take.
    #[must_use]
    pub const fn current(&self) -> Transport {
        self.current
    }

    /// The transport for a message with so many bytes of payload. One that is not there is never chosen as
    /// long as the other is.
    #[must_use]
    pub const fn choose(&self, payload_len: usize) -> Transport {
        let wanted = if payload_len > self.config.stream_size {
            Transport::Tcp
        } else {
            self.current
        };
        if !self.path(wanted).available && self.path(wanted.other()).available {
            return wanted.other();
        }
        wanted
    }

    /// Whether it is there and has not failed `failure_threshold` times in a row.
    #[must_use]
    pub const fn is_working(&self, transport: Transport) -> bool {
        self.path(transport)
            .is_working(self.config.failure_threshold)
    }

    /// The smoothed round-trip time that decides, failures included; `None` before there is one.
    #[must_use]
    pub fn score(&self, transport: Transport) -> Option<Duration> {
        let path = self.path(transport);
        (path.samples > 0).then(|| Duration::from_nanos(path.score))
    }

    /// Failures since its last answer.
    #[must_use]
    pub const fn failures(&self, transport: Transport) -> u32 {
        self.path(transport).failures
    }

    /// Switches so far.
    #[must_use]
    pub const fn switches(&self) -> u64 {
        self.switches
    }

    // What the shell reports.

    /// A transport is there now, or no longer. What was measured of it before is forgotten.
    pub fn set_available(&mut self, now: Instant, transport: Transport, available: bool) {
        let now = self.clamp(now);
        let path = self.path_mut(transport);
        if path.available == available {
            return;
        }
        *path = Path::new(available, now);
        self.decide(now);
    }

    /// PONG came. One that answers no PING that is out changes nothing.
    pub fn handle_pong(&mut self, now: Instant, transport: Transport, number: u64) {
        let now = self.clamp(now);
        let path = self.path_mut(transport);
        let Some((_, sent_at)) = path.probe.take_if(|(out, _)| *out == number) else {
            return;
        };
        path.failures = 0;
        path.add(now.saturating_duration_since(sent_at));
        self.decide(now);
    }

    /// A message was given up on this transport.
    pub fn handle_failure(&mut self, now: Instant, transport: Transport) {
        let now = self.clamp(now);
        let cost = self.config.probe_timeout;
        self.path_mut(transport).fail(cost);
        self.decide(now);
    }

    /// Forgets the PINGs that are out: this side has not read, so silence says nothing about the network.
    pub fn forget_probes(&mut self) {
        self.tcp.probe = None;
        self.udp.probe = None;
    }

    /// Does what is due: notes PINGs that were not answered, asks for new ones.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clamp(now);
        for transport in [Transport::Tcp, Transport::Udp] {
            let (timeout, interval) = (self.config.probe_timeout, self.config.probe_interval);
            let number = self.next_number;
            let path = self.path_mut(transport);
            if !path.available {
                continue;
            }
            let is_lost =
                |sent: Instant| sent.checked_add(timeout).is_some_and(|until| until <= now);
            if path.probe.take_if(|(_, sent)| is_lost(*sent)).is_some() {
                path.fail(timeout);
            }
            if path.probe.is_none() && path.next_probe <= now {
                path.probe = Some((number, now));
                path.next_probe = now.checked_add(interval).unwrap_or(now);
                self.next_number += 1;
                self.output.push_back(Output::Probe { transport, number });
            }
        }
        self.decide(now);
    }

    /// When [`Self::handle_timeout`] is to be called; later is allowed, earlier does no harm.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = |path: &Path| match path.probe {
            _ if !path.available => None,
            Some((_, sent)) => sent.checked_add(self.config.probe_timeout),
            None => Some(path.next_probe),
        };
        [due(&self.tcp), due(&self.udp)].into_iter().flatten().min()
    }

    /// What to do, for each once; call it until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn decide(&mut self, now: Instant) {
        let (from, to) = (self.current, self.current.other());
        let (ours, theirs) = (self.path(from), self.path(to));
        let failed = !self.is_working(from);
        let margin = u128::from(self.config.score_margin) + 100;
        let is_better = ours.samples >= MIN_SAMPLES
            && theirs.samples >= MIN_SAMPLES
            && u128::from(theirs.score) * margin < u128::from(ours.score) * 100;
        let pause = if failed {
            self.config.dwell_time
        } else {
            self.config.cooldown
        };
        let is_settled = self
            .switched_at
            .is_some_and(|at| now.saturating_duration_since(at) < pause);
        if is_settled || !self.is_working(to) || !(failed || is_better) {
            return;
        }
        self.current = to;
        self.switched_at = Some(now);
        self.switches += 1;
        self.output.push_back(Output::Switched { to, failed });
    }
}

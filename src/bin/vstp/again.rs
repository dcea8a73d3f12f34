//! `--reconnect` of send and listen: another connection when one cannot be made or is lost.
//!
//! Waits a random time, up to 100 ms, then up to twice that and so on up to 30 s, as
//! `vstp::easy::ReconnectingClient`, which `vstp call` uses. Which failures are waited for is the same for all.

use crate::connect::ConnectArgs;
use crate::exit::{self, Failure};
use crate::from_env::FromEnv;
use crate::link::Link;
use crate::output::Talk;
use crate::signals::Event;
use crate::url::Url;
use clap::Args;
use clap::builder::FalseyValueParser;
use crossbeam_channel::Receiver;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use vstp::net::clock;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lived for so long was a good one.
const STABLE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct AgainArgs {
    #[command(flatten)]
    pub(crate) from_env: FromEnv,
    /// Connect again when the server cannot be reached or the connection is lost, after random times up to 30s
    #[arg(long, env = "VSTP_RECONNECT", value_parser = FalseyValueParser::new())]
    pub(crate) reconnect: bool,
}

/// Connects, with `--reconnect` as often as it takes.
#[derive(Debug)]
pub(crate) struct Again<'a> {
    pub(crate) url: &'a Url,
    pub(crate) connect: &'a ConnectArgs,
    pub(crate) on: bool,
    pub(crate) talk: Talk,
    failures: u32,
    connected_at: Option<Instant>,
}

impl<'a> Again<'a> {
    pub(crate) fn new(
        url: &'a Url,
        connect: &'a ConnectArgs,
        args: &AgainArgs,
        talk: Talk,
    ) -> Self {
        Self {
            url,
            connect,
            on: args.reconnect,
            talk,
            failures: 0,
            connected_at: None,
        }
    }

    /// A connection, or what told it to stop trying.
    pub(crate) fn connect(
        &mut self,
        events: &Receiver<Event>,
    ) -> Result<ControlFlow<Event, Link>, Failure> {
        loop {
            match Link::connect(self.url, self.connect, self.talk) {
                Ok(link) => {
                    self.connected_at = Some(clock::now());
                    return Ok(ControlFlow::Continue(link));
                }
                Err(failure) => {
                    if let Some(event) = self.pause(failure, events)? {
                        return Ok(ControlFlow::Break(event));
                    }
                }
            }
        }
    }

    /// Waits before the next attempt, or gives the failure back when another attempt would not help.
    pub(crate) fn pause(
        &mut self,
        failure: Failure,
        events: &Receiver<Event>,
    ) -> Result<Option<Event>, Failure> {
        if !self.on || !can_pass(&failure) {
            return Err(failure);
        }
        let lived = self
            .connected_at
            .take()
            .map(|at| clock::now().saturating_duration_since(at));
        if lived.is_some_and(|lived| lived >= STABLE) {
            self.failures = 0;
        }
        let time = wait(self.failures, RandomState::new().hash_one(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.talk.say(format!(
            "vstp: {}; again in {:.1} s",
            failure.message,
            time.as_secs_f64()
        ));
        Ok(match events.recv_timeout(time) {
            Ok(event @ Event::Stop { .. }) => Some(event),
            // Where nobody listens to signals, the channel has no sender and waits all the same.
            Ok(Event::Reload) | Err(_) => None,
        })
    }
}

/// Whether the failure may be over with the next attempt: the network, a limit of time, a server that ends or is full.
pub(crate) fn can_pass(failure: &Failure) -> bool {
    [
        exit::CONNECT,
        exit::TIMEOUT,
        exit::BUSY,
        exit::SHUTTING_DOWN,
    ]
    .contains(&failure.code)
}

/// A random time below a ceiling that doubles with each failure.
fn wait(failures: u32, random: u64) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    let ceiling = FIRST.saturating_mul(factor).min(LONGEST);
    ceiling.mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_up_to_the_longest_and_failures_that_stay_are_not_waited_for() {
        assert_eq!(wait(0, u64::MAX), FIRST);
        assert_eq!(wait(3, u64::MAX), FIRST * 8);
        assert_eq!(wait(9, u64::MAX), LONGEST);
        assert_eq!(wait(100, u64::MAX), LONGEST);
        assert_eq!(wait(100, 0), Duration::ZERO);
        for (code, passes) in [
            (exit::CONNECT, true),
            (exit::TIMEOUT, true),
            (exit::BUSY, true),
            (exit::SHUTTING_DOWN, true),
            (exit::TLS, false),
            (exit::USAGE, false),
            (exit::LOCAL, false),
        ] {
            assert_eq!(can_pass(&Failure::new(code, "")), passes, "{code}");
        }
    }
}

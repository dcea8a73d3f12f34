//! What is chosen between, and the settings of the choice.

use std::fmt;
use std::time::Duration;

/// What carries a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Tcp => Self::Udp,
            Self::Udp => Self::Tcp,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Which transport a message shall take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Via {
    /// The one that [`AutoSwitch`](super::AutoSwitch) has chosen.
    #[default]
    Auto,
    /// TCP.
    Tcp,
    /// UDP, or an error when there is none.
    Udp,
}

/// Settings of the choice between TCP and UDP.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use vstp::proto::auto::AutoSwitchConfig;
/// let config = AutoSwitchConfig::default()
///     .probe_interval(Duration::from_millis(500))
///     .probe_timeout(Duration::from_millis(400));
/// assert!(config.check().is_ok());
/// assert!(config.failure_threshold(0).check().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AutoSwitchConfig {
    pub(super) probe_interval: Duration,
    pub(super) probe_timeout: Duration,
    pub(super) failure_threshold: u32,
    pub(super) score_margin: u32,
    pub(super) dwell_time: Duration,
    pub(super) cooldown: Duration,
    pub(super) stream_size: usize,
}

impl Default for AutoSwitchConfig {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(1),
            failure_threshold: 3,
            score_margin: 25,
            dwell_time: Duration::from_secs(2),
            cooldown: Duration::from_secs(10),
            stream_size: 16 * 1024,
        }
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $typ:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub const fn $name(mut self, value: $typ) -> Self {
            self.$name = value;
            self
        })*
    };
}

/// The most PINGs a second: a peer answers ten a second without complaint (spec 3.9).
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

impl AutoSwitchConfig {
    settings! {
        /// Time from one PING to the next on each transport. At least 100 ms, default: 2 s.
        probe_interval: Duration;
        /// A PING that is not answered for so long is a failure, and counts as a round trip of this
        /// length. At most the interval, default: 1 s.
        probe_timeout: Duration;
        /// So many failures in a row, and a transport is left. Default: 3.
        failure_threshold: u32;
        /// How much larger the score of the current transport must be than that of the other to switch
        /// (percent). Default: 25.
        score_margin: u32;
        /// Shortest time between two switches, whatever is measured. Default: 2 s.
        dwell_time: Duration;
        /// Shortest time between a switch and one that only follows the score, while nothing fails. At least
        /// the dwell time, default: 10 s.
        cooldown: Duration;
        /// Messages with a larger payload (bytes) take TCP, which sends many bytes at less cost. Default:
        /// 16 KiB.
        stream_size: usize;
    }

    /// Checks what a setter cannot.
    ///
    /// # Errors
    /// The setting, and what it must be.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let rules = [
            (
                self.probe_interval >= SHORTEST_INTERVAL,
                "probe_interval",
                "must be 100 ms or more",
            ),
            (
                !self.probe_timeout.is_zero() && self.probe_timeout <= self.probe_interval,
                "probe_timeout",
                "must be over zero, and at most probe_interval",
            ),
            (
                self.failure_threshold > 0,
                "failure_threshold",
                "must be 1 or more",
            ),
            (
                self.cooldown >= self.dwell_time,
                "cooldown",
                "must be at least dwell_time",
            ),
        ];
        let broken = rules.into_iter().find(|(holds, ..)| !holds);
        broken.map_or(Ok(()), |(_, setting, reason)| Err((setting, reason)))
    }
}

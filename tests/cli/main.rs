//! The command `vstp` as real processes: what it prints and where, how it ends, and what it says when it cannot.
//!
//! One binary, with the feature `cli`; `scripts/check cli` runs it. Files by what they drive; `util` holds the processes and their
//! deadlines.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod auto;
mod bench;
mod certificates;
mod events;
mod files;
mod inspect;
mod interface;
mod messages;
mod reconnect;
#[path = "../net/relay.rs"]
#[expect(dead_code, reason = "not all of it is needed here")]
mod relay;
mod servers;
#[cfg(unix)]
mod terminal;
mod util;

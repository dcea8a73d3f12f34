//! Frames in datagrams: fragments, acknowledgements on demand, sessions (spec 4).
//!
//! [`Endpoint`] is the whole of it, as a state machine without socket, clock or thread. Inside, one
//! file is one concern:
//!
//! ```text
//!  datagram ──> endpoint ──> peer ──┬──> received      ids that were delivered
//!     in        who is it?          └──> reassembly    fragments to frames, budgets
//!
//!  frame ─────> endpoint ──> peer ─────> reliable ──┬── fragment    frames to fragments
//!     out       number it     queue                 ├── sent        what is lost
//!                                                   ├── rtt         RFC 6298
//!                                                   ├── congestion, bbr
//!                                                   └── pacing
//! ```

mod ack;
mod answer;
mod bbr;
mod config;
mod congestion;
mod emit;
mod endpoint;
mod fields;
mod fragment;
mod ids;
mod pacing;
mod parts;
mod peer;
mod proof;
pub(super) mod ranges;
mod reassembly;
mod received;
mod reliable;
mod rtt;
mod seal;
mod secret;
mod sent;
mod stats;
mod trace;
mod traced;

pub use config::{AnswerLimit, EndpointConfig, MAX_BUNDLED_COUNT, MAX_DATAGRAM_LEN};
pub use endpoint::Endpoint;
pub use ids::Rising;
pub use parts::{Applicant, Event, Failure, Progress, SendError, Token, Transmit};
pub use seal::{
    Direction, MAGIC as SEALED_MAGIC, OVERHEAD as SEALED_OVERHEAD, PacketKey, SealId, SealedKeys,
    TAG_LEN,
};
pub use stats::{DropReason, EndpointStats};
pub use traced::{LossRule, PathMetrics, TraceEvent, TraceItem, Traced, TracedFrame};

use crate::proto::keys::Features;

/// What this crate can do on datagrams: several frames in one (`bundle`), several messages in one
/// acknowledgement (`ack-ranges`).
#[must_use]
pub fn offered() -> Features {
    Features::of(&["ack-ranges", "bundle"])
}

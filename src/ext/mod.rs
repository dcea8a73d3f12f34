//! What a message passes between the protocol and the application: compression and extensions.
//!
//! Pure code, driven by [`crate::net`] and [`crate::serve`] on the thread of whoever sends or receives.
//! Both parts are off until a configuration names them; a message costs one comparison then.
//!
//! ```text
//!   in:   decode, reassemble ──> inflate ──> authenticate, limit ──> extensions 1..n ──> handler, recv
//!   out:  frame, fragment   <── compress <──────────────────────── extensions n..1 <── answer, send
//! ```
//!
//! Extensions lie around the application like layers: the first that was registered is nearest to the
//! network, so what it does to a message that leaves it can undo at the other side.

#[cfg(feature = "compression")]
pub mod compression;
#[cfg(not(feature = "compression"))]
#[path = "no_compression.rs"]
pub mod compression;
mod extension;
mod pipeline;
mod registry;

pub use compression::CompressionConfig;
pub use extension::{Direction, ExtensionContext, ExtensionHandler, Outcome, TransportKind};
pub(crate) use pipeline::{Inbound, Link, Outgoing, Pipeline, inflate, inflated_len};
pub use registry::ExtensionRegistry;

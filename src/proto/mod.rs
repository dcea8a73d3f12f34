//! State machines of the protocol, without I/O.
//!
//! Everything here is driven by `&mut self` calls; time (`now`) and randomness come in as
//! arguments. No clock, socket, thread or lock: every test runs on a virtual clock. The shells in
//! [`crate::net`] do the reading and writing.

pub mod auto;
pub mod budget;
pub mod code;
pub mod datagram;
pub mod deadline;
pub mod error;
pub mod keys;
pub mod network;
pub mod once;
pub mod rate;
pub mod session;
pub mod stream;
pub mod tally;

pub use code::ErrorCode;
pub use error::{Overrun, Violation};
pub use stream::StreamDecoder;

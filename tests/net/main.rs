//! Real sockets on port 0, each call with a deadline. One file for each kind of misbehaviour.
#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod basics;
mod openssl;
mod tls_faults;
mod tls_peer;
mod util;

//! Real sockets on port 0, each call with a deadline. One file for each kind of misbehaviour.
#![allow(
    clippy::unwrap_used,
    reason = "the lint takes helpers of tests for code that is no test"
)]

mod basics;
mod util;

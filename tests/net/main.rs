//! Real sockets on port 0, each call with a deadline. One file for each kind of misbehaviour.

mod basics;
mod util;

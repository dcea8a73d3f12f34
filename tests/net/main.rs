//! Real sockets on port 0, each call with a deadline. One file for each kind of misbehaviour.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod answers;
mod basics;
mod calls;
mod compression;
mod dual;
mod dual_switch;
mod event_log;
mod extensions;
mod identity;
mod idle;
mod limits;
mod metrics;
mod openssl;
mod rates;
mod relay;
mod requests;
mod resilient;
mod shutdown;
mod stream_faults;
mod stream_relay;
mod tls_faults;
mod tls_peer;
mod udp_basics;
mod udp_easy;
mod udp_faults;
mod udp_sealed;
mod util;

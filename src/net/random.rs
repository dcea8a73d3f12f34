//! Numbers that a peer cannot guess: session ids and the start of message ids.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 64 bits of SipHash under a key that the system's random source chose. Unpredictable to peers,
/// which is what ids need; it makes no keys.
pub(crate) fn u64() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The seed of a datagram endpoint, from the system itself: cookies are authenticated with it.
pub(crate) fn seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    Ok(seed)
}

/// A session id (spec 3.2).
pub(crate) fn session_id() -> u128 {
    u128::from(u64()) << 64 | u128::from(u64())
}

/// Where an endpoint starts counting message ids: below 2^48, so that they never wrap (spec 3.5).
pub(crate) fn first_msg_id() -> u64 {
    u64() >> 16
}

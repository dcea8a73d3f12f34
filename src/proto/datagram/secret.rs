//! Everything random in an endpoint, from one seed: session ids, first message ids, jitter, and the
//! cookies that prove an address (spec 4.8).
//!
//! HMAC-SHA-256 in counter mode: unpredictable to peers when the seed is, and one trace for one seed.

use hmac_sha256::HMAC;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a cookie counts.
pub(super) const COOKIE_LIFE: Duration = Duration::from_secs(10);
/// Bytes of the time in a cookie; the rest authenticates it.
const TIME_LEN: usize = 8;
/// Bytes of a cookie.
pub(super) const COOKIE_LEN: usize = TIME_LEN + 32;

/// The secret of one endpoint. Debug does not show it.
pub(super) struct Secret {
    key: [u8; 32],
    drawn: u64,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// All that follows is a function of `seed`.
    #[must_use]
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self {
            key: seed,
            drawn: 0,
        }
    }

    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        HMAC::mac([&b"draw"[..], &self.drawn.to_be_bytes()].concat(), self.key)
    }

    /// 128 random bits.
    pub(super) fn bytes(&mut self) -> [u8; 16] {
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.draw();
        head
    }

    /// 64 random bits.
    pub(super) fn u64(&mut self) -> u64 {
        u128::from_be_bytes(self.bytes()) as u64
    }

    /// The cookie of an address at a time, counted from when the endpoint was made.
    #[must_use]
    pub(super) fn cookie(&self, peer: SocketAddr, at: Duration) -> [u8; COOKIE_LEN] {
        let mut cookie = [0; COOKIE_LEN];
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let (time, mac) = cookie.split_at_mut(TIME_LEN);
        time.copy_from_slice(&millis.to_be_bytes());
        mac.copy_from_slice(&self.mac(peer, time));
        cookie
    }

    fn mac(&self, peer: SocketAddr, time: &[u8]) -> [u8; 32] {
        let mut mac = HMAC::new(self.key);
        mac.update(b"cookie");
        match peer.ip() {
            IpAddr::V4(ip) => mac.update(ip.octets()),
            IpAddr::V6(ip) => mac.update(ip.octets()),
        }
        mac.update(peer.port().to_be_bytes());
        mac.update(time);
        mac.finalize()
    }

    /// When the cookie was made, if it is ours, of this address, and not over its time.
    #[must_use]
    pub(super) fn check_cookie(
        &self,
        cookie: &[u8],
        peer: SocketAddr,
        now: Duration,
    ) -> Option<Duration> {
        let (time, mac) = cookie.split_first_chunk::<TIME_LEN>()?;
        if mac.len() != 32 {
            return None;
        }
        let good = self.mac(peer, time);
        // No early exit: how long the comparison takes says nothing about the bytes.
        let differing = mac.iter().zip(good).fold(0, |acc, (a, b)| acc | (a ^ b));
        let made = Duration::from_millis(u64::from_be_bytes(*time));
        let age = now.checked_sub(made)?;
        (differing == 0 && age <= COOKIE_LIFE).then_some(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn du14_a_cookie_counts_for_ten_seconds_at_its_address_from_its_maker() {
        let secret = Secret::new([7; 32]);
        let peer = addr("192.0.2.1:4000");
        let made = Duration::from_secs(100);
        let cookie = secret.cookie(peer, made);
        let check = |at| secret.check_cookie(&cookie, peer, at);
        assert_eq!(check(made), Some(made));
        assert_eq!(check(made + COOKIE_LIFE), Some(made));
        assert_eq!(check(made + COOKIE_LIFE + Duration::from_millis(1)), None);
        assert_eq!(
            check(made - Duration::from_millis(1)),
            None,
            "from the future"
        );
        for other in ["192.0.2.2:4000", "192.0.2.1:4001", "[::1]:4000"] {
            assert_eq!(secret.check_cookie(&cookie, addr(other), made), None);
        }
        assert_eq!(Secret::new([8; 32]).check_cookie(&cookie, peer, made), None);
        for bit in 0..COOKIE_LEN * 8 {
            let mut bad = cookie;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(secret.check_cookie(&bad, peer, made), None, "bit {bit}");
        }
        assert_eq!(secret.check_cookie(&cookie[..39], peer, made), None);
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let (mut a, mut b) = (Secret::new([1; 32]), Secret::new([1; 32]));
        assert_eq!(a.bytes(), b.bytes());
        assert_ne!(a.u64(), a.u64());
        assert_eq!(format!("{a:?}"), "Secret(..)");
    }
}

//! Sealed datagrams: one plain datagram each, encrypted, numbered and bound to its session (spec 4.13).
//!
//! [`Sealing`] is both directions of one session. It knows neither frames nor addresses: the endpoint
//! asks whose a datagram is ([`id_of`]), opens it, and has what leaves sealed. The cryptography is behind
//! [`PacketKey`], so that this runs without any; `net::tls` has the real one.
//!
//! ```text
//!  offset 0     2  3          11         19                        end - 16
//!         +-----+--+----------+----------+-------------------------+----------+
//!         | VS  |01| id       | number   | one plain datagram      | tag      |
//!         +-----+--+----------+----------+-------------------------+----------+
//!         |<--- authenticated as it is -->|<------ encrypted ----->|
//! ```

mod window;

use super::stats::DropReason;
use std::fmt;
use window::Window;

/// Begins a sealed datagram; a plain one begins with "VT".
pub const MAGIC: [u8; 2] = *b"VS";
/// The version of this form.
const VERSION: u8 = 1;
/// Magic, version, id, number (bytes).
const HEADER_LEN: usize = 19;
/// The authentication tag (bytes).
pub const TAG_LEN: usize = 16;
/// What sealing adds to a datagram (bytes).
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// Datagrams that one key may protect, none over 2,048 bytes (RFC 9001 B.1, for AES-GCM).
pub(super) const MAX_SENT: u64 = 1 << 28;
/// The same for larger ones (RFC 9001 6.6).
pub(super) const MAX_SENT_LARGE: u64 = 1 << 23;
/// Datagrams up to this size count as small there (bytes).
pub(super) const SMALL_LEN: usize = 2048;
/// Datagrams that may fail to open before the key is given up (RFC 9001 6.6, for ChaCha20-Poly1305, the
/// lower of the two).
const MAX_FORGED: u64 = 1 << 36;
/// Numbers that are kept for goodbye and the acknowledgements before it.
pub(super) const RESERVE: u64 = 64;

/// Tells to which session, and in which direction of it, a sealed datagram belongs. No secret.
pub type SealId = [u8; 8];

/// An AEAD with the key and IV of one direction.
///
/// `number` makes the nonce. The caller never seals twice with one number; opening may be tried with any.
pub trait PacketKey: Send + fmt::Debug {
    /// Encrypts `payload` in place and authenticates `header` with it; the tag. `None` when the AEAD
    /// refuses the length.
    fn seal(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Option<[u8; TAG_LEN]>;

    /// Decrypts in place what [`Self::seal`] made, tag at its end; whether it is authentic. If not,
    /// `sealed` holds nothing of use.
    fn open(&self, number: u64, header: &[u8], sealed: &mut [u8]) -> bool;
}

/// One direction of a session: its id and its key.
#[derive(Debug)]
pub struct Direction {
    /// In the header of its datagrams.
    pub id: SealId,
    /// Seals and opens them.
    pub key: Box<dyn PacketKey>,
}

/// What both ends of a TLS session derive from it for one session of sealed datagrams.
///
/// It cannot be copied: each direction's numbers begin at zero, and the same key must never begin twice.
#[derive(Debug)]
pub struct SealedKeys {
    /// The number of the session, as in WELCOME on TLS.
    pub session: u128,
    /// For what this side sends.
    pub send: Direction,
    /// For what it receives.
    pub receive: Direction,
}

/// The id of a sealed datagram; `None` when it is none.
#[must_use]
pub(super) fn id_of(datagram: &[u8]) -> Option<SealId> {
    let header = datagram.get(..HEADER_LEN)?;
    let is_ours = datagram.len() >= OVERHEAD && header[2] == VERSION;
    is_ours.then(|| header[3..11].try_into().ok())?
}

/// Whether a datagram claims to be sealed.
#[must_use]
pub(super) fn is_sealed(datagram: &[u8]) -> bool {
    datagram.starts_with(&MAGIC)
}

/// What was in a sealed datagram.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    /// The plain datagram.
    pub plain: &'a [u8],
    /// No datagram with a higher number has come yet.
    pub is_newest: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sealing {
    session: u128,
    send: Direction,
    receive: Direction,
    /// The next datagram's number. Counts up and is never set.
    next: u64,
    /// From here on nothing is sealed.
    limit: u64,
    window: Window,
    forged: u64,
}

impl Sealing {
    /// Both directions at their beginning. Of `limit` datagrams the last few are kept for goodbye.
    #[must_use]
    pub(super) fn new(keys: SealedKeys, limit: u64) -> Self {
        Self {
            session: keys.session,
            send: keys.send,
            receive: keys.receive,
            next: 0,
            limit: limit.min(MAX_SENT),
            window: Window::default(),
            forged: 0,
        }
    }

    /// The number of the session.
    #[must_use]
    pub(super) const fn session(&self) -> u128 {
        self.session
    }

    /// The id of datagrams that arrive.
    #[must_use]
    pub(super) const fn receive_id(&self) -> SealId {
        self.receive.id
    }

    /// Datagrams that can still be sealed.
    #[must_use]
    pub(super) const fn left(&self) -> u64 {
        self.limit - self.next
    }

    /// Whether the keys have done their work: what is left is for goodbye.
    #[must_use]
    pub(super) const fn is_spent(&self) -> bool {
        self.left() <= RESERVE || self.forged >= MAX_FORGED
    }

    /// Begins a datagram at the end of `out`: its plain datagram is to be appended, then
    /// [`Self::finish`]ed.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.send.id);
        out.extend_from_slice(&self.next.to_be_bytes());
    }

    /// Seals the datagram that begins at `from`. When it cannot be sealed it is taken away again.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>, from: usize) -> bool {
        let tag = (self.next < self.limit).then(|| {
            let (header, payload) = out[from..].split_at_mut(HEADER_LEN);
            self.send.key.seal(self.next, header, payload)
        });
        let Some(Some(tag)) = tag else {
            out.truncate(from);
            return false;
        };
        // Whatever becomes of the datagram, its number is gone.
        self.next += 1;
        out.extend_from_slice(&tag);
        true
    }

    /// A datagram of its own; `None` when it cannot be sealed.
    #[must_use]
    pub(super) fn seal(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        self.begin(&mut out);
        out.extend_from_slice(plain);
        self.finish(&mut out, 0).then_some(out)
    }

    /// Opens a datagram whose [`id_of`] is this direction's. Nothing is noted of one that is refused, but
    /// that there was one.
    ///
    /// # Errors
    /// `Replayed`, `Forged`, or `Invalid` for a number that no honest peer uses.
    pub(super) fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<Opened<'a>, DropReason> {
        let (header, sealed) = datagram
            .split_at_mut_checked(HEADER_LEN)
            .ok_or(DropReason::Malformed)?;
        let number = header
            .last_chunk()
            .map_or(u64::MAX, |n| u64::from_be_bytes(*n));
        if number >= MAX_SENT {
            return Err(DropReason::Invalid);
        }
        // Before the work of opening it; noted only afterwards.
        if !self.window.is_new(number) {
            return Err(DropReason::Replayed);
        }
        if !self.receive.key.open(number, header, sealed) {
            self.forged = self.forged.saturating_add(1);
            return Err(DropReason::Forged);
        }
        let is_newest = self.window.note(number);
        let len = sealed.len().saturating_sub(TAG_LEN);
        Ok(Opened {
            plain: &sealed[..len],
            is_newest,
        })
    }
}

//! Messages that may come by both transports and are handled once (spec 6.3).
//!
//! A number for each message, in the header `once`, and the record of those that were handled. Kept by a server
//! for each client, as long as the client's session on the stream.

use super::datagram::ranges::RangeSet;
use super::keys;
use crate::wire::{Frame, HeadersRef};

/// Bytes of the header: the number of the stream's session, and of the message.
const LEN: usize = 24;
/// Ranges kept for a client; each gap is a message that is on its way or was given up.
const MAX_RANGE_COUNT: usize = 1024;

/// The content of `once`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceId {
    /// The session on the stream that the message belongs to, whatever it came by.
    pub session: u128,
    /// The message.
    pub number: u64,
}

impl OnceId {
    /// Reads it; `Err` when there is one that is no such value.
    ///
    /// # Errors
    /// `ReservedHeader` when it is there twice, or has another length.
    pub fn of(headers: HeadersRef<'_>) -> Result<Option<Self>, super::Violation> {
        let Some(value) = keys::unique(headers, keys::ONCE)? else {
            return Ok(None);
        };
        let malformed = super::Violation::ReservedHeader { key: keys::ONCE };
        let value: [u8; LEN] = value.try_into().map_err(|_| malformed)?;
        let (session, number) = value.split_at(16);
        let both = session.try_into().ok().zip(number.try_into().ok());
        Ok(both.map(|(session, number)| Self {
            session: u128::from_be_bytes(session),
            number: u64::from_be_bytes(number),
        }))
    }

    /// The frame with it.
    #[must_use]
    pub fn on(self, frame: Frame) -> Frame {
        let mut value = [0; LEN];
        value[..16].copy_from_slice(&self.session.to_be_bytes());
        value[16..].copy_from_slice(&self.number.to_be_bytes());
        frame.with_header(keys::ONCE, value)
    }
}

/// Numbers that were handled.
///
/// # Example
/// ```
/// use vstp::proto::once::Handled;
/// let mut handled = Handled::default();
/// assert!(handled.note(7));
/// assert!(!handled.note(7));
/// ```
#[derive(Debug, Default)]
pub struct Handled {
    numbers: RangeSet,
    /// Numbers below are forgotten, and taken for handled: at most once comes first.
    floor: u64,
}

impl Handled {
    /// Notes a number; whether it is new.
    pub fn note(&mut self, number: u64) -> bool {
        if number < self.floor || !self.numbers.insert(number) {
            return false;
        }
        if self.numbers.range_count() > MAX_RANGE_COUNT {
            if let Some(lowest) = self.numbers.pop_first() {
                self.floor = lowest.end;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    #[test]
    fn a_number_is_new_once() {
        let mut handled = Handled::default();
        for number in [3, 1, 2, 0, u64::MAX - 1] {
            assert!(handled.note(number));
            assert!(!handled.note(number));
        }
    }

    #[test]
    fn gaps_are_bounded_and_what_is_forgotten_is_not_new() {
        let mut handled = Handled::default();
        for number in (0..4 * MAX_RANGE_COUNT as u64).step_by(2) {
            assert!(handled.note(number));
        }
        assert!(handled.numbers.range_count() <= MAX_RANGE_COUNT);
        assert!(!handled.note(1), "far below");
        assert!(handled.note(4 * MAX_RANGE_COUNT as u64 - 1), "a recent gap");
    }

    #[test]
    fn the_header_is_read_as_it_was_written() {
        let once = OnceId {
            session: 1 << 100 | 5,
            number: 9,
        };
        let frame = once.on(Frame::data("x"));
        assert_eq!(OnceId::of(frame.as_ref().headers), Ok(Some(once)));
        assert_eq!(OnceId::of(Frame::data("x").as_ref().headers), Ok(None));
        let short = Frame::data("x").with_header(keys::ONCE, [0; 23]);
        assert!(OnceId::of(short.as_ref().headers).is_err());
        assert!(
            OnceId::of(once.on(frame).as_ref().headers).is_err(),
            "twice"
        );
    }
}

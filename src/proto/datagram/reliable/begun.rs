//! How far the newest message runs ahead of the oldest that is not finished.
//!
//! The receiver remembers only so many of the messages that it delivered. One whose acknowledgement was
//! lost comes again; by then it must not be forgotten, or it would be delivered twice (to a stranger) or
//! never acknowledged (in a session). So the sender waits for the oldest before it goes on.

use std::collections::VecDeque;

/// The messages that were begun, in that order, from the oldest unfinished one on.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// The place of the first entry.
    first: u64,
    /// Whether each is finished; the first is not.
    finished: VecDeque<bool>,
}

impl Begun {
    /// Messages from the oldest unfinished one to the newest.
    #[must_use]
    pub(super) fn span(&self) -> usize {
        self.finished.len()
    }

    /// Another message begins; its place.
    pub(super) fn begin(&mut self) -> u64 {
        self.finished.push_back(false);
        self.first + self.finished.len() as u64 - 1
    }

    /// The message at this place was acknowledged or given up.
    pub(super) fn finish(&mut self, place: u64) {
        let index = place.checked_sub(self.first);
        let entry = index.and_then(|index| self.finished.get_mut(index as usize));
        if let Some(entry) = entry {
            *entry = true;
        }
        while self.finished.front() == Some(&true) {
            self.finished.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_ends_at_the_oldest_unfinished_message() {
        let mut begun = Begun::default();
        let places: Vec<u64> = (0..10).map(|_| begun.begin()).collect();
        assert_eq!(begun.span(), 10);
        for place in &places[1..] {
            begun.finish(*place);
        }
        assert_eq!(begun.span(), 10, "the first is not finished");
        begun.finish(places[0]);
        begun.finish(places[0]);
        assert_eq!(begun.span(), 0);
        let next = begun.begin();
        assert_eq!((next, begun.span()), (10, 1));
    }
}

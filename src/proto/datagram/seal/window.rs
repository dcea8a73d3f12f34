//! Which numbers have arrived: the newest 4,096 exactly, older ones all count as arrived (spec 4.13).
//!
//! A ring of words, so that moving on clears words instead of shifting bits (RFC 6479). Wide, because a
//! datagram that is refused is a loss, and fast paths have many between the first and the last of a
//! disorder.

/// Numbers below the newest that are known one by one.
pub(super) const WIDTH: u64 = 4096;
const WORD: u64 = 64;
/// One word more than the width: the newest word is only partly in use.
const WORDS: u64 = WIDTH / WORD + 1;

#[derive(Debug)]
pub(super) struct Window {
    /// One above the highest number that arrived.
    end: u64,
    words: [u64; WORDS as usize],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            end: 0,
            words: [0; WORDS as usize],
        }
    }
}

/// The word of a number, and its bit.
const fn place(number: u64) -> (usize, u64) {
    let word = number / WORD % WORDS;
    (word as usize, 1 << (number % WORD))
}

impl Window {
    /// Whether a number has not arrived yet, as far as that is known.
    #[must_use]
    pub(super) const fn is_new(&self, number: u64) -> bool {
        if number >= self.end {
            return true;
        }
        let (word, bit) = place(number);
        self.end - number <= WIDTH && self.words[word] & bit == 0
    }

    /// A number that [is new](Self::is_new) has arrived; whether it is the highest.
    pub(super) fn note(&mut self, number: u64) -> bool {
        let is_newest = number >= self.end;
        if is_newest {
            // Words between the highest before and this one; before the first there is none.
            let (old, new) = (self.end.saturating_sub(1) / WORD, number / WORD);
            for word in old + 1..=new.min(old.saturating_add(WORDS)) {
                self.words[(word % WORDS) as usize] = 0;
            }
            self.end = number.saturating_add(1);
        }
        let (word, bit) = place(number);
        self.words[word] |= bit;
        is_newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn du15_the_edges_of_the_window() {
        let mut window = Window::default();
        assert!(window.is_new(0) && window.note(0) && !window.is_new(0));
        assert!(window.note(WIDTH));
        assert!(!window.is_new(0), "noted, and out of it by one");
        assert!(window.is_new(1), "the lowest that is known");
        assert!(!window.note(1) && !window.is_new(1));
        assert!(window.note(WIDTH + 2));
        assert!(!window.is_new(2), "too old, though it never came");
        assert!(window.is_new(3));
        // Beyond everything that was: all is old or unseen.
        assert!(window.note(1 << 40));
        assert!(!window.is_new((1 << 40) - WIDTH));
        assert!((1..WIDTH).all(|back| window.is_new((1 << 40) - back)));
        assert!(window.note(u64::MAX - 1) && !window.is_new(u64::MAX - 1));
    }

    #[test]
    fn du15_it_is_a_set_of_the_newest() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for step in [2, 100, 5000, 100_000] {
            let (mut window, mut seen) = (Window::default(), HashSet::new());
            let mut top = None;
            for _ in 0..20_000 {
                let ahead = top.map_or(0, |top: u64| top + random(step));
                let number = ahead.saturating_sub(random(3 * WIDTH / 2));
                let is_known = top.is_none_or(|top| number + WIDTH > top);
                let is_new = is_known && !seen.contains(&number);
                assert_eq!(window.is_new(number), is_new, "{number} below {top:?}");
                if is_new {
                    let is_newest = top.is_none_or(|top| number > top);
                    assert_eq!(window.note(number), is_newest);
                    seen.insert(number);
                    top = top.max(Some(number));
                }
            }
        }
    }
}

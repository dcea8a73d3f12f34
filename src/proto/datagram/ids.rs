//! Maps keyed by numbers that this side has chosen itself.
//!
//! Nobody else can choose the keys, so they need no protection against collisions, and one
//! multiplication is hash enough.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from our own message or set numbers.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Spreads numbers that rise by one over all bits (Fibonacci hashing).
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        // The map looks at the top bits and at the bottom ones; the bottom ones are poor.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_spread_over_a_table() {
        let mut slots = std::collections::HashSet::new();
        for n in 0..1024_u64 {
            let mut hasher = IdHasher::default();
            hasher.write_u64((1 << 40) + n);
            slots.insert(hasher.finish() % 4096);
        }
        assert!(slots.len() > 800, "{}", slots.len());
    }
}

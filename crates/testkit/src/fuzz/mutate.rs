//! Makes an input out of others.
//!
//! Owns the kinds of change: single bits and bytes, numbers at their limits, words of the dictionary, pieces removed,
//! doubled, moved, and taken from other inputs. An input depends on the seed and its number, on nothing before it.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Numbers at which parsers break.
const LIMITS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];
/// Most changes of one input.
const CHANGES: usize = 6;

/// Makes inputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mutator<'a> {
    pub(super) corpus: &'a [Vec<u8>],
    pub(super) dictionary: &'a [&'a [u8]],
    pub(super) longest: usize,
}

// === impl Mutator ===

impl Mutator<'_> {
    /// Makes the input with this number.
    pub(super) fn input(&self, seed: u64, number: u64) -> Vec<u8> {
        // An odd factor spreads neighbouring numbers over all seeds of the generator.
        let mixed = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = SmallRng::seed_from_u64(mixed);
        let mut input = self.corpus.choose(&mut rng).cloned().unwrap_or_default();
        for _ in 0..rng.random_range(1..=CHANGES) {
            self.change(&mut input, &mut rng);
        }
        input.truncate(self.longest);
        input
    }

    fn change(&self, input: &mut Vec<u8>, rng: &mut SmallRng) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..11) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << rng.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = rng.random();
                }
            }
            2 => input.insert(at, rng.random()),
            3 => {
                input.drain(piece(input.len(), at, rng));
            }
            4 => {
                let copy = input
                    .get(piece(input.len(), at, rng))
                    .unwrap_or_default()
                    .to_vec();
                let to = rng.random_range(0..=input.len());
                put(input, to, &copy);
            }
            5 | 6 => {
                let word = self.dictionary.choose(rng).copied().unwrap_or_default();
                put(input, at, word);
            }
            7 => {
                let word = self.dictionary.choose(rng).copied().unwrap_or_default();
                let end = (at + word.len()).min(input.len());
                input.splice(at..end, word.iter().copied());
            }
            8 => {
                let other = self
                    .corpus
                    .choose(rng)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let from = rng.random_range(0..=other.len());
                let part = other.get(piece(other.len(), from, rng)).unwrap_or_default();
                put(input, at, part);
            }
            9 => {
                let limit = LIMITS
                    .choose(rng)
                    .copied()
                    .unwrap_or_default()
                    .to_be_bytes();
                let size = [1, 2, 4, 8].choose(rng).copied().unwrap_or(1);
                let bytes = limit.get(limit.len() - size..).unwrap_or_default();
                let end = (at + size).min(input.len());
                input.splice(at..end, bytes.iter().copied());
            }
            _ => {
                // The same again and again: depth, and length.
                let copy = input
                    .get(piece(input.len(), at, rng))
                    .unwrap_or_default()
                    .to_vec();
                let times = rng.random_range(1..=64);
                let room = self.longest.saturating_sub(input.len());
                let many: Vec<u8> = copy
                    .iter()
                    .copied()
                    .cycle()
                    .take((copy.len() * times).min(room))
                    .collect();
                put(input, at, &many);
            }
        }
    }
}

/// A range that begins at `at`; mostly a short one.
fn piece(length: usize, at: usize, rng: &mut SmallRng) -> std::ops::Range<usize> {
    let left = length.saturating_sub(at);
    let longest = match rng.random_ratio(1, 4) {
        true => left,
        false => left.min(16),
    };
    at..at + rng.random_range(0..=longest)
}

fn put(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

//! Ids for apps that were given none: two words.

use rand::Rng;
use rand::seq::IndexedRandom as _;

const FIRST: [&str; 64] = [
    "amber", "ancient", "autumn", "bold", "brave", "bright", "brisk", "calm", "clever", "cool",
    "copper", "coral", "crisp", "dawn", "deep", "distant", "dry", "eager", "early", "fair",
    "fierce", "frosty", "gentle", "glad", "golden", "grand", "green", "happy", "hidden", "high",
    "humble", "icy", "jolly", "keen", "kind", "late", "lively", "long", "lucky", "mellow", "merry",
    "misty", "modest", "noble", "old", "patient", "plain", "proud", "quick", "quiet", "rapid",
    "red", "round", "royal", "sharp", "silent", "silver", "small", "solid", "sunny", "swift",
    "tidy", "warm", "wise",
];

const SECOND: [&str; 64] = [
    "acorn", "anchor", "badger", "beacon", "birch", "bridge", "brook", "canyon", "cedar", "cliff",
    "cloud", "comet", "crane", "creek", "dune", "eagle", "elm", "falcon", "fern", "field", "finch",
    "fjord", "forest", "fox", "garden", "glade", "grove", "harbor", "hawk", "heron", "hill",
    "island", "lake", "lantern", "larch", "leaf", "lynx", "maple", "marsh", "meadow", "moon",
    "moss", "oak", "orchard", "otter", "owl", "pebble", "pine", "planet", "pond", "raven", "reef",
    "ridge", "river", "robin", "sparrow", "spring", "star", "stone", "summit", "thistle", "valley",
    "willow", "wren",
];

/// A new id.
pub(crate) fn any(rng: &mut impl Rng) -> String {
    let first = FIRST.choose(rng).copied().unwrap_or_default();
    let second = SECOND.choose(rng).copied().unwrap_or_default();
    format!("{first}-{second}")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn an_id_is_two_words() {
        let id = any(&mut SmallRng::seed_from_u64(3));
        let words: Vec<&str> = id.split('-').collect();
        assert!(
            words.len() == 2 && words.iter().all(|word| word.len() > 1),
            "{id}"
        );
    }
}

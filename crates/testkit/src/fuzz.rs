//! A driver for fuzz targets on stable Rust: a seeded mutator over a small corpus.
//!
//! A target is a plain `fn(&[u8])` that panics when an invariant is broken. Every input is made of the seed and its
//! number alone, so a run can be repeated; one that crashes is written to a file, with the command that replays it.
//! `cargo test` drives each target over its corpus and a bounded number of inputs; `cargo xtask fuzz` drives it for as
//! long as one likes, through the variables below. What is true of an input is the target's matter.

#![expect(
    clippy::panic,
    reason = "a target that cannot be driven is a failed test"
)]

mod mutate;

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use mutate::Mutator;

/// How many inputs are made, in the place of the target's own number.
pub const COUNT: &str = "IRONSIDE_FUZZ_COUNT";
/// The seed; 0 otherwise.
pub const SEED: &str = "IRONSIDE_FUZZ_SEED";
/// A file that is the only input.
pub const INPUT: &str = "IRONSIDE_FUZZ_INPUT";
/// Inputs between two lines of progress.
const PROGRESS: u64 = 1 << 20;

/// What is driven.
#[derive(Debug, Clone, Copy)]
pub struct Fuzz {
    /// The name by which `cargo xtask fuzz` knows it.
    pub name: &'static str,
    /// The folder with the inputs that others are made of.
    pub corpus: &'static str,
    /// Words of the language that the target reads.
    pub dictionary: &'static [&'static [u8]],
    /// Inputs of a run in `cargo test`: they take a few seconds.
    pub count: u64,
    /// Longest input that is made, in bytes.
    pub longest: usize,
    /// What is called with each input.
    pub target: fn(&[u8]),
}

// === impl Fuzz ===

impl Fuzz {
    /// Runs the corpus, then made inputs, until one panics.
    ///
    /// # Panics
    /// If the target does, if the corpus is empty, or a variable can't be read.
    pub fn run(&self) {
        if let Some(path) = variable(INPUT) {
            return self.replay(Path::new(&path));
        }
        let corpus = self.read_corpus();
        for (path, input) in &corpus {
            self.call(input, &format!("corpus {}", path.display()));
        }
        let number = |name: &str, default| {
            variable(name).map_or(default, |text| {
                let number = text.parse::<u64>();
                number.unwrap_or_else(|_| panic!("{name}={text} is no number"))
            })
        };
        let (count, seed) = (number(COUNT, self.count), number(SEED, 0));
        let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
        let mutator = Mutator {
            corpus: &inputs,
            dictionary: self.dictionary,
            longest: self.longest,
        };
        for n in 0..count {
            let input = mutator.input(seed, n);
            self.call(&input, &format!("input {n} of seed {seed}"));
            if n % PROGRESS == PROGRESS - 1 {
                eprintln!("fuzz {}: {} inputs", self.name, n + 1);
            }
        }
    }

    fn replay(&self, path: &Path) {
        let input = fs::read(path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        self.call(&input, &format!("file {}", path.display()));
    }

    fn read_corpus(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.corpus);
        let entries = entries.unwrap_or_else(|cause| panic!("{}: {cause}", self.corpus));
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        // The order of a folder is the file system's, and inputs are chosen by number.
        paths.sort();
        assert!(!paths.is_empty(), "{} holds no inputs", self.corpus);
        let read = |path: PathBuf| {
            let input =
                fs::read(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
            (path, input)
        };
        paths.into_iter().map(read).collect()
    }

    fn call(&self, input: &[u8], origin: &str) {
        // Nothing is used after an unwind but the input.
        let ended = catch_unwind(AssertUnwindSafe(|| (self.target)(input)));
        let Err(panic) = ended else { return };
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let folder = std::env::temp_dir().join("ironside-fuzz");
        let file = folder.join(format!("{}-{:016x}", self.name, hasher.finish()));
        let saved = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input));
        let name = self.name;
        eprintln!("fuzz {name}: {origin} crashed it, {} bytes:", input.len());
        eprintln!("  {}", input.escape_ascii());
        match saved {
            Ok(()) => {
                eprintln!(
                    "  replay: cargo xtask fuzz {name} --input {}",
                    file.display()
                );
                eprintln!(
                    "  when it is fixed, keep the input: copy the file into {}",
                    self.corpus
                );
            }
            Err(cause) => eprintln!("  it could not be saved to {}: {cause}", file.display()),
        }
        resume_unwind(panic);
    }
}

#[expect(clippy::disallowed_methods, reason = "how xtask speaks to a test")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/self");

    fn fuzz(target: fn(&[u8])) -> Fuzz {
        Fuzz {
            name: "self",
            corpus: CORPUS,
            dictionary: &[b"magic"],
            count: 2_000,
            longest: 64,
            target,
        }
    }

    #[test]
    fn a_broken_invariant_is_found() {
        let finds = |target| catch_unwind(|| fuzz(target).run()).is_err();
        assert!(!finds(|input| assert!(input.len() <= 64)));
        assert!(
            finds(|input| assert!(!input.windows(5).any(|w| w == b"magic"))),
            "dictionary"
        );
        assert!(finds(|input| assert!(!input.contains(&0xff))), "bytes");
        assert!(finds(|input| assert!(input.len() < 64)), "length");
        assert!(finds(|input| assert!(!input.is_empty())), "nothing at all");
    }
}

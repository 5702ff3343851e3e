//! What a user writes: manifests, and how files of them are read.
//!
//! One file per kind, all pure: bytes and look-ups in, values, warnings and
//! errors out. Files, environment and clocks stay with the programs.

mod duration;

pub use duration::{DurationError, GoDuration};

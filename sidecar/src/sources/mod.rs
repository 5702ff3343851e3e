//! Where live state comes from: files are read, compiled into a whole [`Live`](crate::live::Live), published.
//!
//! Owns `disk.rs` (files, watches, reloads) and `compile.rs` (from what was read to what requests use, pure).
//! A reload replaces the value; listeners, connections and calls stay.

pub(crate) mod compile;
pub(crate) mod disk;

//! The chart of the control plane, as it was when this binary was built.
//!
//! Knows its files and nothing of what is in them; `build.rs` makes the list.

/// The files of the chart, by their path in it.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/chart.rs"));

/// Every file, by its path in the chart.
pub(crate) fn files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().copied()
}

/// The definitions of kinds.
pub(crate) fn definitions() -> impl Iterator<Item = &'static str> {
    files()
        .filter(|(path, _)| path.starts_with("crds/"))
        .filter_map(|(_, text)| std::str::from_utf8(text).ok())
}

//! What the command line prints: status lines, tables, ages.
//!
//! Owns the form; the texts belong to the commands. Writing to a closed pipe is not an error here: the reader has left,
//! and the work goes on.

pub(crate) mod age;
pub(crate) mod status;
pub(crate) mod table;

pub(crate) use status::{Level, Status};

use std::io::Write;

/// Writes bytes to the standard output.
pub(crate) fn out(bytes: &[u8]) {
    let mut to = std::io::stdout().lock();
    // A reader that has left is no failure of the command.
    let _closed = to.write_all(bytes).and_then(|()| to.flush());
}

/// Writes bytes to the standard error.
pub(crate) fn err(bytes: &[u8]) {
    let mut to = std::io::stderr().lock();
    // As above.
    let _closed = to.write_all(bytes).and_then(|()| to.flush());
}

/// Writes one line of data to the standard output.
pub(crate) fn line(text: &str) {
    out(format!("{text}\n").as_bytes());
}

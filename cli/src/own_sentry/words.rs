//! What a Sentry that could not be started said last.
//!
//! Owns the way from its log to one sentence for the user of a run.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// No more of the log than this is read, in bytes.
const MOST: u64 = 1 << 20;

/// What Sentry said last, from a place in its log on.
pub(super) fn last_words(log: &Path, from: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        std::io::Result::Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.map_or_else(|| "it said nothing".to_owned(), message)
}

/// The message of a log line; the whole line if it is none.
fn message(line: &str) -> String {
    let Some((_, rest)) = line.split_once(" msg=\"") else {
        return line.to_owned();
    };
    let mut message = String::new();
    let mut escaped = false;
    for letter in rest.chars() {
        match (escaped, letter) {
            (true, _) => {
                message.push(letter);
                escaped = false;
            }
            (false, '\\') => escaped = true,
            (false, '"') => break,
            (false, _) => message.push(letter),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_log_line_is_read() {
        let line = r#"time="2026-08-01T10:00:00Z" level=fatal msg="Fatal error: cannot read \"x\"" scope=dapr.sentry"#;
        assert_eq!(message(line), "Fatal error: cannot read \"x\"");
        assert_eq!(message("thread panicked"), "thread panicked");
        assert_eq!(last_words(Path::new("/nowhere"), 0), "it said nothing");
    }
}

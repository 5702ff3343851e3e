//! All ways in which an app may read a path that left the sidecar.
//!
//! The sidecar decodes and cleans a path once. An app may decode it again, take `\` for `/`, drop what follows
//! `;` in a segment, or stop at `#`, `?` or NUL, and clean the result. A call is allowed only if it is under
//! every reading (fact O-A3). Buffers are kept between calls, so a warm thread allocates nothing.

use std::cell::RefCell;

/// Times that a text may be decoded until it must stay as it is (fact O-A3).
const ROUNDS: u8 = 3;
/// Readings of one path; more of them are a trick.
const MOST: usize = 48;
/// Longest path that is read in several ways, in bytes: bounds the time at a few milliseconds.
const LONGEST: usize = 16 * 1024;

/// The path has no definite readings: it decodes for ever, into no text, or there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Readings, the first of which is the path itself.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    found: Vec<Reading>,
    free: Vec<String>,
}

#[derive(Debug)]
struct Reading {
    text: String,
    /// How many times it was decoded.
    rounds: u8,
}

/// Returns whether a path has one reading only.
pub(crate) fn is_plain(path: &str) -> bool {
    !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
}

/// Calls `judge` with each reading of a path until it says stop.
///
/// # Errors
/// [`Unreadable`]; `judge` was not called.
pub(crate) fn each(path: &str, judge: impl FnMut(&str) -> bool) -> Result<(), Unreadable> {
    thread_local! {
        static READINGS: RefCell<Readings> = RefCell::default();
    }
    READINGS.with_borrow_mut(|readings| {
        readings.read(path)?;
        readings.cleaned(judge);
        Ok(())
    })
}

impl Readings {
    /// Finds all readings.
    fn read(&mut self, path: &str) -> Result<(), Unreadable> {
        self.free
            .extend(self.found.drain(..).map(|reading| reading.text));
        if path.len() > LONGEST {
            return Err(Unreadable);
        }
        self.add(path, 0, |path, text| {
            text.push_str(path);
            Ok(())
        })?;
        let mut text = self.free.pop().unwrap_or_default();
        let mut at = 0;
        let mut result = Ok(());
        while let (Some(reading), Ok(())) = (self.found.get(at), result) {
            text.clone_from(&reading.text);
            let rounds = reading.rounds;
            result = self.expand(&text, rounds);
            at += 1;
        }
        self.free.push(text);
        result
    }

    fn expand(&mut self, text: &str, rounds: u8) -> Result<(), Unreadable> {
        if text.contains('%') {
            self.add(text, rounds + 1, decode)?;
        }
        if text.contains('\\') {
            self.add(text, rounds, |text, out| {
                out.extend(text.chars().map(|c| if c == '\\' { '/' } else { c }));
                Ok(())
            })?;
        }
        if text.contains(';') {
            self.add(text, rounds, |text, out| {
                strip_parameters(text, out);
                Ok(())
            })?;
        }
        if let Some(end) = text.find(['#', '?', '\0']) {
            self.add(text, rounds, |text, out| {
                out.push_str(text.get(..end).unwrap_or_default());
                Ok(())
            })?;
        }
        self.add(text, rounds, |text, out| {
            clean(text, out);
            Ok(())
        })
    }

    /// Adds what `make` writes, unless it is known or the same.
    fn add(
        &mut self,
        from: &str,
        rounds: u8,
        make: impl FnOnce(&str, &mut String) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        let mut text = self.free.pop().unwrap_or_default();
        text.clear();
        make(from, &mut text)?;
        let same = text == from && !self.found.is_empty();
        if same || self.found.iter().any(|known| known.text == text) {
            self.free.push(text);
            return Ok(());
        }
        if rounds > ROUNDS || self.found.len() == MOST {
            return Err(Unreadable);
        }
        self.found.push(Reading { text, rounds });
        Ok(())
    }

    /// Hands on those that are clean: the others are only ways to them.
    fn cleaned(&mut self, mut judge: impl FnMut(&str) -> bool) {
        let mut cleaned = self.free.pop().unwrap_or_default();
        for reading in &self.found {
            cleaned.clear();
            clean(&reading.text, &mut cleaned);
            if cleaned == reading.text && !judge(&reading.text) {
                break;
            }
        }
        self.free.push(cleaned);
    }
}

/// As [`crate::clean`], into a buffer.
fn clean(path: &str, out: &mut String) {
    let rooted = path.starts_with('/');
    if rooted {
        out.push('/');
    }
    let floor = out.len();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                let up = out.get(floor..).and_then(|kept| kept.rfind('/'));
                out.truncate(up.map_or(floor, |at| floor + at));
            }
            other => {
                if out.len() > floor {
                    out.push('/');
                }
                out.push_str(other);
            }
        }
    }
}

/// Decodes each `%XX` once; other percent signs stay.
fn decode(text: &str, out: &mut String) -> Result<(), Unreadable> {
    let mut bytes = std::mem::take(out).into_bytes();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..]) if let Some(byte) = hex(*high, *low) => {
                bytes.push(byte);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    // Overlong forms and foreign character sets: the app may see anything.
    *out = String::from_utf8(bytes).map_err(|_not_text| Unreadable)?;
    Ok(())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn strip_parameters(text: &str, out: &mut String) {
    for (at, segment) in text.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        out.push_str(segment.split(';').next().unwrap_or_default());
    }
}

/// Lower-cases a path as the reference does, character by character, into a buffer.
pub(crate) fn lower(text: &str, out: &mut String) {
    out.extend(text.chars().map(lower_char));
}

/// The simple mapping of Unicode, which never makes one character two.
fn lower_char(c: char) -> char {
    if c == '\u{130}' {
        return 'i';
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => lower,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn readings(path: &str) -> Result<Vec<String>, Unreadable> {
        let mut found = Vec::new();
        each(path, |text| {
            found.push(text.to_owned());
            true
        })?;
        found.sort_unstable();
        Ok(found)
    }

    /// Fact: O-A3, rows K133 to K137 and K152.
    #[test]
    fn every_way_to_read_a_path_is_found() {
        for (path, want) in [
            ("a/b", vec!["a/b"]),
            ("public/%2e%2e/admin", vec!["admin", "public/%2e%2e/admin"]),
            (
                "public/%252e%252e/admin",
                vec!["admin", "public/%252e%252e/admin", "public/%2e%2e/admin"],
            ),
            ("public%2F..%2Fadmin", vec!["admin", "public%2F..%2Fadmin"]),
            ("public\\..\\admin", vec!["admin", "public\\..\\admin"]),
            ("public/..;/admin", vec!["admin", "public/..;/admin"]),
            (
                "public;x/..;x=1/admin",
                vec!["admin", "public;x/..;x=1/admin"],
            ),
            ("a/%", vec!["a/%"]),
            ("a/%zz", vec!["a/%zz"]),
            (
                "admin%00.html",
                vec!["admin", "admin\0.html", "admin%00.html"],
            ),
            ("/pkg.S/M%2f", vec!["/pkg.S/M", "/pkg.S/M%2f"]),
        ] {
            assert_eq!(readings(path).unwrap(), want, "{path}");
        }
    }

    /// Fact: K134, K148: not stable after three rounds, or no text.
    #[test]
    fn paths_without_definite_readings_are_refused() {
        for path in [
            "public/%2525252e/admin",
            "public/%c0%ae%c0%ae/admin",
            "a%ff",
            &format!("{};", "a".repeat(LONGEST)),
        ] {
            assert_eq!(readings(path), Err(Unreadable), "{path}");
        }
        assert!(readings("public/%25252e/admin").is_ok());
    }

    #[test]
    fn lower_case_is_the_simple_mapping() {
        for (text, want) in [
            ("ÄB", "äb"),
            ("\u{212a}", "k"),
            ("\u{130}", "i"),
            ("ΑΣ", "ασ"),
            ("ﬀı", "ﬀı"),
        ] {
            let mut out = String::new();
            lower(text, &mut out);
            assert_eq!(out, want);
        }
    }

    proptest! {
        #[test]
        fn cleaning_is_that_of_methods(path in "[/.ab%]{0,24}") {
            let mut out = String::new();
            clean(&path, &mut out);
            prop_assert_eq!(out, crate::clean(&path));
        }

        #[test]
        fn any_text_has_bounded_readings(path in "\\PC{0,40}|[/.a%25fFcC;\\\\#]{0,40}") {
            let path = crate::clean(&path);
            if let Ok(found) = readings(&path) {
                prop_assert!(found.len() <= MOST);
                prop_assert!(found.contains(&path));
            }
        }
    }
}

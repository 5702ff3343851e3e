//! Quoting in Go's manner, which users know from error texts and log lines.
//!
//! Owns the escapes of `%q`: short ones for the usual control characters,
//! `\x`, `\u` and `\U` for everything that cannot be printed. [`escaped`]
//! is the same without quotes and with a bound, for fields of a log line.

use std::fmt::{self, Write as _};

/// A text whose `Display` is quoted; bytes that are no UTF-8 are escaped one by one.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(&'a [u8]);

/// Returns `text` as Go's `%q` prints it.
pub fn quoted<T: AsRef<[u8]> + ?Sized>(text: &T) -> Quoted<'_> {
    Quoted(text.as_ref())
}

/// A text whose `Display` is one printable line of bounded length.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    text: &'a str,
    limit: usize,
}

/// Returns `text` with everything that cannot be printed escaped, cut after `limit` bytes.
#[must_use]
pub const fn escaped(text: &str, limit: usize) -> Escaped<'_> {
    Escaped { text, limit }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = self.limit;
        for c in self.text.chars() {
            let cost = match c {
                '"' => c.len_utf8(),
                _ if is_printable(c) && c != '\\' => c.len_utf8(),
                '\\' | '\x07'..='\r' => 2,
                _ if u32::from(c) <= 0x7f => 4,
                _ if u32::from(c) <= 0xffff => 6,
                _ => 10,
            };
            let Some(left) = room.checked_sub(cost) else {
                return Ok(());
            };
            room = left;
            match c {
                '"' => f.write_char(c)?,
                _ => escape(f, c)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                escape(f, c)?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    }
}

fn escape(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '"' => f.write_str("\\\""),
        '\\' => f.write_str("\\\\"),
        '\x07' => f.write_str("\\a"),
        '\x08' => f.write_str("\\b"),
        '\x0c' => f.write_str("\\f"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\x0b' => f.write_str("\\v"),
        _ if is_printable(c) => f.write_char(c),
        _ => match u32::from(c) {
            code @ 0..=0x7f => write!(f, "\\x{code:02x}"),
            code @ 0x80..=0xffff => write!(f, "\\u{code:04x}"),
            code => write!(f, "\\U{code:08x}"),
        },
    }
}

/// Returns whether a character leaves a mark or a space of its own on a line, and does nothing else there.
#[must_use]
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library keeps its table of printable characters behind Debug, which
    // escapes combining marks only at the start of a text.
    let mut probe = [b'x'; 5];
    let [_first, rest @ ..] = &mut probe;
    let length = 1 + c.encode_utf8(rest).len();
    let text = probe.get(..length).map(str::from_utf8);
    matches!(text, Some(Ok(text)) if text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_quoted_as_go_quotes() {
        let table: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            (b"two words", r#""two words""#),
            (b"say \"x\" \\ 'y'", r#""say \"x\" \\ 'y'""#),
            (b"a\nb\tc\r", r#""a\nb\tc\r""#),
            (b"\x07\x08\x0b\x0c", r#""\a\b\v\f""#),
            (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            ("…é😀".as_bytes(), "\"…é😀\""),
            ("e\u{301}".as_bytes(), "\"e\u{301}\""),
            (
                "\u{a0}\u{200b}\u{feff}\u{2028}".as_bytes(),
                r#""\u00a0\u200b\ufeff\u2028""#,
            ),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
            (b"a\xffb\xc3", r#""a\xffb\xc3""#),
        ];
        for (text, want) in table {
            assert_eq!(quoted(text).to_string(), *want);
        }
    }

    /// Row K221.
    #[test]
    fn fields_are_printable_and_bounded() {
        for (text, limit, want) in [
            ("/a/b", 256, "/a/b"),
            ("say \"x\"", 256, "say \"x\""),
            ("a\\b\n\u{1b}[31m", 256, "a\\\\b\\n\\x1b[31m"),
            (
                "é\u{9b}\u{202e}\u{e0001}",
                256,
                "é\\u009b\\u202e\\U000e0001",
            ),
            ("abcdef", 3, "abc"),
            ("éé", 3, "é"),
            ("a\nb", 2, "a"),
            ("", 0, ""),
        ] {
            assert_eq!(escaped(text, limit).to_string(), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_bounded_field(text: String, limit in 0_usize..40) {
            let field = escaped(&text, limit).to_string();
            prop_assert!(field.len() <= limit);
            prop_assert!(field.chars().all(is_printable));
        }

        #[test]
        fn any_bytes_become_one_line(bytes: Vec<u8>) {
            let text = quoted(&bytes).to_string();
            prop_assert!(text.starts_with('"') && text.ends_with('"') && text.len() >= 2);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}

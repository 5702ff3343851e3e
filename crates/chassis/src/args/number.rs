//! Booleans and integers in Go's spelling.
//!
//! Owns the accepted words; the error texts name what was wrong without
//! repeating the value, which the caller quotes.

use thiserror::Error;

/// Why a text is no number or no boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Not in the accepted spelling.
    #[error("invalid syntax")]
    Syntax,
    /// Beyond 64 bits.
    #[error("value out of range")]
    Range,
}

/// Reads `1 t T TRUE true True` and `0 f F FALSE false False`.
///
/// # Errors
/// [`NumberError::Syntax`] for every other word.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(NumberError::Syntax),
    }
}

/// Reads a signed integer: decimal, `0x`, `0o`, `0b`, a leading `0` (octal), `_` between digits.
///
/// # Errors
/// [`NumberError`] for another spelling, or beyond 64 bits.
pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = parse_uint(digits)?;
    let signed = if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    };
    signed.ok_or(NumberError::Range)
}

/// Reads an unsigned integer in the spellings of [`parse_int`], without a sign.
///
/// # Errors
/// [`NumberError`] for another spelling, or beyond 64 bits.
pub fn parse_uint(text: &str) -> Result<u64, NumberError> {
    let (radix, digits) = radix(text);
    if !underscores_fit(text) {
        return Err(NumberError::Syntax);
    }
    magnitude(&digits.replace('_', ""), radix)
}

/// Reads a decimal integer with optional sign, as Go's `Atoi`.
///
/// # Errors
/// [`NumberError`] for another spelling, or beyond 64 bits.
pub fn parse_decimal(text: &str) -> Result<i64, NumberError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    magnitude(digits, 10)?;
    // The syntax is known to be good, so what is left is the range.
    text.parse().map_err(|_range| NumberError::Range)
}

fn magnitude(digits: &str, radix: u32) -> Result<u64, NumberError> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NumberError::Syntax);
    }
    u64::from_str_radix(digits, radix).map_err(|_range| NumberError::Range)
}

fn radix(text: &str) -> (u32, &str) {
    let prefixes = [
        ("0x", 16),
        ("0X", 16),
        ("0o", 8),
        ("0O", 8),
        ("0b", 2),
        ("0B", 2),
    ];
    for (prefix, radix) in prefixes {
        if let Some(digits) = text.strip_prefix(prefix) {
            return (radix, digits);
        }
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => (8, digits),
        Some(_) | None => (10, text),
    }
}

/// An underscore stands between digits, or between the prefix and a digit.
fn underscores_fit(text: &str) -> bool {
    if !text.contains('_') {
        return true;
    }
    // Go takes underscores only where the prefix chose the base.
    text.starts_with('0') && !text.ends_with('_') && !text.contains("__")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn booleans_are_go_booleans() {
        for yes in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(yes), Ok(true));
        }
        for no in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(no), Ok(false));
        }
        for bad in ["", "yes", "on", "tRUE", " true", "2"] {
            assert_eq!(parse_bool(bad), Err(NumberError::Syntax), "{bad}");
        }
    }

    #[test]
    fn integers_in_all_bases() {
        use NumberError::{Range, Syntax};
        let table = [
            ("0", Ok(0)),
            ("-1", Ok(-1)),
            ("+7", Ok(7)),
            ("0x1F", Ok(31)),
            ("-0x10", Ok(-16)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("0b101", Ok(5)),
            ("0x_1F", Ok(31)),
            ("0b1_0", Ok(2)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Range)),
            ("99999999999999999999", Err(Range)),
            ("", Err(Syntax)),
            ("x", Err(Syntax)),
            ("--1", Err(Syntax)),
            ("-+1", Err(Syntax)),
            ("1.0", Err(Syntax)),
            ("08", Err(Syntax)),
            ("0x", Err(Syntax)),
            ("1_000", Err(Syntax)),
            ("0x1__F", Err(Syntax)),
            ("0x1_", Err(Syntax)),
            (" 1", Err(Syntax)),
        ];
        for (text, want) in table {
            assert_eq!(parse_int(text), want, "{text}");
        }
        assert_eq!(parse_uint("-1"), Err(Syntax));
        assert_eq!(parse_uint("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn decimals_know_no_prefix() {
        use NumberError::{Range, Syntax};
        assert_eq!(parse_decimal("0010"), Ok(10));
        assert_eq!(parse_decimal("-5"), Ok(-5));
        assert_eq!(parse_decimal("+5"), Ok(5));
        assert_eq!(parse_decimal("0x10"), Err(Syntax));
        assert_eq!(parse_decimal("x"), Err(Syntax));
        assert_eq!(parse_decimal("9223372036854775808"), Err(Range));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _no_panic = (parse_int(&text), parse_uint(&text), parse_decimal(&text));
        }

        #[test]
        fn integers_are_read_back(number: i64) {
            prop_assert_eq!(parse_int(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_decimal(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_int(&format!("{:#x}", number.unsigned_abs() / 2)),
                Ok(i64::try_from(number.unsigned_abs() / 2).unwrap()));
        }
    }
}

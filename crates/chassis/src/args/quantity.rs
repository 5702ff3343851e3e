//! Kubernetes quantities of bytes: `4Mi`, `64k`, `1e3`, `-1`.
//!
//! Owns the suffixes and the demand for whole bytes; a negative number is
//! read as such, its meaning is the flag's. A quantity that the reference
//! finds whole only after reduction (`1.5Ki`, `1000m`) is accepted.

use thiserror::Error;

/// Why a text is no number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not in the accepted spelling.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Syntax,
    /// A fraction of a byte.
    #[error("not a whole number of bytes")]
    Fraction,
    /// Beyond 64 bits.
    #[error("more than 64 bits")]
    Range,
}

/// What a suffix multiplies by.
enum Scale {
    /// A power of two.
    Binary(u32),
    /// A power of ten.
    Decimal(i32),
}

/// Reads a quantity as a number of bytes.
///
/// # Errors
/// [`QuantityError`] for another spelling, a fraction of a byte, or beyond 64 bits.
pub fn parse_quantity(text: &str) -> Result<i64, QuantityError> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| c != '.' && !c.is_ascii_digit());
    let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(QuantityError::Syntax);
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let scale = scale(suffix)?;
    if digits.is_empty() {
        return Ok(0);
    }
    let mantissa: u128 = digits.parse().map_err(|_range| QuantityError::Range)?;
    let decimals = i32::try_from(fraction.len()).map_err(|_range| QuantityError::Range)?;
    let bytes = match scale {
        Scale::Binary(power) => shift(mantissa, power, decimals)?,
        Scale::Decimal(power) => times_ten(mantissa, power.saturating_sub(decimals))?,
    };
    let bytes = i128::try_from(bytes).map_err(|_range| QuantityError::Range)?;
    let signed = if negative { -bytes } else { bytes };
    i64::try_from(signed).map_err(|_range| QuantityError::Range)
}

fn scale(suffix: &str) -> Result<Scale, QuantityError> {
    Ok(match suffix {
        "Ki" => Scale::Binary(10),
        "Mi" => Scale::Binary(20),
        "Gi" => Scale::Binary(30),
        "Ti" => Scale::Binary(40),
        "Pi" => Scale::Binary(50),
        "Ei" => Scale::Binary(60),
        "n" => Scale::Decimal(-9),
        "u" => Scale::Decimal(-6),
        "m" => Scale::Decimal(-3),
        "" => Scale::Decimal(0),
        "k" => Scale::Decimal(3),
        "M" => Scale::Decimal(6),
        "G" => Scale::Decimal(9),
        "T" => Scale::Decimal(12),
        "P" => Scale::Decimal(15),
        "E" => Scale::Decimal(18),
        _ => {
            let power = suffix.strip_prefix(['e', 'E']);
            let power = power.and_then(|power| power.parse().ok());
            Scale::Decimal(power.ok_or(QuantityError::Syntax)?)
        }
    })
}

fn shift(mantissa: u128, power: u32, decimals: i32) -> Result<u128, QuantityError> {
    let scaled = mantissa.checked_mul(1 << power);
    times_ten(
        scaled.ok_or(QuantityError::Range)?,
        decimals.saturating_neg(),
    )
}

fn times_ten(mantissa: u128, power: i32) -> Result<u128, QuantityError> {
    let factor = 10_u128.checked_pow(power.unsigned_abs());
    if power >= 0 {
        let product = factor.and_then(|factor| mantissa.checked_mul(factor));
        return product.ok_or(QuantityError::Range);
    }
    // A divisor beyond 128 bits is larger than any mantissa.
    let factor = factor.ok_or(QuantityError::Fraction)?;
    if mantissa.is_multiple_of(factor) {
        Ok(mantissa / factor)
    } else {
        Err(QuantityError::Fraction)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_of_bytes() {
        use QuantityError::{Fraction, Range, Syntax};
        let table = [
            ("4Mi", Ok(4 << 20)),
            ("4Ki", Ok(4096)),
            ("2Gi", Ok(2 << 30)),
            ("0", Ok(0)),
            ("-1", Ok(-1)),
            ("+5", Ok(5)),
            ("4M", Ok(4_000_000)),
            ("64k", Ok(64_000)),
            ("1e3", Ok(1000)),
            ("1E3", Ok(1000)),
            ("1E+3", Ok(1000)),
            ("1E", Ok(1_000_000_000_000_000_000)),
            ("1.5k", Ok(1500)),
            ("1.5Ki", Ok(1536)),
            ("1000m", Ok(1)),
            ("5.", Ok(5)),
            (".5k", Ok(500)),
            ("0.000m", Ok(0)),
            ("0e999999999", Ok(0)),
            ("7Ei", Ok(7 << 60)),
            ("8Ei", Err(Range)),
            ("1e30", Err(Range)),
            ("1e999999999", Err(Range)),
            ("0.5", Err(Fraction)),
            ("1m", Err(Fraction)),
            ("1e-3", Err(Fraction)),
            ("1e-999999999", Err(Fraction)),
            ("", Err(Syntax)),
            (".", Err(Syntax)),
            ("-", Err(Syntax)),
            ("4mb", Err(Syntax)),
            ("4 Mi", Err(Syntax)),
            ("4K", Err(Syntax)),
            ("x", Err(Syntax)),
            ("1.2.3", Err(Syntax)),
            ("1e", Err(Syntax)),
            ("--1", Err(Syntax)),
        ];
        for (text, want) in table {
            assert_eq!(parse_quantity(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _no_panic = parse_quantity(&text);
        }

        #[test]
        fn near_quantities_are_read_or_refused(text in "[-+]?[0-9.]{0,45}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}") {
            let _no_panic = parse_quantity(&text);
        }

        #[test]
        fn whole_bytes_are_read_back(bytes: i64, kibi in 0_i64..1 << 40) {
            prop_assert_eq!(parse_quantity(&bytes.to_string()), Ok(bytes));
            prop_assert_eq!(parse_quantity(&format!("{kibi}Ki")), Ok(kibi * 1024));
        }
    }
}

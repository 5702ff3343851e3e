//! Lists of codes and ranges: the grammar of `matching`.
//!
//! `list := item ("," item)*`, `item := code | code "-" code`, empty items are skipped, spaces are not.
//! Source: resiliency-observability 1.4.

use std::fmt;

use thiserror::Error;

/// Lowest and highest HTTP status.
const HTTP: (u16, u16) = (100, 599);
/// Lowest and highest gRPC code.
const GRPC: (u16, u16) = (0, 16);
/// Words that hold one bit for each HTTP status.
const WORDS: usize = 8;

/// HTTP statuses; an empty list stands for every one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HttpCodes([u64; WORDS]);

/// gRPC codes; an empty list stands for every one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrpcCodes(u32);

/// Why a text is no list of codes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodesError {
    /// Something that is no number.
    #[error(
        "{item:?} is no code: write codes and ranges with commas and without spaces, like {}",
        range.example()
    )]
    NotACode {
        /// The item of the list.
        item: Box<str>,
        /// What codes there are.
        range: Range,
    },
    /// A code that does not exist.
    #[error("code {0} is out of range: {1}")]
    OutOfRange(u64, Range),
    /// A range whose end lies before its start.
    #[error("range {start}-{end} is reversed: write {end}-{start}")]
    Reversed {
        /// Its start.
        start: u16,
        /// Its end.
        end: u16,
    },
    /// A range with more than one dash.
    #[error("{0:?} is no range: write two codes with one dash, like 500-504")]
    Dashes(Box<str>),
}

/// The codes of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

// === impl Range ===

impl Range {
    const fn bounds(self) -> (u16, u16) {
        match self {
            Self::Http => HTTP,
            Self::Grpc => GRPC,
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Http => "429,500-504",
            Self::Grpc => "1,8,13-14",
        }
    }

    fn parse(self, text: &str, mut add: impl FnMut(u16)) -> Result<(), CodesError> {
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (start, end) = self.item(item)?;
            (start..=end).for_each(&mut add);
        }
        Ok(())
    }

    fn item(self, item: &str) -> Result<(u16, u16), CodesError> {
        let Some((start, end)) = item.split_once('-') else {
            let code = self.code(item, item)?;
            return Ok((code, code));
        };
        if end.contains('-') {
            return Err(CodesError::Dashes(item.into()));
        }
        let (start, end) = (self.code(start, item)?, self.code(end, item)?);
        if end < start {
            return Err(CodesError::Reversed { start, end });
        }
        Ok((start, end))
    }

    fn code(self, text: &str, item: &str) -> Result<u16, CodesError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| digits);
        let number = number.ok_or_else(|| CodesError::NotACode {
            item: item.into(),
            range: self,
        })?;
        let (low, high) = self.bounds();
        let code = u16::try_from(number).ok();
        let known = code.filter(|code| (low..=high).contains(code));
        known.ok_or(CodesError::OutOfRange(number, self))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.bounds();
        match self {
            Self::Http => write!(f, "HTTP statuses are {low} to {high}"),
            Self::Grpc => write!(f, "gRPC codes are {low} to {high}"),
        }
    }
}

// === impl HttpCodes ===

impl HttpCodes {
    /// Reads a list.
    ///
    /// # Errors
    /// [`CodesError`] for the first item that is none.
    pub fn parse(text: &str) -> Result<Self, CodesError> {
        let mut codes = Self::default();
        Range::Http.parse(text, |code| codes.add(code))?;
        Ok(codes)
    }

    fn add(&mut self, code: u16) {
        let (word, bit) = Self::place(code);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn place(code: u16) -> (usize, u64) {
        let at = usize::from(code.wrapping_sub(HTTP.0));
        (at / 64, 1 << (at % 64))
    }

    /// Returns whether nothing is listed, which means everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Returns whether the status is meant: listed, or nothing is listed.
    #[must_use]
    pub fn covers(&self, status: u16) -> bool {
        let (word, bit) = Self::place(status);
        let listed = self.0.get(word).is_some_and(|word| word & bit != 0);
        listed || self.is_empty()
    }
}

// === impl GrpcCodes ===

impl GrpcCodes {
    /// Reads a list.
    ///
    /// # Errors
    /// [`CodesError`] for the first item that is none.
    pub fn parse(text: &str) -> Result<Self, CodesError> {
        let mut codes = 0;
        Range::Grpc.parse(text, |code| codes |= 1_u32 << code)?;
        Ok(Self(codes))
    }

    /// Returns whether nothing is listed, which means everything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Returns whether the code is meant: listed, or nothing is listed.
    #[must_use]
    pub fn covers(&self, code: u16) -> bool {
        let listed = 1_u32.checked_shl(code.into()).unwrap_or_default();
        self.is_empty() || self.0 & listed != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn http(text: &str) -> Vec<u16> {
        let codes = HttpCodes::parse(text).unwrap();
        (0..1000).filter(|code| codes.covers(*code)).collect()
    }

    ///
    #[test]
    fn lists_hold_codes_and_ranges() {
        assert_eq!(http("500"), [500]);
        assert_eq!(http("500,,502"), [500, 502]);
        assert_eq!(http("100,599"), [100, 599]);
        let codes = HttpCodes::parse("200,400-500,501").unwrap();
        for (code, want) in [(400, true), (420, true), (501, true), (200, true)] {
            assert_eq!(codes.covers(code), want, "{code}");
        }
        for code in [399, 502, 201, 0, 99, 600, u16::MAX] {
            assert!(!codes.covers(code), "{code}");
        }
        assert!(HttpCodes::parse("").unwrap().covers(500));
        assert!(HttpCodes::parse(",").unwrap().is_empty());
        let codes = GrpcCodes::parse("1,2,5-7").unwrap();
        let covered: Vec<u16> = (0..40).filter(|code| codes.covers(*code)).collect();
        assert_eq!(covered, [1, 2, 5, 6, 7]);
        assert!(GrpcCodes::parse("").unwrap().covers(14));
    }

    ///
    #[test]
    fn other_lists_are_refused_with_a_way_out() {
        let http = [
            (
                "4xx",
                "\"4xx\" is no code: write codes and ranges with commas and without spaces, like 429,500-504",
            ),
            (
                "500, 502",
                "\" 502\" is no code: write codes and ranges with commas and without spaces, like 429,500-504",
            ),
            (
                "600",
                "code 600 is out of range: HTTP statuses are 100 to 599",
            ),
            (
                "11",
                "code 11 is out of range: HTTP statuses are 100 to 599",
            ),
            ("500-400", "range 500-400 is reversed: write 400-500"),
            (
                "1-2-3",
                "\"1-2-3\" is no range: write two codes with one dash, like 500-504",
            ),
            (
                "+500",
                "\"+500\" is no code: write codes and ranges with commas and without spaces, like 429,500-504",
            ),
            (
                "-500",
                "\"-500\" is no code: write codes and ranges with commas and without spaces, like 429,500-504",
            ),
        ];
        for (text, want) in http {
            assert_eq!(HttpCodes::parse(text).unwrap_err().to_string(), want);
        }
        let grpc = [
            ("400", "code 400 is out of range: gRPC codes are 0 to 16"),
            ("17", "code 17 is out of range: gRPC codes are 0 to 16"),
            (
                "Unavailable",
                "\"Unavailable\" is no code: write codes and ranges with commas and without spaces, like 1,8,13-14",
            ),
        ];
        for (text, want) in grpc {
            assert_eq!(GrpcCodes::parse(text).unwrap_err().to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[0-9,-]{0,20}") {
            let _no_panic = (HttpCodes::parse(&text), GrpcCodes::parse(&text));
        }

        #[test]
        fn a_range_holds_its_codes_and_no_other(start in 100_u16..=599, length in 0_u16..500, probe: u16) {
            let end = (start + length).min(599);
            let codes = HttpCodes::parse(&format!("{start}-{end}")).unwrap();
            prop_assert_eq!(codes.covers(probe), (start..=end).contains(&probe));
        }
    }
}

//! Text of an expression to tokens.

use super::{Literal, TripError};

/// A part of an expression, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token<'t> {
    pub(super) at: usize,
    pub(super) text: &'t str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Name,
    /// Digits whose sign is not known yet.
    Int {
        radix: u32,
    },
    /// Any other number.
    Number(Literal),
    Symbol,
    End,
}

/// Longer symbols first.
const SYMBOLS: [&str; 18] = [
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")",
];

pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

// === impl Lexer ===

impl<'t> Lexer<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token; at the end, [`Kind::End`] again and again.
    pub(super) fn next(&mut self) -> Result<Token<'t>, TripError> {
        self.skip();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(self.take(0, Kind::End));
        };
        if first.is_ascii_alphabetic() || first == '_' {
            let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
            return Ok(self.take(length(rest, inner), Kind::Name));
        }
        let is_fraction = |rest: &str| rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if first.is_ascii_digit() || (first == '.' && is_fraction(rest)) {
            return self.number();
        }
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => Ok(self.take(symbol.len(), Kind::Symbol)),
            None => Err(TripError::Character {
                character: first,
                at: self.at,
            }),
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, length: usize, kind: Kind) -> Token<'t> {
        let text = self.rest().get(..length).unwrap_or_default();
        let at = self.at;
        self.at += length;
        Token { at, text, kind }
    }

    /// Space, and comments to the end of their line.
    fn skip(&mut self) {
        loop {
            let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
            self.at += length(self.rest(), space);
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += length(self.rest(), |c| c != '\n');
        }
    }

    fn number(&mut self) -> Result<Token<'t>, TripError> {
        let rest = self.rest();
        let hex = rest
            .strip_prefix("0x")
            .map(|rest| length(rest, |c| c.is_ascii_hexdigit()));
        let (digits, radix) = match hex {
            Some(digits) if digits > 0 => (digits + 2, 16),
            Some(_) | None => (length(rest, |c| c.is_ascii_digit()), 10),
        };
        let after = rest.get(digits..).unwrap_or_default();
        let fraction = match after.strip_prefix('.') {
            Some(after) if radix == 10 => length(after, |c| c.is_ascii_digit()),
            Some(_) | None => 0,
        };
        let fraction = if fraction > 0 { fraction + 1 } else { 0 };
        let after = after.get(fraction..).unwrap_or_default();
        let exponent = if radix == 10 { exponent(after) } else { 0 };
        let whole = digits + fraction + exponent;
        let text = rest.get(..whole).unwrap_or_default();
        if fraction + exponent > 0 {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            let value = value.ok_or_else(|| self.bad_number(text))?;
            return Ok(self.take(whole, Kind::Number(Literal::Double(value))));
        }
        if !after.starts_with(['u', 'U']) {
            return Ok(self.take(whole, Kind::Int { radix }));
        }
        let start = if radix == 16 { 2 } else { 0 };
        let value = u64::from_str_radix(text.get(start..).unwrap_or_default(), radix);
        let value = value.map_err(|_too_large| self.bad_number(text))?;
        Ok(self.take(whole + 1, Kind::Number(Literal::Uint(value))))
    }

    fn bad_number(&self, text: &str) -> TripError {
        TripError::Number {
            text: text.into(),
            at: self.at,
        }
    }
}

/// Length of an exponent: `e`, maybe a sign, digits.
fn exponent(text: &str) -> usize {
    let Some(after) = text.strip_prefix(['e', 'E']) else {
        return 0;
    };
    let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
    match length(unsigned, |c| c.is_ascii_digit()) {
        0 => 0,
        digits => text.len() - unsigned.len() + digits,
    }
}

fn length(text: &str, inner: impl Fn(char) -> bool) -> usize {
    text.find(|c| !inner(c)).unwrap_or(text.len())
}

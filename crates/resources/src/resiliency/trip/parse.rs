//! Tokens of an expression to its tree, with CEL's precedence.
//!
//! `expr := or ("?" or ":" expr)?`, then `||`, `&&`, comparisons, sums, products, each left to right, then
//! `!` or `-`, then the parts.

use thiserror::Error;

use super::lex::{Kind, Lexer, Token};
use super::{BinaryOp, Conversion, Expr, Literal, TypeFlaw, UnaryOp, Variable};

/// How large an expression may be; a tree within them fits any stack.
pub const TRIP_BOUNDS: TripBounds = TripBounds {
    bytes: 4096,
    depth: 64,
    parts: 256,
};

/// How large an expression may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TripBounds {
    /// Longest text.
    pub bytes: usize,
    /// Deepest nesting of parentheses, conversions and `?:`.
    pub depth: usize,
    /// Most operators, values and names.
    pub parts: usize,
}

/// Why a text is no trip expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TripError {
    /// Something else was expected.
    #[error("expected {want} at position {at}, found {}", shown(found))]
    Expected {
        /// What would do.
        want: &'static str,
        /// What is there; empty at the end.
        found: Box<str>,
        /// Bytes before it.
        at: usize,
    },
    /// A character that no expression has.
    #[error(
        "{character:?} at position {at} has no meaning: compare counts and numbers, like consecutiveFailures >= 5"
    )]
    Character {
        /// The character.
        character: char,
        /// Bytes before it.
        at: usize,
    },
    /// A number that does not fit.
    #[error("number {text} at position {at} is too large")]
    Number {
        /// The number.
        text: Box<str>,
        /// Bytes before it.
        at: usize,
    },
    /// A call of something else than a conversion.
    #[error("function {name} at position {at} is not offered: there are double, int and uint")]
    Function {
        /// Its name.
        name: Box<str>,
        /// Bytes before it.
        at: usize,
    },
    /// A word that CEL keeps for itself.
    #[error("{word} at position {at} is a reserved word")]
    Reserved {
        /// The word.
        word: Box<str>,
        /// Bytes before it.
        at: usize,
    },
    /// Written values that do not go together.
    #[error(transparent)]
    Type(TypeFlaw),
    /// Larger than [`TRIP_BOUNDS`].
    #[error("the expression is too large: at most {0}")]
    TooLarge(TripBounds),
}

impl std::fmt::Display for TripBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            bytes,
            depth,
            parts,
        } = self;
        write!(f, "{bytes} bytes, {parts} parts, nested {depth} deep")
    }
}

fn shown(found: &str) -> String {
    if found.is_empty() {
        "the end".to_owned()
    } else {
        format!("{found:?}")
    }
}

/// Words that are no names in CEL.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "var",
    "while",
];

/// Operators by precedence, the loosest first.
const LEVELS: [&[BinaryOp]; 5] = [
    &[BinaryOp::Or],
    &[BinaryOp::And],
    &[
        BinaryOp::Equal,
        BinaryOp::Differ,
        BinaryOp::Less,
        BinaryOp::AtMost,
        BinaryOp::Greater,
        BinaryOp::AtLeast,
    ],
    &[BinaryOp::Add, BinaryOp::Subtract],
    &[BinaryOp::Multiply, BinaryOp::Divide, BinaryOp::Remainder],
];

pub(super) fn parse(text: &str) -> Result<Expr, TripError> {
    if text.len() > TRIP_BOUNDS.bytes {
        return Err(TripError::TooLarge(TRIP_BOUNDS));
    }
    let mut lexer = Lexer::new(text);
    let ahead = lexer.next()?;
    let mut parser = Parser {
        lexer,
        ahead,
        depth: 0,
        parts: 0,
    };
    let expr = parser.expr()?;
    match parser.ahead.kind {
        Kind::End => Ok(expr),
        Kind::Name | Kind::Int { .. } | Kind::Number(_) | Kind::Symbol => {
            Err(parser.expected("an operator or the end"))
        }
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    ahead: Token<'t>,
    depth: usize,
    parts: usize,
}

// === impl Parser ===

impl<'t> Parser<'t> {
    fn advance(&mut self) -> Result<Token<'t>, TripError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.ahead, next))
    }

    fn is_at(&self, symbol: &str) -> bool {
        self.ahead.kind == Kind::Symbol && self.ahead.text == symbol
    }

    fn accept(&mut self, symbol: &str) -> Result<bool, TripError> {
        let is_there = self.is_at(symbol);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn expect(&mut self, symbol: &str, want: &'static str) -> Result<(), TripError> {
        if self.accept(symbol)? {
            return Ok(());
        }
        Err(self.expected(want))
    }

    fn expected(&self, want: &'static str) -> TripError {
        TripError::Expected {
            want,
            found: self.ahead.text.into(),
            at: self.ahead.at,
        }
    }

    /// Counts a part of the tree.
    fn part(&mut self, expr: Expr) -> Result<Expr, TripError> {
        self.parts += 1;
        if self.parts > TRIP_BOUNDS.parts {
            return Err(TripError::TooLarge(TRIP_BOUNDS));
        }
        Ok(expr)
    }

    fn expr(&mut self) -> Result<Expr, TripError> {
        self.depth += 1;
        if self.depth > TRIP_BOUNDS.depth {
            return Err(TripError::TooLarge(TRIP_BOUNDS));
        }
        let condition = self.binary(&LEVELS)?;
        let expr = if self.accept("?")? {
            let then = self.binary(&LEVELS)?;
            self.expect(":", "`:` and what holds otherwise")?;
            let otherwise = self.expr()?;
            self.part(Expr::Conditional(Box::new((condition, then, otherwise))))?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn binary(&mut self, levels: &[&[BinaryOp]]) -> Result<Expr, TripError> {
        let Some((level, tighter)) = levels.split_first() else {
            return self.unary();
        };
        let mut left = self.binary(tighter)?;
        while let Some(op) = level.iter().find(|op| self.is_at(op.as_str())) {
            self.advance()?;
            let right = self.binary(tighter)?;
            left = self.part(Expr::Binary(*op, Box::new((left, right))))?;
        }
        Ok(left)
    }

    /// An even number of signs is none, as in CEL.
    fn unary(&mut self) -> Result<Expr, TripError> {
        let mut is_odd = false;
        if self.is_at("!") {
            while self.accept("!")? {
                is_odd = !is_odd;
            }
            let operand = self.primary(Sign::Plus)?;
            return self.applied(UnaryOp::Not, is_odd, operand);
        }
        while self.accept("-")? {
            is_odd = !is_odd;
        }
        match self.ahead.kind {
            Kind::Int { .. } if is_odd => self.primary(Sign::Minus),
            Kind::Name | Kind::Int { .. } | Kind::Number(_) | Kind::Symbol | Kind::End => {
                let operand = self.primary(Sign::Plus)?;
                self.applied(UnaryOp::Negate, is_odd, operand)
            }
        }
    }

    fn applied(&mut self, op: UnaryOp, is_odd: bool, operand: Expr) -> Result<Expr, TripError> {
        if is_odd {
            self.part(Expr::Unary(op, Box::new(operand)))
        } else {
            Ok(operand)
        }
    }

    fn primary(&mut self, sign: Sign) -> Result<Expr, TripError> {
        let token = self.ahead;
        match token.kind {
            Kind::Name => self.named(),
            Kind::Int { radix } => {
                self.advance()?;
                let value = integer(token, radix, sign)?;
                self.part(Expr::Literal(Literal::Int(value)))
            }
            Kind::Number(value) => {
                self.advance()?;
                self.part(Expr::Literal(value))
            }
            Kind::Symbol if token.text == "(" => {
                self.advance()?;
                let expr = self.expr()?;
                self.expect(")", "`)`")?;
                Ok(expr)
            }
            Kind::Symbol | Kind::End => Err(self.expected("a count, a number or `(`")),
        }
    }

    fn named(&mut self) -> Result<Expr, TripError> {
        let Token { at, text, .. } = self.advance()?;
        if self.accept("(")? {
            let conversion = Conversion::parse(text).ok_or_else(|| {
                let name = text.into();
                TripError::Function { name, at }
            })?;
            let operand = self.expr()?;
            self.expect(")", "`)`")?;
            return self.part(Expr::Convert(conversion, Box::new(operand)));
        }
        if RESERVED.contains(&text) {
            let word = text.into();
            return Err(TripError::Reserved { word, at });
        }
        let expr = match text {
            "true" => Expr::Literal(Literal::Bool(true)),
            "false" => Expr::Literal(Literal::Bool(false)),
            _ => Variable::parse(text).map_or_else(|| Expr::Unknown(text.into()), Expr::Variable),
        };
        self.part(expr)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

/// The lowest number has no positive twin, so the sign belongs to the digits.
fn integer(token: Token<'_>, radix: u32, sign: Sign) -> Result<i64, TripError> {
    let digits = token.text.strip_prefix("0x").unwrap_or(token.text);
    let sign = if sign == Sign::Minus { "-" } else { "" };
    let value = i64::from_str_radix(&format!("{sign}{digits}"), radix);
    value.map_err(|_too_large| TripError::Number {
        text: token.text.into(),
        at: token.at,
    })
}

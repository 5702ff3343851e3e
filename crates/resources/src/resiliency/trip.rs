//! Trip expressions: which counts open a breaker.
//!
//! The part of CEL that counts can be compared with: numbers, `true`, `false`, the five counts, `+ - * / %`,
//! `== != < <= > >=`, `&& || !`, `?:`, `double() int() uint()`, parentheses and comments. Owns syntax, bounds
//! and the errors that show without counts; the resiliency crate evaluates. A name that is no count parses, as
//! it does for the reference. Source: resiliency-observability 1.5.

use std::fmt;

mod lex;
mod parse;
mod show;
mod types;

pub use parse::{TRIP_BOUNDS, TripBounds, TripError};
pub use types::{Type, TypeFlaw};

use super::Remark;

/// What opens a breaker where nothing is written.
const DEFAULT: &str = "consecutiveFailures > 5";

/// An expression that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Trip {
    text: Box<str>,
    expr: Expr,
}

/// An expression. Its depth is bounded ([`TRIP_BOUNDS`]), so it may be walked by recursion.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A value.
    Literal(Literal),
    /// A count.
    Variable(Variable),
    /// A name that is no count: evaluation fails there.
    Unknown(Box<str>),
    /// `!` or `-`.
    Unary(UnaryOp, Box<Self>),
    /// Two operands.
    Binary(BinaryOp, Box<(Self, Self)>),
    /// Condition, then, else.
    Conditional(Box<(Self, Self, Self)>),
    /// A conversion of numbers.
    Convert(Conversion, Box<Self>),
}

/// A value that is written down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// `5`, `0x1f`
    Int(i64),
    /// `5u`
    Uint(u64),
    /// `0.5`, `1e3`
    Double(f64),
    /// `true`, `false`
    Bool(bool),
}

/// A count of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Requests that were let through, those under way included.
    Requests,
    /// All successes.
    TotalSuccesses,
    /// All failures.
    TotalFailures,
    /// Successes since the last failure.
    ConsecutiveSuccesses,
    /// Failures since the last success.
    ConsecutiveFailures,
}

/// An operator with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// `!`
    Not,
    /// `-`
    Negate,
}

/// An operator with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    Differ,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// A conversion of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// `double(…)`
    Double,
    /// `int(…)`
    Int,
    /// `uint(…)`
    Uint,
}

const VARIABLES: [Variable; 5] = [
    Variable::Requests,
    Variable::TotalSuccesses,
    Variable::TotalFailures,
    Variable::ConsecutiveSuccesses,
    Variable::ConsecutiveFailures,
];

// === impl Trip ===

impl Trip {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`TripError`] says where and what; also when values that are written down cannot go together.
    pub fn parse(text: &str) -> Result<Self, TripError> {
        let expr = parse::parse(text)?;
        types::check(&expr).map_err(TripError::Type)?;
        let text = text.into();
        Ok(Self { text, expr })
    }

    /// Returns the expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the tree.
    #[must_use]
    pub const fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Returns what will keep it from tripping as meant.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        types::remarks(&self.expr)
    }
}

impl Default for Trip {
    /// `consecutiveFailures > 5`. Source: resiliency-observability 1.1.
    fn default() -> Self {
        let operands = (
            Expr::Variable(Variable::ConsecutiveFailures),
            Expr::Literal(Literal::Int(5)),
        );
        Self {
            text: DEFAULT.into(),
            expr: Expr::Binary(BinaryOp::Greater, Box::new(operands)),
        }
    }
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl Variable ===

impl Variable {
    /// Returns the count of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        VARIABLES.into_iter().find(|known| known.as_str() == name)
    }

    /// Returns its name in expressions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::TotalSuccesses => "totalSuccesses",
            Self::TotalFailures => "totalFailures",
            Self::ConsecutiveSuccesses => "consecutiveSuccesses",
            Self::ConsecutiveFailures => "consecutiveFailures",
        }
    }
}

// === impl BinaryOp ===

impl BinaryOp {
    /// Returns its spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::Differ => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

// === impl Conversion ===

impl Conversion {
    fn parse(name: &str) -> Option<Self> {
        let all = [Self::Double, Self::Int, Self::Uint];
        all.into_iter().find(|known| known.as_str() == name)
    }

    /// Returns its name in expressions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::Int => "int",
            Self::Uint => "uint",
        }
    }
}

#[cfg(test)]
mod tests;

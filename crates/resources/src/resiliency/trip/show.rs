//! A tree back to text, with every parenthesis that could matter.

use std::fmt;

use super::{Expr, Literal, UnaryOp};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => literal.fmt(f),
            Self::Variable(variable) => f.write_str(variable.as_str()),
            Self::Unknown(name) => f.write_str(name),
            Self::Unary(UnaryOp::Not, operand) => write!(f, "!({operand})"),
            Self::Unary(UnaryOp::Negate, operand) => write!(f, "-({operand})"),
            Self::Binary(op, operands) => {
                let (left, right) = &**operands;
                write!(f, "({left}) {} ({right})", op.as_str())
            }
            Self::Conditional(parts) => {
                let (condition, then, otherwise) = &**parts;
                write!(f, "({condition}) ? ({then}) : ({otherwise})")
            }
            Self::Convert(conversion, operand) => write!(f, "{}({operand})", conversion.as_str()),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}u"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

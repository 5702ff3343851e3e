//! Which values can go together.
//!
//! The reference declares every name as dynamic, so only written values that do not go together make it refuse
//! an expression. Counts are whole numbers, though: what fails with them always is remarked on.

use std::fmt;

use thiserror::Error;

use super::{BinaryOp, Conversion, Expr, Literal, UnaryOp};
use crate::resiliency::Remark;

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A whole number.
    Int,
    /// A whole number without sign.
    Uint,
    /// Any other number.
    Double,
    /// True or false.
    Bool,
    /// Not known.
    Dynamic,
}

/// An operator and operands that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TypeFlaw {
    /// Two operands.
    #[error("`{op}` cannot take {left} and {right}: convert one of them, like double(requests)")]
    Binary {
        /// The operator.
        op: &'static str,
        /// The left one.
        left: Type,
        /// The right one.
        right: Type,
    },
    /// One operand.
    #[error("`{op}` cannot take {operand}")]
    Unary {
        /// The operator.
        op: &'static str,
        /// What stands there.
        operand: Type,
    },
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int => "an int",
            Self::Uint => "a uint",
            Self::Double => "a double",
            Self::Bool => "a bool",
            Self::Dynamic => "any value",
        })
    }
}

/// What is known of names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// Nothing, as the reference sees it at load.
    Load,
    /// Counts are whole numbers, as evaluation sees it.
    Evaluation,
}

/// Refuses written values that do not go together.
pub(super) fn check(expr: &Expr) -> Result<(), TypeFlaw> {
    View::Load.of(expr).map(|_| ())
}

/// What will keep an expression from tripping as meant.
pub(super) fn remarks(expr: &Expr) -> Vec<Remark> {
    let mut remarks = Vec::new();
    walk(expr, &mut remarks);
    match View::Evaluation.of(expr) {
        Ok(Type::Bool | Type::Dynamic) => {}
        Ok(Type::Int | Type::Uint | Type::Double) => remarks.push(Remark::NoCondition),
        Err(flaw) => remarks.push(Remark::NeverTrips(flaw)),
    }
    remarks
}

/// Remarks on unknown names and on quotients of counts.
fn walk(expr: &Expr, remarks: &mut Vec<Remark>) {
    match expr {
        Expr::Literal(_) | Expr::Variable(_) => {}
        Expr::Unknown(name) => remarks.push(Remark::UnknownVariable(name.clone())),
        Expr::Unary(_, operand) | Expr::Convert(_, operand) => walk(operand, remarks),
        Expr::Binary(op, operands) => {
            let (left, right) = &**operands;
            walk(left, remarks);
            walk(right, remarks);
            // Counts of counts are small: 2 * a / b is meant, a / b is not.
            if matches!((op, left), (BinaryOp::Divide, Expr::Variable(_)))
                && matches!(right, Expr::Variable(_))
            {
                remarks.push(Remark::Truncated);
            }
        }
        Expr::Conditional(parts) => {
            let (condition, then, otherwise) = &**parts;
            walk(condition, remarks);
            walk(then, remarks);
            walk(otherwise, remarks);
        }
    }
}

// === impl View ===

impl View {
    fn of(self, expr: &Expr) -> Result<Type, TypeFlaw> {
        match expr {
            Expr::Literal(literal) => Ok(literal.kind()),
            Expr::Variable(_) if self == Self::Evaluation => Ok(Type::Int),
            Expr::Variable(_) | Expr::Unknown(_) => Ok(Type::Dynamic),
            Expr::Unary(op, operand) => unary(*op, self.of(operand)?),
            Expr::Convert(conversion, operand) => convert(*conversion, self.of(operand)?),
            Expr::Binary(op, operands) => {
                let (left, right) = (self.of(&operands.0)?, self.of(&operands.1)?);
                self.binary(*op, left, right)
            }
            Expr::Conditional(parts) => {
                let (condition, then, otherwise) = &**parts;
                self.conditional(self.of(condition)?, self.of(then)?, self.of(otherwise)?)
            }
        }
    }

    fn binary(self, op: BinaryOp, left: Type, right: Type) -> Result<Type, TypeFlaw> {
        let fits = match op {
            BinaryOp::Or | BinaryOp::And => left.is(Type::Bool) && right.is(Type::Bool),
            BinaryOp::Equal | BinaryOp::Differ => left.is(right) || self == Self::Evaluation,
            BinaryOp::Less | BinaryOp::AtMost | BinaryOp::Greater | BinaryOp::AtLeast => {
                let numbers = left.is_number() && right.is_number();
                left.is(right) || (self == Self::Evaluation && numbers)
            }
            BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide => {
                return arithmetic(op, left, right);
            }
            BinaryOp::Remainder => {
                if left == Type::Double || right == Type::Double {
                    return Err(flaw(op, left, right));
                }
                return arithmetic(op, left, right);
            }
        };
        if fits {
            Ok(Type::Bool)
        } else {
            Err(flaw(op, left, right))
        }
    }

    fn conditional(self, condition: Type, then: Type, otherwise: Type) -> Result<Type, TypeFlaw> {
        if !condition.is(Type::Bool) {
            let (op, operand) = ("?", condition);
            return Err(TypeFlaw::Unary { op, operand });
        }
        match (then, otherwise) {
            _ if then == otherwise => Ok(then),
            (Type::Dynamic, _) | (_, Type::Dynamic) => Ok(Type::Dynamic),
            _ if self == Self::Evaluation => Ok(Type::Dynamic),
            (left, right) => Err(TypeFlaw::Binary {
                op: ":",
                left,
                right,
            }),
        }
    }
}

fn flaw(op: BinaryOp, left: Type, right: Type) -> TypeFlaw {
    let op = op.as_str();
    TypeFlaw::Binary { op, left, right }
}

fn arithmetic(op: BinaryOp, left: Type, right: Type) -> Result<Type, TypeFlaw> {
    let both = left.is_number() && right.is_number() && left.is(right);
    if !both {
        return Err(flaw(op, left, right));
    }
    Ok(if left == Type::Dynamic { right } else { left })
}

fn unary(op: UnaryOp, operand: Type) -> Result<Type, TypeFlaw> {
    let (op, fits) = match op {
        UnaryOp::Not => ("!", operand.is(Type::Bool)),
        UnaryOp::Negate => ("-", operand.is(Type::Int) || operand.is(Type::Double)),
    };
    if fits {
        Ok(operand)
    } else {
        Err(TypeFlaw::Unary { op, operand })
    }
}

fn convert(conversion: Conversion, operand: Type) -> Result<Type, TypeFlaw> {
    if !operand.is_number() {
        let op = conversion.as_str();
        return Err(TypeFlaw::Unary { op, operand });
    }
    Ok(match conversion {
        Conversion::Double => Type::Double,
        Conversion::Int => Type::Int,
        Conversion::Uint => Type::Uint,
    })
}

// === impl Type ===

impl Type {
    /// Whether a value of it can be one of the other.
    fn is(self, other: Self) -> bool {
        self == other || self == Self::Dynamic || other == Self::Dynamic
    }

    fn is_number(self) -> bool {
        self != Self::Bool
    }
}

// === impl Literal ===

impl Literal {
    const fn kind(self) -> Type {
        match self {
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::Bool(_) => Type::Bool,
        }
    }
}

//! Evaluation of trip expressions over the counts of a breaker.
//!
//! As in CEL: `&&` and `||` take an operand that decides whatever happens to the other, division of whole
//! numbers cuts, overflow and unknown names are errors. An error, or a result that is no condition, does not
//! trip. Nothing is allocated, and depth is bounded by the parser. Source: resiliency-observability 1.5.

use std::cmp::Ordering;

use ironside_resources::resiliency::{BinaryOp, Conversion, Expr, Literal, UnaryOp, Variable};

/// The counts of a breaker since its last change of state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were let through, those under way included.
    pub requests: u32,
    /// All successes.
    pub total_successes: u32,
    /// All failures.
    pub total_failures: u32,
    /// Successes since the last failure.
    pub consecutive_successes: u32,
    /// Failures since the last success.
    pub consecutive_failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Int(i64),
    Uint(u64),
    Double(f64),
    Bool(bool),
}

/// Returns whether the expression opens a breaker with these counts.
#[must_use]
pub fn trips(expr: &Expr, counts: &Counts) -> bool {
    counts.value(expr) == Some(Value::Bool(true))
}

// === impl Counts ===

impl Counts {
    pub(crate) fn success(&mut self) {
        self.total_successes = self.total_successes.saturating_add(1);
        self.consecutive_successes = self.consecutive_successes.saturating_add(1);
        self.consecutive_failures = 0;
    }

    pub(crate) fn failure(&mut self) {
        self.total_failures = self.total_failures.saturating_add(1);
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.consecutive_successes = 0;
    }

    /// The value of an expression; `None` is an error of evaluation.
    fn value(&self, expr: &Expr) -> Option<Value> {
        match expr {
            Expr::Literal(literal) => Some((*literal).into()),
            Expr::Variable(variable) => Some(Value::Int(self.of(*variable).into())),
            Expr::Unknown(_) => None,
            Expr::Unary(op, operand) => unary(*op, self.value(operand)?),
            Expr::Convert(conversion, operand) => convert(*conversion, self.value(operand)?),
            Expr::Binary(op, operands) => {
                let (left, right) = &**operands;
                self.binary(*op, left, right)
            }
            Expr::Conditional(parts) => {
                let (condition, then, otherwise) = &**parts;
                match self.value(condition)? {
                    Value::Bool(true) => self.value(then),
                    Value::Bool(false) => self.value(otherwise),
                    Value::Int(_) | Value::Uint(_) | Value::Double(_) => None,
                }
            }
        }
    }

    const fn of(&self, variable: Variable) -> u32 {
        match variable {
            Variable::Requests => self.requests,
            Variable::TotalSuccesses => self.total_successes,
            Variable::TotalFailures => self.total_failures,
            Variable::ConsecutiveSuccesses => self.consecutive_successes,
            Variable::ConsecutiveFailures => self.consecutive_failures,
        }
    }

    fn binary(&self, op: BinaryOp, left: &Expr, right: &Expr) -> Option<Value> {
        let decided = match op {
            BinaryOp::Or => true,
            BinaryOp::And => false,
            BinaryOp::Equal => return Some(Value::Bool(self.is_equal(left, right)?)),
            BinaryOp::Differ => return Some(Value::Bool(!self.is_equal(left, right)?)),
            BinaryOp::Less | BinaryOp::AtMost | BinaryOp::Greater | BinaryOp::AtLeast => {
                let order = self.value(left)?.order(self.value(right)?)?;
                return Some(Value::Bool(holds(op, order)));
            }
            BinaryOp::Add
            | BinaryOp::Subtract
            | BinaryOp::Multiply
            | BinaryOp::Divide
            | BinaryOp::Remainder => return arithmetic(op, self.value(left)?, self.value(right)?),
        };
        let left = self.value(left);
        if left == Some(Value::Bool(decided)) {
            return left;
        }
        match (left, self.value(right)) {
            (_, Some(Value::Bool(right))) if right == decided => Some(Value::Bool(right)),
            (Some(Value::Bool(_)), Some(Value::Bool(right))) => Some(Value::Bool(right)),
            _ => None,
        }
    }

    fn is_equal(&self, left: &Expr, right: &Expr) -> Option<bool> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        Some(left.order(right) == Some(Ordering::Equal))
    }
}

fn holds(op: BinaryOp, order: Ordering) -> bool {
    match op {
        BinaryOp::Less => order.is_lt(),
        BinaryOp::AtMost => order.is_le(),
        BinaryOp::Greater => order.is_gt(),
        BinaryOp::AtLeast => order.is_ge(),
        BinaryOp::Or
        | BinaryOp::And
        | BinaryOp::Equal
        | BinaryOp::Differ
        | BinaryOp::Add
        | BinaryOp::Subtract
        | BinaryOp::Multiply
        | BinaryOp::Divide
        | BinaryOp::Remainder => false,
    }
}

fn unary(op: UnaryOp, operand: Value) -> Option<Value> {
    match (op, operand) {
        (UnaryOp::Not, Value::Bool(value)) => Some(Value::Bool(!value)),
        (UnaryOp::Negate, Value::Int(value)) => value.checked_neg().map(Value::Int),
        (UnaryOp::Negate, Value::Double(value)) => Some(Value::Double(-value)),
        (UnaryOp::Not, Value::Int(_) | Value::Uint(_) | Value::Double(_))
        | (UnaryOp::Negate, Value::Uint(_) | Value::Bool(_)) => None,
    }
}

/// The operators that are no arithmetic.
macro_rules! other {
    () => {
        BinaryOp::Or
            | BinaryOp::And
            | BinaryOp::Equal
            | BinaryOp::Differ
            | BinaryOp::Less
            | BinaryOp::AtMost
            | BinaryOp::Greater
            | BinaryOp::AtLeast
    };
}

fn arithmetic(op: BinaryOp, left: Value, right: Value) -> Option<Value> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            let value = match op {
                BinaryOp::Add => left.checked_add(right),
                BinaryOp::Subtract => left.checked_sub(right),
                BinaryOp::Multiply => left.checked_mul(right),
                BinaryOp::Divide => left.checked_div(right),
                BinaryOp::Remainder => left.checked_rem(right),
                other!() => None,
            };
            value.map(Value::Int)
        }
        (Value::Uint(left), Value::Uint(right)) => {
            let value = match op {
                BinaryOp::Add => left.checked_add(right),
                BinaryOp::Subtract => left.checked_sub(right),
                BinaryOp::Multiply => left.checked_mul(right),
                BinaryOp::Divide => left.checked_div(right),
                BinaryOp::Remainder => left.checked_rem(right),
                other!() => None,
            };
            value.map(Value::Uint)
        }
        (Value::Double(left), Value::Double(right)) => match op {
            BinaryOp::Add => Some(Value::Double(left + right)),
            BinaryOp::Subtract => Some(Value::Double(left - right)),
            BinaryOp::Multiply => Some(Value::Double(left * right)),
            BinaryOp::Divide => Some(Value::Double(left / right)),
            BinaryOp::Remainder | other!() => None,
        },
        _ => None,
    }
}

fn convert(conversion: Conversion, operand: Value) -> Option<Value> {
    match conversion {
        Conversion::Double => operand.double().map(Value::Double),
        Conversion::Int => match operand {
            Value::Int(_) => Some(operand),
            Value::Uint(value) => i64::try_from(value).ok().map(Value::Int),
            Value::Double(value) => whole(value, -TWO_63, TWO_63).map(Value::Int),
            Value::Bool(_) => None,
        },
        Conversion::Uint => match operand {
            Value::Uint(_) => Some(operand),
            Value::Int(value) => u64::try_from(value).ok().map(Value::Uint),
            // Counts are far below the half that this leaves out.
            Value::Double(value) => {
                let value = whole(value, -1.0, TWO_63)?;
                u64::try_from(value).ok().map(Value::Uint)
            }
            Value::Bool(_) => None,
        },
    }
}

/// 2^63, the first double above every whole number.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

/// The whole part of a number strictly between the bounds.
fn whole(value: f64, low: f64, high: f64) -> Option<i64> {
    let fits = low < value && value < high;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "cut to a whole number within bounds"
    )]
    let whole = value as i64;
    fits.then_some(whole)
}

// === impl Value ===

impl Value {
    fn double(self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(value as f64),
            Self::Uint(value) => Some(value as f64),
            Self::Double(value) => Some(value),
            Self::Bool(_) => None,
        }
    }

    /// How two values compare, numbers of different kinds too.
    fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(&right)),
            (Self::Int(left), Self::Int(right)) => Some(left.cmp(&right)),
            (Self::Uint(left), Self::Uint(right)) => Some(left.cmp(&right)),
            (Self::Int(left), Self::Uint(right)) => {
                Some(u64::try_from(left).map_or(Ordering::Less, |left| left.cmp(&right)))
            }
            (Self::Uint(_), Self::Int(_)) => other.order(self).map(Ordering::reverse),
            _ => self.double()?.partial_cmp(&other.double()?),
        }
    }
}

impl From<Literal> for Value {
    fn from(literal: Literal) -> Self {
        match literal {
            Literal::Int(value) => Self::Int(value),
            Literal::Uint(value) => Self::Uint(value),
            Literal::Double(value) => Self::Double(value),
            Literal::Bool(value) => Self::Bool(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use ironside_resources::resiliency::Trip;
    use proptest::prelude::*;

    use super::*;

    const COUNTS: Counts = Counts {
        requests: 10,
        total_successes: 3,
        total_failures: 6,
        consecutive_successes: 0,
        consecutive_failures: 4,
    };

    fn check(text: &str, want: bool) {
        let trip = Trip::parse(text).unwrap();
        assert_eq!(trips(trip.expr(), &COUNTS), want, "{text}");
    }

    ///
    #[test]
    fn conditions_are_evaluated_over_the_counts() {
        for text in [
            "consecutiveFailures > 3",
            "consecutiveFailures >= 4",
            "totalFailures > 2 && requests > 5",
            "totalSuccesses < 3 || totalFailures == 6",
            "double(totalFailures) / double(requests) >= 0.6",
            "100 * totalFailures / requests > 59",
            "consecutiveSuccesses != 1",
            "!(consecutiveSuccesses > 0)",
            "requests > 5 ? totalFailures > 5 : false",
            "totalFailures > 5.5",
            "totalFailures == 6.0 && 6u == totalFailures",
            "-totalFailures < 0u",
            "int(double(requests) * 0.45) == 4",
            "uint(requests) % 4u == 2u",
            "requests % 3 == 1",
            "true",
            "nosuch > 1 || true",
            "true || nosuch > 1",
            "nosuch > 1 || requests > 1",
            "requests / consecutiveSuccesses > 1 || true",
            "false < true",
        ] {
            check(text, true);
        }
        for text in [
            "consecutiveFailures > 4",
            "totalFailures / requests > 0",
            "nosuch > 1",
            "!(nosuch > 1)",
            "nosuch > 1 && true",
            "nosuch > 1 && false",
            "false && nosuch > 1",
            "requests",
            "1",
            "requests && true",
            "requests * 1.5 > 3.0",
            "requests / consecutiveSuccesses >= 0",
            "requests % consecutiveSuccesses >= 0",
            "9223372036854775807 + requests > 0",
            "-9223372036854775808 - requests < 0",
            "requests ? true : true",
            "true == 1 || false",
            "double(requests) / 0.0 < 0.0",
            "0.0 / 0.0 == 0.0 / 0.0",
            "0.0 / 0.0 < 1.0",
            "int(1e30) > 0",
            "uint(-requests) > 0u",
            "-uint(requests) < 0",
        ] {
            let Ok(trip) = Trip::parse(text) else {
                // Some are refused when they are read already.
                continue;
            };
            assert!(!trips(trip.expr(), &COUNTS), "{text}");
        }
    }

    #[test]
    fn nothing_bad_happens_at_the_end_of_counting() {
        let mut counts = Counts {
            requests: u32::MAX,
            total_successes: u32::MAX,
            total_failures: u32::MAX,
            consecutive_successes: u32::MAX,
            consecutive_failures: u32::MAX,
        };
        counts.failure();
        counts.success();
        assert_eq!(counts.consecutive_failures, 0);
        let trip = Trip::parse("requests + totalFailures > requests").unwrap();
        assert!(trips(trip.expr(), &counts));
    }

    proptest! {
        #[test]
        fn comparisons_agree_with_the_numbers(requests: u32, failures: u32, bound in 0_u32..20) {
            let counts = Counts { requests, total_failures: failures, consecutive_failures: failures % 20, ..Counts::default() };
            let table = [
                (format!("consecutiveFailures > {bound}"), failures % 20 > bound),
                (format!("requests == {bound}"), requests == bound),
                ("totalFailures * 2 >= requests".to_owned(), u64::from(failures) * 2 >= u64::from(requests)),
                (
                    "requests > 0 && double(totalFailures) / double(requests) > 0.5".to_owned(),
                    requests > 0 && f64::from(failures) / f64::from(requests) > 0.5,
                ),
                ("totalFailures - requests < 0".to_owned(), failures < requests),
            ];
            for (text, want) in table {
                let trip = Trip::parse(&text).unwrap();
                prop_assert_eq!(trips(trip.expr(), &counts), want, "{}", text);
            }
        }

        #[test]
        fn any_expression_is_evaluated(
            text in "(-|!|double\\(|int\\(|uint\\()?(requests|nosuch|[0-9]{1,3}u?|1e30|true|0\\.5)\\)?( (\\+|\\*|/|%|<|==|&&|\\|\\|) (requests|consecutiveFailures|0|1\\.5|false)){0,4}",
            failures: u32,
        ) {
            if let Ok(trip) = Trip::parse(&text) {
                let counts = Counts { consecutive_failures: failures, ..COUNTS };
                let _no_panic = trips(trip.expr(), &counts);
            }
        }
    }
}

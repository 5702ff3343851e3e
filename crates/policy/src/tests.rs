//! The tables of the security sheet, and agreement with an evaluator that is nothing but them.

mod agreement;
mod fuzz;
mod legacy;
mod lint;
mod malicious;
mod naive;
mod objects;
pub(crate) mod support;

//! The tables of the security sheet, and agreement with an evaluator that is nothing but them.

pub(crate) mod agreement;
mod fuzz;
mod legacy;
mod lint;
mod malicious;
pub(crate) mod naive;
mod objects;
pub(crate) mod support;

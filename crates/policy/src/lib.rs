//! May this peer perform this operation?
//!
//! Owns the vocabulary that a decision is made of ([`Method`], a path that was cleaned once and cannot hold a
//! raw one, [`Verb`], [`Operation`], [`Caller`]), the compiled rules of an app ([`PolicySet`]), and the decision
//! with its reason. Rules come from the block of a Configuration and from AccessControl objects; what they look
//! like is the business of the resources crate. Pure: no sockets, no clock, no files, no allocation per decision.

mod compare;
mod compile;
pub mod decide;
mod engine;
mod explain;
mod lint;
mod object;
pub mod operation;
mod survey;
mod verbs;

pub use compare::{Change, Changes, Divergence, Equivalence, Said, equivalence};
pub use compile::{AppKind, Block, BlockError, Callee, CompileProblem, Input, Namespaces, Refused};
pub use decide::{
    Caller, Decision, Form, Matched, Operation, PolicySet, Reason, RuleId, Source, Verdict,
};
pub use explain::{Explanation, Nearest, ObjectAnswer, Place, Pointer};
pub use lint::{Code, Finding, Level, Lint};
pub use operation::{Method, MethodError, Verb, clean};
pub use survey::Sample;
pub use verbs::{OVERRIDE_HEADERS, VerbSet};

#[cfg(test)]
mod tests;

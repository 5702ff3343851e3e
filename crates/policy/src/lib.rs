//! May this peer perform this operation?
//!
//! Owns the vocabulary that a decision is made of: [`Method`], a path that was cleaned once and cannot hold a
//! raw one, and [`Verb`]. Both halves of a sidecar parse a method before they act on it, so what policy sees is
//! what the app gets. Pure: no sockets, no clock, no files.

pub mod decide;
pub mod operation;

pub use decide::{Decision, Operation, PolicySet, Reason};
pub use operation::{Method, MethodError, Verb, clean};

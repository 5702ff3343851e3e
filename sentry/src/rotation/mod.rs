//! When does the authority become another one?
//!
//! Owns the rotation that needs nobody, purely: `plan` decides on instants which step is due, `state` is what is
//! stored of an authority that Sentry made itself, `advance` takes a state over a step. The phases are
//! `steady` → `distribute` (the next root is in every answer, the old issuer signs) → `sign` (the next issuer signs,
//! the old root is still in every answer) → `steady` again. Files, clocks and tasks are not known here.

pub(crate) mod advance;
pub(crate) mod plan;
pub(crate) mod state;

pub(crate) use advance::{AdvanceError, Maker};
pub(crate) use plan::{Plan, Step};
pub(crate) use state::{State, StateError};

#[cfg(test)]
mod tests;

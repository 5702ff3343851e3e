//! What to do after this outcome?
//!
//! Owns the plans of a call's attempts as values: an outcome goes in, the next step comes out. Nothing here
//! sleeps or sends. So far it holds the built-in plan, which applies while no policy names the target.

pub mod retry;

pub use retry::{Attempts, Outcome, Step};

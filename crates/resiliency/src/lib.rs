//! What to do after this outcome?
//!
//! Owns every decision about calls that may fail: which policies hold for a target ([`Table`]), the attempts of
//! a call ([`attempts::Attempts`]), breakers, budgets and rates, and which of several addresses gets it
//! ([`Balancer`]). Time and chance are arguments, time counted from any fixed start; nothing here sleeps, sends
//! or reads a file. State that several calls share lies behind locks that are held for a moment.

pub mod attempts;
pub mod balance;
pub mod breaker;
mod budget;
pub mod compile;
pub mod outcome;
mod pauses;
mod rate;
pub mod target;
pub mod trip;

pub use attempts::Attempts;
pub use balance::Balancer;
pub use budget::Budget;
pub use compile::{Compiled, Id, Input, Table};
pub use outcome::Outcome;
pub use rate::TokenBucket;
pub use target::Target;

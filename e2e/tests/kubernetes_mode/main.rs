//! Sidecars as an injector starts them: identity with a pod's token, objects from an operator, live; names from DNS;
//! the start and the end of pods.
//!
//! Sentry and sidecars are real programs; API server, operator and DNS belong to the test.

#![cfg(test)]

mod dns;
mod end;
mod live;
mod operator;
mod rig;
mod start;

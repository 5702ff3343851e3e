//! The parts together: a fake API server on one side, real mutual TLS clients on the other.

mod api;
mod lease;
mod rig;
pub(crate) mod rights;
mod services;
mod streams;
mod watchdog;

//! The parts together: a fake API server on one side, real mutual TLS clients on the other.

mod api;
mod lease;
mod rig;
mod services;
mod streams;
mod watchdog;

//! The cluster that a program of the control plane works for.
//!
//! Owns the connection to the API server ([`connect`], and [`connect_person`] for the command line), watches that
//! never end ([`watch`], and of one object [`follow_one`]), the trust anchors that the control plane publishes
//! ([`AnchorsSource`]), Events ([`Recorder`]), the bounds of a webhook ([`Guests`], [`read_json`]), and who may change a
//! definition ([`definitions`]). What is done with any of them is the programs' business; the identity of a program of the control
//! plane is `ironside_transport::ControlPlane`, which takes the anchors that are published here.

mod anchors;
mod client;
pub mod definitions;
mod events;
mod guests;
mod json;
mod watching;

pub use anchors::{AnchorsSource, BUNDLE_KEY};
pub use client::{ConnectError, connect, connect_person};
pub use events::{Kind, News, Recorder, Subject};
pub use guests::{Guest, Guests, Limits, Visit};
pub use json::read_json;
pub use watching::{explain, follow_one, watch};

/// The logger of this crate.
pub(crate) const SCOPE: &str = "dapr.cluster";

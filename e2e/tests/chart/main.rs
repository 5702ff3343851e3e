//! The chart as Helm renders it: rows KH-01 to KH-13, KH-16 and KH-23 of the fact sheet `kubernetes.md`.
//!
//! Owns what can be said of manifests without a cluster. Helm comes from `IRONSIDE_HELM` or is the one that clusters
//! are made with; `cargo xtask e2e chart` builds it once and runs the tests that call it. Whether the objects work is
//! judged on a cluster, elsewhere.

#![cfg(test)]

mod objects;
mod pods;
mod rig;
mod rights;
mod schema;
mod values;
mod webhook;

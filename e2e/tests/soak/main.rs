//! Runs of minutes, outside CI: `cargo xtask soak` and the name of one; of some a short form runs in CI.

#![cfg(test)]

mod body;
mod cancel;
mod kills;
mod metrics;
mod operator;
mod policy;
mod replicas;
mod restart;
mod roots;
mod rotation;

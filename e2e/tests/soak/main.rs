//! Runs of minutes, outside CI: `cargo xtask soak [rotation | roots | body | restart | policy | operator]`; of some a
//! short form runs in CI.

#![cfg(test)]

mod body;
mod operator;
mod policy;
mod restart;
mod roots;
mod rotation;

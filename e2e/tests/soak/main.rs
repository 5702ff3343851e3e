//! Runs of minutes, outside CI: `cargo xtask soak [rotation | body | restart]`.

#![cfg(test)]

mod body;
mod restart;
mod rotation;

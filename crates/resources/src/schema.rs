//! The CustomResourceDefinitions of all kinds, made from the types that decode them.
//!
//! Owns what such types cannot say by themselves: what is required, bounds, defaults of the API server, columns,
//! and rules in CEL for what a sidecar could not start with or would silently read otherwise. What the reference
//! accepts and can work with is accepted. Sections of other building blocks, which no type here decodes, are added
//! so that they are not pruned. Compiled for tests only: `cargo xtask gen` writes the files by running the test that
//! compares them. Source: kubernetes 4.2 to 4.5.

mod component;
mod configuration;
mod definition;
mod http_endpoint;
mod resiliency;
mod server;
mod structural;
#[cfg(test)]
mod tests;

pub(crate) use definition::{Definition, add_rule, conditions, extend};
pub(crate) use server::Server;
pub(crate) use structural::structural;

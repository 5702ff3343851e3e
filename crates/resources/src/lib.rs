//! What a user writes: manifests, and how files of them are read.
//!
//! One file per kind, all pure: bytes and look-ups in, values, warnings and
//! errors out. [`configuration`] reads the files of `--config`, [`loader`] the
//! folders of `--resources-path`. Files, environment and clocks stay with the
//! programs; what a rule decides stays with the decision crates.

pub mod access_control;
pub mod annotations;
pub mod component;
pub mod configuration;
mod duration;
mod expand;
pub mod http_endpoint;
pub mod loader;
pub mod resiliency;
#[cfg(test)]
mod schema;
mod value;
pub mod yaml;

pub use access_control::AccessControl;
pub use component::Component;
pub use configuration::Configuration;
pub use duration::{DurationError, GoDuration};
pub use expand::expand;
pub use http_endpoint::HttpEndpoint;
pub use resiliency::Resiliency;
pub use value::{EnvAccess, NameValue, SecretKeyRef, ValueError};
pub use yaml::YamlError;

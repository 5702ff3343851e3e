//! What the tests with real binaries share: programs, ports, waiting, rows.
//!
//! Every program is started with an environment of its own, on ports below the kernel's ephemeral range,
//! logs into a file that is shown when a test fails, and is killed by its handle when dropped. Nothing
//! waits for a duration: [`wait::until`] polls a condition up to a deadline. [`k8s`] is the rig of tests on a cluster.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a rig that cannot be set up fails its test at once"
)]

pub mod binaries;
pub mod k8s;
pub mod operator;
pub mod ports;
pub mod program;
pub mod relay;
pub mod rows;
pub mod sentry;
pub mod sidecar;
pub mod table;
pub mod wait;
pub mod world;

pub use operator::{Operator, Scripted};
pub use relay::Relay;
pub use rows::Rows;
pub use sentry::Sentry;
pub use sidecar::{Sidecar, Spec};
pub use world::World;

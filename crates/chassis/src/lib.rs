//! What every process of Ironside has, whatever it serves.
//!
//! A program takes its flags ([`args`]), its log ([`logging`]), its clock
//! ([`clock`]), its tasks ([`tasks`]), its listeners ([`listen`]), its signals
//! ([`signals`]), its health ([`health`]) and its metrics port
//! ([`metrics_server`]) from here, and as many descriptors as it may have ([`descriptors`]); programs of the control plane also take
//! what is around their work ([`program`]). Refused: anything that knows what
//! an app, a target or an invocation is.

pub mod args;
pub mod build_info;
pub mod clock;
pub mod descriptors;
pub mod health;
mod http_serve;
pub mod listen;
pub mod logging;
pub mod metrics_server;
mod process_stats;
pub mod program;
pub mod secret;
pub mod signals;
pub mod tasks;

pub use clock::{Clock, Tick};
pub use secret::Secret;
pub use tasks::Tasks;

//! One module a command, and what they all get.

pub(crate) mod absent;
pub(crate) mod access;
pub(crate) mod annotate;
pub(crate) mod build_info;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod doctor;
pub(crate) mod help;
pub(crate) mod init;
pub(crate) mod install;
pub(crate) mod invoke;
pub(crate) mod list;
pub(crate) mod log_level;
pub(crate) mod mtls;
pub(crate) mod publish;
pub(crate) mod run;
pub(crate) mod stop;
pub(crate) mod version;

use std::ffi::OsString;

use ironside_chassis::clock::Clock;

use crate::env::Environment;
use crate::folders::Home;
use crate::grammar::Values;
use crate::output::Status;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Session {
    /// What this program was called by.
    pub program: String,
    /// The environment.
    pub environment: Environment,
    /// Where status lines go.
    pub status: Status,
    /// The time.
    pub clock: Clock,
    /// What the flags were given.
    pub values: Values,
    /// The words that are no flags.
    pub words: Vec<OsString>,
}

// === impl Session ===

impl Session {
    /// The token that sidecars ask for, if any (CH5).
    pub(crate) fn token(&self) -> Option<&str> {
        self.environment.text("DAPR_API_TOKEN")
    }

    /// The folder `.dapr`, if there is a place for it.
    pub(crate) fn home(&self) -> Option<Home> {
        Home::find(self.values.text("runtime-path"), &self.environment)
    }
}

//! The commands that look at a Kubernetes cluster.
//!
//! One module a command; each makes its own connection, and none changes anything but those that say so.

pub(crate) mod list;
pub(crate) mod log_level;
pub(crate) mod logs;
pub(crate) mod resources;
pub(crate) mod status;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::Session;
use crate::output::{self, table};

/// How a listing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
    Yaml,
}

// === impl Form ===

impl Form {
    /// What `--output` asks for.
    fn of(session: &Session) -> anyhow::Result<Self> {
        Ok(match session.values.text("output") {
            None | Some("table" | "list" | "") => Self::Table,
            Some("json") => Self::Json,
            Some("yaml") => Self::Yaml,
            Some(_) => bail!("An invalid output format was specified."),
        })
    }

    /// Prints rows: as a table, or as the values that they are.
    fn print<R: Serialize>(
        self,
        rows: &[R],
        headings: &[&str],
        cells: impl Fn(&R) -> Vec<String>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Json => {
                let text = serde_json::to_string_pretty(rows).context("writing JSON")?;
                output::out(text.as_bytes());
            }
            Self::Yaml => {
                let text = serde_yaml::to_string(&rows).context("writing YAML")?;
                output::out(text.as_bytes());
            }
            Self::Table => {
                let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
                output::out(table::plain(headings, &cells).as_bytes());
            }
        }
        Ok(())
    }
}

/// The namespace that was asked for; none for all.
fn one_namespace(session: &Session) -> Option<&str> {
    let named = session.values.text("namespace");
    named.filter(|name| !name.is_empty() && !session.values.switch("all-namespaces"))
}

/// Says that something is not there: `text` on the standard error, exit code 1.
fn nothing(session: &Session, text: &str) -> ExitCode {
    session.status.failure(text);
    ExitCode::FAILURE
}

//! A call as sidecars record it, in the list of their decisions and in the access log file.
//!
//! Owns how a record becomes the request that policy can be asked about again.

use anyhow::Context as _;
use ironside_identity::SpiffeId;
use ironside_policy::{Callee, Verb, VerbSet};
use serde::Deserialize;

use super::check::Asked;

/// A recorded call.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call {
    /// SPIFFE ID; empty without identity.
    pub(super) caller: String,
    /// The path as policy saw it.
    pub(super) operation: String,
    #[serde(default)]
    verb: String,
    /// `http`, `grpc` or `proxy`.
    #[serde(default)]
    pub(super) protocol: String,
    #[serde(default)]
    overrides: Vec<String>,
    /// The path was longer.
    #[serde(default)]
    pub(super) truncated: bool,
}

// === impl Call ===

impl Call {
    /// The request that it was.
    ///
    /// # Errors
    /// If the caller is no SPIFFE ID.
    pub(super) fn asked(&self, callee: &Callee) -> anyhow::Result<Asked> {
        let caller = match self.caller.as_str() {
            "" => None,
            text => Some(SpiffeId::parse(text).context("caller")?),
        };
        let verb = match self.verb.as_str() {
            "" | "NONE" => Verb::None,
            verb => Verb::from_http(verb),
        };
        Ok(Asked {
            caller,
            callee: callee.clone(),
            verb,
            method: self.operation.clone(),
            is_proxied: self.protocol == "proxy",
            overrides: VerbSet::overrides(self.overrides.iter().map(String::as_str)),
        })
    }
}

//! The kind AccessControl: who may call an app, as an object of its own.
//!
//! Owns the schema, strict because a key that is dropped is a rule that is
//! lost, and the checks that an object can fail by itself ([`AccessControl::problems`]).
//! What the rules decide is the policy crate's part; the older block inside a
//! Configuration has its own types there. Source: security 4.1 to 4.3.

use serde::{Deserialize, Serialize};

mod check;
mod document;
mod outline;
mod status;

pub use check::{Flaw, Problem};
pub use document::{AccessControlError, decode, decode_json};
pub use outline::{Outline, outlines};
pub use status::{AccessControlStatus, Condition, Denials, LintEntry, SidecarCounts, WouldDeny};

use crate::yaml;

/// Who may call the apps of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessControl {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty when absent.
    pub namespace: String,
    /// The called apps it is for; empty means all of the namespace.
    pub scopes: Vec<String>,
    /// `spec`.
    pub spec: AccessControlSpec,
}

/// The rules of an object.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessControlSpec {
    /// Whether it decides or is only watched.
    #[serde(deserialize_with = "yaml::null_default")]
    pub mode: Mode,
    /// How rules are matched.
    #[serde(deserialize_with = "yaml::null_default")]
    pub evaluation: Evaluation,
    /// What holds where no entry decides; deny when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<Action>,
    /// Informative; identities are issued elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// What holds for callers without identity; deny when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unauthenticated: Option<Unauthenticated>,
    /// One entry per caller.
    #[serde(deserialize_with = "yaml::list", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<CallerPolicy>,
}

/// What one caller, or a group of callers, may do.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallerPolicy {
    /// App ID, `*` or `prefix*`.
    pub app_id: String,
    /// Namespace, `*` or `prefix*`.
    pub namespace: String,
    /// Trust domain or `*`; `public` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// What holds where no operation decides; the next entry when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_action: Option<Action>,
    /// Rules by path and verb.
    #[serde(
        default,
        deserialize_with = "yaml::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub operations: Vec<OperationRule>,
}

/// A rule by path and verb.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperationRule {
    /// Path or pattern, or `/pkg.Service/Method`.
    pub name: String,
    /// Whether deeper paths are covered; yes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_match: Option<PathMatch>,
    /// Verbs; none means every one.
    #[serde(
        default,
        deserialize_with = "yaml::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub http_verb: Vec<HttpVerb>,
    /// What the rule says.
    pub action: Action,
}

/// Whether an object decides.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is evaluated, logged and counted only.
    Audit,
}

/// How rules are matched.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Evaluation {
    /// The most specific rule wins; order means nothing.
    #[default]
    MostSpecific,
    /// As the block inside a Configuration.
    DaprCompatible,
}

/// What a rule says.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The call may go on.
    #[serde(alias = "Allow", alias = "ALLOW")]
    Allow,
    /// It may not.
    #[serde(alias = "Deny", alias = "DENY")]
    Deny,
}

/// What holds for callers without identity.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Unauthenticated {
    /// They are refused.
    #[default]
    Deny,
    /// The default action of the object decides.
    DefaultAction,
}

/// Whether a pattern without trailing wildcard covers deeper paths.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum PathMatch {
    /// It does.
    #[default]
    Prefix,
    /// It does not.
    Exact,
}

/// A verb of a rule.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpVerb {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
    /// Every verb.
    #[serde(rename = "*")]
    Any,
}

// === impl CallerPolicy ===

impl CallerPolicy {
    /// Returns the caller's trust domain with its default filled in.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.trust_domain
            .as_deref()
            .unwrap_or(crate::configuration::DEFAULT_TRUST_DOMAIN)
    }
}

#[cfg(test)]
mod crd;
#[cfg(test)]
pub(crate) use crd::definition as crd_definition;
#[cfg(test)]
mod tests;

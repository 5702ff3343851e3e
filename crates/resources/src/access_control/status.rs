//! What the operator says about an AccessControl, in its `status`.
//!
//! Owns the shape alone; who computes it and when it is written is the operator's part. Source: security 4.2.

use serde::{Deserialize, Serialize};

/// `status`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessControlStatus {
    /// The generation that was compiled last.
    pub observed_generation: i64,
    /// Accepted, Programmed, LegacyEquivalent, Conflicted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Entries.
    pub policy_count: i32,
    /// Rules of all entries.
    pub operation_count: i32,
    /// Connected apps that it applies to, the first 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
    /// Whether there are more of them.
    pub apps_truncated: bool,
    /// How far it has come.
    pub sidecars: SidecarCounts,
    /// Rules that do not do what they look like, the first 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lint: Vec<LintEntry>,
    /// What it denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denials: Option<Denials>,
    /// What it would have denied, in mode Audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<WouldDeny>,
}

/// One aspect of the state.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The generation it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it became so, in RFC 3339.
    pub last_transition_time: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}

/// Sidecars in scope.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct SidecarCounts {
    /// Connected ones.
    pub connected: i32,
    /// Those that run this generation.
    pub applied: i32,
    /// Those that refused it.
    pub rejected: i32,
    /// Those that still run an older one.
    pub outdated: i32,
    /// `applied/connected`, for a column.
    pub summary: String,
}

/// A rule that does not do what it looks like.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct LintEntry {
    /// JSON pointer of the rule.
    pub rule: String,
    /// Kind of finding.
    pub code: String,
    /// The finding in a sentence.
    pub message: String,
}

/// Denials.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Denials {
    /// In the last hour.
    pub last_hour: i64,
}

/// Calls that an object under audit would have denied.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WouldDeny {
    /// In the last hour.
    pub would_deny_last_hour: i64,
}

//! The schema of the two metric sections.
//!
//! Written back too: the section in force is logged at start as JSON, without
//! the keys that are absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::yaml;

/// Metrics.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metric {
    /// Whether anything is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether error codes are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_error_codes: Option<bool>,
    /// Labels of the HTTP families.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<MetricHttp>,
    /// Bounds of latency histograms in milliseconds.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "yaml::some_list"
    )]
    pub latency_distribution_buckets: Option<Vec<u64>>,
    /// Rewriting of labels.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "yaml::some_list"
    )]
    pub rules: Option<Vec<MetricRule>>,
}

/// Labels of the HTTP families.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricHttp {
    /// Whether the raw path is a label; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub increased_cardinality: Option<bool>,
    /// Path patterns that become labels.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "yaml::some_list"
    )]
    pub path_matching: Option<Vec<String>>,
    /// Whether the verb is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_verbs: Option<bool>,
}

/// Rewriting of the labels of one family.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct MetricRule {
    /// The family, with or without `dapr_`.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// Its labels.
    #[serde(deserialize_with = "yaml::list")]
    pub labels: Vec<MetricLabel>,
}

/// Rewriting of one label.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct MetricLabel {
    /// The label.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// Replacement to pattern.
    #[serde(deserialize_with = "yaml::null_default")]
    pub regex: BTreeMap<String, String>,
}

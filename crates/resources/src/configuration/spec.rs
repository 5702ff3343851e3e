//! The schema of a Configuration's `spec`.
//!
//! Spellings are the wire's; unknown keys are ignored, so sections of other
//! building blocks (`wasm`, `workflow`) need no type. A key that is absent or
//! null is `None`.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::{Inbound, Metric};
use crate::{NameValue, yaml};

/// All sections.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Handlers around the HTTP API.
    pub http_pipeline: Option<Pipeline>,
    /// Handlers around HTTP calls to the app.
    pub app_http_pipeline: Option<Pipeline>,
    /// Tracing.
    pub tracing: Option<Tracing>,
    /// Metrics, older spelling.
    pub metric: Option<Metric>,
    /// Metrics, newer spelling; its fields win.
    pub metrics: Option<Metric>,
    /// Mutual TLS; read by the control plane.
    pub mtls: Option<Mtls>,
    /// Which peers may call what.
    pub access_control: Option<AccessControl>,
    /// How apps are found.
    pub name_resolution: Option<NameResolution>,
    /// Preview features.
    #[serde(deserialize_with = "yaml::some_list")]
    pub features: Option<Vec<Feature>>,
    /// Which APIs are served.
    pub api: Option<Api>,
    /// Logs.
    pub logging: Option<Logging>,
    /// Components not to load.
    pub components: Option<Components>,
    /// Scopes of secret stores; checked, without effect.
    pub secrets: Option<Secrets>,
    /// What the app takes in.
    pub inbound: Option<Inbound>,
}

/// Handlers in order, the outermost first.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pipeline {
    /// The handlers.
    #[serde(deserialize_with = "yaml::some_list")]
    pub handlers: Option<Vec<Handler>>,
}

/// One handler: it names a component.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Handler {
    /// Name of the component.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// Type of the component.
    #[serde(rename = "type", deserialize_with = "yaml::null_default")]
    pub kind: String,
    /// Version of the component as written; empty means `v1`.
    #[serde(deserialize_with = "yaml::null_default")]
    pub version: String,
    /// Kept, not evaluated.
    pub selector: Option<Selector>,
}

/// When a handler applies; not evaluated.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Selector {
    /// The conditions.
    #[serde(deserialize_with = "yaml::list")]
    pub fields: Vec<SelectorField>,
}

/// One condition.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SelectorField {
    /// Name of the field.
    #[serde(deserialize_with = "yaml::null_default")]
    pub field: String,
    /// Its value.
    #[serde(deserialize_with = "yaml::null_default")]
    pub value: String,
}

/// Tracing.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    /// Share of traces that is recorded, as written.
    pub sampling_rate: Option<String>,
    /// Whether spans go to the log.
    pub stdout: Option<bool>,
    /// The Zipkin exporter.
    pub zipkin: Option<Zipkin>,
    /// The OTLP exporter.
    pub otel: Option<Otel>,
}

/// The Zipkin exporter.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Zipkin {
    /// Full URL.
    pub endpoint_address: Option<String>,
}

/// The OTLP exporter.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Otel {
    /// `http` or `grpc`.
    pub protocol: Option<String>,
    /// `host:port`.
    pub endpoint_address: Option<String>,
    /// Whether it speaks TLS; see [`Otel::is_secure`].
    pub is_secure: Option<bool>,
    /// Headers, in either spelling.
    #[serde(deserialize_with = "yaml::some_list")]
    #[cfg_attr(test, schemars(with = "Option<Vec<NameValue>>"))]
    pub headers: Option<Vec<OtelHeader>>,
    /// Go duration, as written.
    pub timeout: Option<String>,
}

/// A header of the exporter.
#[derive(Clone, Debug, PartialEq)]
pub enum OtelHeader {
    /// `name=value`, as files have it.
    Text(String),
    /// An object, as Kubernetes has it.
    Named(NameValue),
}

/// Mutual TLS, for the control plane.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mtls {
    /// Whether sidecars are told to use it.
    pub enabled: Option<bool>,
    /// Go duration, as written.
    #[serde(rename = "workloadCertTTL")]
    pub workload_cert_ttl: Option<String>,
    /// Go duration, as written.
    pub allowed_clock_skew: Option<String>,
    /// Where Sentry is.
    pub sentry_address: Option<String>,
    /// Trust domain of the control plane.
    pub control_plane_trust_domain: Option<String>,
    /// How Sentry checks tokens.
    #[serde(deserialize_with = "yaml::some_list")]
    pub token_validators: Option<Vec<TokenValidator>>,
}

/// One way to check tokens.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TokenValidator {
    /// Which way.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// Its options.
    #[serde(deserialize_with = "yaml::null_default")]
    pub options: Value,
}

/// Which peers may call what; not compiled.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessControl {
    /// What holds where no policy decides, as written.
    pub default_action: Option<String>,
    /// Trust domain of this app.
    pub trust_domain: Option<String>,
    /// One entry per caller; an absent list and an empty one differ.
    #[serde(deserialize_with = "yaml::some_list")]
    pub policies: Option<Vec<AppPolicy>>,
}

/// What one caller may do.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AppPolicy {
    /// The caller.
    #[serde(deserialize_with = "yaml::null_default")]
    pub app_id: String,
    /// What holds where no operation decides, as written.
    #[serde(deserialize_with = "yaml::null_default")]
    pub default_action: String,
    /// The caller's trust domain.
    #[serde(deserialize_with = "yaml::null_default")]
    pub trust_domain: String,
    /// The caller's namespace.
    #[serde(deserialize_with = "yaml::null_default")]
    pub namespace: String,
    /// Rules by path and verb.
    #[serde(deserialize_with = "yaml::list")]
    pub operations: Vec<Operation>,
}

/// A rule by path and verb.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Operation {
    /// Path or pattern.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// Verbs, or `*`.
    #[serde(deserialize_with = "yaml::list")]
    pub http_verb: Vec<String>,
    /// `allow` or anything else.
    #[serde(deserialize_with = "yaml::null_default")]
    pub action: String,
}

/// How apps are found.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NameResolution {
    /// Which way.
    pub component: Option<String>,
    /// Its version; `v1` when absent.
    pub version: Option<String>,
    /// Its settings.
    pub configuration: Option<Value>,
}

/// A preview feature.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Feature {
    /// Which.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// Whether it is on.
    #[serde(deserialize_with = "yaml::null_default")]
    pub enabled: bool,
}

/// Which APIs are served.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Api {
    /// Only these, when there are any.
    #[serde(deserialize_with = "yaml::some_list")]
    pub allowed: Option<Vec<ApiRule>>,
    /// Never these.
    #[serde(deserialize_with = "yaml::some_list")]
    pub denied: Option<Vec<ApiRule>>,
}

/// One API.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ApiRule {
    /// Its group, like `invoke`.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// Its version, like `v1`.
    #[serde(deserialize_with = "yaml::null_default")]
    pub version: String,
    /// `http` or `grpc`, as written.
    #[serde(deserialize_with = "yaml::null_default")]
    pub protocol: String,
}

/// Logs.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Logging {
    /// One line for each call of the APIs.
    pub api_logging: Option<ApiLogging>,
}

/// One line for each call of the APIs.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApiLogging {
    /// Whether there are such lines; a flag may overrule it.
    pub enabled: Option<bool>,
    /// Whether paths are left out.
    #[serde(rename = "obfuscateURLs")]
    pub obfuscate_urls: Option<bool>,
    /// Whether calls of the health API are left out.
    pub omit_health_checks: Option<bool>,
}

/// Components not to load.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Components {
    /// `type` or `type/version`.
    #[serde(deserialize_with = "yaml::some_list")]
    pub deny: Option<Vec<String>>,
}

/// Scopes of secret stores.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Secrets {
    /// One entry per store.
    #[serde(deserialize_with = "yaml::some_list")]
    pub scopes: Option<Vec<SecretScope>>,
}

/// The scope of one secret store.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SecretScope {
    /// The store.
    #[serde(deserialize_with = "yaml::null_default")]
    pub store_name: String,
    /// `allow` or `deny`.
    #[serde(deserialize_with = "yaml::null_default")]
    pub default_access: String,
    /// Secrets that may be read.
    #[serde(deserialize_with = "yaml::list")]
    pub allowed_secrets: Vec<String>,
    /// Secrets that may not be read.
    #[serde(deserialize_with = "yaml::list")]
    pub denied_secrets: Vec<String>,
}

// === impl Otel ===

impl Otel {
    /// Returns whether the exporter speaks TLS: yes, unless a file says no.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure.unwrap_or(true)
    }
}

// === impl OtelHeader ===

impl<'de> Deserialize<'de> for OtelHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OtelHeaderVisitor)
    }
}

/// Tells the two spellings apart by shape, so that an error speaks of the right one.
struct OtelHeaderVisitor;

impl<'de> Visitor<'de> for OtelHeaderVisitor {
    type Value = OtelHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("name=value, or an object with name and value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OtelHeader, E> {
        Ok(OtelHeader::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OtelHeader, A::Error> {
        NameValue::deserialize(MapAccessDeserializer::new(map)).map(OtelHeader::Named)
    }
}

// === impl Handler ===

impl Handler {
    /// Returns the version of the component, `v1` when none is written.
    #[must_use]
    pub fn version(&self) -> &str {
        if self.version.is_empty() {
            crate::component::DEFAULT_VERSION
        } else {
            &self.version
        }
    }
}

//! The kind Component: a type, its version and its properties.
//!
//! Of all types only `middleware.http.*` belongs to service invocation;
//! [`Category`] says what the others are. Whether a type can be built is the
//! sidecar's knowledge. Source: process-interface 6.3, 8.

use std::fmt;

use serde::Deserialize;

use crate::{GoDuration, NameValue, yaml};

/// Version of a component that names none.
pub const DEFAULT_VERSION: &str = "v1";
/// Beginning of the types that the HTTP pipelines use.
const HTTP_MIDDLEWARE: &str = "middleware.http.";
/// Time a component may take to start when it names none: process-interface 6.3.
const DEFAULT_INIT_TIMEOUT: GoDuration = GoDuration::from_nanos(5_000_000_000);

/// A component as its manifest says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Component {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty when absent.
    pub namespace: String,
    /// `spec`.
    pub spec: ComponentSpec,
    /// `auth.secretStore`; empty when absent.
    pub secret_store: String,
    /// The apps it is for; empty means all.
    pub scopes: Vec<String>,
}

/// What a component is.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ComponentSpec {
    /// The type, like `middleware.http.uppercase`.
    #[serde(rename = "type", deserialize_with = "yaml::null_default")]
    pub kind: String,
    /// The version as written; see [`Component::version`].
    #[serde(deserialize_with = "yaml::null_default")]
    pub version: String,
    /// A failure to start it is a warning.
    #[serde(deserialize_with = "yaml::null_default")]
    pub ignore_errors: bool,
    /// Time it may take to start, as written; see [`Component::init_timeout`].
    #[serde(deserialize_with = "yaml::null_default")]
    pub init_timeout: String,
    /// Its properties.
    #[serde(deserialize_with = "yaml::list")]
    pub metadata: Vec<NameValue>,
}

/// Which building block a type belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// `middleware.http.*`: used by the HTTP pipelines.
    HttpMiddleware,
    /// A building block of the reference that is not service invocation.
    Other,
    /// No building block has such types.
    Unknown,
}

/// Beginnings of the types of other building blocks.
const OTHERS: [&str; 14] = [
    "bindings.",
    "configuration.",
    "conversation.",
    "crypto.",
    "jobs.",
    "lock.",
    "mcp.",
    "middleware.",
    "nameresolution.",
    "pubsub.",
    "secretstores.",
    "state.",
    "workflow.",
    "workflowbackend.",
];

// === impl Component ===

impl Component {
    /// Returns the version, `v1` when none is written.
    #[must_use]
    pub fn version(&self) -> &str {
        if self.spec.version.is_empty() {
            DEFAULT_VERSION
        } else {
            &self.spec.version
        }
    }

    /// Returns how long it may take to start; five seconds when absent or unreadable.
    #[must_use]
    pub fn init_timeout(&self) -> GoDuration {
        self.spec
            .init_timeout
            .parse()
            .unwrap_or(DEFAULT_INIT_TIMEOUT)
    }

    /// Returns which building block it belongs to.
    #[must_use]
    pub fn category(&self) -> Category {
        let kind = self.spec.kind.to_lowercase();
        if kind.starts_with(HTTP_MIDDLEWARE) {
            Category::HttpMiddleware
        } else if OTHERS.iter().any(|prefix| kind.starts_with(prefix)) {
            Category::Other
        } else {
            Category::Unknown
        }
    }

    /// Returns the property `name`, in any case; the last of several.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&NameValue> {
        let mut properties = self.spec.metadata.iter().rev();
        properties.find(|property| property.name.eq_ignore_ascii_case(name))
    }

    /// Returns the component as log lines call it: `name (type/version)`.
    #[must_use]
    pub fn log_name(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| write!(f, "{} ({}/{})", self.name, self.spec.kind, self.version()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(kind: &str, version: &str) -> Component {
        Component {
            name: "a".into(),
            spec: ComponentSpec {
                kind: kind.into(),
                version: version.into(),
                ..ComponentSpec::default()
            },
            ..Component::default()
        }
    }

    #[test]
    fn types_belong_to_building_blocks() {
        let table = [
            ("middleware.http.uppercase", Category::HttpMiddleware),
            ("Middleware.HTTP.bearer", Category::HttpMiddleware),
            ("state.redis", Category::Other),
            ("secretstores.local.file", Category::Other),
            ("middleware.grpc.x", Category::Other),
            ("stat.redis", Category::Unknown),
            ("state", Category::Unknown),
            ("", Category::Unknown),
        ];
        for (kind, want) in table {
            assert_eq!(component(kind, "").category(), want, "{kind}");
        }
    }

    #[test]
    fn an_absent_version_is_v1() {
        assert_eq!(
            component("state.redis", "").log_name().to_string(),
            "a (state.redis/v1)"
        );
        assert_eq!(
            component("state.redis", "v2").log_name().to_string(),
            "a (state.redis/v2)"
        );
    }

    #[test]
    fn properties_are_found_in_any_case() {
        let spec = "{type: t, initTimeout: 1m, metadata: [{name: Routes, value: 1}, {name: ROUTES, value: 2}]}";
        let spec = yaml::decode(spec).unwrap().unwrap();
        let component = Component {
            spec,
            ..Component::default()
        };
        assert_eq!(component.property("routes").unwrap().text(), "2");
        assert!(component.property("rule").is_none());
        assert_eq!(component.init_timeout().to_string(), "1m0s");
        assert_eq!(Component::default().init_timeout().to_string(), "5s");
    }
}

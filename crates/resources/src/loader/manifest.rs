//! What all manifests have in common, and which kinds there are.
//!
//! A document is decoded twice: its envelope first, because a foreign or
//! skipped one must not be judged by a shape it does not promise, then its
//! spec.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Reason, Untyped};
use crate::{Component, HttpEndpoint, yaml};

/// The kinds of resources that may lie in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A component.
    Component,
    /// An outside address.
    HttpEndpoint,
    /// Retries, timeouts, breakers.
    Resiliency,
    /// A configuration; in a folder it only triggers reloads.
    Configuration,
    /// Who may call an app.
    AccessControl,
    /// Another building block.
    Subscription,
    /// Another building block.
    McpServer,
    /// Another building block.
    WorkflowAccessPolicy,
}

/// The group of all kinds.
const GROUP: &str = "dapr.io/";
const KINDS: [Kind; 8] = [
    Kind::Component,
    Kind::HttpEndpoint,
    Kind::Resiliency,
    Kind::Configuration,
    Kind::AccessControl,
    Kind::Subscription,
    Kind::McpServer,
    Kind::WorkflowAccessPolicy,
];

/// What every manifest has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Envelope {
    #[serde(deserialize_with = "yaml::null_default")]
    pub(super) api_version: String,
    #[serde(deserialize_with = "yaml::null_default")]
    kind: String,
    #[serde(deserialize_with = "yaml::null_default")]
    pub(super) metadata: Metadata,
    #[serde(deserialize_with = "yaml::list")]
    pub(super) scopes: Vec<String>,
    #[serde(deserialize_with = "yaml::null_default")]
    auth: Auth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    #[serde(deserialize_with = "yaml::null_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "yaml::null_default")]
    pub(super) namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Auth {
    #[serde(deserialize_with = "yaml::null_default")]
    secret_store: String,
}

/// The second look at a document.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned + Default")]
struct SpecOnly<T> {
    #[serde(default, deserialize_with = "yaml::null_default")]
    spec: T,
}

/// Why a document is none of the kinds.
pub(super) enum KindError {
    /// Not of this group.
    Foreign,
    /// Of this group, but of another version.
    ApiVersion { kind: Kind, want: &'static str },
}

// === impl Kind ===

impl Kind {
    /// Returns the word manifests use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Component => "Component",
            Self::HttpEndpoint => "HTTPEndpoint",
            Self::Resiliency => "Resiliency",
            Self::Configuration => "Configuration",
            Self::AccessControl => "AccessControl",
            Self::Subscription => "Subscription",
            Self::McpServer => "MCPServer",
            Self::WorkflowAccessPolicy => "WorkflowAccessPolicy",
        }
    }

    /// Returns the API version of manifests of this kind.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Subscription => "dapr.io/v2alpha1",
            Self::Component
            | Self::HttpEndpoint
            | Self::Resiliency
            | Self::Configuration
            | Self::AccessControl
            | Self::McpServer
            | Self::WorkflowAccessPolicy => "dapr.io/v1alpha1",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Envelope ===

impl Envelope {
    pub(super) fn kind(&self) -> Result<Kind, KindError> {
        let known = KINDS.into_iter().find(|kind| kind.as_str() == self.kind);
        let kind = known.ok_or(KindError::Foreign)?;
        let want = kind.api_version();
        if self.api_version == want {
            Ok(kind)
        } else if self.api_version.starts_with(GROUP) {
            Err(KindError::ApiVersion { kind, want })
        } else {
            Err(KindError::Foreign)
        }
    }

    pub(super) fn component(self, document: &str) -> Result<Component, Reason> {
        Ok(Component {
            spec: spec(document)?,
            name: self.metadata.name,
            namespace: self.metadata.namespace,
            secret_store: self.auth.secret_store,
            scopes: self.scopes,
        })
    }

    pub(super) fn http_endpoint(self, document: &str) -> Result<HttpEndpoint, Reason> {
        Ok(HttpEndpoint {
            spec: spec(document)?,
            name: self.metadata.name,
            namespace: self.metadata.namespace,
            secret_store: self.auth.secret_store,
            scopes: self.scopes,
        })
    }

    pub(super) fn untyped(self, document: &str) -> Result<Untyped, Reason> {
        Ok(Untyped {
            spec: spec::<Value>(document)?,
            name: self.metadata.name,
            namespace: self.metadata.namespace,
            scopes: self.scopes,
        })
    }
}

fn spec<T: DeserializeOwned + Default>(document: &str) -> Result<T, Reason> {
    let decoded = yaml::decode::<SpecOnly<T>>(document).map_err(Reason::Unreadable)?;
    Ok(decoded.map(|whole| whole.spec).unwrap_or_default())
}

//! What a pass over the folders gives: resources, warnings, errors.
//!
//! A warning names the file and why something was left out; an error is a
//! contradiction between documents, in the reference's words.

use serde_json::Value;
use thiserror::Error;

use super::{Kind, PolicyFailure};
use crate::resiliency::ResiliencyError;
use crate::{AccessControl, Component, HttpEndpoint, Resiliency, YamlError};

/// Everything found in the folders.
#[derive(Debug, Default, PartialEq)]
pub struct Loaded {
    /// HTTP middleware components.
    pub components: Vec<Component>,
    /// HTTPEndpoints.
    pub http_endpoints: Vec<HttpEndpoint>,
    /// Timeouts, retries, breakers; in order, because later ones win.
    pub resiliencies: Vec<Resiliency>,
    /// Resiliency documents for this app that cannot be used.
    pub resiliency_failures: Vec<ResiliencyFailure>,
    /// Configuration documents; they only trigger reloads.
    pub configurations: Vec<Untyped>,
    /// Who may call what.
    pub access_controls: Vec<AccessControl>,
    /// What may be a rule of access control, but cannot be used: never to be ignored.
    pub policy_failures: Vec<PolicyFailure>,
    /// What was left out, and why.
    pub warnings: Vec<Warning>,
    /// What must not be; see [`Loaded::component_errors`].
    pub errors: Vec<LoadError>,
}

/// A resource whose spec is kept as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Untyped {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty when absent.
    pub namespace: String,
    /// The apps it is for; empty means all.
    pub scopes: Vec<String>,
    /// `spec`; null when absent.
    pub spec: Value,
}

/// A Resiliency that cannot be used, in the words that users of the reference look for.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("Could not read resiliency policy {name}: {error}")]
pub struct ResiliencyFailure {
    /// The file.
    pub file: Box<str>,
    /// The object.
    pub name: Box<str>,
    /// Everything that is wrong with it.
    pub error: ResiliencyError,
}

/// Something was left out.
#[derive(Debug, PartialEq, Error)]
#[error("{file}: {reason}")]
pub struct Warning {
    /// The file.
    pub file: Box<str>,
    /// Why.
    #[source]
    pub reason: Reason,
}

/// Why a file or document was left out.
#[derive(Debug, PartialEq, Error)]
pub enum Reason {
    /// The name does not end as YAML files do.
    #[error("not a YAML file, it will not be loaded")]
    NotYaml,
    /// The bytes are no text.
    #[error("not UTF-8 text, it will not be loaded")]
    NotText,
    /// A document is no YAML, or of another shape than its kind.
    #[error("a document is skipped: {0}")]
    Unreadable(YamlError),
    /// The API version is not the one of the kind.
    #[error("{kind} {name:?} is skipped: apiVersion {found:?} is not {want:?}")]
    ApiVersion {
        /// The kind.
        kind: Kind,
        /// The resource.
        name: Box<str>,
        /// What was written.
        found: Box<str>,
        /// What it must be.
        want: &'static str,
    },
    /// The name cannot be part of a path.
    #[error("{kind} {name:?} is skipped: its name {flaw}")]
    Name {
        /// The kind.
        kind: Kind,
        /// The resource.
        name: Box<str>,
        /// What is wrong with it.
        flaw: &'static str,
    },
    /// It belongs to a building block that this sidecar does not have.
    #[error("{kind} {name} belongs to a building block that is not supported: ignored")]
    OtherBlock {
        /// The kind.
        kind: Kind,
        /// The resource.
        name: Box<str>,
    },
    /// The configuration denies the component's type.
    #[error("component {0} is denied by the configuration: ignored")]
    Denied(Box<str>),
    /// No building block has the component's type, and the component says that this is no error.
    #[error("{0}: ignored because of ignoreErrors")]
    Tolerated(Box<LoadError>),
    /// An endpoint cannot be used as written.
    #[error("HTTPEndpoint {name:?} is skipped: {problems}")]
    Endpoint {
        /// The resource.
        name: Box<str>,
        /// All that is wrong with it.
        problems: Box<str>,
    },
}

/// The folders contradict themselves.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// Two resources of one kind have one name.
    #[error("duplicate definition of {kind} name {name} with existing {existing}")]
    Duplicate {
        /// The kind.
        kind: Kind,
        /// The later one, as log lines call it.
        name: Box<str>,
        /// The earlier one.
        existing: Box<str>,
    },
    /// No building block has such a type.
    #[error("process component {name} error: incorrect type {found}")]
    IncorrectType {
        /// The component.
        name: Box<str>,
        /// Its type.
        found: Box<str>,
    },
}

// === impl Loaded ===

impl Loaded {
    /// Returns what ends the start of a sidecar: the errors of components, one a line.
    #[must_use]
    pub fn component_errors(&self) -> Option<String> {
        self.errors_of(|kind| kind == Kind::Component)
    }

    /// Returns the errors of the other kinds, one a line; the reference warns of them.
    #[must_use]
    pub fn other_errors(&self) -> Option<String> {
        self.errors_of(|kind| kind != Kind::Component)
    }

    fn errors_of(&self, wanted: impl Fn(Kind) -> bool) -> Option<String> {
        let errors = self.errors.iter().filter(|error| wanted(error.kind()));
        let lines: Vec<String> = errors.map(ToString::to_string).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

// === impl LoadError ===

impl LoadError {
    /// Returns the kind of resource it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Duplicate { kind, .. } => *kind,
            Self::IncorrectType { .. } => Kind::Component,
        }
    }
}

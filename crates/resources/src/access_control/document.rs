//! One YAML document becomes an AccessControl, or a refusal that says where.
//!
//! Unknown keys are refused at every level: a key that is ignored would be a rule that is lost. A refusal
//! names the line within the file, so that a person can go there.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{AccessControl, AccessControlSpec, Flaw, Problem};
use crate::{YamlError, yaml};

/// Why a document is no usable AccessControl.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccessControlError {
    /// No YAML, or of another shape.
    #[error("{0}")]
    Shape(YamlError),
    /// No JSON, or of another shape.
    #[error("{0}")]
    Json(Box<str>),
    /// It can be read, but not used; never empty.
    #[error("{}", list(.0))]
    Problems(Vec<Located>),
}

/// A problem and the line of the entry or rule that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Line within the document, from 1; `None` if it belongs to no line.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(default, deserialize_with = "yaml::list")]
    scopes: Vec<String>,
    #[serde(default, deserialize_with = "yaml::null_default")]
    spec: AccessControlSpec,
    #[serde(default, rename = "status")]
    _status: Value,
}

/// Labels, annotations and the like may stand there.
#[derive(Deserialize)]
struct Metadata {
    #[serde(default, deserialize_with = "yaml::null_default")]
    name: String,
    #[serde(default, deserialize_with = "yaml::null_default")]
    namespace: String,
}

/// Decodes and checks one document.
///
/// # Errors
/// [`AccessControlError`] with every problem, not the first.
pub fn decode(document: &str) -> Result<AccessControl, AccessControlError> {
    let decoded = yaml::decode::<Document>(document).map_err(AccessControlError::Shape)?;
    let Some(decoded) = decoded else {
        return Ok(AccessControl::default());
    };
    let object = decoded.object();
    let problems = object.problems();
    if problems.is_empty() {
        return Ok(object);
    }
    let lines = yaml::policy_lines(document);
    let locate = |problem: Problem| Located {
        line: lines.line_of(&problem.pointer),
        problem,
    };
    Err(AccessControlError::Problems(
        problems.into_iter().map(locate).collect(),
    ))
}

/// Decodes and checks one object as an API server stores it.
///
/// # Errors
/// [`AccessControlError`] with every problem, not the first.
pub fn decode_json(json: &[u8]) -> Result<AccessControl, AccessControlError> {
    let decoded = serde_json::from_slice::<Document>(json);
    let decoded = decoded.map_err(|error| AccessControlError::Json(error.to_string().into()))?;
    let (version, kind) = (decoded.api_version.as_str(), decoded.kind.as_str());
    if (version, kind) != ("dapr.io/v1alpha1", "AccessControl") {
        let text = format!("apiVersion {version} and kind {kind} are not known here");
        return Err(AccessControlError::Json(text.into()));
    }
    let object = decoded.object();
    let problems = object.problems();
    if problems.is_empty() {
        return Ok(object);
    }
    let locate = |problem| Located {
        line: None,
        problem,
    };
    let problems = problems.into_iter().map(locate).collect();
    Err(AccessControlError::Problems(problems))
}

// === impl AccessControlError ===

impl AccessControlError {
    /// Returns the reason in one word, as the condition `Accepted` and the answers of sidecars have it (security 4.2).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        let Self::Problems(problems) = self else {
            return "UnknownField";
        };
        match problems.first().map(|located| located.problem.flaw) {
            Some(Flaw::NotCompatible) => "CompatibleModeForbidsField",
            Some(Flaw::TooMany(_) | Flaw::Length(_)) => "TooLarge",
            Some(
                Flaw::Empty
                | Flaw::ForbiddenCharacter
                | Flaw::EmptySegment
                | Flaw::DotSegment
                | Flaw::DoubleStar
                | Flaw::Percent
                | Flaw::StarNotAlone
                | Flaw::Wildcard
                | Flaw::AppId
                | Flaw::Namespace
                | Flaw::TrustDomain
                | Flaw::DuplicatePolicy
                | Flaw::DuplicateValue,
            )
            | None => "InvalidPattern",
        }
    }
}

// === impl Document ===

impl Document {
    fn object(self) -> AccessControl {
        let Self {
            api_version: _,
            kind: _,
            metadata: Metadata { name, namespace },
            scopes,
            spec,
            _status: _,
        } = self;
        AccessControl {
            name,
            namespace,
            scopes,
            spec,
        }
    }
}

fn list(problems: &[Located]) -> String {
    let one = |located: &Located| match located.line {
        Some(line) => format!("line {line}: {}", located.problem),
        None => located.problem.to_string(),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

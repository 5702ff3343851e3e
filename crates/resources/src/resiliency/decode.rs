//! One document becomes a Resiliency, or a refusal with every problem.
//!
//! A file's document is YAML, a cluster's view JSON; both are read alike, as the reference reads both.

use serde_json::Value;
use thiserror::Error;

use super::reader::{Reader, join};
use super::{Problem, Resiliency, policies, targets};
use crate::{YamlError, yaml};

/// Why a document is no usable Resiliency.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ResiliencyError {
    /// No YAML or no JSON.
    #[error("{0}")]
    Shape(YamlError),
    /// It can be read, but not used; never empty.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

/// Decodes and checks one document of a file.
///
/// # Errors
/// [`ResiliencyError`] with every problem, not the first.
pub fn decode(document: &str) -> Result<Resiliency, ResiliencyError> {
    let value = yaml::decode::<Value>(document).map_err(ResiliencyError::Shape)?;
    read(&value.unwrap_or_default())
}

/// Decodes and checks an object as a cluster gives it.
///
/// # Errors
/// [`ResiliencyError`] with every problem, not the first.
pub fn from_json(bytes: &[u8]) -> Result<Resiliency, ResiliencyError> {
    let value = serde_json::from_slice(bytes);
    let value = value.map_err(|error| ResiliencyError::Shape(YamlError::of_json(&error)))?;
    read(&value)
}

fn read(document: &Value) -> Result<Resiliency, ResiliencyError> {
    let mut reader = Reader::default();
    let mut document = reader.object(Some(document), String::new());
    let mut metadata = document.object("metadata", &mut reader);
    let name = metadata.name("name", &mut reader).unwrap_or_default();
    let namespace = metadata.name("namespace", &mut reader).unwrap_or_default();
    let scopes = document.list("scopes", &mut reader);
    let scope = |(index, value): (usize, _)| {
        let at = join("/scopes", &index.to_string());
        reader.text(value, &at).map(Into::into)
    };
    let scopes = scopes.iter().enumerate().filter_map(scope).collect();
    let mut spec = document.object("spec", &mut reader);
    let policies = policies::read(spec.object("policies", &mut reader), &mut reader);
    let apps = targets::read(spec.object("targets", &mut reader), &mut reader);
    spec.close(&mut reader);
    let Reader { problems, notes } = reader;
    if !problems.is_empty() {
        return Err(ResiliencyError::Problems(problems));
    }
    Ok(Resiliency {
        name,
        namespace,
        scopes,
        policies,
        apps,
        notes,
    })
}

fn list(problems: &[Problem]) -> String {
    let texts = problems.iter().map(ToString::to_string);
    texts.collect::<Vec<_>>().join("; ")
}

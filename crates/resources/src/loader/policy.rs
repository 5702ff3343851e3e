//! Documents of access control, which are never left out with a warning.
//!
//! A rule that is dropped opens an app. So whatever is or may be an AccessControl and cannot be used is a
//! [`PolicyFailure`]: the sidecar does not start with one, and keeps the last good version later (fact F10).
//! An object for other apps only does no harm and is not looked at further.

use std::fmt;

use thiserror::Error;

use super::manifest::Envelope;
use super::{Kind, Place, Run};
use crate::access_control::{AccessControlError, decode};
use crate::yaml;

/// The word by which an undecodable document is taken for a policy.
const WORD: &[u8] = b"AccessControl";

/// Largest document of access control, in bytes: what a sidecar would take from an operator for one app (fact F7).
/// Anything else costs the thread that reads it seconds before its entries are counted.
const LARGEST: usize = 2 * 1024 * 1024;

/// A document or file that may hold rules, but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFailure {
    /// The file.
    pub file: Box<str>,
    /// The object, if so much could be read.
    pub name: Option<Box<str>>,
    /// What is wrong, with lines of the file.
    pub flaw: PolicyFlaw,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyFlaw {
    /// The bytes are no text.
    #[error("not UTF-8 text")]
    NotText,
    /// Not read at all.
    #[error(
        "{bytes} bytes are more than the {} that a document of access control may have",
        LARGEST
    )]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// Of another API version.
    #[error("apiVersion {found:?} is not {want:?}")]
    ApiVersion {
        /// What was written.
        found: Box<str>,
        /// What it must be.
        want: &'static str,
    },
    /// The name cannot be part of a path.
    #[error("its name {0}")]
    Name(&'static str),
    /// A second object of that name.
    #[error("a second definition of that name")]
    Duplicate,
    /// Its content.
    #[error(transparent)]
    Content(AccessControlError),
}

/// Returns whether bytes that cannot be read speak of access control.
pub(super) fn is_mentioned(bytes: &[u8]) -> bool {
    bytes.windows(WORD.len()).any(|window| window == WORD)
}

/// Returns whether a document is a policy, or may be one, and too long to be looked at.
pub(super) fn is_too_large(document: &str) -> bool {
    document.len() > LARGEST && is_mentioned(document.as_bytes())
}

// === impl PolicyFailure ===

impl fmt::Display for PolicyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, name, flaw } = self;
        match name {
            Some(name) => write!(f, "{file}: AccessControl {name:?}: {flaw}"),
            None => write!(f, "{file}: {flaw}"),
        }
    }
}

// === impl Run ===

impl Run<'_> {
    pub(super) fn policy_failure(&mut self, file: &str, name: &str, flaw: PolicyFlaw) {
        self.loaded.policy_failures.push(PolicyFailure {
            file: file.into(),
            name: (!name.is_empty()).then(|| name.into()),
            flaw,
        });
    }

    /// Takes an object that is for this namespace.
    pub(super) fn access_control(&mut self, place: Place<'_>, envelope: &Envelope, document: &str) {
        let scopes = &envelope.scopes;
        if !scopes.is_empty() && !scopes.iter().any(|app| app == self.loader.app_id) {
            return;
        }
        let metadata = &envelope.metadata;
        let name = format!("{}/{}", metadata.namespace, metadata.name);
        match decode(document) {
            Err(_without_lines_of_the_file) => self.bad_policy(place, &metadata.name, document),
            Ok(_) if self.is_taken(&name) => {
                self.policy_failure(place.file, &metadata.name, PolicyFlaw::Duplicate);
            }
            Ok(object) => {
                let log_name = metadata.name.clone();
                self.accepted.push((Kind::AccessControl, name, log_name));
                self.loaded.access_controls.push(object);
            }
        }
    }

    fn is_taken(&self, name: &str) -> bool {
        let mut known = self.accepted.iter();
        known.any(|(kind, taken, _)| *kind == Kind::AccessControl && taken == name)
    }

    /// A document of which not even the envelope can be read.
    pub(super) fn unreadable_policy(&mut self, place: Place<'_>, document: &str) {
        self.bad_policy(place, "", document);
    }

    /// Decodes again with the lines before it, so that the error speaks of lines of the file.
    fn bad_policy(&mut self, place: Place<'_>, name: &str, document: &str) {
        let lines = usize::try_from(place.line).unwrap_or_default();
        let padded = format!("{}{document}", "\n".repeat(lines));
        let flaw = match decode(&padded) {
            Err(error) => PolicyFlaw::Content(error),
            // The strict reading passes what the envelope refused: not for use either.
            Ok(_) => PolicyFlaw::Content(AccessControlError::Shape(yaml::unreadable())),
        };
        self.policy_failure(place.file, name, flaw);
    }
}

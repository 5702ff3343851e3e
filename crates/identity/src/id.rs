//! The names of a workload: trust domain, namespace, app ID, and the SPIFFE ID made of the three.
//!
//! Owns parsing and printing. An [`AppId`] or a [`Namespace`] is what a user may write in self-hosted mode,
//! where the reference accepts nearly everything; only the three names that may stand in a certificate become
//! a [`SpiffeId`], whose constructor checks the characters. Says nothing about who may bear a name.

use std::fmt;
use std::sync::Arc;

/// The trust domain of apps when nothing else is said (security 1.6).
pub const DEFAULT_TRUST_DOMAIN: &str = "public";
/// The namespace of a process whose environment names none (process-interface 2.2).
pub const DEFAULT_NAMESPACE: &str = "default";
/// App IDs that name a part of the control plane, in every namespace (security 1.6).
pub const CONTROL_PLANE_IDS: [&str; 5] = [
    "dapr-sentry",
    "dapr-operator",
    "dapr-injector",
    "dapr-placement",
    "dapr-scheduler",
];

/// Longest trust domain, in bytes (SPIFFE ID standard, 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// Longest SPIFFE ID, in bytes (SPIFFE ID standard, 2.3).
const MAX_SPIFFE_ID: usize = 2048;
const SCHEME: &str = "spiffe://";

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $error:ty) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }
    };
}

name_type! {
    /// The name of a trust domain: one to 255 of `a-z 0-9 . _ -`.
    TrustDomain, TrustDomainError
}
name_type! {
    /// A namespace. May be empty: `NAMESPACE` set to nothing is kept (process-interface 2.2).
    Namespace, NamespaceError
}
name_type! {
    /// The name of an app within its namespace: not empty, no dots, otherwise as lenient as the reference.
    AppId, AppIdError
}

/// The identity of a workload: `spiffe://<trust domain>/ns/<namespace>/<app id>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: Namespace,
    app_id: AppId,
}

/// Why a text is no trust domain. The texts are those of the reference's SPIFFE library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustDomainError {
    /// Nothing there.
    #[error("trust domain is missing")]
    Empty,
    /// A character outside of the set, upper case included.
    #[error(
        "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores"
    )]
    Character,
    /// More than 255 bytes.
    #[error("trust domain is too long: {length} bytes, at most {MAX_TRUST_DOMAIN}")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
}

/// Why a text is no namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// A slash, a blank or a control character: it could not be told from the rest of a path or a header.
    #[error("namespace holds the character {found:?}")]
    Character {
        /// The offending character.
        found: char,
    },
}

/// Why a text is no app ID. The texts are those of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppIdError {
    /// Nothing there.
    #[error("parameter app-id cannot be empty")]
    Empty,
    /// A dot, which separates app ID and namespace.
    #[error("parameter app-id cannot contain dots")]
    Dot,
}

/// Why a text or a triple of names is no SPIFFE ID of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Not `spiffe://…`.
    #[error("SPIFFE ID does not start with {SCHEME:?}")]
    Scheme,
    /// The trust domain is not one.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// The path is not exactly `/ns/<namespace>/<app id>` (fact O-C7: more segments are refused).
    #[error("malformed SPIFFE ID: {id}")]
    Shape {
        /// The whole text.
        id: Box<str>,
    },
    /// A path segment holds a character outside of `A-Z a-z 0-9 . _ -`, is empty, or is `.` or `..`.
    #[error("{segment:?} cannot be a path segment of a SPIFFE ID")]
    Segment {
        /// The segment.
        segment: Box<str>,
    },
    /// The app ID is not one.
    #[error(transparent)]
    AppId(#[from] AppIdError),
    /// More than 2,048 bytes.
    #[error("SPIFFE ID is too long: {length} bytes, at most {MAX_SPIFFE_ID}")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
}

// === impl TrustDomain ===

impl TrustDomain {
    /// Parses the name of a trust domain.
    ///
    /// # Errors
    /// [`TrustDomainError`] names the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, TrustDomainError> {
        if text.is_empty() {
            return Err(TrustDomainError::Empty);
        }
        if !text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        {
            return Err(TrustDomainError::Character);
        }
        if text.len() > MAX_TRUST_DOMAIN {
            return Err(TrustDomainError::TooLong { length: text.len() });
        }
        Ok(Self(text.into()))
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(DEFAULT_TRUST_DOMAIN.into())
    }
}

// === impl Namespace ===

impl Namespace {
    /// Parses a namespace; the empty text is one.
    ///
    /// # Errors
    /// [`NamespaceError`] for a slash, a blank or a control character.
    pub fn parse(text: &str) -> Result<Self, NamespaceError> {
        match text
            .chars()
            .find(|c| *c == '/' || c.is_whitespace() || c.is_control())
        {
            Some(found) => Err(NamespaceError::Character { found }),
            None => Ok(Self(text.into())),
        }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(DEFAULT_NAMESPACE.into())
    }
}

// === impl AppId ===

impl AppId {
    /// Parses an app ID.
    ///
    /// # Errors
    /// [`AppIdError`] for the empty text and for dots.
    /// # Source
    /// process-interface 2.1, flag `app-id`.
    pub fn parse(text: &str) -> Result<Self, AppIdError> {
        if text.is_empty() {
            return Err(AppIdError::Empty);
        }
        if text.contains('.') {
            return Err(AppIdError::Dot);
        }
        Ok(Self(text.into()))
    }

    /// Says whether the name belongs to a part of the control plane.
    #[must_use]
    pub fn is_control_plane(&self) -> bool {
        CONTROL_PLANE_IDS.contains(&self.as_str())
    }
}

// === impl SpiffeId ===

impl SpiffeId {
    /// Joins three names to an identity.
    ///
    /// # Errors
    /// [`SpiffeIdError::Segment`] if namespace or app ID cannot stand in a SPIFFE ID.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: Namespace,
        app_id: AppId,
    ) -> Result<Self, SpiffeIdError> {
        check_segment(namespace.as_str())?;
        check_segment(app_id.as_str())?;
        let id = Self {
            trust_domain,
            namespace,
            app_id,
        };
        match id.len() {
            length if length > MAX_SPIFFE_ID => Err(SpiffeIdError::TooLong { length }),
            _ => Ok(id),
        }
    }

    /// Parses `spiffe://<trust domain>/ns/<namespace>/<app id>`, exactly that shape.
    ///
    /// # Errors
    /// [`SpiffeIdError`] names the part that is wrong.
    /// # Source
    /// Fact O-C7; characters as the reference's SPIFFE library.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_SPIFFE_ID {
            return Err(SpiffeIdError::TooLong { length: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let shape = || SpiffeIdError::Shape { id: text.into() };
        let (trust_domain, path) = rest.split_once('/').ok_or_else(shape)?;
        let trust_domain = TrustDomain::parse(trust_domain)?;
        let (namespace, app_id) = path
            .strip_prefix("ns/")
            .and_then(|p| p.split_once('/'))
            .ok_or_else(shape)?;
        if namespace.is_empty() || app_id.is_empty() || app_id.contains('/') {
            return Err(shape());
        }
        check_segment(namespace)?;
        Self::new(
            trust_domain,
            Namespace(namespace.into()),
            AppId::parse(app_id)?,
        )
    }

    /// Returns the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the app ID.
    #[must_use]
    pub fn app_id(&self) -> &AppId {
        &self.app_id
    }

    /// Returns the path, `/ns/<namespace>/<app id>`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/ns/{}/{}", self.namespace, self.app_id)
    }

    fn len(&self) -> usize {
        SCHEME.len()
            + self.trust_domain.0.len()
            + "/ns//".len()
            + self.namespace.0.len()
            + self.app_id.0.len()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCHEME}{}/ns/{}/{}",
            self.trust_domain, self.namespace, self.app_id
        )
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = SpiffeIdError;
    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(text)
    }
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(legal) {
        return Err(SpiffeIdError::Segment {
            segment: segment.into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

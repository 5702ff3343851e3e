//! Reads the target a client wrote: an external URL, or an app and perhaps its namespace.
//!
//! Owns rows 1 and 2 of the dispatch (service-invocation 1.6) and their error texts. Whether an
//! app's name is that of an HTTPEndpoint, and whether it is this very app, is decided in
//! `outbound/plan.rs`, which knows what is loaded. Stage 8, `target`.

use std::fmt;

use ironside_identity::{AppId, Namespace};

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An `http://` or `https://` URL, called by the caller's sidecar itself.
    Url(ExternalUrl),
    /// An app, or an HTTPEndpoint of that name.
    App {
        /// The text before the dot.
        id: AppId,
        /// The text after the dot; `None` means the caller's own namespace.
        namespace: Option<Namespace>,
        /// The target as the client wrote it: the name that error messages use.
        written: Box<str>,
    },
}

/// A base URL that starts with `http://` or `https://`; nothing else about it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExternalUrl(Box<str>);

/// Why a text names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing was written, or nothing before the dot.
    #[error("app id is empty")]
    Empty,
    /// Two dots or more, or characters that no app ID may hold.
    #[error("invalid app id {0}")]
    Invalid(Box<str>),
}

// === impl Target ===

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    /// [`TargetError`], with the reference's texts.
    pub fn parse(written: &str) -> Result<Self, TargetError> {
        if let Some(url) = ExternalUrl::parse(written) {
            return Ok(Self::Url(url));
        }
        let (id, namespace) = match written.split_once('.') {
            Some((id, namespace)) => (id, Some(namespace)),
            None => (written, None),
        };
        if id.is_empty() {
            return Err(TargetError::Empty);
        }
        let invalid = || TargetError::Invalid(written.into());
        if namespace.is_some_and(|namespace| namespace.contains('.')) {
            return Err(invalid());
        }
        Ok(Self::App {
            id: AppId::parse(id).map_err(|_refused| invalid())?,
            namespace: namespace
                .map(Namespace::parse)
                .transpose()
                .map_err(|_refused| invalid())?,
            written: written.into(),
        })
    }

    /// The target as the client wrote it.
    #[must_use]
    pub fn written(&self) -> &str {
        match self {
            Self::Url(url) => url.as_str(),
            Self::App { written, .. } => written,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written())
    }
}

// === impl ExternalUrl ===

impl ExternalUrl {
    /// `Some` if the text starts with `http://` or `https://`, in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let external = text.starts_with("http://") || text.starts_with("https://");
        external.then(|| Self(text.into()))
    }

    /// The URL as the client wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the call goes over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Display for ExternalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn app(written: &str, id: &str, namespace: Option<&str>) {
        let expected = Target::App {
            id: AppId::parse(id).expect("valid id"),
            namespace: namespace.map(|ns| Namespace::parse(ns).expect("valid namespace")),
            written: written.into(),
        };
        assert_eq!(Target::parse(written), Ok(expected));
    }

    #[track_caller]
    fn refused(written: &str, text: &str) {
        let error = Target::parse(written).expect_err("refused");
        assert_eq!(error.to_string(), text);
    }

    /// Facts: service-invocation 1.6 row 2, SI-019, E4.
    #[test]
    fn one_dot_splits_the_namespace_off() {
        app("appB", "appB", None);
        app("appB.prod", "appB", Some("prod"));
        app("appB.", "appB", Some(""));
        refused("a.b.c", "invalid app id a.b.c");
        refused("a..c", "invalid app id a..c");
        refused(
            "http:/127.0.0.1:6050",
            "invalid app id http:/127.0.0.1:6050",
        );
        refused("", "app id is empty");
        refused(".ns", "app id is empty");
    }

    /// Fact: service-invocation 1.6 row 1.
    #[test]
    fn urls_are_external_whatever_their_dots() {
        for (written, https) in [
            ("http://127.0.0.1:6050", false),
            ("https://example.com/base", true),
            ("http://", false),
        ] {
            let Ok(Target::Url(url)) = Target::parse(written) else {
                panic!("{written} is a URL");
            };
            assert_eq!((url.as_str(), url.is_https()), (written, https));
        }
        refused("HTTP://a.b.c", "invalid app id HTTP://a.b.c");
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(written in ".{0,40}") {
            if let Ok(target) = Target::parse(&written) {
                prop_assert_eq!(target.written(), &written);
            }
        }

        #[test]
        fn dots_decide(id in "[a-z][a-z0-9-]{0,10}", namespace in "[a-z0-9-]{0,10}") {
            let written = format!("{id}.{namespace}");
            let Ok(Target::App { id: read, namespace: Some(ns), .. }) = Target::parse(&written) else {
                return Err(TestCaseError::fail("an app with a namespace"));
            };
            prop_assert_eq!(format!("{read}.{ns}"), written);
        }
    }
}

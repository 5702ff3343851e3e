//! Where the bearer token of a certificate request comes from.
//!
//! Owns the table of security 2.2. A token is read again for every request, because projected tokens are replaced
//! while the process runs, and is never printed.

use ironside_proto::sentry::sign_certificate_request::TokenValidator;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Where Kubernetes puts the token that the injector asked for.
const PROJECTED: &str = "var/run/secrets/dapr.io/sentrytoken/token";
/// Where Kubernetes puts the token of the service account.
const LEGACY: &str = "var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where the token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// There is none: self-hosted, and Sentry decides by itself.
    Absent,
    /// A file that was named in the environment.
    File {
        /// Its path.
        path: PathBuf,
        /// The validator that is asked to judge it.
        validator: Validator,
    },
    /// The places where Kubernetes puts tokens.
    Kubernetes,
}

/// The validator that is asked to judge a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validator {
    /// Keys of an issuer.
    Jwks,
    /// The Kubernetes API server.
    Kubernetes,
}

/// Why there is no token to send.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// `DAPR_SENTRY_TOKEN_FILE` is set, to nothing.
    #[error("environment variable DAPR_SENTRY_TOKEN_FILE is set but empty")]
    EmptyPath,
    /// The file can't be read.
    #[error("cannot read token file {}: {cause}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file holds nothing.
    #[error("token file {} is empty", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// A token and who is to judge it.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) validator: TokenValidator,
}

// === impl TokenSource ===

impl TokenSource {
    /// Chooses the source: the named file first, then what the mode offers.
    ///
    /// # Errors
    /// [`TokenError::EmptyPath`] if a file is named by an empty text (fact K071).
    pub fn choose(token_file: Option<&str>, kubernetes: bool) -> Result<Self, TokenError> {
        match (token_file, kubernetes) {
            (Some(""), _) => Err(TokenError::EmptyPath),
            (Some(path), true) => Ok(Self::File {
                path: path.into(),
                validator: Validator::Kubernetes,
            }),
            (Some(path), false) => Ok(Self::File {
                path: path.into(),
                validator: Validator::Jwks,
            }),
            (None, true) => Ok(Self::Kubernetes),
            (None, false) => Ok(Self::Absent),
        }
    }

    pub(crate) fn read(&self) -> Result<Token, TokenError> {
        match self {
            Self::Absent => Ok(Token {
                text: String::new(),
                validator: TokenValidator::Unknown,
            }),
            Self::File { path, validator } => read(path, (*validator).into()),
            Self::Kubernetes => kubernetes(Path::new("/")),
        }
    }
}

// === impl Validator ===

impl From<Validator> for TokenValidator {
    fn from(validator: Validator) -> Self {
        match validator {
            Validator::Jwks => Self::Jwks,
            Validator::Kubernetes => Self::Kubernetes,
        }
    }
}

// === impl Token ===

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("text", &"<redacted>")
            .field("validator", &self.validator)
            .finish()
    }
}

/// The token that Kubernetes put below `root`.
fn kubernetes(root: &Path) -> Result<Token, TokenError> {
    let projected = root.join(PROJECTED);
    if projected.exists() {
        return read(&projected, TokenValidator::Kubernetes);
    }
    let legacy = root.join(LEGACY);
    warn!(target: super::SCOPE, "Using the legacy service account token: {}", legacy.display());
    read(&legacy, TokenValidator::Kubernetes)
}

fn read(path: &Path, validator: TokenValidator) -> Result<Token, TokenError> {
    let text = std::fs::read_to_string(path).map_err(|cause| TokenError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    if text.is_empty() {
        return Err(TokenError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(Token { text, validator })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: security.md 2.2, K071.
    #[test]
    fn the_named_file_wins_and_the_mode_names_the_validator() {
        let file = |path: &str, validator| TokenSource::File {
            path: path.into(),
            validator,
        };
        let chosen = |name, kubernetes| TokenSource::choose(name, kubernetes).unwrap();
        assert_eq!(chosen(Some("/t"), false), file("/t", Validator::Jwks));
        assert_eq!(chosen(Some("/t"), true), file("/t", Validator::Kubernetes));
        assert_eq!(chosen(None, true), TokenSource::Kubernetes);
        assert_eq!(chosen(None, false), TokenSource::Absent);
        assert!(matches!(
            TokenSource::choose(Some(""), false),
            Err(TokenError::EmptyPath)
        ));
    }

    /// Fact: security.md 2.2, K070.
    #[test]
    fn kubernetes_tokens_are_the_projected_one_and_else_the_legacy_one() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = kubernetes(root.path());
        assert!(
            matches!(found, Err(TokenError::Unreadable { path, .. }) if path.ends_with(LEGACY))
        );
        for (path, text) in [(LEGACY, "old"), (PROJECTED, "new"), (PROJECTED, "newer")] {
            write(path, text);
            let token = kubernetes(root.path()).unwrap();
            assert_eq!(
                (token.text.as_str(), token.validator),
                (text, TokenValidator::Kubernetes)
            );
        }
        write(PROJECTED, "");
        assert!(matches!(
            kubernetes(root.path()),
            Err(TokenError::Empty { .. })
        ));
    }

    #[test]
    fn files_are_read_anew_and_must_hold_something() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = TokenSource::File {
            path: path.clone(),
            validator: Validator::Jwks,
        };
        assert!(matches!(source.read(), Err(TokenError::Unreadable { .. })));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(source.read(), Err(TokenError::Empty { .. })));
        for text in ["one", "two"] {
            std::fs::write(&path, text).unwrap();
            let token = source.read().unwrap();
            assert_eq!(
                (token.text.as_str(), token.validator),
                (text, TokenValidator::Jwks)
            );
            assert!(!format!("{token:?}").contains(text));
        }
        let none = TokenSource::Absent.read().unwrap();
        assert_eq!(
            (none.text.as_str(), none.validator),
            ("", TokenValidator::Unknown)
        );
    }
}

//! The checks that every validator begins with.
//!
//! Owns the texts of security 1.3, all of them in one answer, and the stricter rules for names of fact O-S2: a name
//! that gets through here can stand in a SPIFFE ID, so the signing step never meets a bad one.

use super::{Claim, Refused};
use crate::cluster::CallError;
use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};

/// Longest app ID, in bytes.
const MAX_APP_ID: usize = 64;
/// Longest namespace, in bytes: a DNS label.
const MAX_NAMESPACE: usize = 63;

const CSR: &str = "CSR is required";
const NAMESPACE: &str = "namespace is required";
const NAMESPACE_SHAPE: &str = "namespace must be a DNS label: at most 63 of lower-case letters, digits and dashes, \
                               with a letter or digit at both ends";
const APP_ID_LENGTH: &str = "app ID must be 64 characters or less";
const APP_ID_SHAPE: &str = "app ID may hold only letters, digits, dashes and underscores";

/// Checks a claim; the failures are listed one a line.
pub(super) fn check(claim: &Claim<'_>) -> Result<SpiffeId, Refused> {
    let mut failures = Vec::new();
    let app_id = app_id(claim.id).map_err(|why| failures.push(why)).ok();
    if !claim.has_csr {
        failures.push(CSR.to_owned());
    }
    let namespace = namespace(claim.namespace)
        .map_err(|why| failures.push(why))
        .ok();
    let trust_domain = trust_domain(claim.trust_domain)
        .map_err(|why| failures.push(why))
        .ok();
    match (app_id, namespace, trust_domain) {
        (Some(app_id), Some(namespace), Some(trust_domain)) if failures.is_empty() => {
            SpiffeId::new(trust_domain, namespace, app_id)
                .map_err(|why| Refused::new(&why.to_string()))
        }
        _ => Err(Refused::new(&failures.join("\n"))),
    }
}

/// The refusal of a name of the control plane (fact O-S5).
pub(super) fn reserved(id: &SpiffeId) -> Refused {
    let app_id = id.app_id().as_str();
    Refused::new(&format!(
        "app ID {app_id:?} is reserved for the control plane"
    ))
}

impl Refused {
    /// A refusal by the checks that all have in common.
    pub(super) fn new(why: &str) -> Self {
        Self::Denied(format!("invalid request: {why}").into())
    }

    /// A refusal with a text of the validator's own.
    pub(super) fn with_text(why: &str) -> Self {
        Self::Denied(why.into())
    }

    /// What becomes of a question that the API server did not answer: a server that is away has said no to nobody, and
    /// sidecars give up at a PermissionDenied (fact O-S12).
    pub(super) fn unanswered(text: &str, cause: &CallError) -> Self {
        match cause.is_away() {
            true => Self::Away(text.into()),
            false => Self::Denied(text.into()),
        }
    }
}

fn app_id(text: &str) -> Result<AppId, String> {
    let id = AppId::parse(text).map_err(|why| why.to_string())?;
    if text.len() > MAX_APP_ID {
        return Err(APP_ID_LENGTH.to_owned());
    }
    match text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    {
        true => Ok(id),
        false => Err(APP_ID_SHAPE.to_owned()),
    }
}

fn namespace(text: &str) -> Result<Namespace, String> {
    if text.is_empty() {
        return Err(NAMESPACE.to_owned());
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let dash_at_end = text.starts_with('-') || text.ends_with('-');
    if text.len() > MAX_NAMESPACE || dash_at_end || !text.bytes().all(inner) {
        return Err(NAMESPACE_SHAPE.to_owned());
    }
    Namespace::parse(text).map_err(|why| why.to_string())
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    match text {
        "" => Ok(TrustDomain::default()),
        text => TrustDomain::parse(text).map_err(|why| why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Claim<'_> = Claim {
        id: "appa",
        namespace: "default",
        trust_domain: "",
        token: "",
        has_csr: true,
        source: None,
    };

    fn allowed(claim: Claim<'_>, expected: &str) {
        assert_eq!(check(&claim).unwrap().to_string(), expected);
    }

    fn refused(claim: Claim<'_>, why: &str) {
        assert_eq!(
            check(&claim).unwrap_err().to_string(),
            format!("invalid request: {why}")
        );
    }

    /// Fact: security.md 1.3, 1.6.
    #[test]
    fn good_claims_become_names() {
        allowed(GOOD, "spiffe://public/ns/default/appa");
        allowed(
            Claim {
                trust_domain: "td_1.a-b",
                ..GOOD
            },
            "spiffe://td_1.a-b/ns/default/appa",
        );
        allowed(
            Claim {
                id: "A_1-b",
                namespace: "n-1",
                ..GOOD
            },
            "spiffe://public/ns/n-1/A_1-b",
        );
    }

    /// Fact: security.md K006, K007, K008, golden 33.
    #[test]
    fn the_texts_are_the_references() {
        refused(Claim { id: "", ..GOOD }, "parameter app-id cannot be empty");
        refused(
            Claim { id: "a.b", ..GOOD },
            "parameter app-id cannot contain dots",
        );
        refused(
            Claim {
                id: &"a".repeat(65),
                ..GOOD
            },
            "app ID must be 64 characters or less",
        );
        refused(
            Claim {
                has_csr: false,
                source: None,
                ..GOOD
            },
            "CSR is required",
        );
        refused(
            Claim {
                namespace: "",
                ..GOOD
            },
            "namespace is required",
        );
        let characters = "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores";
        refused(
            Claim {
                trust_domain: "Example",
                ..GOOD
            },
            characters,
        );
        let all = "parameter app-id cannot be empty\nCSR is required\nnamespace is required";
        refused(
            Claim {
                id: "",
                namespace: "",
                trust_domain: "",
                token: "",
                has_csr: false,
                source: None,
            },
            all,
        );
        let longest = "a".repeat(64);
        assert!(
            check(&Claim {
                id: &longest,
                ..GOOD
            })
            .is_ok()
        );
    }

    /// Fact: security.md K009, K010, K011: never a signature for a bad name.
    #[test]
    fn names_that_no_certificate_may_bear_are_refused() {
        for id in [
            "a/../dapr-sentry",
            "a b",
            "a%2fb",
            "a\0",
            "😀",
            "a/b",
            "ä",
            "a\n",
        ] {
            assert!(check(&Claim { id, ..GOOD }).is_err(), "{id:?}");
        }
        refused(
            Claim { id: "..", ..GOOD },
            "parameter app-id cannot contain dots",
        );
        refused(Claim { id: "a b", ..GOOD }, APP_ID_SHAPE);
        let long = "n".repeat(300);
        for namespace in [
            "x/y",
            "..",
            "Upper",
            "a.b",
            "-a",
            "a-",
            "a b",
            "ns\0",
            long.as_str(),
        ] {
            refused(Claim { namespace, ..GOOD }, NAMESPACE_SHAPE);
        }
        let longest = "n".repeat(63);
        assert!(
            check(&Claim {
                namespace: &longest,
                ..GOOD
            })
            .is_ok()
        );
        for trust_domain in [
            "Example",
            "a/b",
            "spiffe://evil/x",
            long.as_str(),
            "a b",
            "a:1",
            "é",
        ] {
            assert!(
                check(&Claim {
                    trust_domain,
                    ..GOOD
                })
                .is_err(),
                "{trust_domain:?}"
            );
        }
    }
}

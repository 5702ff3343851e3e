//! Whose token is this? The cluster's answer, and how far it is believed.
//!
//! Owns the TokenReview and fact O-S4: the answer must say that the token is good for Sentry, and it must be of a
//! service account. The pod is the one that the API server names; only where it names none is the token itself read,
//! which the server has found genuine.

use super::super::Refused;
use super::token;
use crate::cluster::Cluster;
use ironside_identity::SpiffeId;
use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};

/// The audience of sidecars before 1.13 (security 1.7).
const LEGACY_AUDIENCE: &str = "dapr.io/sentry";
/// Where the API server says which pod a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Longest text of the API server that a caller is told.
const MAX_TOLD: usize = 512;

const NOT_AUTHENTICATED: &str = "authentication failed";
const OTHER_AUDIENCE: &str =
    "invalid token: the token review does not say that the token is for this audience";
const NO_ACCOUNT: &str = "provided token is not a properly structured service account token";
const NO_POD: &str = "kubernetes.io/pod/name claim is missing from Kubernetes token";
const NO_UID: &str = "kubernetes.io/pod/uid claim is missing from Kubernetes token";

/// Asks the cluster about tokens.
pub(super) struct Reviewer {
    cluster: Cluster,
    audiences: Vec<String>,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) account: String,
    pub(super) pod_name: String,
    pub(super) pod_uid: String,
}

// === impl Reviewer ===

impl Reviewer {
    pub(super) fn new(cluster: Cluster, own: &SpiffeId, legacy_audience: bool) -> Self {
        let legacy = legacy_audience.then(|| LEGACY_AUDIENCE.to_owned());
        Self {
            cluster,
            audiences: legacy.into_iter().chain([own.to_string()]).collect(),
        }
    }

    /// Asks whose token this is.
    ///
    /// # Errors
    /// [`Refused`] unless it is the token of a pod, for this Sentry.
    pub(super) async fn review(&self, token: &str) -> Result<Owner, Refused> {
        if token.is_empty() {
            let text = failed("the request does not contain a token");
            return Err(Refused::with_text(&text));
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(self.audiences.clone()),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let reviewed = self.cluster.create(None, &review).await;
        let reviewed: TokenReview =
            reviewed.map_err(|cause| Refused::unanswered(&failed(&cause.to_string()), &cause))?;
        owner(reviewed.status.unwrap_or_default(), &self.audiences, token)
    }
}

fn failed(why: &str) -> String {
    format!("token review failed: {}", short(why))
}

/// Reads the answer, in the order of security 1.7.
fn owner(status: TokenReviewStatus, asked: &[String], token: &str) -> Result<Owner, Refused> {
    let TokenReviewStatus {
        audiences,
        authenticated,
        error,
        user,
    } = status;
    if let Some(error) = error.filter(|error| !error.is_empty()) {
        return Err(Refused::with_text(&format!(
            "invalid token: {}",
            short(&error)
        )));
    }
    if authenticated != Some(true) {
        return Err(Refused::with_text(NOT_AUTHENTICATED));
    }
    let good_for = audiences.unwrap_or_default();
    if !good_for.iter().any(|audience| asked.contains(audience)) {
        return Err(Refused::with_text(OTHER_AUDIENCE));
    }
    let user = user.unwrap_or_default();
    let username = user.username.as_deref().unwrap_or_default();
    let mut parts = username.split(':');
    let parts = [(); 5].map(|()| parts.next().filter(|part| !part.is_empty()));
    let [
        Some("system"),
        Some("serviceaccount"),
        Some(namespace),
        Some(account),
        None,
    ] = parts
    else {
        return Err(Refused::with_text(NO_ACCOUNT));
    };
    let (pod_name, pod_uid) = pod(&user, token)?;
    Ok(Owner {
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        pod_name,
        pod_uid,
    })
}

/// Name and UID of the pod: both of the server, or both of the token.
fn pod(user: &UserInfo, token: &str) -> Result<(String, String), Refused> {
    let said = |key| {
        let values = user.extra.as_ref()?.get(key)?;
        let [value] = values.as_slice() else {
            return None;
        };
        Some(value.clone()).filter(|value| !value.is_empty())
    };
    let extra = user.extra.as_ref();
    let (name, uid) = match extra.is_some_and(|extra| extra.contains_key(POD_NAME)) {
        true => (said(POD_NAME), said(POD_UID)),
        false => {
            let claims = token::pod(token).map_err(|why| {
                Refused::with_text(&format!("failed to parse Kubernetes token: {why}"))
            })?;
            (claims.name, claims.uid)
        }
    };
    let name = name.ok_or_else(|| Refused::with_text(NO_POD))?;
    let uid = uid.ok_or_else(|| Refused::with_text(NO_UID))?;
    Ok((name, uid))
}

fn short(text: &str) -> String {
    text.chars().take(MAX_TOLD).collect()
}

#[cfg(test)]
mod tests;

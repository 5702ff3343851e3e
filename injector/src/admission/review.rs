//! Reviews of the API server on the wire.
//!
//! Owns the parts of `AdmissionReview` that are read and written (`admission.k8s.io`, v1 and the older v1beta1, which
//! look the same), how many values one may have, and what no review is. The answer repeats version and kind of the question.

use super::{Answer, Verdict};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Versions that are understood.
const VERSIONS: [&str; 2] = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];
const KIND: &str = "AdmissionReview";
/// Values in a review, of which one takes up to some hundred bytes of memory. Large pods have some thousand.
const MAX_VALUES: usize = 100_000;

/// A question with its version.
#[derive(Debug)]
pub(crate) struct Question {
    api_version: String,
    pub(crate) request: Request,
}

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Request {
    pub(crate) uid: String,
    pub(crate) kind: GroupVersionKind,
    pub(crate) namespace: String,
    pub(crate) user_info: UserInfo,
    pub(crate) dry_run: Option<bool>,
    pub(crate) object: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GroupVersionKind {
    pub(crate) kind: String,
}

/// Who asks the API server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct UserInfo {
    pub(crate) username: String,
    pub(crate) groups: Option<Vec<String>>,
}

/// A body that is no question.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is of kind {0:?}, AdmissionReview is expected")]
    Kind(String),
    #[error("AdmissionReview of version {0:?} is not supported: admission.k8s.io/v1 is expected")]
    Version(String),
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Asked {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    api_version: &'a str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Status<'a> {
    message: &'a str,
}

// === impl Question ===

impl Question {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ReviewError`] says what it is not.
    pub(crate) fn read(body: &[u8]) -> Result<Self, ReviewError> {
        let Asked {
            api_version,
            kind,
            request,
        } = ironside_cluster::read_json(body, MAX_VALUES)?;
        if kind != KIND {
            return Err(ReviewError::Kind(kind.chars().take(64).collect()));
        }
        if !VERSIONS.contains(&api_version.as_str()) {
            return Err(ReviewError::Version(api_version.chars().take(64).collect()));
        }
        let request = request.ok_or(ReviewError::NoRequest)?;
        Ok(Self {
            api_version,
            request,
        })
    }

    /// Writes the answer.
    ///
    /// # Errors
    /// If it cannot be written as JSON; nothing that is made here.
    pub(crate) fn answer(&self, verdict: &Verdict) -> serde_json::Result<Vec<u8>> {
        let (status, patch) = match &verdict.answer {
            Answer::Allow => (None, None),
            Answer::Patch(operations) => {
                let text = serde_json::to_vec(operations)?;
                (None, Some(STANDARD.encode(text)))
            }
            Answer::Deny(message) => (Some(Status { message }), None),
        };
        serde_json::to_vec(&Answered {
            api_version: &self.api_version,
            kind: KIND,
            response: Response {
                uid: &self.request.uid,
                allowed: status.is_none(),
                status,
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch,
                warnings: &verdict.warnings,
            },
        })
    }
}

//! Single calls to the API server, each with an end.
//!
//! Owns the deadline, and that nothing of a body reaches a log or an error: Secrets and tokens go both ways here. The
//! client's own typed calls print bodies that they can't read, so the texts are taken and read here.

use super::Cluster;
use kube::Resource;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as _;
use std::time::Duration;

/// Time that one call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the API server did not answer within {0:?}")]
    Slow(Duration),
    /// The server says no.
    #[error("{message}")]
    Status { code: u16, message: Box<str> },
    #[error("the API server cannot be reached: {0}")]
    Transport(Box<str>),
    #[error("the answer of the API server cannot be read: line {line}, column {column}")]
    Body { line: usize, column: usize },
    #[error("the request cannot be made: {0}")]
    Request(kube::core::request::Error),
}

/// What cannot be said in JSON; nothing that is made here.
fn unwritable(cause: serde_json::Error) -> CallError {
    CallError::Request(kube::core::request::Error::SerializeBody(cause))
}

// === impl CallError ===

impl CallError {
    /// Says whether somebody else was quicker to change, or to create.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }

    /// Says whether the server could not answer now, so that nothing is known.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Slow(_) | Self::Transport(_) => true,
            Self::Status { code, .. } => matches!(code, 429 | 500..=599),
            Self::Body { .. } | Self::Request(_) => false,
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    fn of(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::Status {
                code: status.code,
                message: status.message.into(),
            };
        }
        // The causes say what went wrong; the outermost one only that something did.
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = inner.to_string();
            cause = inner.source();
        }
        Self::Transport(text.into())
    }
}

// === impl Cluster ===

impl Cluster {
    /// Reads an object; none if it is not there.
    ///
    /// # Errors
    /// [`CallError`] if the server does not say.
    pub(crate) async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, CallError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let (path, how) = (request::<K>(Some(namespace)), GetParams::default());
        let asked = match K::metadata_api() {
            true => path.get_metadata(name, &how),
            false => path.get(name, &how),
        };
        match self.call(asked).await {
            Err(missing) if missing.is_missing() => Ok(None),
            answered => answered.map(Some),
        }
    }

    /// Puts an object in the place of the revision that it names.
    ///
    /// # Errors
    /// [`CallError`]; a conflict if there is another revision by now.
    pub(crate) async fn replace<K>(
        &self,
        namespace: &str,
        name: &str,
        object: &K,
    ) -> Result<K, CallError>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let body = serde_json::to_vec(object).map_err(unwritable)?;
        let how = PostParams::default();
        let asked = request::<K>(Some(namespace)).replace(name, &how, body);
        self.call(asked).await
    }

    /// Makes an object; without a namespace, one of the cluster.
    ///
    /// # Errors
    /// [`CallError`] if the server does not take it.
    pub(crate) async fn create<K>(
        &self,
        namespace: Option<&str>,
        object: &K,
    ) -> Result<K, CallError>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let body = serde_json::to_vec(object).map_err(unwritable)?;
        let asked = request::<K>(namespace).create(&PostParams::default(), body);
        self.call(asked).await
    }

    async fn call<K: DeserializeOwned>(
        &self,
        asked: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<K, CallError> {
        let asked = asked.map_err(CallError::Request)?;
        let answered = tokio::time::timeout(LIMIT, self.client.request_text(asked)).await;
        let text = answered
            .map_err(|_elapsed| CallError::Slow(LIMIT))?
            .map_err(CallError::of)?;
        serde_json::from_str(&text).map_err(|cause| CallError::Body {
            line: cause.line(),
            column: cause.column(),
        })
    }
}

fn request<K: Resource<DynamicType = ()>>(namespace: Option<&str>) -> Request {
    Request::new(K::url_path(&(), namespace))
}

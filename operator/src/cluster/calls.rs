//! Single calls to the API server, each with an end.
//!
//! Owns paths, the deadline, and that nothing of a body reaches a log or an error: Secrets come this way.

use http::{Method, Request, header};
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;

/// Time that one call may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest text of the API server that is repeated.
const MAX_TEXT: usize = 512;

/// A kind, as paths spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// `api/v1`, or `apis/` with group and version.
    pub(crate) root: &'static str,
    pub(crate) plural: &'static str,
}

/// Calls, whose deadline and client are the same. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Calls(Client);

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
    Request(http::Error),
}

/// How a patch is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patch {
    /// Server-side apply; with force, over what others manage.
    Apply { force: bool },
    /// RFC 7386.
    Merge,
}

// === impl Place ===

impl Place {
    pub(crate) const PODS: Self = Self::core("pods");
    pub(crate) const SECRETS: Self = Self::core("secrets");
    pub(crate) const SERVICES: Self = Self::core("services");
    pub(crate) const DEPLOYMENTS: Self = Self::named("apis/apps/v1", "deployments");
    pub(crate) const CONFIGURATIONS: Self = Self::named("apis/dapr.io/v1alpha1", "configurations");
    pub(crate) const LEASES: Self = Self::named("apis/coordination.k8s.io/v1", "leases");
    pub(crate) const CRDS: Self =
        Self::named("apis/apiextensions.k8s.io/v1", "customresourcedefinitions");

    const fn core(plural: &'static str) -> Self {
        Self::named("api/v1", plural)
    }

    pub(crate) const fn named(root: &'static str, plural: &'static str) -> Self {
        Self { root, plural }
    }

    fn path(self, namespace: Option<&str>, name: Option<&str>) -> String {
        let namespace = namespace.map(|name| format!("/namespaces/{name}"));
        let name = name.map(|name| format!("/{name}"));
        format!(
            "/{}{}/{}{}",
            self.root,
            namespace.unwrap_or_default(),
            self.plural,
            name.unwrap_or_default()
        )
    }
}

// === impl CallError ===

impl CallError {
    pub(crate) fn is_missing(&self) -> bool {
        self.is_code(404)
    }

    pub(crate) fn is_conflict(&self) -> bool {
        self.is_code(409)
    }

    pub(crate) fn is_forbidden(&self) -> bool {
        self.is_code(403)
    }

    /// The server understood, and does not take it.
    pub(crate) fn is_invalid(&self) -> bool {
        self.is_code(422)
    }

    /// Somebody's budget or rate does not allow it now.
    pub(crate) fn is_too_many(&self) -> bool {
        self.is_code(429)
    }

    fn is_code(&self, asked: u16) -> bool {
        matches!(self, Self::Status { code, .. } if *code == asked)
    }

    fn of(error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            let mut message = status.message.clone();
            message.truncate(message.floor_char_boundary(MAX_TEXT));
            return Self::Status {
                code: status.code,
                message: message.into(),
            };
        }
        Self::Transport(ironside_cluster::explain(error).into())
    }
}

// === impl Calls ===

impl Calls {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0
    }

    /// Reads an object; none if it is not there.
    ///
    /// # Errors
    /// [`CallError`] if the server does not say.
    pub(crate) async fn get(
        &self,
        place: Place,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, CallError> {
        let path = place.path(namespace, Some(name));
        match self.call(Method::GET, &path, None, None).await {
            Err(missing) if missing.is_missing() => Ok(None),
            answered => answered.map(Some),
        }
    }

    /// Lists the objects that a selector of labels picks; the first 500.
    ///
    /// # Errors
    /// [`CallError`] if the server does not say.
    pub(crate) async fn list(
        &self,
        place: Place,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>, CallError> {
        let path = place.path(Some(namespace), None);
        let path = format!(
            "{path}?labelSelector={}&limit=500",
            labels.replace('=', "%3D")
        );
        let list = self.call(Method::GET, &path, None, None).await?;
        Ok(items(list))
    }

    /// Lists objects by their metadata alone, those that a selector of fields picks.
    ///
    /// # Errors
    /// [`CallError`] if the server does not say.
    pub(crate) async fn list_metadata(
        &self,
        place: Place,
        namespace: &str,
        fields: &str,
    ) -> Result<Vec<Value>, CallError> {
        let path = place.path(Some(namespace), None);
        let fields: String = fields.replace('=', "%3D");
        let path = format!("{path}?fieldSelector={fields}&limit=500");
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let list = self.call(Method::GET, &path, None, Some(accept)).await?;
        Ok(items(list))
    }

    /// Reads how far the API server has come with a kind; none if it says so in no number.
    ///
    /// # Errors
    /// [`CallError`] if the server does not say.
    pub(crate) async fn revision(
        &self,
        place: Place,
        namespace: Option<&str>,
    ) -> Result<Option<u64>, CallError> {
        let path = format!("{}?limit=1", place.path(namespace, None));
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let list = self.call(Method::GET, &path, None, Some(accept)).await?;
        let text = list
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str);
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Makes an object.
    ///
    /// # Errors
    /// [`CallError`]; a conflict if it is there already.
    pub(crate) async fn create(
        &self,
        place: Place,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, CallError> {
        let path = place.path(namespace, None);
        self.call(Method::POST, &path, Some((JSON, object)), None)
            .await
    }

    /// Puts an object in the place of the revision that it names.
    ///
    /// # Errors
    /// [`CallError`]; a conflict if there is another revision by now.
    pub(crate) async fn replace(
        &self,
        place: Place,
        namespace: Option<&str>,
        name: &str,
        object: &Value,
    ) -> Result<Value, CallError> {
        let path = place.path(namespace, Some(name));
        self.call(Method::PUT, &path, Some((JSON, object)), None)
            .await
    }

    /// Applies an object as `manager`; with `force` over what others manage.
    ///
    /// # Errors
    /// [`CallError`]; a conflict if others manage a field, or the object has another UID.
    pub(crate) async fn apply(
        &self,
        place: Place,
        namespace: Option<&str>,
        name: &str,
        object: &Value,
        (manager, force): (&str, bool),
    ) -> Result<Value, CallError> {
        let path = place.path(namespace, Some(name));
        self.patch(&path, object, manager, Patch::Apply { force })
            .await
    }

    /// Applies the status of an object as `manager`.
    ///
    /// # Errors
    /// [`CallError`] as [`Self::apply`].
    pub(crate) async fn apply_status(
        &self,
        place: Place,
        namespace: &str,
        name: &str,
        object: &Value,
        manager: &str,
    ) -> Result<Value, CallError> {
        let path = format!("{}/status", place.path(Some(namespace), Some(name)));
        self.patch(&path, object, manager, Patch::Apply { force: true })
            .await
    }

    /// Merges a patch into an object.
    ///
    /// # Errors
    /// [`CallError`] if the server does not take it.
    pub(crate) async fn merge(
        &self,
        place: Place,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
        manager: &str,
    ) -> Result<Value, CallError> {
        let path = place.path(namespace, Some(name));
        self.patch(&path, patch, manager, Patch::Merge).await
    }

    /// Deletes the object with this UID.
    ///
    /// # Errors
    /// [`CallError`]; a conflict if it is another one by now.
    pub(crate) async fn delete(
        &self,
        place: Place,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), CallError> {
        let path = place.path(Some(namespace), Some(name));
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid},
        });
        let done = self
            .call(Method::DELETE, &path, Some((JSON, &options)), None)
            .await;
        done.map(drop)
    }

    /// Asks for the eviction of the pod with this UID, which respects disruption budgets.
    ///
    /// # Errors
    /// [`CallError`]; "too many" if a budget does not allow it now.
    pub(crate) async fn evict(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), CallError> {
        let path = format!("{}/eviction", Place::PODS.path(Some(namespace), Some(name)));
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let done = self
            .call(Method::POST, &path, Some((JSON, &eviction)), None)
            .await;
        done.map(drop)
    }

    async fn patch(
        &self,
        path: &str,
        object: &Value,
        manager: &str,
        how: Patch,
    ) -> Result<Value, CallError> {
        let (kind, force) = match how {
            Patch::Apply { force } => ("application/apply-patch+yaml", force),
            Patch::Merge => ("application/merge-patch+json", false),
        };
        let force = if force { "&force=true" } else { "" };
        let path = format!("{path}?fieldManager={manager}{force}");
        self.call(Method::PATCH, &path, Some((kind, object)), None)
            .await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        accept: Option<&str>,
    ) -> Result<Value, CallError> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::ACCEPT, accept.unwrap_or(JSON));
        let body = match body {
            None => Vec::new(),
            Some((kind, body)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                body.to_string().into_bytes()
            }
        };
        let request = request.body(body).map_err(CallError::Request)?;
        let answered = tokio::time::timeout(LIMIT, self.0.request_text(request)).await;
        let text = answered
            .map_err(|_elapsed| CallError::Slow(LIMIT))?
            .map_err(|error| CallError::of(&error))?;
        serde_json::from_str(&text).map_err(|cause| CallError::Body {
            line: cause.line(),
            column: cause.column(),
        })
    }
}

const JSON: &str = "application/json";

fn items(mut list: Value) -> Vec<Value> {
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _none => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(
            Place::SERVICES.path(Some("ns"), Some("a-dapr")),
            "/api/v1/namespaces/ns/services/a-dapr"
        );
        assert_eq!(
            Place::CRDS.path(None, Some("x.dapr.io")),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x.dapr.io"
        );
        assert_eq!(
            Place::LEASES.path(Some("ns"), None),
            "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
        );
    }
}

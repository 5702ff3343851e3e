//! The conversion webhook of Subscription, for clusters that have its definition from the reference (decision 5).
//!
//! Owns that such a definition works on: `/convert` is served, and the definition is pointed at it. Where there is no
//! such definition nothing listens, and the operator is ready all the same. None is shipped. What a review means is
//! `review`'s matter.

mod review;

use crate::cluster::{CallError, Calls, Place};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ironside_chassis::health::Target;
use ironside_chassis::tasks::Group;
use ironside_identity::{Namespace, TrustBundle};
use ironside_transport::OneSidedTlsServer;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.operator.conversion";
/// The one definition.
const DEFINITION: &str = "subscriptions.dapr.io";
/// Who points it here.
const MANAGER: &str = "dapr-operator";
/// Pause between two looks at the definition.
const LOOK: Duration = Duration::from_secs(60);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Largest review; the API server stores objects up to 1.5 MiB and lists many.
const MAX_REVIEW: usize = 32 * 1024 * 1024;
/// Connections at once: those of API servers.
const MAX_CONNECTIONS: usize = 64;
/// A review that takes longer to arrive is given up.
const LIMIT: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The webhook.
pub(crate) struct Webhook {
    pub(crate) calls: Calls,
    pub(crate) namespace: Namespace,
    pub(crate) anchors: watch::Receiver<Option<Arc<TrustBundle>>>,
    pub(crate) tls: OneSidedTlsServer,
    pub(crate) listener: TcpListener,
    pub(crate) ready: Target,
    pub(crate) connections: Group,
    pub(crate) stop: CancellationToken,
}

// === impl Webhook ===

impl Webhook {
    /// Serves and points until the owner's end.
    pub(crate) async fn run(self) {
        let Self {
            calls,
            namespace,
            anchors,
            tls,
            listener,
            ready,
            connections,
            stop,
        } = self;
        let serving = serve(listener, Arc::new(tls), connections, stop.clone());
        let pointing = point(&calls, &namespace, anchors, &ready);
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(serving, pointing); } => {}
        }
    }
}

/// Keeps the definition pointed at this webhook, if there is one that wants conversion.
async fn point(
    calls: &Calls,
    namespace: &Namespace,
    mut anchors: watch::Receiver<Option<Arc<TrustBundle>>>,
    ready: &Target,
) {
    let mut trouble = None;
    loop {
        let bundle = anchors.borrow_and_update().clone();
        let pause = match look(calls, namespace, bundle.as_deref()).await {
            Ok(()) => {
                trouble = None;
                ready.ready();
                LOOK
            }
            Err(cause) => {
                let text = cause.to_string();
                if trouble.as_ref() != Some(&text) {
                    warn!(target: SCOPE, "Cannot look after definition {DEFINITION}: {text}");
                    trouble = Some(text);
                }
                if cause.is_forbidden() {
                    // Without the right there is nothing that this part could do.
                    ready.ready();
                }
                PAUSE
            }
        };
        tokio::select! {
            Ok(()) = anchors.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn look(
    calls: &Calls,
    namespace: &Namespace,
    bundle: Option<&TrustBundle>,
) -> Result<(), CallError> {
    let definition = calls.get(Place::CRDS, None, DEFINITION).await?;
    let Some(patch) = definition.and_then(|found| patch(&found, namespace.as_str(), bundle?))
    else {
        return Ok(());
    };
    calls
        .merge(Place::CRDS, None, DEFINITION, &patch, MANAGER)
        .await?;
    info!(target: SCOPE, "Definition {DEFINITION} converts through this operator");
    Ok(())
}

/// What has to change so that the API server finds this webhook; none if nothing has to.
fn patch(definition: &Value, namespace: &str, bundle: &TrustBundle) -> Option<Value> {
    let conversion = definition.pointer("/spec/conversion")?;
    if crate::index::text(conversion, "/strategy") != Some("Webhook") {
        return None;
    }
    let authority = STANDARD.encode(bundle.to_pem());
    let live = |pointer: &str| crate::index::text(conversion, pointer);
    let is_right = live("/webhook/clientConfig/service/namespace") == Some(namespace)
        && live("/webhook/clientConfig/caBundle") == Some(&authority);
    (!is_right).then(|| {
        let config = json!({"service": {"namespace": namespace}, "caBundle": authority});
        json!({"spec": {"conversion": {"webhook": {"clientConfig": config}}}})
    })
}

async fn serve(
    listener: TcpListener,
    tls: Arc<OneSidedTlsServer>,
    connections: Group,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let slot = Arc::clone(&slots).acquire_owned().await;
        match listener.accept().await {
            Ok((tcp, _from)) => {
                let (tls, stop, group) = (Arc::clone(&tls), stop.clone(), connections.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(tcp, &tls, group) => {}
                    }
                    drop(slot);
                });
            }
            Err(cause) => {
                warn!(target: SCOPE, err = %cause, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, tls: &OneSidedTlsServer, streams: Group) {
    let stream = match tls.accept(tcp).await {
        Ok(stream) => stream,
        Err(cause) => {
            debug!(target: SCOPE, err = %cause, "connection refused");
            return;
        }
    };
    let mut builder = auto::Builder::new(streams);
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let served = builder.serve_connection(TokioIo::new(stream), service_fn(answer));
    if let Err(cause) = served.await {
        debug!(target: SCOPE, err = %cause, "connection ended");
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::POST, "/convert") => match read(request.into_body()).await {
            Ok(review) => match review::answer(review) {
                Ok(answer) => (StatusCode::OK, answer.to_string()),
                Err(refused) => (StatusCode::BAD_REQUEST, refused.to_string()),
            },
            Err(refused) => refused,
        },
        (_, "/convert") => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        (_, _) => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    if status == StatusCode::OK {
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    Ok(response)
}

async fn read(body: Incoming) -> Result<Value, (StatusCode, String)> {
    let body = Limited::new(body, MAX_REVIEW).collect();
    let body = tokio::time::timeout(LIMIT, body).await;
    let body = body.map_err(|_elapsed| {
        let text = "the review took too long to arrive".to_owned();
        (StatusCode::REQUEST_TIMEOUT, text)
    })?;
    let body = body.map_err(|cause| (StatusCode::PAYLOAD_TOO_LARGE, cause.to_string()))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|cause| (StatusCode::BAD_REQUEST, format!("no JSON: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definition_that_wants_conversion_is_pointed_here() {
        let bundle = TrustBundle::default();
        let definition = |strategy: &str, namespace: &str, authority: &str| {
            json!({"spec": {"conversion": {"strategy": strategy, "webhook": {"clientConfig": {
                "service": {"namespace": namespace, "name": "dapr-webhook"}, "caBundle": authority}}}}})
        };
        let asks = |definition: &Value| patch(definition, "dapr-system", &bundle);
        assert_eq!(asks(&json!({"spec": {}})), None);
        assert_eq!(asks(&definition("None", "replaceme", "x")), None);
        let found = asks(&definition("Webhook", "replaceme", "x")).unwrap();
        let config = &found["spec"]["conversion"]["webhook"]["clientConfig"];
        assert_eq!(config["service"]["namespace"], "dapr-system");
        let authority = config["caBundle"].as_str().unwrap();
        let right = definition("Webhook", "dapr-system", "x");
        assert!(asks(&right).is_some(), "another root");
        assert_eq!(authority, STANDARD.encode(bundle.to_pem()));
    }
}

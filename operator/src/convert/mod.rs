//! The conversion webhook of Subscription, for clusters that have its definition from the reference (decision 5).
//!
//! Owns that such a definition works on: `/convert` is served, and the definition is pointed at it. Where there is no
//! such definition every connection is closed unread, and the operator is ready all the same. None is shipped. Owns
//! the bounds too: an API server shows no certificate, so anybody may call. What a review means is `review`'s matter.

mod review;

use crate::cluster::{CallError, Calls, Place};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ironside_chassis::health::Target;
use ironside_chassis::tasks::Group;
use ironside_cluster::{Guest, Guests, Limits, Visit};
use ironside_identity::{Namespace, TrustBundle};
use ironside_transport::OneSidedTlsServer;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
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
/// Values in one, of which each takes up to some hundred bytes of memory: those of some ten thousand objects.
const MAX_VALUES: usize = 500_000;
/// Connections at once, those of API servers; and what of reviews is held, which as values take several times that.
const LIMITS: Limits = Limits {
    connections: 64,
    connections_each: 16,
    bytes: 2 * MAX_REVIEW + 8 * 1024 * 1024,
    bytes_each: MAX_REVIEW,
    // Reviews of some objects, which have a few KiB.
    bytes_least: 64 * 1024,
};
const _: () = assert!(LIMITS.shared() >= 2 * LIMITS.bytes_each);
/// Reviews under way on one connection.
const MAX_STREAMS: u32 = 4;
/// Bytes of the head of one.
const MAX_HEADERS: u32 = 8 * 1024;
/// What a client may send on a connection of HTTP/1.1 before it is read; a head must fit in it.
const BUFFER: usize = 32 * 1024;
/// What a client may send on a connection before it is read.
const WINDOW: u32 = 256 * 1024;
/// A review that takes longer to arrive is given up, as is a connection that does not answer pings.
const LIMIT: Duration = Duration::from_secs(10);
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
        let (publish, wanted) = watch::channel(false);
        let serving = serve(listener, Arc::new(tls), wanted, connections, stop.clone());
        let pointing = point(&calls, &namespace, anchors, &ready, &publish);
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
    wanted: &watch::Sender<bool>,
) {
    let mut trouble = None;
    loop {
        let bundle = anchors.borrow_and_update().clone();
        let pause = match look(calls, namespace, bundle.as_deref()).await {
            Ok(is_wanted) => {
                wanted.send_replace(is_wanted);
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
                    // Without the right there is nothing to look after; somebody else may have pointed it here.
                    wanted.send_replace(true);
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

/// Says whether there is a definition that converts through a webhook, and points it here.
async fn look(
    calls: &Calls,
    namespace: &Namespace,
    bundle: Option<&TrustBundle>,
) -> Result<bool, CallError> {
    let definition = calls.get(Place::CRDS, None, DEFINITION).await?;
    let Some(definition) = definition.filter(wants) else {
        return Ok(false);
    };
    let Some(patch) = bundle.and_then(|bundle| patch(&definition, namespace.as_str(), bundle))
    else {
        return Ok(true);
    };
    calls
        .merge(Place::CRDS, None, DEFINITION, &patch, MANAGER)
        .await?;
    info!(target: SCOPE, "Definition {DEFINITION} converts through this operator");
    Ok(true)
}

fn wants(definition: &Value) -> bool {
    crate::index::text(definition, "/spec/conversion/strategy") == Some("Webhook")
}

/// What has to change so that the API server finds this webhook; none if nothing has to.
fn patch(definition: &Value, namespace: &str, bundle: &TrustBundle) -> Option<Value> {
    let conversion = definition.pointer("/spec/conversion")?;
    if !wants(definition) {
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
    wanted: watch::Receiver<bool>,
    connections: Group,
    stop: CancellationToken,
) {
    let guests = Guests::new(LIMITS);
    loop {
        match listener.accept().await {
            Ok((tcp, from)) => {
                if !*wanted.borrow() {
                    debug!(target: SCOPE, peer = %from, "nothing is to be converted");
                    continue;
                }
                let Some(guest) = guests.connect(from.ip()) else {
                    debug!(target: SCOPE, peer = %from, "too many connections");
                    continue;
                };
                let (tls, stop, group) = (Arc::clone(&tls), stop.clone(), connections.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(tcp, &tls, guest, group) => {}
                    }
                });
            }
            Err(cause) => {
                warn!(target: SCOPE, err = %cause, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, tls: &OneSidedTlsServer, guest: Arc<Guest>, streams: Group) {
    let stream = tokio::select! {
        () = guest.lost() => return,
        stream = tls.accept(tcp) => stream,
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(cause) => {
            debug!(target: SCOPE, err = %cause, "connection refused");
            return;
        }
    };
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(BUFFER)
        .header_read_timeout(LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(Some(LIMIT))
        .keep_alive_timeout(LIMIT);
    let visited = Arc::clone(&guest);
    let service = service_fn(move |request| answer(request, visited.visit()));
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = guest.over() => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(LIMIT, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(cause) = ended {
        debug!(target: SCOPE, err = %cause, "connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    mut visit: Visit,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::POST, "/convert") => match read(request.into_body(), &mut visit).await {
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

async fn read(body: Incoming, visit: &mut Visit) -> Result<Value, (StatusCode, String)> {
    let body = tokio::time::timeout(LIMIT, collect(body, visit)).await;
    let body = body.map_err(|_elapsed| {
        let text = "the review took too long to arrive".to_owned();
        (StatusCode::REQUEST_TIMEOUT, text)
    })??;
    ironside_cluster::read_json(&body, MAX_VALUES)
        .map_err(|cause| (StatusCode::BAD_REQUEST, format!("no JSON: {cause}")))
}

/// Takes room for the body as it arrives.
async fn collect(mut body: Incoming, visit: &mut Visit) -> Result<BytesMut, (StatusCode, String)> {
    let too_large = || {
        let text = format!("a review has at most {MAX_REVIEW} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let most = u64::try_from(MAX_REVIEW).unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| (StatusCode::BAD_REQUEST, cause.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > MAX_REVIEW {
            return Err(too_large());
        }
        if !visit.hold(data.len()) {
            let text = "too much of other reviews is held; try again".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, text));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anybody may call: where nothing is to be converted nobody is served.
    #[tokio::test]
    async fn without_such_a_definition_connections_are_closed_unread() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_identity, identity) = watch::channel(None);
        let tls = OneSidedTlsServer::web(identity, Arc::new(|| std::time::UNIX_EPOCH));
        let (_publish, wanted) = watch::channel(false);
        let tasks = ironside_chassis::Tasks::new();
        let group = tasks.group("webhook-connection");
        let serving = serve(
            listener,
            Arc::new(tls),
            wanted,
            group,
            CancellationToken::new(),
        );
        let asking = async {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            tcp.write_all(b"\x16").await.ok();
            let mut rest = Vec::new();
            // Reset or ended: closed either way.
            tcp.read_to_end(&mut rest).await.ok();
            assert!(rest.is_empty());
        };
        tokio::select! {
            () = serving => panic!("it serves for ever"),
            asked = tokio::time::timeout(Duration::from_secs(2), asking) => asked.unwrap(),
        }
        for (strategy, want) in [("None", false), ("Webhook", true)] {
            let definition = json!({"spec": {"conversion": {"strategy": strategy}}});
            assert_eq!(wants(&definition), want);
        }
    }

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

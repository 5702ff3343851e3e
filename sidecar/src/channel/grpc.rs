//! A gRPC app: `AppCallback.OnInvoke`, and the connection that proxied calls share.
//!
//! Owns how an invocation becomes an `InvokeRequest` (service-invocation 1.8) and the app's answer a reply. The
//! body goes out in the slices it came in. Stage 22, `deliver`.

use std::{sync::Arc, time::Duration};

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, header, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use ironside_chassis::{clock::Clock, secret::Secret, tasks::Group};
use ironside_proto::common::{HttpExtension, InvokeRequest, InvokeResponse};
use ironside_resolution::Authority;
use ironside_telemetry::metrics::{Metrics, Rpc};
use prost::Message as _;
use rustls::pki_types::ServerName;
use tonic::{Code, Status};

use super::{ChannelError, http::set_token};
use crate::{
    body::{self, Body, BodyError},
    config::{AppProtocol, AppTarget, Config},
    invocation::{
        AppStatus, Invocation, Origin, Reply, chunks::PREFIX, context::CallContext, grpc, headers,
        status, wire,
    },
    peers::{
        DialError,
        connection::{Connection, Dialled, NOT_HTTP2, SendError},
        dial_tcp,
    },
};

#[cfg(test)]
mod tests;

/// Bound of one dial of the app: TCP, TLS and HTTP/2 together (service-invocation 5.1).
const DIAL_LIMIT: Duration = Duration::from_secs(20);
const ON_INVOKE: PathAndQuery =
    PathAndQuery::from_static("/dapr.proto.runtime.v1.AppCallback/OnInvoke");
/// What apps and peers read as `user-agent` of calls that the sidecar makes itself.
pub(crate) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("ironside/", env!("CARGO_PKG_VERSION")));

/// Why a request found no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    /// Unavailable, in the words of the reference.
    pub(crate) status: Status,
    /// How far the request came.
    pub(crate) reach: Reach,
}

/// How far a request came that found no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To the app, perhaps.
    Perhaps,
    /// Not to the app, which is not spoken to in its protocol: any other replica is not either.
    Nowhere,
    /// Not to the app, which is not there.
    Gone,
}

impl NoAnswer {
    fn new(reach: Reach, text: String) -> Self {
        Self {
            status: Status::unavailable(text),
            reach,
        }
    }
}

/// The app's gRPC listener.
pub(crate) struct GrpcApp {
    authority: Result<Authority, Box<str>>,
    /// `None` for plaintext; a TLS client that could not be made fails every dial.
    tls: Option<Result<tokio_rustls::TlsConnector, String>>,
    token: Option<Secret<Box<str>>>,
    max_message: usize,
    held: tokio::sync::Mutex<Option<Arc<Connection>>>,
    tasks: Group,
    clock: Clock,
}

impl GrpcApp {
    /// Prepares the channel; nothing is dialled yet. Only `grpcs` switches TLS on.
    pub(crate) fn new(target: &AppTarget, config: &Config, tasks: Group, clock: Clock) -> Self {
        let host = target.address.trim_start_matches('[').trim_end_matches(']');
        let tls = (target.protocol == AppProtocol::Grpcs).then(|| {
            let config = super::tls::app_config(&[b"h2"]).map_err(|error| error.to_string())?;
            Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
        });
        Self {
            authority: Authority::new(host, target.port).map_err(|error| error.to_string().into()),
            tls,
            token: config.app_token.clone(),
            max_message: config.max_message,
            held: tokio::sync::Mutex::default(),
            tasks,
            clock,
        }
    }

    /// The token that the app expects.
    pub(crate) fn token(&self) -> Option<&Secret<Box<str>>> {
        self.token.as_ref()
    }

    /// `host:port` of the app.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref().ok()
    }

    /// The warm connection, dialled anew if it is gone.
    ///
    /// # Errors
    /// [`DialError`].
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, DialError> {
        let mut held = self.held.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        // In memory of its own: most calls find a connection.
        let dialled = tokio::time::timeout(DIAL_LIMIT, Box::pin(self.dial())).await;
        let connection = dialled.map_err(|_elapsed| DialError::Preface {
            cause: "i/o timeout".to_owned(),
        })??;
        *held = Some(Arc::clone(&connection));
        Ok(connection)
    }

    async fn dial(&self) -> Result<Arc<Connection>, DialError> {
        let authority = self.authority.clone().map_err(|cause| DialError::Preface {
            cause: cause.into(),
        })?;
        let tcp = dial_tcp(&authority).await?;
        let Some(tls) = &self.tls else {
            let dialled = Dialled {
                io: tcp,
                peer: None,
                generation: 0,
            };
            return Connection::open(dialled, &self.clock, &self.tasks, std::future::pending())
                .await;
        };
        let failed = |cause: String| DialError::Tls { cause };
        let tls = tls.as_ref().map_err(|cause| failed(cause.clone()))?;
        let name = ServerName::try_from(authority.host().trim_matches(['[', ']']).to_owned())
            .map_err(|error| failed(error.to_string()))?;
        let io = tls
            .connect(name, tcp)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let dialled = Dialled {
            io,
            peer: None,
            generation: 0,
        };
        Connection::open(dialled, &self.clock, &self.tasks, std::future::pending()).await
    }

    /// Sends a request over the warm connection; one that never left goes out once more over a new one.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<http::Response<Body>, NoAnswer> {
        for _ in 0..2 {
            let connection = self
                .connection()
                .await
                .map_err(|error| NoAnswer::new(reach(&error), error.to_string()))?;
            match connection.send(request).await {
                Ok(response) => return Ok(response),
                Err(SendError::Unsent(unsent, _)) => {
                    self.forget(&connection).await;
                    request = *unsent;
                }
                Err(SendError::Refused(cause)) if cause.contains(NOT_HTTP2) => {
                    return Err(NoAnswer::new(Reach::Nowhere, preface_text(&cause)));
                }
                Err(SendError::Refused(cause)) => {
                    return Err(NoAnswer::new(Reach::Gone, preface_text(&cause)));
                }
                Err(SendError::Lost(cause)) => {
                    return Err(NoAnswer::new(Reach::Perhaps, preface_text(&cause)));
                }
                Err(SendError::Unfit(cause)) => return Err(NoAnswer::new(Reach::Perhaps, cause)),
            }
        }
        // It takes connections, and does not speak HTTP/2 on them.
        Err(NoAnswer::new(
            Reach::Nowhere,
            "connection error: desc = \"connection closed before the request was sent\"".to_owned(),
        ))
    }

    async fn forget(&self, failed: &Arc<Connection>) {
        let mut held = self.held.lock().await;
        if held
            .as_ref()
            .is_some_and(|connection| Arc::ptr_eq(connection, failed))
        {
            *held = None;
        }
    }

    /// Calls `OnInvoke`.
    ///
    /// An app that does not answer is a reply with the code Unavailable, as the reference has it.
    ///
    /// # Errors
    /// [`ChannelError`] if the request body breaks, or nothing of it left.
    pub(crate) async fn on_invoke(
        &self,
        call: Invocation,
        context: &CallContext,
        metrics: &Metrics,
    ) -> Result<Reply, ChannelError> {
        if context.event_stream {
            return Err(ChannelError::NoStream);
        }
        let (request, sent) = match self.request(call, context).await? {
            Ok(request) => request,
            Err(status) => return Ok(failed(&status, HeaderMap::new(), HeaderMap::new())),
        };
        let started = self.clock.monotonic();
        let mut received = 0;
        let reply = match self.send(request).await {
            Ok(response) => Ok(self.read(response, &mut received).await),
            Err(NoAnswer { status, reach }) => match reach {
                Reach::Perhaps | Reach::Nowhere => Ok(unreached(&status)),
                Reach::Gone => Err(status),
            },
        };
        metrics.rpc_called(&Rpc {
            method: ON_INVOKE.as_str(),
            code: match &reply {
                Ok(reply) => reply.status.number(),
                Err(status) => status.code() as i32,
            },
            latency: self.clock.monotonic().since(started),
            received_bytes: Some(received),
            sent_bytes: Some(sent),
        });
        reply.map_err(|status| ChannelError::NoConnection(Box::new(status)))
    }

    async fn request(
        &self,
        call: Invocation,
        context: &CallContext,
    ) -> Result<Result<(Request<Body>, u64), Status>, ChannelError> {
        let Invocation {
            method,
            verb,
            has_http,
            query,
            origin,
            headers,
            pseudo: _,
            content_type,
            type_url,
            length: _,
            body,
        } = call;
        let slices = match collect(body.into_inner(), self.max_message).await? {
            Ok(slices) => slices,
            Err(status) => return Ok(Err(status)),
        };
        let message = InvokeRequest {
            method: method.as_str().to_owned(),
            data: None,
            content_type: content_type.into(),
            http_extension: has_http.then(|| HttpExtension {
                verb: wire::verb_to_wire(verb) as i32,
                querystring: query.into(),
            }),
        };
        let mut metadata = metadata(headers, origin);
        context.trace.to_grpc(&mut metadata);
        if let Some(token) = &self.token {
            set_token(&mut metadata, token);
        }
        metadata.insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
        metadata.insert(header::TE, HeaderValue::from_static("trailers"));
        metadata.insert(header::USER_AGENT, USER_AGENT);
        if let Some(deadline) = context.deadline {
            let left = grpc::timeout_value(deadline.left(&self.clock));
            metadata.insert("grpc-timeout", left);
        }
        let authority = self.authority.as_ref().map_or("app", Authority::as_str);
        let uri = super::http::uri("http", authority, ON_INVOKE.as_str())?;
        let (body, size) = framed(&message, &type_url, slices);
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = metadata;
        Ok(Ok((request, size)))
    }

    /// The app's answer; adds the bytes of its message to `received`.
    async fn read(&self, response: http::Response<Body>, received: &mut u64) -> Reply {
        let (parts, body) = response.into_parts();
        if let Some(status) = grpc::status_in(&parts.headers) {
            return failed(
                &status,
                HeaderMap::new(),
                grpc::without_status(parts.headers),
            );
        }
        let (message, trailers) = match grpc::read_unary(body, self.max_message).await {
            Ok((message, trailers)) => (message, trailers.unwrap_or_default()),
            Err(status) => return failed(&status, parts.headers, HeaderMap::new()),
        };
        *received += message.as_ref().map_or(0, Bytes::len) as u64;
        let status =
            grpc::status_in(&trailers).unwrap_or_else(|| Status::unknown("missing status"));
        let trailers = grpc::without_status(trailers);
        if status.code() != Code::Ok {
            return failed(&status, parts.headers, trailers);
        }
        let answer = message.map_or_else(
            || Ok(InvokeResponse::default()),
            grpc::decode::<InvokeResponse>,
        );
        match answer {
            Ok(InvokeResponse { data, content_type }) => {
                let data = data.unwrap_or_default();
                Reply {
                    status: AppStatus::Grpc {
                        code: Code::Ok,
                        message: "".into(),
                        details: Vec::new(),
                    },
                    headers: parts.headers,
                    trailers,
                    content_type: content_type.into(),
                    type_url: data.type_url.into(),
                    body: body::full(data.value),
                }
            }
            Err(status) => failed(&status, parts.headers, trailers),
        }
    }
}

/// Whether the app is not there, or cannot be spoken to. The latter is its configuration, or that of its port.
fn reach(error: &DialError) -> Reach {
    match error {
        DialError::Tcp { .. } => Reach::Gone,
        DialError::Tls { cause } | DialError::Preface { cause } if is_cut(cause) => Reach::Gone,
        DialError::Tls { .. } | DialError::OwnExpired { .. } | DialError::Preface { .. } => {
            Reach::Nowhere
        }
    }
}

/// True if nothing was heard of the app: it is about to go, or hangs.
fn is_cut(cause: &str) -> bool {
    let cause = cause.to_ascii_lowercase();
    ["eof", "os error", "reset", "broken pipe", "i/o timeout"]
        .iter()
        .any(|text| cause.contains(text))
}

/// What a caller gets that cannot go elsewhere: a reply with the code Unavailable, as the reference has it.
pub(crate) fn unreached(status: &Status) -> Reply {
    failed(status, HeaderMap::new(), HeaderMap::new())
}

fn failed(status: &Status, headers: HeaderMap, trailers: HeaderMap) -> Reply {
    Reply {
        status: AppStatus::Grpc {
            code: status.code(),
            message: status.message().into(),
            details: status::details_of(status.details()),
        },
        headers,
        trailers,
        content_type: "".into(),
        type_url: "".into(),
        body: body::empty(),
    }
}

/// The text for a connection whose other end does not speak HTTP/2.
pub(crate) fn preface_text(cause: &str) -> String {
    format!("connection error: desc = \"error reading server preface: {cause}\"")
}

/// The slices of a body, at most `limit` bytes together.
async fn collect(mut body: Body, limit: usize) -> Result<Result<Vec<Bytes>, Status>, BodyError> {
    let (mut slices, mut size) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        size += data.len();
        if size > limit {
            let text = format!("trying to send message larger than max ({size} vs. {limit})");
            return Ok(Err(Status::resource_exhausted(text)));
        }
        slices.push(data);
    }
    Ok(Ok(slices))
}

/// The gRPC message: `data` comes last, so that its value is the slices themselves.
fn framed(message: &InvokeRequest, type_url: &str, slices: Vec<Bytes>) -> (Body, u64) {
    const DATA: u8 = 0x12;
    const TYPE_URL: u8 = 0x0a;
    const VALUE: u8 = 0x12;
    let size: usize = slices.iter().map(Bytes::len).sum();
    let mut any = BytesMut::with_capacity(type_url.len() + 16);
    if !type_url.is_empty() {
        any.put_u8(TYPE_URL);
        prost::encoding::encode_varint(type_url.len() as u64, &mut any);
        any.extend_from_slice(type_url.as_bytes());
    }
    if size > 0 {
        any.put_u8(VALUE);
        prost::encoding::encode_varint(size as u64, &mut any);
    }
    let mut head = BytesMut::with_capacity(message.encoded_len() + any.len() + 16 + PREFIX);
    head.put_bytes(0, PREFIX);
    // A BytesMut grows, so encoding cannot run out of room.
    let _ = message.encode(&mut head);
    head.put_u8(DATA);
    prost::encoding::encode_varint((any.len() + size) as u64, &mut head);
    head.extend_from_slice(&any);
    let length = u32::try_from(head.len() - PREFIX + size).unwrap_or(u32::MAX);
    if let Some(prefix) = head.get_mut(1..PREFIX) {
        prefix.copy_from_slice(&length.to_be_bytes());
    }
    let frames = std::iter::once(head.freeze())
        .chain(slices)
        .map(|bytes| Ok::<_, BodyError>(Frame::data(bytes)));
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    (body, length.into())
}

/// Headers as a gRPC app's request metadata.
fn metadata(headers: HeaderMap, origin: Origin) -> HeaderMap {
    let mut headers = match origin {
        Origin::Http => headers::prefix_reserved(binary_of_text(headers)),
        Origin::Grpc => headers,
    };
    headers::strip_for_grpc(&mut headers);
    headers
}

/// An HTTP client's `-bin` header is text that becomes the binary value (golden 16).
fn binary_of_text(headers: HeaderMap) -> HeaderMap {
    if !headers.keys().any(|name| name.as_str().ends_with("-bin")) {
        return headers;
    }
    let mut out = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    for (name, value) in headers {
        current = name.or(current);
        let Some(name) = &current else { continue };
        if !name.as_str().ends_with("-bin") {
            out.append(name.clone(), value);
            continue;
        }
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(value.as_bytes());
        if let Ok(value) = HeaderValue::from_str(&encoded) {
            out.append(name.clone(), value);
        }
    }
    out
}

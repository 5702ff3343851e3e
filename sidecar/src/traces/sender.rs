//! One batch to one collector.
//!
//! Owns the calls of Zipkin and OTLP and what their answers mean. Whatever a collector does is bounded: its time
//! by the caller, the bytes of its answer here.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use ironside_chassis::tasks::Group;
use ironside_telemetry::{Span, span::Resource, zipkin};
use tonic::Code;

use super::{
    otlp,
    settings::{Otlp, TIMEOUT, Wire},
};
use crate::{
    body::{self, Body},
    channel::grpc::USER_AGENT,
    invocation::{chunks, grpc},
    outbound::external::{self, CollectorClient},
};
use prost::Message as _;

/// Bytes of an answer that are read.
const ANSWER: usize = 64 * 1024;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// A collector that is called.
pub(super) struct Sender {
    client: CollectorClient,
    uri: Uri,
    headers: Vec<(http::HeaderName, HeaderValue)>,
    timeout: Duration,
    kind: Kind,
    resource: Resource,
}

/// What is spoken.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Zipkin,
    Otlp(Wire),
}

/// Why a batch was not taken.
#[derive(Debug)]
pub(super) struct Refused {
    /// Another attempt may do better.
    pub(super) may_repeat: bool,
    cause: String,
}

// === impl Sender ===

impl Sender {
    /// A client of a Zipkin server; nothing is dialled yet.
    pub(super) async fn zipkin(uri: Uri, resource: Resource, tasks: &Group) -> Self {
        Self {
            client: external::collector_client(tasks, &uri, external::Http::Any).await,
            uri,
            headers: Vec::new(),
            timeout: TIMEOUT,
            kind: Kind::Zipkin,
            resource,
        }
    }

    /// A client of an OTLP collector; nothing is dialled yet.
    pub(super) async fn otlp(otlp: Otlp, resource: Resource, tasks: &Group) -> Self {
        let Otlp {
            uri,
            wire,
            headers,
            timeout,
        } = otlp;
        let version = match wire {
            Wire::Grpc => external::Http::Two,
            Wire::Http => external::Http::Any,
        };
        Self {
            client: external::collector_client(tasks, &uri, version).await,
            uri,
            headers,
            timeout,
            kind: Kind::Otlp(wire),
            resource,
        }
    }

    /// The batch as it goes out.
    pub(super) fn encode(&self, spans: &[Span]) -> Bytes {
        match self.kind {
            Kind::Zipkin => zipkin::encode(spans, &self.resource).into(),
            Kind::Otlp(Wire::Http) => otlp::request(spans, &self.resource).encode_to_vec().into(),
            Kind::Otlp(Wire::Grpc) => chunks::message(&otlp::request(spans, &self.resource)),
        }
    }

    /// Sends a batch once.
    ///
    /// # Errors
    /// [`Refused`] if the collector did not say that it has it.
    pub(super) async fn send(&self, batch: Bytes) -> Result<(), Refused> {
        tokio::time::timeout(self.timeout, self.exchange(batch))
            .await
            .map_err(|_elapsed| Refused {
                may_repeat: true,
                cause: format!("no answer within {:?}", self.timeout),
            })?
    }

    async fn exchange(&self, batch: Bytes) -> Result<(), Refused> {
        let response = self.client.request(self.request(batch)).await;
        let response = response.map_err(|error| Refused {
            may_repeat: true,
            cause: chain(&error),
        })?;
        let response = response.map(body::incoming);
        match self.kind {
            Kind::Zipkin => whole(response, |status| status == StatusCode::ACCEPTED).await,
            Kind::Otlp(Wire::Http) => whole(response, |status| status.is_success()).await,
            Kind::Otlp(Wire::Grpc) => answered(response).await,
        }
    }

    fn request(&self, batch: Bytes) -> Request<Body> {
        let mut request = Request::new(body::full(batch));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(header::USER_AGENT, USER_AGENT);
        match self.kind {
            Kind::Zipkin => {
                let kind = HeaderValue::from_static(zipkin::CONTENT_TYPE);
                headers.insert(header::CONTENT_TYPE, kind);
            }
            Kind::Otlp(Wire::Http) => {
                headers.insert(header::CONTENT_TYPE, PROTOBUF);
            }
            Kind::Otlp(Wire::Grpc) => {
                headers.insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
                headers.insert("grpc-timeout", grpc::timeout_value(self.timeout));
                *request.version_mut() = http::Version::HTTP_2;
            }
        }
        request
    }
}

/// An HTTP answer, read to its end so that the connection serves again.
async fn whole(
    response: Response<Body>,
    is_taken: impl FnOnce(StatusCode) -> bool,
) -> Result<(), Refused> {
    let (parts, body) = response.into_parts();
    // One that is too long or breaks says nothing else than its status did.
    let _read = Limited::new(body, ANSWER).collect().await;
    if is_taken(parts.status) {
        return Ok(());
    }
    Err(Refused {
        may_repeat: matches!(parts.status.as_u16(), 429 | 502 | 503 | 504),
        cause: format!("it answered with status {}", parts.status.as_u16()),
    })
}

/// A gRPC answer.
async fn answered(response: Response<Body>) -> Result<(), Refused> {
    let (parts, body) = response.into_parts();
    let refused = |cause: String| Refused {
        may_repeat: false,
        cause,
    };
    if parts.status != StatusCode::OK {
        let cause = format!("it answered with HTTP status {}", parts.status.as_u16());
        return Err(refused(cause));
    }
    let status = match grpc::status_in(&parts.headers) {
        Some(status) => Some(status),
        None => {
            let read = grpc::read_unary(body, ANSWER).await;
            let (_, trailers) = read.map_err(|status| refused(status.message().to_owned()))?;
            trailers.and_then(|trailers| grpc::status_in(&trailers))
        }
    };
    match status {
        Some(status) if status.code() == Code::Ok => Ok(()),
        Some(status) => Err(Refused {
            may_repeat: matches!(
                status.code(),
                Code::Unavailable | Code::ResourceExhausted | Code::Aborted
            ),
            cause: format!("{:?}: {}", status.code(), status.message()),
        }),
        None => Err(refused("it answered without a gRPC status".to_owned())),
    }
}

/// An error with everything below it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text = format!("{text}: {cause}");
        below = cause.source();
    }
    text
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

//! Service invocation over the gRPC API: `InvokeService`.
//!
//! Owns service-invocation 2.3: a message becomes an invocation, a reply becomes a message or a status. Every
//! failure of the way is Internal, access denial included (H9). Stages 8, 9 and 23 for gRPC clients.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header, request::Parts};
use http_body_util::BodyExt as _;
use ironside_policy::{Method, Verb};
use ironside_proto::{
    common::{InvokeRequest, InvokeResponse},
    google::protobuf::Any,
    runtime::InvokeServiceRequest,
};
use tonic::{Code, Status};

use super::InvokeError;
use crate::{
    body::{self, Body},
    invocation::{
        AppStatus, Invocation, Length, Origin, Reply, chunks,
        context::{CallContext, Deadline},
        grpc, headers, status, wire,
    },
    traces::attributes,
    worker::Worker,
};

/// Serves one `InvokeService` call.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    request: Request<Body>,
    mut context: CallContext,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    context.deadline =
        grpc::timeout(&parts.headers).map(|left| Deadline::after(left, &worker.shared.clock));
    match answer(worker, parts, body, &context).await {
        Ok(response) => response,
        Err(status) => grpc::error(&status),
    }
}

async fn answer(
    worker: &Arc<Worker>,
    parts: Parts,
    body: Body,
    context: &CallContext,
) -> Result<Response<Body>, Status> {
    grpc::check_values(&parts.headers)?;
    let limit = worker.shared.config.max_message;
    let InvokeServiceRequest { id, message } =
        grpc::decode(grpc::read_message(body, limit).await?)?;
    let message = message.unwrap_or_default();
    if let Some(span) = &context.span {
        attributes::invoked(span, &id, &message.method);
    }
    let call = invocation(message, parts);
    let invoked = match call {
        Ok(call) => super::invoke(worker, &id, call, context).await,
        Err(error) => Err(error),
    };
    let reply = invoked.map_err(|error| failure(&id, &error))?;
    render(reply, context, limit).await
}

fn failure(id: &str, error: &InvokeError) -> Status {
    let text = || format!("failed to invoke, id: {id}, err: {error}");
    match error {
        InvokeError::Deadline => Status::deadline_exceeded(text()),
        InvokeError::RateLimited { .. } => Status::resource_exhausted(text()),
        // Its text alone, as in the reference (resiliency-observability 1.11).
        InvokeError::Breaker(refusal) => Status::unknown(refusal.to_string()),
        InvokeError::Target(_)
        | InvokeError::Method(_)
        | InvokeError::Resolve(_)
        | InvokeError::Body(_)
        | InvokeError::Hop(_)
        | InvokeError::Exhausted { .. }
        | InvokeError::Channel(_)
        | InvokeError::NoApp
        | InvokeError::NoStream
        | InvokeError::OldPeer(_) => Status::internal(text()),
    }
}

fn invocation(message: InvokeRequest, parts: Parts) -> Result<Invocation, InvokeError> {
    let InvokeRequest {
        method,
        data,
        content_type,
        http_extension,
    } = message;
    let Any { type_url, value } = data.unwrap_or_default();
    let mut metadata = parts.headers;
    headers::take_client_headers(&mut metadata);
    for name in [
        "te",
        "grpc-timeout",
        "grpc-encoding",
        "content-type",
        "content-length",
    ] {
        metadata.remove(name);
    }
    let authority = parts
        .uri
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let verb = http_extension
        .as_ref()
        .map_or(Verb::None, |extension| wire::verb_from_wire(extension.verb));
    Ok(Invocation {
        method: Method::parse(&method)?,
        verb,
        has_http: http_extension.is_some(),
        query: http_extension
            .map(|extension| extension.querystring)
            .unwrap_or_default()
            .into(),
        origin: Origin::Grpc,
        headers: metadata,
        pseudo: authority
            .map(|value| ("dapr-authority", value))
            .into_iter()
            .collect(),
        content_type: content_type.into(),
        type_url: type_url.into(),
        length: Length::Fixed(value.len() as u64),
        body: body::full(value).into(),
    })
}

async fn render(
    reply: Reply,
    context: &CallContext,
    limit: usize,
) -> Result<Response<Body>, Status> {
    let Reply {
        status,
        headers,
        trailers,
        content_type,
        type_url,
        body,
    } = reply;
    match status {
        AppStatus::Http(code) => {
            let code = if code == 0 { 200 } else { code };
            let mut initial = http_metadata(headers, context);
            initial.insert("dapr-http-status", HeaderValue::from(code));
            if !(200..300).contains(&code) {
                let shown = first_bytes(body, status::ERROR_INFO_BODY).await?;
                let status = status::status_from_http(code, &shown);
                return Ok(grpc::answer(initial, None, &status, HeaderMap::new()));
            }
            let message = message(body, limit, content_type, type_url).await?;
            Ok(grpc::answer(
                initial,
                Some(message),
                &Status::new(Code::Ok, ""),
                HeaderMap::new(),
            ))
        }
        AppStatus::Grpc {
            code,
            message: text,
            details,
        } => {
            let (initial, trailing) = (
                grpc_metadata(headers, context),
                grpc_metadata(trailers, context),
            );
            if code != Code::Ok {
                let status = status::with_details(code, &text, details);
                return Ok(grpc::answer(initial, None, &status, trailing));
            }
            let message = message(body, limit, content_type, type_url).await?;
            Ok(grpc::answer(
                initial,
                Some(message),
                &Status::new(Code::Ok, ""),
                trailing,
            ))
        }
    }
}

/// An HTTP app's headers as initial metadata.
fn http_metadata(mut headers: HeaderMap, context: &CallContext) -> HeaderMap {
    headers::strip_for_http(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    let mut metadata = headers::prefix_reserved(headers);
    context.trace.to_grpc(&mut metadata);
    metadata
}

/// A gRPC app's metadata, which it must not frame our answer with.
fn grpc_metadata(mut metadata: HeaderMap, context: &CallContext) -> HeaderMap {
    headers::strip_for_grpc(&mut metadata);
    context.trace.to_grpc(&mut metadata);
    metadata
}

async fn message(
    body: Body,
    limit: usize,
    content_type: Box<str>,
    type_url: Box<str>,
) -> Result<Bytes, Status> {
    let value = whole(body, limit).await?;
    Ok(chunks::message(&InvokeResponse {
        data: Some(Any {
            type_url: type_url.into(),
            value,
        }),
        content_type: content_type.into(),
    }))
}

async fn whole(mut body: Body, limit: usize) -> Result<Bytes, Status> {
    let mut slices: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame
            .map_err(|error| grpc::from_body_error(&error))?
            .into_data()
        else {
            continue;
        };
        size += data.len();
        if size > limit {
            let text = format!("grpc: trying to send message larger than max ({size} vs. {limit})");
            return Err(Status::resource_exhausted(text));
        }
        slices.push(data);
    }
    Ok(match <[Bytes; 1]>::try_from(slices) {
        Ok([only]) => only,
        Err(several) => several.concat().into(),
    })
}

async fn first_bytes(mut body: Body, wanted: usize) -> Result<Bytes, Status> {
    let mut all = BytesMut::new();
    while all.len() < wanted {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame
            .map_err(|error| grpc::from_body_error(&error))?
            .into_data()
        {
            all.extend_from_slice(&data);
        }
    }
    all.truncate(wanted);
    Ok(all.freeze())
}

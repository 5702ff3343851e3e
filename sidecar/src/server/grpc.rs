//! The gRPC API: one call, stage by stage.
//!
//! Reads as the list of service-invocation 2.1: API access list, token, trace and baggage, log, then the
//! method. Own methods are answered here, `InvokeService` by `outbound/service.rs`, methods of building blocks
//! by their table, reflection by its library; everything else is proxied. Messages that only the callee
//! understands are never parsed.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ironside_proto::{DESCRIPTORS, google, runtime};
use prost::Message;
use tonic::{Code, Status};
use tower_service::Service as _;

use super::{
    access_log, api_token,
    conn::Streams,
    observe::{self, Observed, Record},
};
use crate::{
    api::{
        access::SERVICE,
        blocks::{Block, Named},
        metadata,
    },
    body::{Body, BodyError},
    invocation::{context::CallContext, grpc, status},
    live::Live,
    outbound,
    worker::Worker,
};

/// Time that a request for one of our own methods has to arrive.
const OWN_LIMIT: Duration = Duration::from_secs(30);
/// The workflow engine's service.
pub(super) const TASK_HUB: &str = "/TaskHubSidecarService/";
const REFLECTION_V1: &str = "/grpc.reflection.v1.ServerReflection/";
const REFLECTION_V1_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/";

/// Answers one call of the API port.
pub(crate) async fn handle(
    worker: Arc<Worker>,
    streams: Arc<Streams>,
    request: Request<Incoming>,
) -> Result<Response<Observed>, Infallible> {
    let open = streams.open();
    let (head, incoming) = request.into_parts();
    if let Some(refusal) = not_grpc(&head) {
        return Ok(Observed::unrecorded(refusal, open));
    }
    let mut record = Record::grpc(&worker.shared, &head, open);
    let body = record.counted(incoming);
    let live = worker.shared.live();
    let response = admitted(&worker, &live, head, body, &mut record).await;
    Ok(record.finish(response))
}

/// What is no gRPC call is refused in HTTP, as the reference's library does.
fn not_grpc(head: &Parts) -> Option<Response<Body>> {
    let kind = head
        .headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.as_bytes());
    let status = if head.method != http::Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"application/grpc")) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut answer = grpc::error(&Status::internal(
        "invalid gRPC request: not a POST of application/grpc",
    ));
    *answer.status_mut() = status;
    Some(answer)
}

/// API access list, then token.
async fn admitted(
    worker: &Arc<Worker>,
    live: &Live,
    mut head: Parts,
    body: Body,
    record: &mut Record,
) -> Response<Body> {
    if !live.api.allows_grpc(head.uri.path()) {
        let metadata = [
            ("http.code", "501".to_owned()),
            (
                "http.error_message",
                "requested endpoint is not available".to_owned(),
            ),
        ];
        let closed = status::with_error_info(
            Code::Unimplemented,
            "Not Implemented",
            "Not Implemented",
            metadata,
        );
        return grpc::error(&closed);
    }
    let token = worker.shared.config.api_token.as_ref();
    if let Err(refused) = api_token::authenticate(token, &mut head.headers) {
        let metadata = [
            ("http.code", "401".to_owned()),
            ("http.error_message", refused.to_string()),
        ];
        let unknown = status::with_error_info(
            Code::Unauthenticated,
            "Unauthorized",
            "Unauthorized",
            metadata,
        );
        return grpc::error(&unknown);
    }
    traced(worker, live, head, body, record).await
}

async fn traced(
    worker: &Arc<Worker>,
    live: &Live,
    head: Parts,
    body: Body,
    record: &mut Record,
) -> Response<Body> {
    let context = match observe::grpc_context(&worker.shared, live, &head, record) {
        Ok(context) => context,
        Err(refusal) => return grpc::error(&refusal),
    };
    let line = access_log::grpc_line(&live.access_log, &head);
    let mut response = dispatched(worker, live, head, body, context).await;
    if let Some(line) = line {
        response.extensions_mut().insert(line);
    }
    response
}

async fn dispatched(
    worker: &Arc<Worker>,
    live: &Live,
    head: Parts,
    body: Body,
    context: CallContext,
) -> Response<Body> {
    let path = head.uri.path();
    if let Some(method) = path.strip_prefix(SERVICE) {
        if method == "InvokeService" {
            return outbound::service::serve(worker, Request::from_parts(head, body), context)
                .await;
        }
        let own = async {
            // They have no use for more, and are held while the body is awaited.
            grpc::check_values(&head.headers)?;
            let own = own(worker, live, method, &head, body);
            let elapsed = |_| Status::deadline_exceeded("the request did not arrive in time");
            tokio::time::timeout(OWN_LIMIT, own)
                .await
                .map_err(elapsed)?
        };
        let mut response = match own.await {
            Ok(response) => response,
            Err(status) => grpc::error(&status),
        };
        observe::tell_grpc_client(&context, response.headers_mut());
        return response;
    }
    if path.starts_with(TASK_HUB) {
        return grpc::error(&Status::unimplemented("workflows are not offered"));
    }
    if path.starts_with(REFLECTION_V1) || path.starts_with(REFLECTION_V1_ALPHA) {
        return reflection(Request::from_parts(head, body)).await;
    }
    outbound::proxy::serve(worker, Request::from_parts(head, body), context).await
}

/// A method of the public service that is not an invocation.
async fn own(
    worker: &Arc<Worker>,
    live: &Live,
    method: &str,
    head: &Parts,
    body: Body,
) -> Result<Response<Body>, Status> {
    let shared = &worker.shared;
    match method {
        "GetMetadata" => {
            read::<runtime::GetMetadataRequest>(worker, body).await?;
            Ok(grpc::unary(&metadata::message(
                &shared.config,
                live,
                &shared.metadata,
            )))
        }
        "SetMetadata" => {
            let runtime::SetMetadataRequest { key, value } = read(worker, body).await?;
            let kept = shared.metadata.set(key, value);
            kept.map_err(|cause| Status::invalid_argument(cause.to_string()))?;
            Ok(grpc::unary(&google::protobuf::Empty {}))
        }
        "Shutdown" => {
            read::<runtime::ShutdownRequest>(worker, body).await?;
            shared.shutdown.request(&head.headers);
            Ok(grpc::unary(&google::protobuf::Empty {}))
        }
        other => Err(not_offered(worker, other, body).await),
    }
}

async fn read<M: Message + Default>(worker: &Arc<Worker>, body: Body) -> Result<M, Status> {
    let bytes = grpc::read_message(body, worker.shared.config.max_message).await?;
    grpc::decode(bytes)
}

/// The status of a method of a building block, or of none.
async fn not_offered(worker: &Arc<Worker>, method: &str, body: Body) -> Status {
    let Some(block) = Block::of_rpc(method) else {
        return Status::unimplemented(format!("method {method} not implemented"));
    };
    if !block.names_in_message(method) {
        return block.status(method, "");
    }
    // A message that cannot be read names nothing, and the answer stays what it is.
    let name = read::<Named>(worker, body)
        .await
        .map(|named| named.name)
        .unwrap_or_default();
    block.status(method, &name)
}

/// Server reflection, both versions. The library keeps one stream's state; nothing outlives the call.
async fn reflection(request: Request<Body>) -> Response<Body> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .with_service_name("dapr.proto.runtime.v1.Dapr")
    };
    let answered = if request.uri().path().starts_with(REFLECTION_V1_ALPHA) {
        match builder().build_v1alpha() {
            Ok(mut service) => service.call(request).await,
            Err(cause) => return grpc::error(&Status::internal(cause.to_string())),
        }
    } else {
        match builder().build_v1() {
            Ok(mut service) => service.call(request).await,
            Err(cause) => return grpc::error(&Status::internal(cause.to_string())),
        }
    };
    let Ok(response) = answered;
    response.map(|body| {
        let broken = |status: Status| BodyError::Peer {
            code: status.code(),
            message: status.message().into(),
        };
        body.map_err(broken).boxed_unsync()
    })
}

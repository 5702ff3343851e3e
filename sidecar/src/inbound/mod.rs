//! The callee's half of an invocation: everything that arrives on the internal port.
//!
//! Two RPCs carry invocations (`call.rs`); every other method is a proxied call to the own app (`proxy.rs`), and
//! to nobody else: this port does not relay (O-C11). Stages 16 to 22.

use std::sync::Arc;

use http::{Request, Response};
use ironside_identity::VerifiedPeer;
use tonic::Status;

use crate::{
    body::Body,
    channel::busy::Busy,
    invocation::{
        context::{CallContext, Deadline},
        grpc,
    },
    live::Live,
    worker::Worker,
};

pub(crate) mod authorise;
pub(crate) mod call;
pub(crate) mod in_flight;
pub(crate) mod proxy;
pub(crate) mod rates;
pub(crate) mod unread;

pub(crate) const SERVICE: &str = "/dapr.proto.internals.v1.ServiceInvocation/";

/// Serves one request of the internal port; `peer` is who proved to be at the other end, `context` its trace.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    peer: Option<&Arc<VerifiedPeer>>,
    request: Request<Body>,
    mut context: CallContext,
) -> Response<Body> {
    if let Err(status) = grpc::check_values(request.headers()) {
        return grpc::error(&status);
    }
    context.deadline =
        grpc::timeout(request.headers()).map(|left| Deadline::after(left, &worker.shared.clock));
    // Nobody waits for it any more: it is not worth the app's time.
    let left = context.deadline.map(|at| at.left(&worker.shared.clock));
    if left.is_some_and(|left| left.is_zero()) {
        return grpc::error(&Status::deadline_exceeded("context deadline exceeded"));
    }
    let Some(method) = request.uri().path().strip_prefix(SERVICE) else {
        return proxy::serve(worker, peer, request, context).await;
    };
    match method {
        "CallLocalStream" => call::stream(worker, peer, request, context).await,
        "CallLocal" => call::unary(worker, peer, request, context).await,
        other => grpc::error(&Status::unimplemented(format!(
            "method {other} of service dapr.proto.internals.v1.ServiceInvocation is not offered: actors are no part of this sidecar"
        ))),
    }
}

/// Takes a token of the caller, where each may call only so fast. Part of stage 20, `admit`.
///
/// # Errors
/// [`Busy::Rate`].
pub(crate) fn rate(worker: &Worker, live: &Live, peer: Option<&VerifiedPeer>) -> Result<(), Busy> {
    let Some(limit) = live.inbound.rate_limit else {
        return Ok(());
    };
    let now = worker.shared.clock.monotonic().since_start();
    let taken = worker.shared.rates.take(limit, peer, now);
    taken.map_err(Busy::Rate)
}

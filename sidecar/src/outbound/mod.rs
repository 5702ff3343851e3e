//! The caller's half of an invocation: from a target to a reply.
//!
//! [`invoke`] joins the stages 10 to 15; `http.rs` and `service.rs` stand before it (8, 9) and turn its result
//! into what their client reads (23); `proxy.rs` does the same for gRPC calls that nobody here understands.

use std::{sync::Arc, time::Duration};

use ::http::HeaderValue;
use ironside_identity::{AppId, Namespace};
use ironside_policy::MethodError;
use ironside_resiliency::breaker::Refusal;
use ironside_resolution::{Authority, Target, TargetError};
use ironside_resources::GoDuration;
use tonic::{Code, Status};

use crate::{
    body::BodyError,
    channel::ChannelError,
    invocation::{Invocation, Reply, context::CallContext, status},
    payload::Way,
    peers::PeerKey,
    resolve::ResolveError,
    worker::Worker,
};

pub(crate) mod external;
pub(crate) mod guard;
pub(crate) mod http;
mod idle;
pub(crate) mod known;
pub(crate) mod plan;
pub(crate) mod proxy;
mod redirect;
pub(crate) mod replay;
pub(crate) mod replicas;
pub(crate) mod send;
pub(crate) mod service;

use guard::ways;
use plan::Route;

/// Why an invocation has no reply. Its text is what stands after `failed to invoke, id: <id>, err: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    /// The target is none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The method is none.
    #[error("rpc error: code = InvalidArgument desc = invalid method: {0}")]
    Method(#[from] MethodError),
    /// Nobody knows where the app listens.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The request body broke before anything else did.
    #[error("{0}")]
    Body(String),
    /// The peer's sidecar, or the way there, failed.
    #[error("{}", status::one_line(.0))]
    Hop(Box<Status>),
    /// The built-in retries were used up.
    #[error(
        "failed to invoke target {app} after {retries} retries. Error: {}",
        status::one_line(last)
    )]
    Exhausted {
        /// Target without namespace.
        app: AppId,
        /// How many.
        retries: u32,
        /// The last failure.
        last: Box<Status>,
    },
    /// The own app could not be called, or an external target.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// This sidecar has no app.
    #[error("cannot invoke local endpoint: app channel not initialized")]
    NoApp,
    /// An event stream was asked for and the app answered something else.
    #[error("no response received from stream")]
    NoStream,
    /// The peer cannot stream and the body cannot be sent again.
    #[error(
        "target app '{0}' is running a version of Dapr that does not support streaming-based service invocation"
    )]
    OldPeer(Box<str>),
    /// The caller stopped waiting, or a policy did.
    #[error("context deadline exceeded")]
    Deadline,
    /// A circuit breaker refused the call.
    #[error(transparent)]
    Breaker(Refusal),
    /// The rate that a policy allows is used up.
    #[error("rate limit of the target is used up: the next request may be sent in {}", GoDuration::from(*wait))]
    RateLimited {
        /// How long.
        wait: Duration,
    },
}

impl InvokeError {
    /// The HTTP status of this failure (service-invocation 1.13).
    pub(crate) fn http_status(&self) -> ::http::StatusCode {
        match self {
            Self::Hop(hop) if hop.code() == Code::PermissionDenied => ::http::StatusCode::FORBIDDEN,
            Self::RateLimited { .. } => ::http::StatusCode::TOO_MANY_REQUESTS,
            Self::Target(_)
            | Self::Method(_)
            | Self::Resolve(_)
            | Self::Body(_)
            | Self::Hop(_)
            | Self::Exhausted { .. }
            | Self::Channel(_)
            | Self::NoApp
            | Self::NoStream
            | Self::OldPeer(_)
            | Self::Breaker(_)
            | Self::Deadline => ::http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<&BodyError> for InvokeError {
    fn from(error: &BodyError) -> Self {
        // Policy may end a call when its answer has begun: to a caller that saw none of it that is a denial.
        if let BodyError::Peer { code, message } = error
            && *code == Code::PermissionDenied
        {
            return Self::Hop(Box::new(Status::new(*code, message.as_ref())));
        }
        Self::Body(error.to_string())
    }
}

/// The callee of a call that goes to an app.
#[derive(Debug, Clone)]
pub(crate) struct Callee {
    /// Its app ID.
    pub(crate) app_id: AppId,
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// The app ID as a header holds it.
    pub(crate) header: HeaderValue,
    /// The target as the client wrote it.
    pub(crate) written: Box<str>,
}

impl Callee {
    /// The connection that carries calls to it.
    pub(crate) fn key(&self, authority: Authority) -> PeerKey {
        PeerKey {
            authority,
            namespace: self.namespace.clone(),
            app_id: self.app_id.clone(),
        }
    }
}

/// Invokes a method: stages 10 to 15.
///
/// # Errors
/// [`InvokeError`] if no app answered.
pub(crate) async fn invoke(
    worker: &Arc<Worker>,
    target: &str,
    mut call: Invocation,
    context: &CallContext,
) -> Result<Reply, InvokeError> {
    let live = worker.shared.live();
    let target = Target::parse(target)?;
    let told = worker.shared.config.payloads.as_ref().map(|payloads| {
        payloads.request(Way::Outbound, &mut call);
        (payloads, call.method.clone())
    });
    let work = async {
        match plan::route(worker, &live, target)? {
            Route::Url(url) => {
                let destination = external::Destination::Url(url);
                Box::pin(ways::external(worker, destination, call, context, &live)).await
            }
            Route::Endpoint(endpoint, name) => {
                let destination = external::Destination::Endpoint(endpoint, name);
                Box::pin(ways::external(worker, destination, call, context, &live)).await
            }
            Route::Local(callee) => {
                Box::pin(ways::local(worker, &callee, call, context, &live)).await
            }
            Route::Peer(callee) => ways::peer(worker, &callee, call, context, &live).await,
        }
    };
    let reply = match context.deadline {
        Some(deadline) => tokio::time::timeout(deadline.left(&worker.shared.clock), work)
            .await
            .map_err(|_elapsed| InvokeError::Deadline)?,
        None => work.await,
    }?;
    Ok(match told {
        Some((payloads, method)) => payloads.reply(Way::Outbound, method.as_str(), reply),
        None => reply,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts K198, 3.10: a denial is 403, also when it comes where the body of the answer was expected.
    #[test]
    fn a_denial_after_the_head_of_an_answer_is_one() {
        for (code, status) in [(Code::PermissionDenied, 403), (Code::Internal, 500)] {
            let error = BodyError::Peer {
                code,
                message: "no".into(),
            };
            let error = InvokeError::from(&error);
            assert_eq!(error.http_status().as_u16(), status);
            let text = format!("rpc error: code = {code:?} desc = no");
            assert_eq!(error.to_string(), text);
        }
    }
}

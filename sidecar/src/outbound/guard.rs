//! Attempts of a call: what is tried again, and what the caller sees at the end.
//!
//! Drives [`ironside_resiliency::Attempts`] and owns the body's replay. Resolution happens inside, so that
//! another attempt may go elsewhere. Stage 11, `guard`.

use std::sync::Arc;

use ironside_resiliency::{Attempts, Outcome, Step};
use tonic::{Code, Status};

use super::{Callee, InvokeError, external, replay::Replay, send};
use crate::{
    channel::ChannelError,
    invocation::{Invocation, Length, Reply, context::CallContext},
    live::Live,
    worker::Worker,
};

/// Calls a peer, at most four times.
///
/// # Errors
/// [`InvokeError`] of the last attempt.
pub(crate) async fn peer(
    worker: &Arc<Worker>,
    callee: &Callee,
    mut call: Invocation,
    context: &CallContext,
) -> Result<Reply, InvokeError> {
    let replay = take_body(&mut call);
    let mut attempts = Attempts::built_in(replay.is_replayable());
    loop {
        let failure = match send::attempt(worker, callee, &call, replay.clone(), context).await {
            Ok(reply) => {
                replay.release();
                return Ok(reply);
            }
            Err(failure) => failure,
        };
        if !replay.is_replayable() {
            attempts.body_is_gone();
        }
        match attempts.next(failure.outcome(call.verb.is_idempotent())) {
            Step::Wait(pause) => tokio::time::sleep(pause).await,
            Step::Stop => return Err(failure.into()),
            Step::Exhausted(retries) => {
                let last = Box::new(failure.status());
                return Err(InvokeError::Exhausted {
                    app: callee.app_id.clone(),
                    retries,
                    last,
                });
            }
        }
    }
}

/// Calls an external target: the reference retries only what gRPC would, which an external target never says.
///
/// # Errors
/// [`InvokeError::Channel`].
pub(crate) async fn external(
    worker: &Worker,
    destination: external::Destination,
    call: Invocation,
    context: &CallContext,
    live: &Live,
) -> Result<Reply, InvokeError> {
    Ok(worker
        .external
        .call(destination, call, context, &live.app_pipeline)
        .await?)
}

fn take_body(call: &mut Invocation) -> Replay {
    let body = std::mem::replace(call.body.get_mut(), crate::body::empty());
    Replay::new(body, matches!(call.length, Length::Fixed(_)))
}

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer was not reached: nothing of the request left.
    Unreachable(Status),
    /// The connection broke under way.
    Lost(Status),
    /// Whatever another attempt would meet again.
    Final(InvokeError),
}

impl Failure {
    fn outcome(&self, idempotent: bool) -> Outcome {
        match self {
            Self::Unreachable(_) => Outcome::Unreachable,
            Self::Lost(_) => Outcome::Lost { idempotent },
            Self::Final(_) => Outcome::Final,
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Unreachable(status) | Self::Lost(status) => status,
            Self::Final(error) => Status::new(Code::Internal, error.to_string()),
        }
    }
}

impl From<Failure> for InvokeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(status) | Failure::Lost(status) => Self::Hop(Box::new(status)),
            Failure::Final(error) => error,
        }
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        Self::Final(error.into())
    }
}

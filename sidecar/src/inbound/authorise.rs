//! May this peer perform this operation here?
//!
//! Stage 19. Both forms of call, and a pipeline that rewrote a path, ask here. Without any policy
//! the answer is the reference's default, allow (security 3.2). Owns the text of a refusal, which names no rule;
//! what is told of a decision elsewhere is the business of `decisions/`.

use std::sync::Arc;

use ironside_identity::VerifiedPeer;
use ironside_policy::{Caller, Decision, Operation, Reason, Verb, VerbSet};
use tonic::Status;

use super::in_flight::Call;
use crate::{
    decisions::{
        Asked, Recorder,
        record::{Protocol, TraceNumber},
    },
    live::Live,
};

/// Asks policy and takes note of the answer; a refusal is the status that the caller sees (service-invocation
/// 1.13, E9).
///
/// # Errors
/// PermissionDenied, naming the peer, the operation and the verb; Unavailable before the first policy.
pub(crate) fn authorise(recorder: &Recorder, live: &Live, asked: &Asked<'_>) -> Result<(), Status> {
    let decision = live.policy.decide(asked.caller, &asked.operation);
    recorder.record(live, asked, &decision);
    outcome(live, asked, &decision)
}

/// Asks policy again about a call that was allowed. That one was noted already, so only a refusal is noted besides.
///
/// # Errors
/// As [`authorise`].
pub(crate) fn recheck(recorder: &Recorder, live: &Live, asked: &Asked<'_>) -> Result<(), Status> {
    let decision = live.policy.decide(asked.caller, &asked.operation);
    if !decision.is_allowed() {
        recorder.record(live, asked, &decision);
    }
    outcome(live, asked, &decision)
}

/// Takes note of a call that is for another app: this sidecar relays nothing (O-C11).
pub(crate) fn refused_relay(recorder: &Recorder, live: &Live, asked: &Asked<'_>) {
    recorder.record(live, asked, &Decision::deny(Reason::RelayRefused));
}

fn outcome(live: &Live, asked: &Asked<'_>, decision: &Decision) -> Result<(), Status> {
    if decision.is_allowed() {
        return Ok(());
    }
    let is_late = decision.verdict.matched().reason == Reason::PolicyUnavailable;
    if is_late && live.policy.is_pending() {
        return Err(Status::unavailable(
            "access control policy is not available yet",
        ));
    }
    let id = match asked.caller {
        Caller::Peer(id) => id.to_string(),
        Caller::Anonymous | Caller::Own => String::new(),
    };
    Err(Status::permission_denied(format!(
        "access control policy has denied access to id: {id} operation: {} verb: {}",
        asked.operation.method, asked.operation.verb
    )))
}

/// For whom a call was allowed: a pipeline that gives it another path asks again.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    /// Who proved to be at the other end.
    pub(crate) peer: Option<Arc<VerifiedPeer>>,
    /// The verbs that the app may take the request for.
    pub(crate) overrides: VerbSet,
    /// The call, if a new policy may end it.
    pub(crate) call: Option<Arc<Call>>,
    /// How the app is spoken to.
    pub(crate) protocol: Protocol,
    /// Who is told of a refusal.
    pub(crate) recorder: Arc<Recorder>,
}

impl Judged {
    /// Asks policy about another path of the same call.
    ///
    /// # Errors
    /// As [`recheck`].
    pub(crate) fn again(
        &self,
        live: &Live,
        trace: Option<TraceNumber>,
        method: &str,
        verb: Verb,
    ) -> Result<(), Status> {
        let asked = Asked {
            caller: caller(self.peer.as_deref()),
            operation: Operation {
                overrides: self.overrides,
                ..Operation::invoke(method, verb)
            },
            raw: method,
            protocol: self.protocol,
            trace,
        };
        recheck(&self.recorder, live, &asked)?;
        if let Some(call) = &self.call {
            call.rewritten(method, verb);
        }
        Ok(())
    }
}

/// Who a connection's peer is to policy.
pub(crate) fn caller(peer: Option<&VerifiedPeer>) -> Caller<'_> {
    peer.map_or(Caller::Anonymous, |peer| Caller::Peer(&peer.id))
}

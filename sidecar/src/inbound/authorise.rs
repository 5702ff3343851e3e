//! May this peer perform this operation here?
//!
//! Stage 19. Both forms of call, and a pipeline that rewrote a path, ask here. Without any policy
//! the answer is the reference's default, allow (security 3.2). Owns the text of a refusal, which names no rule;
//! what is told of a decision elsewhere is the business of `decisions/`.

use std::{fmt, sync::Arc};

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
    worker::Worker,
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

/// Whether the rules allow a call; nothing is noted.
pub(crate) fn is_allowed(live: &Live, asked: &Asked<'_>) -> bool {
    let decision = live.policy.decide(asked.caller, &asked.operation);
    decision.is_allowed()
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
#[derive(Clone)]
pub(crate) struct Judged {
    /// Who proved to be at the other end.
    pub(crate) peer: Option<Arc<VerifiedPeer>>,
    /// The verbs that the app may take the request for.
    pub(crate) overrides: VerbSet,
    /// The call, if a new policy may end it.
    pub(crate) call: Option<Arc<Call>>,
    /// How the app is spoken to.
    pub(crate) protocol: Protocol,
    /// Knows the rules in force, and whom to tell of a refusal.
    pub(crate) worker: Arc<Worker>,
}

impl Judged {
    /// Asks the policy of now about another path of the same call.
    ///
    /// # Errors
    /// As [`recheck`].
    pub(crate) fn again(
        &self,
        trace: Option<TraceNumber>,
        method: &str,
        verb: Verb,
    ) -> Result<(), Status> {
        // First, so that rules that are published from here on are asked about this path too.
        if let Some(call) = &self.call {
            call.rewritten(method, verb);
        }
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
        recheck(&self.worker.decisions, &self.worker.shared.live(), &asked)
    }
}

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Judged");
        all.field("peer", &self.peer);
        all.finish_non_exhaustive()
    }
}

/// Who a connection's peer is to policy.
pub(crate) fn caller(peer: Option<&VerifiedPeer>) -> Caller<'_> {
    peer.map_or(Caller::Anonymous, |peer| Caller::Peer(&peer.id))
}

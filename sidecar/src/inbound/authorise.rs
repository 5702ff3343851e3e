//! May this peer perform this operation here?
//!
//! Stage 19. Both forms of call, and a pipeline that rewrote a path, ask here. Without any policy
//! the answer is the reference's default, allow (security 3.2). Owns the text of a refusal, which names no rule,
//! and the log line, which does.

use std::sync::Arc;

use ironside_identity::VerifiedPeer;
use ironside_policy::{Caller, Operation, PolicySet, Reason, Verb, VerbSet, Verdict};
use tonic::Status;

use super::in_flight::Call;

/// Asks policy; a refusal is the status that the caller sees (service-invocation 1.13, E9).
///
/// # Errors
/// PermissionDenied, naming the peer, the operation and the verb; Unavailable before the first policy.
pub(crate) fn authorise(
    policy: &PolicySet,
    caller: Caller<'_>,
    operation: &Operation<'_>,
) -> Result<(), Status> {
    let decision = policy.decide(caller, operation);
    let Verdict::Deny(matched) = decision.verdict else {
        return Ok(());
    };
    let id = match caller {
        Caller::Peer(id) => id.to_string(),
        Caller::Anonymous | Caller::Own => String::new(),
    };
    let place = matched.rule.and_then(|rule| policy.place(rule));
    tracing::debug!(
        target: "dapr.acl",
        {
            peer.id = %id,
            operation = %operation.method.escape_default(),
            decision.reason = matched.reason.as_str(),
            policy.object = place.map(|place| place.object()),
            policy.rule = place.map(tracing::field::display),
        },
        "access denied"
    );
    if matched.reason == Reason::PolicyUnavailable {
        return Err(Status::unavailable(
            "access control policy is not available yet",
        ));
    }
    Err(Status::permission_denied(format!(
        "access control policy has denied access to id: {id} operation: {} verb: {}",
        operation.method, operation.verb
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
}

impl Judged {
    /// Asks policy about another path of the same call.
    ///
    /// # Errors
    /// As [`authorise`].
    pub(crate) fn again(&self, policy: &PolicySet, method: &str, verb: Verb) -> Result<(), Status> {
        let operation = Operation {
            overrides: self.overrides,
            ..Operation::invoke(method, verb)
        };
        authorise(policy, caller(self.peer.as_deref()), &operation)?;
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

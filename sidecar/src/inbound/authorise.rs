//! May this peer perform this operation here?
//!
//! Stage 19. Both forms of call, and a pipeline that rewrote a path, ask here. As long as no policy is loaded
//! the answer is the reference's default, allow (security 3.2).

use ironside_identity::VerifiedPeer;
use ironside_policy::{Decision, Operation, PolicySet};
use tonic::Status;

/// Asks policy; a refusal is the status that the caller sees (service-invocation 1.13, E9).
///
/// # Errors
/// PermissionDenied, naming the peer, the operation and the verb.
pub(crate) fn authorise(
    policy: &PolicySet,
    peer: Option<&VerifiedPeer>,
    operation: &Operation<'_>,
) -> Result<(), Status> {
    match policy.decide(operation) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(_) => {
            let id = peer.map(|peer| peer.id.to_string()).unwrap_or_default();
            tracing::debug!(
                target: "dapr.runtime.acl", { peer.id = %id, operation = %operation.method }, "access denied"
            );
            Err(Status::permission_denied(format!(
                "access control policy has denied access to id: {id} operation: {} verb: {}",
                operation.method, operation.verb
            )))
        }
    }
}

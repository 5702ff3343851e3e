//! At which stage of its way a call failed, by the text that the sidecar answered with.
//!
//! Pure. The texts are those of docs/errors.md, `ERR_DIRECT_INVOKE`.

/// Pieces of texts, the stage they belong to, and what to do; the first that fits counts.
const STAGES: [(&[&str], &str, &str); 12] = [
    (
        &["access control policy is not available yet"],
        "policy",
        "the callee's sidecar waits for its rules: its log says for what; does the operator run?",
    ),
    (
        &["PermissionDenied", "access control policy has denied"],
        "policy",
        "allow the caller in the callee's rules; ironside accesscontrol why last says which rule decided",
    ),
    (
        &[
            "couldn't find service",
            "timeout waiting for address",
            "no host found",
            "failed to look up address",
        ],
        "resolution",
        "is the callee running, under this app ID and namespace, with the same name resolution as the caller?",
    ),
    (
        &["name resolution component"],
        "resolution",
        "correct spec.nameResolution of the caller's Configuration",
    ),
    (
        &[
            "app channel is not initialized",
            "app channel not initialized",
        ],
        "app",
        "start the callee's sidecar with --app-port",
    ),
    (
        &["app is not in a healthy state"],
        "app",
        "have the app answer its health probe with 2xx",
    ),
    (
        &["error invoking app channel"],
        "app",
        "does the app listen on its --app-port, and speak its --app-protocol?",
    ),
    (
        &[
            "first record does not look like a TLS handshake",
            "error reading server preface",
        ],
        "identity",
        "the same --enable-mtls on both sides",
    ),
    (
        &["unexpected SPIFFE ID"],
        "identity",
        "another app answers at that address: wrong namespace, or a stale registration",
    ),
    (
        &[
            "signed by an unknown authority",
            "certificate of",
            "trust anchor",
            "handshake failed",
            "no identity to show yet",
            "own certificate expired",
        ],
        "identity",
        "both sidecars need valid certificates below the same root: see their logs and Sentry's",
    ),
    (
        &[
            "Error while dialing",
            "connection refused",
            "i/o timeout",
            "no route to host",
        ],
        "port",
        "is the callee's sidecar up, and its internal port reachable from the caller's machine?",
    ),
    (
        &["context deadline exceeded"],
        "app",
        "the app takes longer than the deadline of the call",
    ),
];

/// The stage that a text speaks of, and what to do.
pub(super) fn of(text: &str) -> (&'static str, &'static str) {
    let known = STAGES
        .iter()
        .find(|(pieces, _, _)| pieces.iter().any(|piece| text.contains(piece)));
    match known {
        Some((_, stage, fix)) => (stage, fix),
        None => ("call", "docs/errors.md explains the text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_leads_to_its_stage() {
        for (text, expected) in [
            (
                "failed to invoke, id: b, err: couldn't find service: b",
                "resolution",
            ),
            (
                "failed to invoke target b after 3 retries. Error: rpc error: code = Unavailable desc = connection \
                 error: desc = \"transport: Error while dialing: dial tcp 1.2.3.4:5: connect: connection refused\"",
                "port",
            ),
            (
                "rpc error: code = Internal desc = error invoking app channel: Get \"http://127.0.0.1:3000/x\": dial \
                 tcp 127.0.0.1:3000: connect: connection refused",
                "app",
            ),
            (
                "rpc error: code = PermissionDenied desc = access control policy has denied access to id: x",
                "policy",
            ),
            (
                "desc = \"transport: authentication handshake failed: unexpected SPIFFE ID: \"x\"\"",
                "identity",
            ),
            ("app channel is not initialized", "app"),
            ("something new", "call"),
        ] {
            assert_eq!(of(text).0, expected, "{text}");
        }
    }
}

//! Who asks, and for which namespace (kubernetes 3.7).
//!
//! Owns the one rule: a sidecar reads its own namespace. Who it is, its certificate says; the trust domain is not
//! compared, because apps may have their own.

use ironside_identity::VerifiedPeer;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tonic::{Request, Status};

/// Request metadata of this project: the pod of the sidecar.
const POD: &str = "ironside-pod-name";
/// Request and response metadata of this project: a stream begins with all there is.
pub(crate) const SNAPSHOT: &str = "ironside-snapshot";

/// A sidecar that may read its namespace.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) namespace: Arc<str>,
    pub(crate) app_id: Arc<str>,
    /// What it says its pod is called.
    pub(crate) pod: Option<Arc<str>>,
    pub(crate) address: Option<IpAddr>,
    /// It asks for a snapshot.
    pub(crate) wants_snapshot: bool,
}

// === impl Caller ===

impl Caller {
    /// Judges a request for `namespace`.
    ///
    /// # Errors
    /// `PermissionDenied`, in the words of the reference.
    pub(crate) fn of<T>(request: &Request<T>, namespace: &str) -> Result<Self, Status> {
        let peer = request.extensions().get::<VerifiedPeer>();
        let id = &peer
            .ok_or_else(|| Status::permission_denied("failed to determine identity"))?
            .id;
        let own = id.namespace().as_str();
        if namespace.is_empty() || namespace != own {
            return Err(Status::permission_denied(format!(
                "identity does not match requested namespace exp={namespace} got={own}"
            )));
        }
        let text = |name| request.metadata().get(name)?.to_str().ok();
        let from = request.extensions().get::<SocketAddr>();
        Ok(Self {
            namespace: own.into(),
            app_id: id.app_id().as_str().into(),
            pod: text(POD).filter(|pod| is_name(pod)).map(Into::into),
            address: from.map(|from| from.ip().to_canonical()),
            wants_snapshot: text(SNAPSHOT) == Some("1"),
        })
    }
}

/// Whether a text may be the name of a pod: it becomes part of a path.
pub(crate) fn is_name(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_inner) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironside_identity::SpiffeId;
    use std::time::SystemTime;
    use tonic::Code;

    fn request(id: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(id) = id {
            request.extensions_mut().insert(VerifiedPeer {
                id: SpiffeId::parse(id).unwrap(),
                not_after: SystemTime::UNIX_EPOCH,
                chain: Vec::new().into(),
            });
        }
        request
    }

    /// KG-03.
    #[test]
    fn a_sidecar_reads_its_own_namespace() {
        let own = "spiffe://any.domain/ns/ns1/app1";
        let ask = |id, namespace| Caller::of(&request(id), namespace);
        let caller = ask(Some(own), "ns1").unwrap();
        assert_eq!((&*caller.namespace, &*caller.app_id), ("ns1", "app1"));
        for (id, namespace, text) in [
            (
                Some(own),
                "ns2",
                "identity does not match requested namespace exp=ns2 got=ns1",
            ),
            (
                Some(own),
                "",
                "identity does not match requested namespace exp= got=ns1",
            ),
            (None, "ns1", "failed to determine identity"),
        ] {
            let refused = ask(id, namespace).unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
            assert_eq!(refused.message(), text);
        }
    }

    #[test]
    fn a_pod_has_a_name() {
        let mut request = request(Some("spiffe://td/ns/ns1/app1"));
        let caller = Caller::of(&request, "ns1").unwrap();
        assert_eq!((caller.pod, caller.wants_snapshot), (None, false));
        request
            .metadata_mut()
            .insert(POD, "app1-7f9".parse().unwrap());
        request
            .metadata_mut()
            .insert(SNAPSHOT, "1".parse().unwrap());
        let caller = Caller::of(&request, "ns1").unwrap();
        assert_eq!(caller.pod.as_deref(), Some("app1-7f9"));
        assert!(caller.wants_snapshot);
        for odd in ["../secrets/x", "a/b", "A", "", "a?b=c", "."] {
            assert!(!is_name(odd), "{odd}");
        }
    }
}

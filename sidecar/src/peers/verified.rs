//! Until when a peer has proved who it is, on whatever connection.
//!
//! Both halves record here what a handshake verified, and both ask here whether a connection with open streams
//! may outlive the certificate that opened it (K086). Bounded: an entry goes when its certificate has expired.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use ironside_identity::{SpiffeId, VerifiedPeer};

/// The memory of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct VerifiedPeers(Arc<Mutex<HashMap<SpiffeId, SystemTime>>>);

impl VerifiedPeers {
    /// Remembers that `peer` proved its identity until its certificate expires.
    pub(crate) fn record(&self, peer: &VerifiedPeer, now: SystemTime) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, until| *until > now);
        let until = peers.entry(peer.id.clone()).or_insert(peer.not_after);
        *until = (*until).max(peer.not_after);
    }

    /// The latest expiry among the certificates that this identity has shown.
    pub(crate) fn valid_until(&self, id: &SpiffeId) -> Option<SystemTime> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .copied()
    }
}

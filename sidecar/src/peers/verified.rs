//! Until when a peer has proved who it is, on whatever connection.
//!
//! Both halves record here what a handshake verified, and both ask here whether a connection with open streams
//! may outlive the certificate that opened it (K086). A proof is judged by the trust anchors of the moment at which
//! it is asked for, so that one under a withdrawn root is none (O-C8). Bounded: an entry goes when its certificate
//! has expired.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use ironside_identity::{SpiffeId, TrustBundle, VerifiedPeer};

/// The memory of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct VerifiedPeers(Arc<Mutex<HashMap<SpiffeId, VerifiedPeer>>>);

impl VerifiedPeers {
    /// Remembers that `peer` proved its identity until its certificate expires.
    pub(crate) fn record(&self, peer: &VerifiedPeer, now: SystemTime) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, proof| proof.not_after > now);
        let proof = peers.entry(peer.id.clone()).or_insert_with(|| peer.clone());
        if proof.not_after < peer.not_after {
            *proof = peer.clone();
        }
    }

    /// The expiry of the certificate that this identity has shown and that lasts longest, if it leads to one of
    /// `anchors` now.
    pub(crate) fn valid_until(
        &self,
        id: &SpiffeId,
        anchors: &TrustBundle,
        now: SystemTime,
    ) -> Option<SystemTime> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = peers.get(id).cloned();
        drop(peers);
        let proof = proof.filter(|proof| proof.verify_again(anchors, now).is_ok())?;
        Some(proof.not_after)
    }

    /// True if a connection that `peer` opened may go on by these anchors. A certificate that is still valid must
    /// itself lead to one of them: a root that is taken away in haste takes what it vouched for along. One that has
    /// run out, and is outlived by a newer one, is judged by that newer one: by the time a root is withdrawn in
    /// peace, nothing that it vouched for is valid any more.
    pub(crate) fn still_trusts(
        &self,
        peer: &VerifiedPeer,
        anchors: &TrustBundle,
        now: SystemTime,
    ) -> bool {
        if now <= peer.not_after {
            return peer.verify_again(anchors, now).is_ok();
        }
        self.valid_until(&peer.id, anchors, now).is_some()
    }
}

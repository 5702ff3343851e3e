//! How long a connection of another sidecar may stay: until its certificate runs out, and a little longer.
//!
//! Owns rule K086 for the accepting side: at the peer's `NotAfter` the connection is closed, unless it has open
//! streams and a currently valid certificate of the same SPIFFE ID was verified on another connection; then
//! it is told to go and looked at again when that one runs out. And O-C8: when the trust anchors change so
//! that the peer's chain no longer verifies, it is closed at once.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use ironside_chassis::Clock;
use ironside_identity::VerifiedPeer;
use ironside_transport::IdentityRx;

use super::conn::Streams;
use crate::peers::verified::VerifiedPeers;

#[cfg(test)]
mod tests;

/// The wall clock may be set; so it is read at least this often.
const LOOK: Duration = Duration::from_secs(4);

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Now.
    Close,
    /// Its streams may finish; no new ones.
    GoAway,
}

/// The right of one connection to stay.
#[derive(Debug)]
pub(crate) struct Lease {
    peer: Arc<VerifiedPeer>,
    until: SystemTime,
    verified: VerifiedPeers,
    identity: IdentityRx,
    clock: Clock,
}

// === impl Lease ===

impl Lease {
    /// The lease of a connection whose handshake has just verified `peer`.
    pub(crate) fn new(
        peer: Arc<VerifiedPeer>,
        verified: VerifiedPeers,
        mut identity: IdentityRx,
        clock: Clock,
    ) -> Self {
        identity.mark_unchanged();
        Self {
            until: peer.not_after,
            peer,
            verified,
            identity,
            clock,
        }
    }

    /// Waits for something to happen to the connection. Cancel-safe.
    pub(crate) async fn next(&mut self, streams: &Streams) -> Verdict {
        loop {
            let now = self.clock.now();
            match self.until.duration_since(now) {
                Ok(left) if !left.is_zero() => tokio::select! {
                    () = tokio::time::sleep(left.min(LOOK)) => {}
                    changed = self.identity.changed() => match changed {
                        Ok(()) if self.is_trusted() => {}
                        Ok(()) => return Verdict::Close,
                        // The identity task has ended with the process.
                        Err(_ended) => tokio::time::sleep(left.min(LOOK)).await,
                    }
                },
                Ok(_) | Err(_) => return self.at_expiry(now, streams),
            }
        }
    }

    fn at_expiry(&mut self, now: SystemTime, streams: &Streams) -> Verdict {
        let anchors = self
            .identity
            .borrow()
            .as_ref()
            .map(|own| own.bundle.clone());
        let until = anchors.and_then(|anchors| {
            let id = &self.peer.id;
            self.verified.valid_until(id, &anchors, now)
        });
        match until.filter(|until| *until > now) {
            Some(until) if streams.is_busy() => {
                self.until = until;
                Verdict::GoAway
            }
            Some(_) | None => Verdict::Close,
        }
    }

    /// True if the peer is still believed by the anchors in effect.
    fn is_trusted(&self) -> bool {
        let Some(identity) = self.identity.borrow().clone() else {
            return true;
        };
        let now = self.clock.now();
        self.verified
            .still_trusts(&self.peer, &identity.bundle, now)
    }
}

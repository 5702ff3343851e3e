//! K086 and O-C8, with a clock that is moved by hand and certificates made on the spot.

use std::time::Duration;

use ironside_chassis::clock::ManualClock;
use ironside_identity::{Svid, TrustBundle, verify};
use ironside_testkit::certs::{Ca, now};
use ironside_transport::Identity;
use tokio::sync::watch;

use super::*;

const PEER: &str = "spiffe://public/ns/default/appb";
const LIFETIME: Duration = Duration::from_secs(60);

struct Rig {
    ca: Ca,
    clock: Clock,
    hand: ManualClock,
    start: SystemTime,
    identity: watch::Sender<Option<Arc<Identity>>>,
    verified: VerifiedPeers,
}

impl Rig {
    fn new() -> Self {
        let (ca, start) = (Ca::new(), now());
        let (clock, hand) = Clock::manual(start);
        let identity = watch::Sender::new(Some(identity(&ca, ca.bundle(), 1)));
        Self {
            ca,
            clock,
            hand,
            start,
            identity,
            verified: VerifiedPeers::default(),
        }
    }

    /// A certificate of the peer that ends `lifetime` after the start.
    fn peer(&self, lifetime: Duration) -> VerifiedPeer {
        let from = self.start - Duration::from_secs(60);
        let svid = self.ca.svid(PEER).valid(from, self.start + lifetime).svid();
        verify(svid.chain(), &self.ca.bundle(), self.start).unwrap()
    }

    fn lease(&self) -> Lease {
        let peer = Arc::new(self.peer(LIFETIME));
        self.verified.record(&peer, self.start);
        Lease::new(
            peer,
            self.verified.clone(),
            self.identity.subscribe(),
            self.clock.clone(),
        )
    }
}

fn identity(ca: &Ca, bundle: TrustBundle, generation: u64) -> Arc<Identity> {
    let svid: Svid = ca.svid("spiffe://public/ns/default/appa").svid();
    Arc::new(Identity {
        svid: Arc::new(svid),
        bundle: Arc::new(bundle),
        generation,
    })
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_closes_the_connection() {
    let rig = Rig::new();
    let (mut lease, streams) = (rig.lease(), Arc::new(Streams::default()));
    let _open = streams.open();
    rig.hand.advance(LIFETIME - Duration::from_secs(1));
    let early = tokio::time::timeout(Duration::from_millis(900), lease.next(&streams)).await;
    assert!(early.is_err(), "it is valid for another second");
    rig.hand.advance(Duration::from_secs(1));
    assert_eq!(lease.next(&streams).await, Verdict::Close);
}

#[tokio::test(start_paused = true)]
async fn open_streams_live_on_under_a_newer_certificate_and_not_longer() {
    let rig = Rig::new();
    let (mut lease, streams) = (rig.lease(), Arc::new(Streams::default()));
    let open = streams.open();
    rig.verified.record(&rig.peer(LIFETIME * 2), rig.start);
    rig.hand.advance(LIFETIME);
    assert_eq!(lease.next(&streams).await, Verdict::GoAway);
    rig.hand.advance(LIFETIME);
    assert_eq!(lease.next(&streams).await, Verdict::Close);
    drop(open);
}

#[tokio::test(start_paused = true)]
async fn without_streams_a_newer_certificate_does_not_help() {
    let rig = Rig::new();
    let (mut lease, streams) = (rig.lease(), Arc::new(Streams::default()));
    rig.verified.record(&rig.peer(LIFETIME * 2), rig.start);
    rig.hand.advance(LIFETIME);
    assert_eq!(lease.next(&streams).await, Verdict::Close);
}

#[tokio::test(start_paused = true)]
async fn another_peers_certificate_does_not_help() {
    let rig = Rig::new();
    let (mut lease, streams) = (rig.lease(), Arc::new(Streams::default()));
    let _open = streams.open();
    let other = rig.ca.svid("spiffe://public/ns/other/appb").svid();
    let other = verify(other.chain(), &rig.ca.bundle(), rig.start).unwrap();
    rig.verified.record(&other, rig.start);
    rig.hand.advance(LIFETIME);
    assert_eq!(lease.next(&streams).await, Verdict::Close);
}

/// Fact: security O-C8.
#[tokio::test(start_paused = true)]
async fn anchors_that_no_longer_hold_the_peer_close_the_connection() {
    let rig = Rig::new();
    let (mut lease, streams) = (rig.lease(), Arc::new(Streams::default()));
    let _open = streams.open();
    rig.identity
        .send_replace(Some(identity(&rig.ca, rig.ca.bundle(), 2)));
    let renewed = tokio::time::timeout(Duration::from_secs(1), lease.next(&streams)).await;
    assert!(
        renewed.is_err(),
        "a renewal under the same anchors changes nothing"
    );
    rig.identity
        .send_replace(Some(identity(&rig.ca, Ca::new().bundle(), 3)));
    assert_eq!(lease.next(&streams).await, Verdict::Close);
}

/// K090: a stream that began under the first root outlives its withdrawal, if the peer has proved itself by the second;
/// the certificate that opened it has run out long since.
#[tokio::test(start_paused = true)]
async fn a_root_that_is_withdrawn_in_peace_cuts_no_stream() {
    let rig = Rig::new();
    let (mut lease, streams) = (rig.lease(), Arc::new(Streams::default()));
    let _open = streams.open();
    let next = Ca::new();
    let both = rig.ca.bundle().merge(&next.bundle());
    rig.identity
        .send_replace(Some(identity(&rig.ca, both.clone(), 2)));
    let renewed = next
        .svid(PEER)
        .valid(rig.start, rig.start + LIFETIME * 3)
        .svid();
    let renewed = verify(renewed.chain(), &both, rig.start).unwrap();
    rig.verified.record(&renewed, rig.start);
    rig.hand.advance(LIFETIME + Duration::from_secs(1));
    assert_eq!(lease.next(&streams).await, Verdict::GoAway);
    rig.identity
        .send_replace(Some(identity(&next, next.bundle(), 3)));
    let withdrawn = tokio::time::timeout(Duration::from_secs(1), lease.next(&streams)).await;
    assert!(withdrawn.is_err(), "the newer proof holds: {withdrawn:?}");
    rig.identity
        .send_replace(Some(identity(&next, Ca::new().bundle(), 4)));
    assert_eq!(lease.next(&streams).await, Verdict::Close);
}

/// A proof under a root that is gone lets nothing live on.
#[tokio::test(start_paused = true)]
async fn a_proof_by_a_withdrawn_root_is_none() {
    let rig = Rig::new();
    let (mut lease, streams) = (rig.lease(), Arc::new(Streams::default()));
    let _open = streams.open();
    let other = Ca::new();
    let svid = other
        .svid(PEER)
        .valid(rig.start, rig.start + LIFETIME * 3)
        .svid();
    let proof = verify(svid.chain(), &other.bundle(), rig.start).unwrap();
    rig.verified.record(&proof, rig.start);
    rig.hand.advance(LIFETIME);
    assert_eq!(lease.next(&streams).await, Verdict::Close);
}

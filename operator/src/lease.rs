//! Which replica acts: the Lease `operator.dapr.io`.
//!
//! Owns the election by the rules of the reference's library, so that its operator and this one never act at once: a
//! lease of 15 s that is renewed every 2 s, given up when it could not be renewed for 10 s, and released at a clean
//! stop (kubernetes 3.2). Whether others hold it is judged by this replica's own clock, from when it saw the lease
//! change last. The holder's address stands in an annotation, for followers. What a leader does is not known here.

use crate::cluster::{CallError, Calls, Place};
use crate::metrics::Metrics;
use ironside_chassis::{Clock, Tick};
use ironside_identity::Namespace;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.operator.election";
/// Name of the Lease.
pub(crate) const NAME: &str = "operator.dapr.io";
/// Annotation of the Lease: where the holder serves.
const ADDRESS: &str = "dapr.io/operator-address";
/// How long a lease holds after its last renewal.
const LEASE: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long is none any more.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_secs(2);
/// Time for one attempt, and for the release.
const LIMIT: Duration = Duration::from_secs(4);

/// Who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// This replica acts.
    pub(crate) is_leader: bool,
    /// Where another replica that acts serves its gRPC API.
    pub(crate) leader_address: Option<String>,
}

/// One candidate.
pub(crate) struct Election {
    calls: Calls,
    namespace: Namespace,
    clock: Clock,
    metrics: Metrics,
    candidate: Candidate,
    publish: watch::Sender<Leadership>,
    trouble: Option<String>,
}

/// What a candidate knows; pure.
#[derive(Debug)]
struct Candidate {
    name: String,
    address: Option<String>,
    /// The lease as it was when it changed last, and when that was seen.
    seen: Option<(Value, Tick)>,
    renewed: Option<Tick>,
}

/// What a lease lets a candidate do.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Value),
    Replace(Value),
    /// Another one holds it, at this address.
    Follow(Option<String>),
}

// === impl Election ===

impl Election {
    /// A candidate called `name`, which serves at `address`.
    pub(crate) fn new(
        calls: Calls,
        namespace: Namespace,
        (name, address): (String, Option<String>),
        clock: Clock,
        metrics: Metrics,
    ) -> (Self, watch::Receiver<Leadership>) {
        let (publish, leadership) = watch::channel(Leadership::default());
        let election = Self {
            calls,
            namespace,
            clock,
            metrics,
            candidate: Candidate {
                name,
                address,
                seen: None,
                renewed: None,
            },
            publish,
            trouble: None,
        };
        (election, leadership)
    }

    /// Stands for election until `stop`, then releases what it holds.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.turn()).await.is_some() {
            let pause = tokio::time::sleep(RETRY.min(self.remaining()));
            if stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        self.release().await;
    }

    async fn turn(&mut self) {
        // A lease holds from when it was asked for, whenever the answer comes.
        let begun = self.clock.monotonic();
        let limit = LIMIT.min(self.remaining());
        let attempt = tokio::time::timeout(limit, self.attempt()).await;
        let attempt = attempt.unwrap_or(Err(CallError::Slow(limit)));
        match attempt {
            Ok(leadership) => {
                if leadership.is_leader {
                    self.candidate.renewed = Some(begun);
                }
                self.trouble = None;
                self.tell(leadership);
            }
            Err(cause) => {
                let text = cause.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    warn!(target: SCOPE, "Cannot stand for election, trying again: {text}");
                    self.trouble = Some(text);
                }
                if self.candidate.has_lapsed(self.clock.monotonic()) {
                    self.tell(Leadership::default());
                }
            }
        }
    }

    /// How long it may still act if it cannot renew; as long as it likes if it does not act.
    fn remaining(&self) -> Duration {
        if self.publish.borrow().is_leader {
            self.candidate.remaining(self.clock.monotonic())
        } else {
            Duration::MAX
        }
    }

    async fn attempt(&mut self) -> Result<Leadership, CallError> {
        let namespace = Some(self.namespace.as_str());
        let lease = self.calls.get(Place::LEASES, namespace, NAME).await?;
        let now = self.clock.monotonic();
        let step = self.candidate.step(lease, now, &stamp(self.clock.now()));
        let written = match &step {
            Step::Follow(address) => {
                return Ok(Leadership {
                    is_leader: false,
                    leader_address: address.clone(),
                });
            }
            Step::Create(lease) => self.calls.create(Place::LEASES, namespace, lease).await,
            Step::Replace(lease) => {
                self.calls
                    .replace(Place::LEASES, namespace, NAME, lease)
                    .await
            }
        };
        match written {
            Ok(lease) => {
                self.candidate.saw(&lease, now);
                Ok(Leadership {
                    is_leader: true,
                    leader_address: None,
                })
            }
            // Somebody was quicker; who, is seen next time.
            Err(lost) if lost.is_conflict() => Ok(Leadership::default()),
            Err(cause) => Err(cause),
        }
    }

    fn tell(&self, leadership: Leadership) {
        self.metrics.show_leader(leadership.is_leader);
        let was = self.publish.borrow().is_leader;
        match (was, leadership.is_leader) {
            (false, true) => info!(target: SCOPE, "This replica leads now"),
            (true, false) => warn!(target: SCOPE, "This replica leads no longer"),
            (true, true) | (false, false) => {}
        }
        self.publish.send_if_modified(|held| {
            let news = *held != leadership;
            *held = leadership;
            news
        });
    }

    /// Lets the next one begin at once.
    async fn release(self) {
        if !self.publish.borrow().is_leader {
            return;
        }
        self.publish.send_replace(Leadership::default());
        let namespace = Some(self.namespace.as_str());
        let release = async {
            let lease = self.calls.get(Place::LEASES, namespace, NAME).await?;
            let Some(lease) = lease.and_then(|lease| self.candidate.released(lease)) else {
                return Ok(());
            };
            let written = self
                .calls
                .replace(Place::LEASES, namespace, NAME, &lease)
                .await;
            written.map(drop)
        };
        match tokio::time::timeout(LIMIT, release).await {
            Ok(Ok(())) => info!(target: SCOPE, "Released the lease {NAME}"),
            Ok(Err(cause)) => warn!(target: SCOPE, "Cannot release the lease {NAME}: {cause}"),
            Err(_elapsed) => warn!(target: SCOPE, "Cannot release the lease {NAME} in {LIMIT:?}"),
        }
    }
}

// === impl Candidate ===

impl Candidate {
    fn step(&mut self, lease: Option<Value>, now: Tick, stamp: &str) -> Step {
        let Some(lease) = lease else {
            return Step::Create(self.claimed(
                json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": NAME}, "spec": {"leaseTransitions": 0},
                }),
                stamp,
                true,
            ));
        };
        let since = self.saw(&lease, now);
        let spec = lease.get("spec").cloned().unwrap_or_default();
        let holder = spec.get("holderIdentity").and_then(Value::as_str);
        let holder = holder.unwrap_or_default();
        let is_mine = holder == self.name;
        let life = spec.get("leaseDurationSeconds").and_then(Value::as_u64);
        let life = life.map_or(LEASE, Duration::from_secs);
        if !is_mine && !holder.is_empty() && now - since < life {
            let address = lease.pointer("/metadata/annotations");
            let address = address.and_then(|all| all.get(ADDRESS)?.as_str());
            return Step::Follow(address.map(str::to_owned));
        }
        Step::Replace(self.claimed(lease, stamp, !is_mine))
    }

    /// Notes the lease and returns since when it is as it is.
    fn saw(&mut self, lease: &Value, now: Tick) -> Tick {
        let spec = lease.get("spec").cloned().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => {
                self.seen = Some((spec, now));
                now
            }
        }
    }

    fn claimed(&self, mut lease: Value, stamp: &str, is_new: bool) -> Value {
        let transitions = lease.pointer("/spec/leaseTransitions");
        let transitions = transitions.and_then(Value::as_u64).unwrap_or_default();
        let had_holder = lease.pointer("/spec/holderIdentity").is_some();
        let Some(object) = lease.as_object_mut() else {
            return lease;
        };
        let spec = object.entry("spec").or_insert_with(|| json!({}));
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("holderIdentity".to_owned(), self.name.as_str().into());
            spec.insert("leaseDurationSeconds".to_owned(), LEASE.as_secs().into());
            spec.insert("renewTime".to_owned(), stamp.into());
            if is_new {
                let transitions = transitions + u64::from(had_holder);
                spec.insert("acquireTime".to_owned(), stamp.into());
                spec.insert("leaseTransitions".to_owned(), transitions.into());
            }
        }
        let meta = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            let notes = meta.entry("annotations").or_insert_with(|| json!({}));
            if let Some(notes) = notes.as_object_mut() {
                match &self.address {
                    Some(address) => notes.insert(ADDRESS.to_owned(), address.as_str().into()),
                    None => notes.remove(ADDRESS),
                };
            }
        }
        lease
    }

    /// The lease without a holder; none if it is not this candidate's.
    fn released(&self, mut lease: Value) -> Option<Value> {
        let spec = lease.get_mut("spec")?.as_object_mut()?;
        if spec.get("holderIdentity").and_then(Value::as_str) != Some(&self.name) {
            return None;
        }
        spec.insert("holderIdentity".to_owned(), "".into());
        spec.insert("leaseDurationSeconds".to_owned(), 1.into());
        Some(lease)
    }

    /// How long its lease still holds for it.
    fn remaining(&self, now: Tick) -> Duration {
        self.renewed.map_or(Duration::ZERO, |renewed| {
            DEADLINE.saturating_sub(now - renewed)
        })
    }

    fn has_lapsed(&self, now: Tick) -> bool {
        self.remaining(now).is_zero()
    }
}

/// A time as Leases have it: with microseconds.
fn stamp(now: SystemTime) -> String {
    let now = jiff::Timestamp::try_from(now).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str) -> Candidate {
        Candidate {
            name: name.to_owned(),
            address: Some(format!("{name}:6500")),
            seen: None,
            renewed: None,
        }
    }

    fn at(seconds: u64) -> Tick {
        Tick::at(Duration::from_secs(seconds))
    }

    fn written(step: Step) -> Value {
        match step {
            Step::Create(lease) | Step::Replace(lease) => lease,
            Step::Follow(address) => panic!("follows {address:?}"),
        }
    }

    /// KO-18: one holds it; the other takes it over 15 s after the last renewal that it saw.
    #[test]
    fn a_lease_that_is_not_renewed_is_taken_over() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let lease = written(a.step(None, at(0), "t0"));
        assert_eq!(lease["spec"]["holderIdentity"], "a");
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
        assert_eq!(lease["spec"]["leaseTransitions"], 0);
        let follows = Step::Follow(Some("a:6500".to_owned()));
        assert_eq!(b.step(Some(lease.clone()), at(1), "t1"), follows);
        let renewed = written(a.step(Some(lease), at(2), "t2"));
        assert_eq!(renewed["spec"]["acquireTime"], "t0");
        assert_eq!(renewed["spec"]["renewTime"], "t2");
        assert_eq!(b.step(Some(renewed.clone()), at(3), "t3"), follows);
        assert_eq!(b.step(Some(renewed.clone()), at(17), "t17"), follows);
        let taken = written(b.step(Some(renewed), at(18), "t18"));
        assert_eq!(taken["spec"]["holderIdentity"], "b");
        assert_eq!(taken["spec"]["leaseTransitions"], 1);
        assert_eq!(taken["metadata"]["annotations"][ADDRESS], "b:6500");
    }

    /// KO-18: a clean stop lets the next one begin at once.
    #[test]
    fn a_released_lease_is_free() {
        let (mut a, mut b) = (candidate("a"), candidate("b"));
        let lease = written(a.step(None, at(0), "t0"));
        assert_eq!(b.released(lease.clone()), None, "not its own");
        let released = a.released(lease).unwrap();
        assert_eq!(released["spec"]["holderIdentity"], "");
        let taken = written(b.step(Some(released), at(1), "t1"));
        assert_eq!(taken["spec"]["holderIdentity"], "b");
    }

    #[test]
    fn who_cannot_renew_leads_no_longer() {
        let mut a = candidate("a");
        assert!(a.has_lapsed(at(0)), "it never led");
        a.renewed = Some(at(5));
        assert!(!a.has_lapsed(at(14)));
        assert_eq!(a.remaining(at(14)), Duration::from_secs(1));
        assert!(a.has_lapsed(at(15)));
    }

    #[test]
    fn times_have_microseconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_250);
        assert_eq!(stamp(time), "2026-01-01T00:00:00.250000Z");
    }
}

//! The replicas of an app: which of its addresses gets an attempt.
//!
//! Drives [`ironside_resiliency::Balancer`], one for each app that has several addresses, shared by all data
//! workers. An app with one address has none and costs nothing. A [`Lease`] is a call at an address: what the
//! callee says is told to it, and it ends when it is dropped. Owns no connection. Between the stages 12,
//! `resolve`, and 13, `connect`.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ironside_chassis::clock::Clock;
use ironside_identity::{AppId, Namespace};
use ironside_resiliency::{
    Balancer,
    balance::{Event, Ticket, Tried},
    outcome::Outcome,
};
use ironside_resolution::Authority;
use ironside_resources::resiliency::OutlierDetection;
use ironside_telemetry::metrics::{EndpointState, Metrics};
use tracing::info;

use super::Callee;

/// Apps whose replicas are remembered; beyond it the memory starts anew.
const CAPACITY: usize = 4096;
/// How long an address is passed over that sent its callers elsewhere: by then DNS has heard of it too.
const PASSED_OVER: Duration = Duration::from_secs(2);
/// Scope of lines on replicas.
const LOG: &str = "dapr.runtime";

/// The replicas of all apps that have several.
pub(crate) struct Fleet {
    apps: Mutex<HashMap<Namespace, HashMap<AppId, Arc<Replicas>>>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The replicas of one app.
pub(crate) struct Replicas {
    state: Mutex<State>,
    /// As series and lines name it.
    name: Box<str>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

struct State {
    /// What the balancer was last told, compared by its place.
    of: Arc<[Authority]>,
    detection: Option<OutlierDetection>,
    balancer: Balancer<Authority>,
}

/// How an address is to be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Choice {
    /// When an address is left out because of its answers.
    pub(crate) detection: Option<OutlierDetection>,
    /// What ties the call to one address.
    pub(crate) tied: Option<u64>,
}

/// A call at an address.
pub(crate) struct Lease {
    replicas: Arc<Replicas>,
    ticket: Option<Ticket>,
}

// === impl Fleet ===

impl Fleet {
    /// No app yet.
    pub(crate) fn new(clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            apps: Mutex::default(),
            clock,
            metrics,
        }
    }

    /// The replicas of an app that has several addresses.
    pub(crate) fn of(&self, callee: &Callee, of: &Arc<[Authority]>) -> Arc<Replicas> {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = apps.get(&callee.namespace);
        if let Some(replicas) = known.and_then(|apps| apps.get(&callee.app_id)) {
            return Arc::clone(replicas);
        }
        if apps.values().map(HashMap::len).sum::<usize>() >= CAPACITY {
            apps.clear();
        }
        let replicas = Arc::new(self.replicas(callee, of));
        apps.entry(callee.namespace.clone())
            .or_default()
            .insert(callee.app_id.clone(), Arc::clone(&replicas));
        replicas
    }

    /// The sidecar at this address told its callers to go: calls go elsewhere at once, to whatever app.
    pub(crate) fn left(&self, authority: &Authority) {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let all = apps.values().flat_map(HashMap::values);
        let all: Vec<Arc<Replicas>> = all.map(Arc::clone).collect();
        // Every call's choice waits for the lock.
        drop(apps);
        for replicas in all {
            replicas.pass_over(authority);
        }
    }

    /// This app is gone from this address: its next calls go elsewhere. Other apps are not asked about it, since it
    /// may happen with each call.
    pub(crate) fn left_by(&self, callee: &Callee, authority: &Authority) {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = apps.get(&callee.namespace);
        let replicas = known.and_then(|apps| apps.get(&callee.app_id)).cloned();
        drop(apps);
        if let Some(replicas) = replicas {
            replicas.pass_over(authority);
        }
    }

    fn replicas(&self, callee: &Callee, of: &Arc<[Authority]>) -> Replicas {
        let mut balancer = Balancer::new(None);
        balancer.update(of.iter().cloned());
        let replicas = Replicas {
            state: Mutex::new(State {
                of: Arc::clone(of),
                detection: None,
                balancer,
            }),
            name: callee.written.clone(),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        replicas.measure(&replicas.lock());
        replicas
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

// === impl Replicas ===

impl Replicas {
    /// Chooses an address for an attempt.
    pub(crate) fn pick(
        self: &Arc<Self>,
        of: &Arc<[Authority]>,
        choice: Choice,
        tried: &mut Tried,
    ) -> Option<(Authority, Lease)> {
        let now = self.now();
        let mut state = self.lock();
        let State {
            of: known,
            detection,
            balancer,
        } = &mut *state;
        if *detection != choice.detection {
            *detection = choice.detection;
            balancer.detect(choice.detection);
        }
        let is_new = !Arc::ptr_eq(known, of);
        if is_new {
            *known = Arc::clone(of);
            balancer.update(of.iter().cloned());
        }
        let (ticket, authority) = balancer.pick(now, tried, choice.tied, &mut rand::rng())?;
        tried.add(&ticket);
        let (is_probe, authority) = (ticket.is_probe(), authority.clone());
        if is_new || is_probe {
            self.measure(&state);
        }
        let lease = Lease {
            replicas: Arc::clone(self),
            ticket: Some(ticket),
        };
        Some((authority, lease))
    }

    /// Whether a usable address is left that was not tried.
    pub(crate) fn has_other(&self, tried: &Tried) -> bool {
        let now = self.now();
        self.lock().balancer.has_other(now, tried)
    }

    fn pass_over(&self, authority: &Authority) {
        let until = self.now() + PASSED_OVER;
        self.lock().balancer.shun(authority, until);
    }

    fn respond(&self, ticket: &mut Ticket, outcome: Outcome) {
        let now = self.now();
        let mut state = self.lock();
        let event = state
            .balancer
            .respond(now, ticket, outcome, &mut rand::rng());
        let Some(event) = event else { return };
        self.measure(&state);
        drop(state);
        match event {
            Event::Ejected { reason, time } => {
                self.metrics.resiliency_ejected(&self.name, reason.as_str());
                info!(target: LOG, "an address of {} is left out for {time:?}: {}", self.name, reason.as_str());
            }
            Event::Restored => {
                info!(target: LOG, "an address of {} is in use again", self.name);
            }
        }
    }

    fn measure(&self, state: &State) {
        let census = state.balancer.census();
        for (state, count) in [
            (EndpointState::Ready, census.ready),
            (EndpointState::Ejected, census.ejected),
            (EndpointState::Probing, census.probing),
        ] {
            self.metrics.resiliency_endpoints(&self.name, state, count);
        }
    }

    fn now(&self) -> Duration {
        self.clock.monotonic().since_start()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Lease ===

impl Lease {
    /// Tells how the address answered; only the first time counts.
    pub(crate) fn respond(&mut self, outcome: Outcome) {
        if let Some(ticket) = &mut self.ticket {
            self.replicas.respond(ticket, outcome);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.replicas.now();
            let mut state = self.replicas.lock();
            let was_probe = ticket.is_probe();
            state.balancer.release(now, ticket);
            if was_probe {
                self.replicas.measure(&state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ironside_resiliency::outcome::{End, Failure};

    use super::*;

    fn callee() -> Callee {
        Callee {
            app_id: AppId::parse("b").unwrap(),
            namespace: Namespace::default(),
            header: HeaderValue::from_static("b"),
            written: "b".into(),
        }
    }

    fn addresses(ports: &[u16]) -> Arc<[Authority]> {
        let at = |port: &u16| Authority::new("127.0.0.1", *port).unwrap();
        ports.iter().map(at).collect()
    }

    /// resiliency-observability 6.2, rows "Retry on another endpoint" and "Outlier ejection".
    #[test]
    fn an_address_that_cannot_be_reached_is_left_out_and_seen() {
        let metrics = Arc::new(Metrics::new(
            "a",
            ironside_telemetry::metrics::Settings::default(),
        ));
        let fleet = Fleet::new(Clock::system(), Arc::clone(&metrics));
        let of = addresses(&[1, 2]);
        let replicas = fleet.of(&callee(), &of);
        assert!(Arc::ptr_eq(&replicas, &fleet.of(&callee(), &of)));
        for _ in 0..200 {
            let mut tried = Tried::default();
            let (first, mut lease) = replicas.pick(&of, Choice::default(), &mut tried).unwrap();
            assert!(replicas.has_other(&tried) || first.port() == 2);
            if first.port() == 2 {
                lease.respond(End::Http(200).into());
                continue;
            }
            lease.respond(Failure::Unreachable.into());
            drop(lease);
            let (second, mut lease) = replicas.pick(&of, Choice::default(), &mut tried).unwrap();
            assert_eq!(second.port(), 2, "the one that was tried is avoided");
            lease.respond(End::Http(200).into());
        }
        let text = metrics.exposition();
        assert!(
            text.contains(
                "dapr_resiliency_endpoints{app_id=\"a\",target=\"app_b\",state=\"ready\"}"
            )
        );
        // One that sends its callers away is called no longer.
        let apart = addresses(&[3, 4]);
        fleet.left(&Authority::new("127.0.0.1", 4).unwrap());
        let picked = |of: &Arc<[Authority]>| {
            let picked = replicas.pick(of, Choice::default(), &mut Tried::default());
            picked.unwrap().0.port()
        };
        assert!(
            (0..200).any(|_| picked(&apart) == 4),
            "it was not known then"
        );
        fleet.left(&Authority::new("127.0.0.1", 4).unwrap());
        assert!((0..200).all(|_| picked(&apart) == 3));
        // A set of other addresses is taken over at once.
        let other = addresses(&[7, 8]);
        let mut tried = Tried::default();
        let (authority, _lease) = replicas
            .pick(&other, Choice::default(), &mut tried)
            .unwrap();
        assert!(authority.port() > 6);
    }

    /// Calls that one app did not get concern nobody who calls another one.
    #[test]
    fn an_app_that_is_gone_is_passed_over_alone() {
        let metrics = Arc::new(Metrics::disabled());
        let fleet = Arc::new(Fleet::new(Clock::system(), metrics));
        let other = Callee {
            app_id: AppId::parse("c").unwrap(),
            ..callee()
        };
        let of = addresses(&[1, 2]);
        let (ours, theirs) = (fleet.of(&callee(), &of), fleet.of(&other, &of));
        let gone = Authority::new("127.0.0.1", 1).unwrap();
        // A call to the other app is choosing its address right now.
        let busy = theirs.lock();
        let (done, is_done) = std::sync::mpsc::channel();
        let asked = Arc::clone(&fleet);
        let at = gone.clone();
        let thread = std::thread::spawn(move || {
            asked.left_by(&callee(), &at);
            let _late = done.send(());
        });
        let waited = is_done.recv_timeout(Duration::from_secs(30));
        drop(busy);
        thread.join().unwrap();
        assert!(waited.is_ok(), "it waited for another app");
        let picked = |replicas: &Arc<Replicas>| {
            let picked = replicas.pick(&of, Choice::default(), &mut Tried::default());
            picked.unwrap().0.port()
        };
        assert!((0..200).all(|_| picked(&ours) == 2));
        assert!((0..200).any(|_| picked(&theirs) == 1), "it is there");
        // A sidecar that ends is passed over by all, and one that is busy does not hold up who chooses.
        let busy = theirs.lock();
        let asked = Arc::clone(&fleet);
        let thread = std::thread::spawn(move || asked.left(&gone));
        let (done, is_done) = std::sync::mpsc::channel();
        let (choosing, of_third) = (Arc::clone(&fleet), Arc::clone(&of));
        let chooser = std::thread::spawn(move || {
            let _replicas = choosing.of(&callee(), &of_third);
            let _late = done.send(());
        });
        let waited = is_done.recv_timeout(Duration::from_secs(30));
        drop(busy);
        thread.join().unwrap();
        chooser.join().unwrap();
        assert!(waited.is_ok());
        assert!((0..200).all(|_| picked(&theirs) == 2));
    }
}

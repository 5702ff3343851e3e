//! Which of several addresses gets the next attempt.
//!
//! Two addresses are drawn at random and the less loaded one is taken: load is the moving average of latency
//! (`load.rs`) times the calls under way. Refusals count as slow however fast they come. Addresses that failed too
//! often are left out for a while (`health.rs`), those that this call tried are avoided while others remain, those that
//! sent their callers elsewhere as well, and a header can tie calls to an address. Drawing takes constant time; only
//! when nothing usable is drawn are all addresses looked at. Owns no connection and finds no address. Source:
//! resiliency-observability 6.2.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher as _};
use std::time::Duration;

use ironside_resources::resiliency::OutlierDetection;
use rand::Rng;

mod health;
mod load;

pub use health::{Ejection, Event};

use crate::outcome::{Outcome, Pushback};
use health::{Bounds, Health};
use load::Load;

/// Latency that a refusal counts as. Source: resiliency-observability 6.2.
const PENALTY: Duration = Duration::from_secs(5);
/// Longest one that a callee can ask for. Source: resiliency-observability 6.2.
const LONGEST_PENALTY: Duration = Duration::from_secs(300);
/// How often two addresses are drawn before all are looked at. Source: resiliency-observability 6.2.
const DRAWS: usize = 5;
/// Addresses that a call remembers to have tried.
const REMEMBERED: usize = 8;
/// Calls that an address always takes for those: below it no share says anything.
const AFFINITY_FLOOR: f64 = 4.0;
/// How much more than its share an address takes for the calls that are tied to it.
const AFFINITY_LOAD: f64 = 1.25;

/// The addresses of a target.
#[derive(Debug)]
pub struct Balancer<K> {
    endpoints: Vec<Endpoint<K>>,
    bounds: Bounds,
    /// Number of the next address.
    next: u64,
    /// Addresses that are left out, those on probe included.
    ejected: usize,
    /// Calls under way.
    pending: u64,
}

#[derive(Debug)]
struct Endpoint<K> {
    key: K,
    hash: u64,
    /// Tells it from one that had its place before.
    serial: u64,
    load: Load,
    health: Health,
    /// It is passed over until then.
    shunned: Duration,
}

/// A call at an address; it ends with [`Balancer::release`].
#[derive(Debug)]
#[must_use = "the address counts the call until it is released"]
pub struct Ticket {
    at: usize,
    serial: u64,
    started: Duration,
    is_probe: bool,
    is_measured: bool,
}

/// The addresses that a call tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    serials: [u64; REMEMBERED],
    count: usize,
}

/// How many addresses are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// In use.
    pub ready: usize,
    /// Left out.
    pub ejected: usize,
    /// Left out, but for one call that shows how it is.
    pub probing: usize,
}

// === impl Balancer ===

impl<K: Eq + Hash> Balancer<K> {
    /// No address yet. Without `detection`, only connections that fail make an address be left out.
    #[must_use]
    pub fn new(detection: Option<OutlierDetection>) -> Self {
        Self {
            endpoints: Vec::new(),
            bounds: Bounds::new(detection),
            next: 1,
            ejected: 0,
            pending: 0,
        }
    }

    /// Replaces the rule by which addresses are left out; those that are stay so.
    pub fn detect(&mut self, detection: Option<OutlierDetection>) {
        self.bounds = Bounds::new(detection);
    }

    /// Replaces the addresses; those that stay keep what is known of them.
    pub fn update(&mut self, keys: impl IntoIterator<Item = K>) {
        let mut before = std::mem::take(&mut self.endpoints);
        for key in keys {
            if self.endpoints.iter().any(|known| known.key == key) {
                continue;
            }
            let known = before.iter().position(|known| known.key == key);
            let endpoint = match known {
                Some(at) => before.swap_remove(at),
                None => self.fresh(key),
            };
            self.endpoints.push(endpoint);
        }
        let out = self
            .endpoints
            .iter()
            .filter(|known| !known.health.is_ready());
        self.ejected = out.count();
        self.pending = self
            .endpoints
            .iter()
            .map(|known| known.load.pending())
            .sum();
    }

    fn fresh(&mut self, key: K) -> Endpoint<K> {
        let serial = self.next;
        self.next += 1;
        let mut hasher = Fnv::default();
        key.hash(&mut hasher);
        Endpoint {
            key,
            hash: hasher.finish(),
            serial,
            load: Load::default(),
            health: Health::default(),
            shunned: Duration::ZERO,
        }
    }

    /// Passes an address over until then while others are usable: it sent its callers elsewhere.
    pub fn shun(&mut self, key: &K, until: Duration) {
        let mut known = self.endpoints.iter_mut();
        if let Some(endpoint) = known.find(|endpoint| endpoint.key == *key) {
            endpoint.shunned = until;
        }
    }

    /// Chooses an address; `None` only if there is none.
    ///
    /// `affinity` ties calls of the same value to one address as long as that one is usable and not overloaded.
    pub fn pick(
        &mut self,
        now: Duration,
        tried: &Tried,
        affinity: Option<u64>,
        rng: &mut impl Rng,
    ) -> Option<(Ticket, &K)> {
        let tied = affinity.and_then(|hash| self.tied(now, tried, hash));
        let at = tied.or_else(|| self.draw(now, tried, rng));
        let at = at.or_else(|| self.best(now, tried))?;
        let endpoint = self.endpoints.get_mut(at)?;
        endpoint.load.begin();
        self.pending += 1;
        let ticket = Ticket {
            at,
            serial: endpoint.serial,
            started: now,
            is_probe: endpoint.health.begin(now),
            is_measured: false,
        };
        Some((ticket, &endpoint.key))
    }

    /// Tells how an address answered, when the first bytes of the answer are there or there will be none.
    pub fn respond(
        &mut self,
        now: Duration,
        ticket: &mut Ticket,
        outcome: Outcome,
        rng: &mut impl Rng,
    ) -> Option<Event> {
        if ticket.is_measured {
            return None;
        }
        ticket.is_measured = true;
        let can_eject = self.bounds.can_eject(self.ejected, self.endpoints.len());
        let bounds = self.bounds;
        let at = self.find(ticket)?;
        let endpoint = self.endpoints.get_mut(at)?;
        let latency = now.saturating_sub(ticket.started);
        let latency = if outcome.is_penalised() {
            latency.max(penalty(outcome))
        } else {
            latency
        };
        if outcome.is_measured() {
            endpoint.load.record(now, latency);
        }
        let was_ready = endpoint.health.is_ready();
        let event = endpoint
            .health
            .observe(now, outcome.health(), &bounds, can_eject, rng);
        match (was_ready, endpoint.health.is_ready()) {
            (true, false) => self.ejected += 1,
            (false, true) => self.ejected = self.ejected.saturating_sub(1),
            (true, true) | (false, false) => {}
        }
        event
    }

    /// Ends a call; one that nothing was told about was cancelled.
    pub fn release(&mut self, now: Duration, ticket: Ticket) {
        let Some(endpoint) = self.find(&ticket).and_then(|at| self.endpoints.get_mut(at)) else {
            return;
        };
        // A call that its caller ended says how long it took at least.
        if !ticket.is_measured {
            endpoint
                .load
                .record(now, now.saturating_sub(ticket.started));
            if ticket.is_probe {
                endpoint.health.postpone(now);
            }
        }
        endpoint.load.end();
        self.pending = self.pending.saturating_sub(1);
    }

    /// Whether a usable address is left that the call did not try ([`Outcome::elsewhere`]).
    #[must_use]
    pub fn has_other(&self, now: Duration, tried: &Tried) -> bool {
        (0..self.endpoints.len()).any(|at| self.is_usable(at, now, tried))
    }

    /// How many addresses are in which state.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for endpoint in &self.endpoints {
            match (endpoint.health.is_ready(), endpoint.health.is_probing()) {
                (true, _) => census.ready += 1,
                (false, true) => census.probing += 1,
                (false, false) => census.ejected += 1,
            }
        }
        census
    }

    /// The addresses.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.endpoints.iter().map(|endpoint| &endpoint.key)
    }

    /// The place of the address of a ticket, which an update may have moved or removed.
    fn find(&self, ticket: &Ticket) -> Option<usize> {
        let is_it = |endpoint: &Endpoint<K>| endpoint.serial == ticket.serial;
        if self.endpoints.get(ticket.at).is_some_and(is_it) {
            return Some(ticket.at);
        }
        self.endpoints.iter().position(is_it)
    }

    fn is_usable(&self, at: usize, now: Duration, tried: &Tried) -> bool {
        let endpoint = self.endpoints.get(at);
        endpoint.is_some_and(|known| known.health.is_usable(now) && !tried.holds(known.serial))
    }

    /// Usable, and not passed over.
    fn is_welcome(&self, at: usize, now: Duration, tried: &Tried) -> bool {
        let endpoint = self.endpoints.get(at);
        endpoint.is_some_and(|known| known.shunned <= now) && self.is_usable(at, now, tried)
    }

    /// Two at random, the less loaded of those that are welcome.
    fn draw(&self, now: Duration, tried: &Tried, rng: &mut impl Rng) -> Option<usize> {
        let count = self.endpoints.len();
        if count < 2 {
            return None;
        }
        for _ in 0..DRAWS {
            let one = rng.random_range(0..count);
            let other = (one + rng.random_range(1..count)) % count;
            let drawn = [one, other].into_iter();
            let welcome = drawn.filter(|at| self.is_welcome(*at, now, tried));
            let least = welcome.min_by(|one, other| self.compare(*one, *other, now));
            if least.is_some() {
                return least;
            }
        }
        None
    }

    /// The least loaded of all that are welcome; else of the usable; else of those not left out; else of all.
    fn best(&self, now: Duration, tried: &Tried) -> Option<usize> {
        let least = |fits: &dyn Fn(usize) -> bool| {
            let all = 0..self.endpoints.len();
            let fitting = all.filter(|at| fits(*at));
            fitting.min_by(|one, other| self.compare(*one, *other, now))
        };
        let untried = Tried::default();
        least(&|at| self.is_welcome(at, now, tried))
            .or_else(|| least(&|at| self.is_usable(at, now, tried)))
            .or_else(|| least(&|at| self.is_usable(at, now, &untried)))
            .or_else(|| least(&|_| true))
    }

    /// Whose turn it is. One that is due for a probe comes first: nothing else would show that it is well again.
    fn compare(&self, one: usize, other: usize, now: Duration) -> Ordering {
        let rank = |at: usize| {
            let endpoint = self.endpoints.get(at);
            endpoint.map(|known| (!known.health.is_due(now), known.load.cost(now)))
        };
        let (Some((one_waits, one)), Some((other_waits, other))) = (rank(one), rank(other)) else {
            return Ordering::Equal;
        };
        one_waits.cmp(&other_waits).then(one.total_cmp(&other))
    }

    /// The welcome address of the highest weight for this value that has no more than its share and a quarter.
    fn tied(&self, now: Duration, tried: &Tried, hash: u64) -> Option<usize> {
        let all = 0..self.endpoints.len();
        let welcome = all.filter(|at| self.is_welcome(*at, now, tried));
        let share = (self.pending + 1) as f64 / self.endpoints.len().max(1) as f64;
        let most = (share * AFFINITY_LOAD).ceil().max(AFFINITY_FLOOR);
        let has_room = |at: &usize| {
            let endpoint = self.endpoints.get(*at);
            endpoint.is_some_and(|known| (known.load.pending() as f64) < most)
        };
        let weight = |at: &usize| {
            let endpoint = self.endpoints.get(*at);
            endpoint.map(|known| mix(known.hash ^ hash))
        };
        welcome.filter(has_room).max_by_key(weight)
    }
}

/// The value that ties calls of the same header to one address; the same in every sidecar.
#[must_use]
pub fn affinity(header: &[u8]) -> u64 {
    let mut hasher = Fnv::default();
    hasher.write(header);
    mix(hasher.finish())
}

fn penalty(outcome: Outcome) -> Duration {
    match outcome.pushback {
        Some(Pushback::RetryAfter(pause) | Pushback::After(pause)) => pause.min(LONGEST_PENALTY),
        None | Some(Pushback::Never) => PENALTY,
    }
}

// === impl Ticket ===

impl Ticket {
    /// Whether this call shows how an address is that was left out.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.is_probe
    }
}

// === impl Tried ===

impl Tried {
    /// Remembers the address of a ticket; the earliest is forgotten first.
    pub fn add(&mut self, ticket: &Ticket) {
        if let Some(place) = self.serials.get_mut(self.count % REMEMBERED) {
            *place = ticket.serial;
            self.count += 1;
        }
    }

    /// Forgets the address that was added last: it may be tried again.
    pub fn forget_last(&mut self) {
        let Some(last) = self.count.checked_sub(1) else {
            return;
        };
        if let Some(place) = self.serials.get_mut(last % REMEMBERED) {
            *place = 0;
            self.count = last;
        }
    }

    fn holds(&self, serial: u64) -> bool {
        self.serials.contains(&serial)
    }
}

/// A hash without secret: sidecars have to agree, and the worst that a caller can do is choose its address.
#[derive(Debug)]
struct Fnv(u64);

// === impl Fnv ===

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Spreads a hash over all bits (the finish of SplitMix64).
const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;

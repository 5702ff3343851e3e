//! What is known of each app, and when it is asked for again.
//!
//! Owns the records behind the table: one question at a time for each app, however many look-ups wait for it; bounds
//! on how many there are and how long each counts. All in one control task, which decides from a clock's ticks.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use ironside_resolution::{Authority, cluster::Place};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    super::{
        LOG, ResolveError,
        suspects::{Fault, Suspects},
    },
    Key, Kubernetes, NO_HOST, Question, Told,
    dns::{Answer, Ask, Miss},
};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(250);
/// An app in use is asked for again after this, so that calls leave a pod within the second in which it is told to go:
/// a look is up to [`TICK`] late, and it takes the rest for the Service and DNS to hear of it.
const REFRESH: Duration = Duration::from_millis(500);
/// An app that was not called for this long is at rest.
const AT_REST_AFTER: Duration = Duration::from_secs(5);
/// One at rest is asked for again after this, so that its next call goes to pods of today.
const REFRESH_AT_REST: Duration = Duration::from_secs(5);
/// And is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How long the addresses of an app count of which DNS says that there are none any more, as far as somebody answers
/// there: a node that the control plane has lost sight of, or a readiness probe that goes wrong everywhere, takes all of
/// them away at once. The reference calls them for 20 s.
pub(super) const BELIEF: Duration = Duration::from_secs(20);
/// The same where peers prove who they are, so that an address that was given away serves nobody else's calls: as long
/// as Kubernetes itself leaves pods on a node that it has lost sight of (the toleration that it gives every pod).
pub(super) const BELIEF_IN_PROOF: Duration = Duration::from_secs(300);
/// How long "there is none" counts for look-ups.
const NEGATIVE: Duration = Duration::from_secs(1);
/// Least time between two questions that failures asked for.
const HURRY: Duration = Duration::from_millis(200);
/// Apps known at once; a further one takes the place of one that nobody asked for longest.
const MAX_APPS: usize = 4096;
/// Look-ups that wait for one answer.
const MAX_WAITING: usize = 4096;

type Asked = std::pin::Pin<Box<dyn Future<Output = (Key, Answer)> + Send>>;

/// The control task.
pub(super) struct Keeper {
    resolver: Arc<Kubernetes>,
    dns: Arc<dyn Ask>,
    questions: mpsc::Receiver<Question>,
    records: HashMap<Key, Record>,
    under_way: FuturesUnordered<Asked>,
}

/// What is known of one app. Instants count from the start of the clock.
struct Record {
    place: Place,
    addresses: Vec<Authority>,
    /// Why there are none, or why these may be old.
    miss: Option<Miss>,
    used: Duration,
    asked: Duration,
    is_asking: bool,
    /// When DNS said for the first time that there are none any more.
    absent: Option<Duration>,
    /// Something failed while a question was under way: its answer may be older than that.
    again: bool,
    waiting: Vec<Told>,
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(
        resolver: Arc<Kubernetes>,
        dns: Arc<dyn Ask>,
        questions: mpsc::Receiver<Question>,
    ) -> Self {
        Self {
            resolver,
            dns,
            questions,
            records: HashMap::new(),
            under_way: FuturesUnordered::new(),
        }
    }

    /// Answers and refreshes until the stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let resolver = Arc::clone(&self.resolver);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(question) = self.questions.recv() => self.question(question),
                Some((key, answer)) = self.under_way.next() => self.settle(&key, answer),
                () = resolver.hurry.notified() => self.hurry(),
                _ = tick.tick() => self.look(),
            }
        }
    }

    fn now(&self) -> Duration {
        self.resolver.clock.monotonic().since_start()
    }

    fn question(&mut self, question: Question) {
        let Question { key, place, told } = question;
        let now = self.now();
        if !self.records.contains_key(&key) {
            self.make_room();
        }
        let record = self
            .records
            .entry(key.clone())
            .or_insert_with(|| Record::new(place, now));
        record.used = now;
        if record.waiting.len() >= MAX_WAITING {
            record.tell(told);
        } else if record.is_asking {
            record.waiting.push(told);
        } else if record.counts(now) {
            record.tell(told);
        } else {
            record.waiting.push(told);
            self.ask(&key);
        }
    }

    fn ask(&mut self, key: &Key) {
        let now = self.now();
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        (record.asked, record.is_asking, record.again) = (now, true, false);
        let answer = self.dns.addresses(&record.place.host);
        let key = key.clone();
        self.under_way
            .push(Box::pin(async move { (key, answer.await) }));
    }

    fn settle(&mut self, key: &Key, answer: Answer) {
        let now = self.now();
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        record.is_asking = false;
        record.take(answer, now, &self.resolver.suspects, self.resolver.belief);
        let again = record.again;
        // Whoever is told looks into the table at once.
        self.publish();
        if let Some(record) = self.records.get_mut(key) {
            for told in std::mem::take(&mut record.waiting) {
                record.tell(told);
            }
        }
        if again {
            self.ask(key);
        }
    }

    /// An address failed: its app is asked for at once.
    fn hurry(&mut self) {
        let failed = self.resolver.take_failed();
        let now = self.now();
        let mut concerned = Vec::new();
        for (key, record) in &mut self.records {
            if !record
                .addresses
                .iter()
                .any(|address| failed.iter().any(|(it, _)| it == address))
            {
                continue;
            }
            let gone = |address: &Authority| failed.contains(&(address.clone(), Fault::Gone));
            record.doubt(gone);
            if record.is_asking || now.saturating_sub(record.asked) < HURRY {
                record.again = true;
            } else {
                concerned.push(key.clone());
            }
        }
        self.publish();
        for key in &concerned {
            self.ask(key);
        }
    }

    fn look(&mut self) {
        let now = self.now();
        for key in self.resolver.table.take_asked() {
            if let Some(record) = self.records.get_mut(&key) {
                record.used = now;
            }
        }
        self.records.retain(|_, record| record.is_kept(now));
        let due = self.records.iter().filter(|(_, record)| record.is_due(now));
        let due: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        for key in &due {
            self.ask(key);
        }
        // What failed a moment ago may come back.
        self.publish();
    }

    fn publish(&self) {
        let known = self.records.iter();
        let known = known.filter(|(_, record)| !record.addresses.is_empty());
        self.resolver.publish(
            known
                .map(|(key, record)| (key.clone(), record.addresses.clone()))
                .collect(),
        );
    }

    fn make_room(&mut self) {
        if self.records.len() < MAX_APPS {
            return;
        }
        let idle = self.records.iter().filter(|(_, record)| !record.is_asking);
        let oldest = idle.min_by_key(|(_, record)| record.used);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.records.remove(&key);
        }
    }
}

// === impl Record ===

impl Record {
    fn new(place: Place, now: Duration) -> Self {
        Self {
            place,
            addresses: Vec::new(),
            miss: None,
            absent: None,
            used: now,
            asked: Duration::ZERO,
            is_asking: false,
            again: false,
            waiting: Vec::new(),
        }
    }

    /// True while what is known answers a look-up.
    fn counts(&self, now: Duration) -> bool {
        !self.addresses.is_empty()
            || (self.miss.is_some() && now.saturating_sub(self.asked) < NEGATIVE)
    }

    /// What DNS has forgotten is not asked for again by whoever calls next: it is kept as long as it counts.
    fn is_kept(&self, now: Duration) -> bool {
        let is_believed = self.absent.is_some() && !self.addresses.is_empty();
        self.is_asking || is_believed || now.saturating_sub(self.used) < FORGET_AFTER
    }

    fn is_due(&self, now: Duration) -> bool {
        if self.is_asking {
            return false;
        }
        let age = now.saturating_sub(self.asked);
        if self.addresses.is_empty() {
            // The next look-up asks.
            return false;
        }
        let at_rest = now.saturating_sub(self.used) >= AT_REST_AFTER;
        let after = match at_rest {
            _ if self.again => HURRY,
            true => REFRESH_AT_REST,
            false => REFRESH,
        };
        age >= after
    }

    fn take(&mut self, answer: Answer, now: Duration, suspects: &Suspects, belief: Duration) {
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                let port = self.place.port;
                let authority = |ip: IpAddr| Authority::new(&ip.to_string(), port).ok();
                self.addresses = addresses.into_iter().filter_map(authority).collect();
                self.absent = None;
                if let Some(Miss::Failed(_)) = self.miss.take() {
                    debug!(target: LOG, "DNS answers again for {}", self.place.shown());
                }
            }
            Ok(_) | Err(Miss::Absent) => {
                self.miss = Some(Miss::Absent);
                let absent = *self.absent.get_or_insert(now);
                if now.saturating_sub(absent) >= belief {
                    self.addresses.clear();
                }
                self.doubt(|address| suspects.is_gone(address, now));
                if absent == now && !self.addresses.is_empty() {
                    warn!(target: LOG, "DNS knows no pod of {} any more; those that answer are called on", self.place.shown());
                }
            }
            Err(failed @ Miss::Failed(_)) => {
                if let Miss::Failed(why) = &failed
                    && self.miss.as_ref() != Some(&failed)
                    && !self.addresses.is_empty()
                {
                    warn!(target: LOG, "failed to resolve {}: {why}; the addresses known so far are used", self.place.shown());
                }
                self.miss = Some(failed);
            }
        }
    }

    /// Addresses that seem to be gone are not believed in while DNS knows none.
    fn doubt(&mut self, is_gone: impl Fn(&Authority) -> bool) {
        if self.absent.is_some() {
            self.addresses.retain(|address| !is_gone(address));
        }
    }

    fn tell(&self, told: Told) {
        let outcome = if self.addresses.is_empty() {
            let why = match &self.miss {
                Some(Miss::Failed(why)) => why,
                Some(Miss::Absent) | None => NO_HOST,
            };
            Err(ResolveError::in_cluster(self.place.shown(), why))
        } else {
            Ok(())
        };
        // Whoever asked may be gone.
        drop(told.send(outcome));
    }
}

#[cfg(test)]
mod tests {
    use ironside_identity::{AppId, Namespace};
    use ironside_resolution::cluster::Pattern;

    use super::*;

    /// Nobody is believed in for ever.
    #[test]
    fn addresses_that_dns_forgot_count_for_a_while() {
        let (app, namespace) = (AppId::parse("a").unwrap(), Namespace::parse("n").unwrap());
        let pattern = Pattern::services("cluster.local");
        let place = pattern.place(&app, &namespace, 50002).unwrap();
        let suspects = Suspects::default();
        let (mut record, mut now) = (Record::new(place, Duration::ZERO), Duration::from_secs(7));
        let pods = || Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        record.take(pods(), now, &suspects, BELIEF);
        record.take(Err(Miss::Absent), now, &suspects, BELIEF);
        now += BELIEF / 2;
        record.take(Ok(Vec::new()), now, &suspects, BELIEF);
        assert_eq!(record.addresses.len(), 2);
        assert!(record.is_kept(FORGET_AFTER * 2), "nobody called meanwhile");
        // One that is gone is not believed in; one to which a call broke is.
        suspects.add(&record.addresses[0].clone(), Fault::Gone, now);
        suspects.add(&record.addresses[1].clone(), Fault::Broke, now);
        record.take(Err(Miss::Absent), now, &suspects, BELIEF);
        assert_eq!(record.addresses.len(), 1);
        now += BELIEF / 2;
        record.take(Err(Miss::Absent), now, &suspects, BELIEF);
        assert!(record.addresses.is_empty() && record.counts(record.asked));
        assert!(!record.is_kept(FORGET_AFTER));
        // It begins anew when there are some again.
        record.take(pods(), now, &suspects, BELIEF);
        record.take(Err(Miss::Absent), now + BELIEF, &suspects, BELIEF);
        assert_eq!(record.addresses.len(), 2);
    }
}

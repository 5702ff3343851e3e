//! Who is connected, who runs which generation, and what was denied lately.
//!
//! Pure and bounded: so many sessions in all and of one app, so many outstanding snapshots and errors of each.
//! A client can only speak of objects that it was sent; everything else it says is dropped. This is what the
//! operator writes into the status of an object (security 4.2).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ironside_identity::{AppId, Namespace};
use ironside_proto::discovery::{Ack, Stats};

use crate::{
    report::{Cursor, News, Sidecar},
    world::{App, Indexed, Known, View},
};

mod hour;
mod seat;
#[cfg(test)]
mod tests;

use hour::Hour;
use seat::{Seat, Standing};

/// Snapshots of one session that may be unanswered; older ones are given up.
const MAX_OPEN: usize = 8;
/// Names of apps, and rejections, in one status (security 4.2).
const MAX_APPS: usize = 64;
/// Rejections and instances that one status names.
const MAX_NAMED: usize = 5;
/// Bounds on sessions.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All sessions.
    pub sessions: usize,
    /// Sessions of one app: a workload can crowd out itself only.
    pub of_one_app: usize,
}

/// All sessions and what they said.
#[derive(Debug)]
pub struct Book {
    bounds: Bounds,
    next: u64,
    /// Counts changes.
    revision: u64,
    seats: HashMap<u64, Seat>,
    /// Who sits where, so that neither an app nor an object looks at the sessions of all others.
    places: HashMap<Namespace, HashMap<App, BTreeSet<u64>>>,
    hours: HashMap<Arc<str>, Hour>,
}

/// No session fits any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Decisions of sidecars by one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that it refused.
    pub denied: u64,
    /// Calls that it would have refused were it not under audit.
    pub would_deny: u64,
}

/// How an object stands with the sidecars that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// Its UID.
    pub uid: Arc<str>,
    /// The generation that is distributed.
    pub generation: i64,
    /// Connected sidecars in its scope.
    pub connected: usize,
    /// Of these, those that run this generation.
    pub applied: usize,
    /// Those that refused it.
    pub rejected: usize,
    /// Those that had time to answer and did not.
    pub outdated: usize,
    /// Connected apps that it is for, sorted; at most 64.
    pub apps: Vec<AppId>,
    /// There are more.
    pub apps_truncated: bool,
    /// Some of the refusals.
    pub rejections: Vec<Rejection>,
    /// Instances of some of the outdated.
    pub outdated_instances: Vec<Box<str>>,
    /// What it decided in the last hour.
    pub last_hour: Counts,
}

/// Why a sidecar refused an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which sidecar.
    pub instance: Box<str>,
    /// A word.
    pub code: Box<str>,
    /// A sentence.
    pub message: Box<str>,
}

/// Sidecars by how they stand to all that is for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All.
    pub connected: usize,
    /// Those that run everything.
    pub applied: usize,
    /// Those that refused something.
    pub rejected: usize,
    /// Those that are late with something.
    pub outdated: usize,
}

// === impl Book ===

impl Book {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            next: 0,
            revision: 0,
            seats: HashMap::new(),
            places: HashMap::new(),
            hours: HashMap::new(),
        }
    }

    /// A session begins.
    ///
    /// # Errors
    /// [`Full`] if there are too many already.
    pub fn enter(&mut self, app: App, instance: &str, now: Duration) -> Result<u64, Full> {
        let apps = self.places.get(&app.namespace);
        let of_app = apps
            .and_then(|apps| apps.get(&app))
            .map_or(0, BTreeSet::len);
        if self.seats.len() >= self.bounds.sessions || of_app >= self.bounds.of_one_app {
            return Err(Full);
        }
        let seat = self.next;
        self.next += 1;
        self.revision += 1;
        let apps = self.places.entry(app.namespace.clone()).or_default();
        apps.entry(app.clone()).or_default().insert(seat);
        self.seats.insert(
            seat,
            Seat {
                app,
                instance: instance.into(),
                since: now,
                changed: self.revision,
                open: VecDeque::new(),
                running: HashMap::new(),
            },
        );
        Ok(seat)
    }

    /// A session ended.
    pub fn leave(&mut self, seat: u64) {
        let Some(Seat { app, .. }) = self.seats.remove(&seat) else {
            return;
        };
        self.revision += 1;
        let Some(apps) = self.places.get_mut(&app.namespace) else {
            return;
        };
        if let Some(seats) = apps.get_mut(&app) {
            seats.remove(&seat);
            if seats.is_empty() {
                apps.remove(&app);
            }
        }
        if apps.is_empty() {
            self.places.remove(&app.namespace);
        }
    }

    /// A snapshot was sent.
    pub fn sent(&mut self, seat: u64, snapshot: u64, view: &View) {
        let Some(seat) = self.seats.get_mut(&seat) else {
            return;
        };
        let objects = view.objects.iter().map(|known| &known.object);
        let held: Vec<_> = objects
            .map(|object| (Arc::clone(&object.uid), object.generation))
            .collect();
        seat.open.push_back((snapshot, held));
        if seat.open.len() > MAX_OPEN {
            seat.open.pop_front();
        }
    }

    /// A snapshot was answered.
    pub fn acked(&mut self, seat: u64, ack: Ack) {
        if let Some(seat) = self.seats.get_mut(&seat)
            && seat.acked(ack)
        {
            self.revision += 1;
            seat.changed = self.revision;
        }
    }

    /// Counts changes of sessions: what was reported at one count holds until there is another.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What became known of sessions since the last time that this cursor was shown.
    pub fn news(&self, cursor: &mut Cursor) -> News {
        let after = cursor.after.replace(self.revision);
        let is_new = |seat: &Seat| after.is_none_or(|after| seat.changed > after);
        let (told, seats) = (&mut cursor.told, &self.seats);
        let gone: Vec<u64> = told
            .iter()
            .copied()
            .filter(|seat| !seats.contains_key(seat))
            .collect();
        for seat in &gone {
            told.remove(seat);
        }
        let mut sidecars: Vec<(u64, Sidecar)> = seats
            .iter()
            .filter(|(_, seat)| is_new(seat))
            .map(|(id, seat)| (*id, seat.report()))
            .collect();
        sidecars.sort_unstable_by_key(|(id, _)| *id);
        told.extend(sidecars.iter().map(|(id, _)| *id));
        News { sidecars, gone }
    }

    /// What each object decided in the last hour, if it did.
    #[must_use]
    pub fn last_hour(&self, now: Duration) -> HashMap<Arc<str>, Counts> {
        let hours = self.hours.iter();
        let sums = hours.map(|(uid, hour)| (Arc::clone(uid), hour.sum(now)));
        sums.filter(|(_, counts)| *counts != Counts::default())
            .collect()
    }

    /// A sidecar counted decisions by objects that it was sent.
    pub fn counted(&mut self, seat: u64, stats: Stats, now: Duration) {
        let Some(seat) = self.seats.get(&seat) else {
            return;
        };
        for (uid, counts) in stats.objects {
            let Some((uid, _)) = seat.running.get_key_value(uid.as_str()) else {
                continue;
            };
            let hour = self.hours.entry(Arc::clone(uid)).or_default();
            let minute = hour.minute(now);
            minute.denied = minute.denied.saturating_add(counts.denied);
            minute.would_deny = minute.would_deny.saturating_add(counts.would_deny);
        }
    }

    /// Forgets counts of objects that are gone.
    pub fn forget(&mut self, world: &Indexed) {
        let known: std::collections::HashSet<&str> =
            world.objects().map(|known| &*known.object.uid).collect();
        self.hours.retain(|uid, _| known.contains(&**uid));
    }

    /// How each object stands.
    #[must_use]
    pub fn status(&self, world: &Indexed, now: Duration) -> Vec<ObjectStatus> {
        let objects = world.objects();
        objects.map(|known| self.status_of(known, now)).collect()
    }

    fn status_of(&self, known: &Known, now: Duration) -> ObjectStatus {
        let mut status = ObjectStatus {
            uid: Arc::clone(&known.object.uid),
            generation: known.object.generation,
            connected: 0,
            applied: 0,
            rejected: 0,
            outdated: 0,
            apps: Vec::new(),
            apps_truncated: false,
            rejections: Vec::new(),
            outdated_instances: Vec::new(),
            last_hour: self
                .hours
                .get(&known.object.uid)
                .map(|hour| hour.sum(now))
                .unwrap_or_default(),
        };
        let apps = self.places.get(&known.object.namespace).into_iter();
        let mut seats = Vec::new();
        for (app, places) in apps.flatten().filter(|(app, _)| known.is_for(app)) {
            status.apps.push(app.app_id.clone());
            seats.extend(places);
        }
        seats.sort_unstable();
        for seat in seats.iter().filter_map(|id| self.seats.get(id)) {
            status.connected += 1;
            match seat.standing(known, now) {
                Standing::Applied => status.applied += 1,
                Standing::Pending => {}
                Standing::Rejected { code, message } => {
                    status.rejected += 1;
                    if status.rejections.len() < MAX_NAMED {
                        status.rejections.push(Rejection {
                            instance: seat.instance.clone(),
                            code: code.into(),
                            message: message.into(),
                        });
                    }
                }
                Standing::Outdated => {
                    status.outdated += 1;
                    if status.outdated_instances.len() < MAX_NAMED {
                        status.outdated_instances.push(seat.instance.clone());
                    }
                }
            }
        }
        status.apps.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        status.apps_truncated = status.apps.len() > MAX_APPS;
        status.apps.truncate(MAX_APPS);
        status
    }

    /// How the sidecars stand.
    #[must_use]
    pub fn totals(&self, world: &Indexed, now: Duration) -> Totals {
        let mut totals = Totals::default();
        for seat in self.seats.values() {
            totals.connected += 1;
            let (mut applied, mut rejected, mut outdated) = (true, false, false);
            for known in &world.view(&seat.app).objects {
                match seat.standing(known, now) {
                    Standing::Applied => {}
                    Standing::Rejected { .. } => (applied, rejected) = (false, true),
                    Standing::Pending => applied = false,
                    Standing::Outdated => (applied, outdated) = (false, true),
                }
            }
            totals.applied += usize::from(applied);
            totals.rejected += usize::from(rejected);
            totals.outdated += usize::from(outdated);
        }
        totals
    }
}

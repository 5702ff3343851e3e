//! Which sidecars an AccessControl is for, and which of them run it.
//!
//! Pure. Owns who is expected: the running injected pods, connected or not, and whoever else is connected; and how
//! sessions of this replica and of others are matched with pods. A sidecar names its pod itself, within what its
//! certificate proves: its app. Time is an argument; nothing is taken from another machine's clock.

use super::access::Object;
use super::mirror::{Fact, Mirror};
use ironside_discovery::report::{Refusal, Sidecar};
use ironside_discovery::{ACK_LIMIT, Counts, News};
use ironside_policy::AppKind;
use kube::core::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Label of injected pods.
pub(crate) const INJECTED: &str = "dapr.io/sidecar-injected";
/// Pods of this phase are expected.
pub(crate) const RUNNING: &str = "status.phase=Running";
const APP_ID: &str = "dapr.io/app-id";
const CONFIG: &str = "dapr.io/config";
const PROTOCOL: &str = "dapr.io/app-protocol";
/// As many bytes of its pod's name does a sidecar tell.
const TOLD_NAME: usize = 100;
/// Laggards that a message names (security 4.2).
const MAX_NAMED: usize = 5;
/// Apps that a status names (security 4.2).
const MAX_APPS: usize = 64;
/// Other replicas whose sidecars are counted; more than anybody runs.
const MAX_REPLICAS: usize = 16;
/// Sidecars of one other replica.
const MAX_SIDECARS: usize = 20_000;

/// A running pod with a sidecar, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) app_id: Arc<str>,
    pub(crate) kind: AppKind,
    /// Name of its Configuration.
    pub(crate) config: Option<Arc<str>>,
}

/// All of them, connected and expected.
#[derive(Debug, Default)]
pub(crate) struct Sidecars {
    pods: Mirror<Pod>,
    /// When each pod was first known, or its last session ended that had answered; by namespace and name.
    since: HashMap<(Arc<str>, Arc<str>), Duration>,
    seats: HashMap<Place, Seat>,
    by_namespace: BTreeMap<Arc<str>, BTreeSet<Place>>,
    replicas: BTreeMap<Arc<str>, Replica>,
}

/// A replica of the operator, and one of its sessions.
type Place = (Arc<str>, u64);

#[derive(Debug, Default)]
struct Replica {
    last_hour: HashMap<Arc<str>, Counts>,
}

#[derive(Debug)]
struct Seat {
    sidecar: Sidecar,
    since: Duration,
}

/// How the sidecars stand that an object is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Pods, and connected ones that are none.
    pub(crate) expected: usize,
    pub(crate) connected: usize,
    pub(crate) applied: usize,
    pub(crate) rejected: usize,
    pub(crate) outdated: usize,
    /// They have time to answer yet.
    pub(crate) pending: usize,
    /// Of the outdated, those that are not connected and have begun, or gone away, a moment ago.
    pub(crate) starting: usize,
    /// Who has not acknowledged, and why; the first of them by name.
    pub(crate) laggards: Vec<String>,
    pub(crate) apps: Vec<String>,
    pub(crate) apps_truncated: bool,
}

/// How one sidecar stands to an object.
enum Stand<'a> {
    Applied,
    Rejected(&'a Refusal),
    Pending,
    /// It runs this older generation, or none that is known.
    Outdated(Option<i64>),
    Absent {
        is_starting: bool,
    },
}

/// The place of an object: since when its present generation is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) object: &'a Object,
    pub(crate) since: Duration,
    pub(crate) now: Duration,
    /// A pod that is not connected is starting, or coming back, for so long.
    pub(crate) patience: Duration,
}

// === impl Pod ===

impl Pod {
    /// Takes what matters; none of a pod that has no sidecar or is about to end.
    pub(crate) fn of(meta: &ObjectMeta) -> Option<Self> {
        let label = |name: &str| meta.labels.as_ref()?.get(name).map(String::as_str);
        let note = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
        label(INJECTED)?;
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let told = |name| note(name).map(str::trim).filter(|text| !text.is_empty());
        let app_id = told(APP_ID).or(label(APP_ID)).or(meta.name.as_deref())?;
        let protocol = told(PROTOCOL).unwrap_or_default().to_ascii_lowercase();
        Some(Self {
            app_id: app_id.into(),
            kind: match protocol.as_str() {
                "grpc" | "grpcs" => AppKind::Grpc,
                _ => AppKind::Http,
            },
            config: told(CONFIG).map(Into::into),
        })
    }
}

// === impl Sidecars ===

impl Sidecars {
    /// Takes a fact of a pod; returns the namespaces in which something changed.
    pub(crate) fn pod(&mut self, fact: Fact<Pod>, now: Duration) -> BTreeSet<Arc<str>> {
        let changes = self.pods.take(fact);
        let mut touched = BTreeSet::new();
        for change in changes {
            if change.before == change.after {
                continue;
            }
            touched.insert(Arc::clone(&change.key.0));
            if change.after.is_some() {
                self.since.entry(change.key).or_insert(now);
            } else {
                self.since.remove(&change.key);
            }
        }
        touched
    }

    /// Says whether all pods have been told at least once.
    pub(crate) fn is_whole(&self) -> bool {
        self.pods.is_whole()
    }

    /// Takes what a replica tells of its sessions; returns the namespaces in which something changed.
    ///
    /// What goes beyond the bounds is not taken: those sidecars count as not connected.
    pub(crate) fn told(
        &mut self,
        replica: &Arc<str>,
        news: News,
        now: Duration,
    ) -> BTreeSet<Arc<str>> {
        let mut touched = BTreeSet::new();
        if !self.replicas.contains_key(replica) && self.replicas.len() >= MAX_REPLICAS {
            return touched;
        }
        self.replicas.entry(Arc::clone(replica)).or_default();
        for number in news.gone {
            touched.extend(self.leave(&(Arc::clone(replica), number), now));
        }
        let mut held = self.seats.keys().filter(|(of, _)| of == replica).count();
        for (number, sidecar) in news.sidecars {
            let place = (Arc::clone(replica), number);
            let since = self.seats.get(&place).map(|seat| seat.since);
            if since.is_none() && held >= MAX_SIDECARS {
                continue;
            }
            held += usize::from(since.is_none());
            let namespace: Arc<str> = sidecar.app.namespace.as_str().into();
            let places = self.by_namespace.entry(Arc::clone(&namespace)).or_default();
            places.insert(place.clone());
            touched.insert(namespace);
            let since = since.unwrap_or(now);
            self.seats.insert(place, Seat { sidecar, since });
        }
        touched
    }

    /// Takes what a replica counted in the last hour.
    pub(crate) fn counted(&mut self, replica: &Arc<str>, last_hour: HashMap<Arc<str>, Counts>) {
        if let Some(replica) = self.replicas.get_mut(replica) {
            replica.last_hour = last_hour;
        }
    }

    /// A replica is not heard of any more; returns the namespaces in which something changed.
    pub(crate) fn lost(&mut self, replica: &Arc<str>, now: Duration) -> BTreeSet<Arc<str>> {
        self.replicas.remove(replica);
        let of = self.seats.keys().filter(|(of, _)| of == replica);
        let places: Vec<Place> = of.cloned().collect();
        places
            .iter()
            .filter_map(|place| self.leave(place, now))
            .collect()
    }

    fn leave(&mut self, place: &Place, now: Duration) -> Option<Arc<str>> {
        let seat = self.seats.remove(place)?;
        let namespace: Arc<str> = seat.sidecar.app.namespace.as_str().into();
        if let Some(places) = self.by_namespace.get_mut(&namespace) {
            places.remove(place);
            if places.is_empty() {
                self.by_namespace.remove(&namespace);
            }
        }
        self.forgive(&namespace, &seat, now);
        Some(namespace)
    }

    /// Gives the pod of a session that has ended its time to come back.
    ///
    /// Every session ends with its certificate, and those of a replica with that. One that never answered gets no
    /// time, or it could go on like this for ever.
    fn forgive(&mut self, namespace: &Arc<str>, seat: &Seat, now: Duration) {
        if seat.sidecar.objects.is_empty() {
            return;
        }
        let pod = seat.pod();
        if pod.len() < TOLD_NAME {
            if let Some(since) = self.since.get_mut(&(Arc::clone(namespace), pod.into())) {
                *since = now;
            }
            return;
        }
        // It may have told only the beginning of its name.
        for ((of, name), since) in &mut self.since {
            if of == namespace && name.starts_with(pod) {
                *since = now;
            }
        }
    }

    /// What an object decided in the last hour, on all sidecars.
    pub(crate) fn last_hour(&self, uid: &str) -> Counts {
        let mut sum = Counts::default();
        for counts in self
            .replicas
            .values()
            .filter_map(|replica| replica.last_hour.get(uid))
        {
            sum.denied = sum.denied.saturating_add(counts.denied);
            sum.would_deny = sum.would_deny.saturating_add(counts.would_deny);
        }
        sum
    }

    /// The pods of a namespace, by name.
    pub(crate) fn pods_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.of_namespace(namespace).map(|(_, pod)| pod)
    }

    /// How the sidecars stand that an object is for.
    pub(crate) fn standing(&self, asked: Asked<'_>) -> Standing {
        let Asked {
            object,
            now,
            patience,
            ..
        } = asked;
        let namespace = object.namespace();
        // By app and pod, as sidecars tell it; the newest session of a pod counts.
        let mut newest: BTreeMap<(&str, &str), &Seat> = BTreeMap::new();
        let mut apps = BTreeSet::new();
        let places = self.by_namespace.get(namespace).into_iter().flatten();
        for seat in places.filter_map(|place| self.seats.get(place)) {
            let app_id = seat.sidecar.app.app_id.as_str();
            if !object.is_for(app_id) {
                continue;
            }
            apps.insert(app_id);
            let held = newest.entry((app_id, seat.pod())).or_insert(seat);
            if held.since < seat.since {
                *held = seat;
            }
        }
        let mut standing = Standing::default();
        let in_scope = |pod: &Arc<Pod>| object.is_for(&pod.app_id);
        for (key, pod) in self
            .pods
            .of_namespace(namespace)
            .filter(|(_, pod)| in_scope(pod))
        {
            let name = &*key.1;
            let told = name.get(..TOLD_NAME).unwrap_or(name);
            let stand = match newest.remove(&(&*pod.app_id, told)) {
                Some(seat) => seat.stand(asked),
                None => {
                    let since = self.since.get(key).copied().unwrap_or_default();
                    Stand::Absent {
                        is_starting: now.saturating_sub(since) < patience,
                    }
                }
            };
            standing.count(name, &stand);
        }
        for ((_, pod), seat) in newest {
            standing.count(pod, &seat.stand(asked));
        }
        standing.apps_truncated = apps.len() > MAX_APPS;
        standing.apps = apps.into_iter().take(MAX_APPS).map(str::to_owned).collect();
        standing
    }
}

// === impl Seat ===

impl Seat {
    /// The pod that it names: the instance is that name and a word.
    fn pod(&self) -> &str {
        let instance = &*self.sidecar.instance;
        instance.rsplit_once('-').map_or(instance, |(pod, _)| pod)
    }

    fn stand(&self, asked: Asked<'_>) -> Stand<'_> {
        let Asked {
            object, since, now, ..
        } = asked;
        let stored = &object.stored;
        let mut objects = self.sidecar.objects.iter();
        let ran = objects.find(|ran| *ran.uid == *stored.uid);
        match ran {
            Some(ran) if ran.generation == stored.generation => match &ran.refusal {
                None => Stand::Applied,
                Some(refusal) => Stand::Rejected(refusal),
            },
            _ if now.saturating_sub(since.max(self.since)) <= ACK_LIMIT => Stand::Pending,
            Some(ran) => Stand::Outdated(Some(ran.generation)),
            None => Stand::Outdated(None),
        }
    }
}

// === impl Standing ===

impl Standing {
    fn count(&mut self, pod: &str, stand: &Stand<'_>) {
        self.expected += 1;
        self.connected += usize::from(!matches!(stand, Stand::Absent { .. }));
        let why = match stand {
            Stand::Applied => {
                self.applied += 1;
                return;
            }
            Stand::Rejected(Refusal { code, message }) => {
                self.rejected += 1;
                format!("rejected: {code}: {message}")
            }
            Stand::Pending => {
                self.pending += 1;
                "has not answered yet".to_owned()
            }
            Stand::Outdated(Some(generation)) => {
                self.outdated += 1;
                format!("on generation {generation}")
            }
            Stand::Outdated(None) => {
                self.outdated += 1;
                "does not answer".to_owned()
            }
            Stand::Absent { is_starting } => {
                self.outdated += 1;
                self.starting += usize::from(*is_starting);
                "not connected".to_owned()
            }
        };
        if self.laggards.len() < MAX_NAMED {
            self.laggards.push(format!("{pod} ({why})"));
        }
    }

    /// All that are expected run it.
    pub(crate) fn is_complete(&self) -> bool {
        self.expected > 0 && self.applied == self.expected
    }

    /// Those that have not acknowledged, for people.
    pub(crate) fn told_laggards(&self) -> String {
        let all = self.expected - self.applied;
        let mut text = self.laggards.join(", ");
        if all > self.laggards.len() {
            text.push_str(&format!(" and {} more", all - self.laggards.len()));
        }
        text
    }
}

//! AccessControl: from objects to sidecars, and from what sidecars answer to status.
//!
//! Owns the one task that holds all that is known, and its order: facts in, a whole world out to the streams; then,
//! on the replica that leads, statuses. Slow things (calls, the examination of rules) are jobs of a bounded number
//! whose results come back here. What is decided is in `index`: [`Objects`], [`Sidecars`], [`analysis`], [`status`].

mod analyses;
mod facts;
mod source;
mod told;
mod writer;

use crate::cluster::calls::{Calls, Place};
use crate::index::access::{Definition, Object, Objects};
use crate::index::mirror::{Fact, Mirror};
use crate::index::sidecars::{Pod, Sidecars};
use crate::index::status::Mtls;
use crate::lease::Leadership;
use analyses::{Analysed, Analyses};
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, future::BoxFuture};
use ironside_chassis::Clock;
use ironside_cluster::Recorder;
use ironside_discovery::{Counts, Cursor, Discovery, News};
use ironside_resources::configuration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch as live};
use tokio_util::sync::CancellationToken;
use writer::{Kept, Written};

use facts::drain;
pub(crate) use told::AccessMetrics;

/// The logger of this part.
pub(crate) const SCOPE: &str = "dapr.operator.accesscontrol";
/// The kind, as paths spell it.
pub(crate) const PLACE: Place = Place::named("apis/dapr.io/v1alpha1", "accesscontrols");
/// Changes of sidecars within so long are looked at once.
const COALESCE: Duration = Duration::from_millis(50);
/// Least time between two whole reads for the sake of doubts.
const READ_PAUSE: Duration = Duration::from_secs(2);
/// How often counts and gauges are taken.
const TICK: Duration = Duration::from_secs(5);
/// How often what was denied is summed up.
const SUM: Duration = Duration::from_secs(30);

/// What the task is made with.
pub(crate) struct Parts {
    pub(crate) calls: Calls,
    pub(crate) discovery: Discovery,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    /// Name of this replica.
    pub(crate) instance: Arc<str>,
    /// The only namespace that is looked at.
    pub(crate) only: Option<Arc<str>>,
    pub(crate) leadership: live::Receiver<Leadership>,
    /// What other replicas tell.
    pub(crate) relayed: mpsc::Receiver<Relayed>,
    pub(crate) deny_by_default: bool,
    pub(crate) mtls: Mtls,
    pub(crate) metrics: AccessMetrics,
}

/// What another replica tells of its sidecars.
#[derive(Debug)]
pub(crate) enum Relayed {
    /// There is news.
    Told {
        replica: Arc<str>,
        news: News,
        /// All counts, if they are told.
        last_hour: Option<HashMap<Arc<str>, Counts>>,
    },
    /// It is not heard of any more.
    Lost(Arc<str>),
}

/// The task.
pub(crate) struct Reconciler {
    parts: Parts,
    objects: Objects,
    sidecars: Sidecars,
    blocks: Mirror<Arc<configuration::AccessControl>>,
    analyses: Analyses,
    cursor: Cursor,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Objects have changed since the last world.
    is_stale: bool,
    /// What was found when it was looked for the definition.
    found: Option<Definition>,
    is_looking: bool,
    look_at: Duration,
    /// When the list began that is being told.
    listing: Option<Duration>,
    /// When the last whole list began.
    listed: Option<Duration>,
    read_at: Duration,
    /// What the last world may have taken away.
    removed: Vec<Arc<Object>>,
    is_lost: bool,
    kept: HashMap<Arc<str>, Kept>,
    /// Namespaces whose statuses are to be looked at, and when.
    touched: BTreeSet<Arc<str>>,
    touch_at: Option<Duration>,
    deadlines: BTreeMap<Arc<str>, Duration>,
    leads_since: Option<Duration>,
    writing: usize,
    /// Writes that were begun since the last pause.
    begun: usize,
    write_at: Duration,
    tick_at: Duration,
    sum_at: Duration,
}

/// A job that has ended.
enum Done {
    Looked(Definition, Option<u64>),
    Written(Box<Written>),
    Analysed(Box<Analysed>),
}

/// What one turn waits for.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is handed on at once"
)]
enum Turn {
    Object(Fact<Object>),
    Pod(Fact<Pod>),
    Block(Fact<Arc<configuration::AccessControl>>),
    Sessions,
    Relayed(Relayed),
    Leadership,
    Doubt,
    Done(Done),
    Time,
    End,
}

// === impl Reconciler ===

impl Reconciler {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = parts.clock.monotonic().since_start();
        Self {
            parts,
            objects: Objects::default(),
            sidecars: Sidecars::default(),
            blocks: Mirror::default(),
            analyses: Analyses::default(),
            cursor: Cursor::default(),
            jobs: FuturesUnordered::new(),
            is_stale: false,
            found: None,
            is_looking: false,
            look_at: now,
            listing: None,
            listed: None,
            read_at: now,
            removed: Vec::new(),
            is_lost: false,
            kept: HashMap::new(),
            touched: BTreeSet::new(),
            touch_at: None,
            deadlines: BTreeMap::new(),
            leads_since: None,
            writing: 0,
            begun: 0,
            write_at: now,
            tick_at: now,
            sum_at: now,
        }
    }

    /// Works until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut objects = self.watch_objects();
        let mut pods = self.watch_pods();
        let mut blocks = self.watch_blocks();
        let mut sessions = self.parts.discovery.sessions();
        let mut leadership = self.parts.leadership.clone();
        leadership.mark_changed();
        sessions.mark_changed();
        let discovery = self.parts.discovery.clone();
        loop {
            let now = self.now();
            let wait = self.next().saturating_sub(now);
            let may_read = self.read_at <= now && self.listed.is_some();
            let turn = tokio::select! {
                () = stop.cancelled() => Turn::End,
                fact = objects.next() => fact.map_or(Turn::End, Turn::Object),
                fact = pods.next() => fact.map_or(Turn::End, Turn::Pod),
                fact = blocks.next() => fact.map_or(Turn::End, Turn::Block),
                changed = sessions.changed() => changed.map_or(Turn::End, |()| Turn::Sessions),
                changed = leadership.changed() => changed.map_or(Turn::End, |()| Turn::Leadership),
                told = self.parts.relayed.recv() => told.map_or(Turn::End, Turn::Relayed),
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => Turn::Done(done),
                () = discovery.doubted(), if may_read => Turn::Doubt,
                () = tokio::time::sleep(wait) => Turn::Time,
            };
            match turn {
                Turn::End => return,
                Turn::Object(fact) => {
                    self.object(fact);
                    drain(&mut objects, |fact| self.object(fact));
                }
                Turn::Pod(fact) => {
                    self.pod(fact);
                    drain(&mut pods, |fact| self.pod(fact));
                }
                Turn::Block(fact) => {
                    self.block(fact);
                    drain(&mut blocks, |fact| self.block(fact));
                }
                Turn::Sessions => self.sessions(),
                Turn::Relayed(told) => self.relayed(told),
                Turn::Leadership => {
                    let leads = leadership.borrow_and_update().is_leader;
                    self.lead(leads);
                }
                Turn::Doubt => {
                    // The source itself is read, and not what this process remembers of it.
                    self.read_at = self.now() + READ_PAUSE;
                    self.listed = None;
                    objects = self.watch_objects();
                }
                Turn::Done(Done::Looked(definition, revision)) => self.looked(definition, revision),
                Turn::Done(Done::Written(written)) => self.written(*written),
                Turn::Done(Done::Analysed(analysed)) => self.analysed(*analysed),
                Turn::Time => {}
            }
            self.publish();
            self.analyse();
            self.look_at_statuses();
            self.tick();
        }
    }

    fn now(&self) -> Duration {
        self.parts.clock.monotonic().since_start()
    }

    /// When something is due by itself.
    fn next(&self) -> Duration {
        let mut next = self.tick_at;
        let deadlines = self.deadlines.values().min().copied();
        let leads = self.leads_since.is_some();
        for instant in [self.touch_at, deadlines]
            .into_iter()
            .flatten()
            .filter(|_| leads)
        {
            next = next.min(instant);
        }
        if self.is_stale && !self.is_looking {
            next = next.min(self.look_at);
        }
        next
    }

    fn sessions(&mut self) {
        let news = self.parts.discovery.news(&mut self.cursor);
        let (own, now) = (Arc::clone(&self.parts.instance), self.now());
        for namespace in self.sidecars.told(&own, news, now) {
            self.touch(namespace);
        }
    }

    fn relayed(&mut self, told: Relayed) {
        let now = self.now();
        let touched = match told {
            Relayed::Told {
                replica,
                news,
                last_hour,
            } => {
                let touched = self.sidecars.told(&replica, news, now);
                if let Some(last_hour) = last_hour {
                    self.sidecars.counted(&replica, last_hour);
                }
                touched
            }
            Relayed::Lost(replica) => self.sidecars.lost(&replica, now),
        };
        for namespace in touched {
            self.touch(namespace);
        }
    }

    fn lead(&mut self, leads: bool) {
        match (leads, self.leads_since) {
            (true, None) => {
                self.leads_since = Some(self.now());
                self.touch_all();
            }
            (false, Some(_)) => {
                self.leads_since = None;
                self.deadlines.clear();
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn touch(&mut self, namespace: Arc<str>) {
        let at = self.now() + COALESCE;
        self.touched.insert(namespace);
        self.touch_at.get_or_insert(at);
    }

    fn touch_all(&mut self) {
        let all = self.objects.all().map(|object| object.namespace().into());
        for namespace in all.collect::<BTreeSet<Arc<str>>>() {
            self.touch(namespace);
        }
    }

    /// Counts and gauges, now and then.
    fn tick(&mut self) {
        let now = self.now();
        if self.tick_at > now {
            return;
        }
        self.tick_at = now + TICK;
        self.parts
            .metrics
            .show_sidecars(self.parts.discovery.totals());
        if self.sum_at <= now {
            self.sum_at = now + SUM;
            let own = Arc::clone(&self.parts.instance);
            self.sidecars
                .counted(&own, self.parts.discovery.last_hour());
            self.touch_all();
        }
    }
}

#[cfg(test)]
mod tests;

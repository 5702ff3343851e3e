//! Edits of files become live state.
//!
//! Owns the watch (5 ms debounce, a backup listing, SIGHUP) and the reload: a whole new [`Live`] is compiled and
//! published; a bad edit keeps the last good one and says in one line what to correct. The reference restarts
//! its runtime for most edits and closes its ports; here they stay. Source: process-interface 2.9.

use std::{sync::Arc, time::Duration};

use ironside_chassis::Clock;
use ironside_policy::PolicySet;
use ironside_resources::{configuration, loader::Loaded};
use ironside_telemetry::metrics::Metrics;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    access::{self, AccessError},
    cluster::{Kind, News},
    compile::Compiled,
    components,
    disk::{Bytes, Disk, DiskError, Snapshot},
    operator::State,
    resiliency,
    stream::{Streamed, Update},
};
use crate::live::{Live, PolicySnapshot};
use report::{find_policy, report};
pub(crate) use watched::Watch;

mod report;
#[cfg(test)]
mod tests;
mod watched;

/// Quiet time before an object of access control counts as removed: editors delete and create.
const REMOVAL_QUIET: Duration = Duration::from_millis(50);
/// Longest delay of a removal while other files change.
const REMOVAL_LIMIT: Duration = Duration::from_millis(90);
/// Scope of reload lines.
const LOG: &str = "dapr.runtime.hotreload";

/// Keeps live state up to date with the files.
pub(crate) struct Reloader {
    disk: Disk,
    last: Snapshot,
    /// `last` holds objects of access control that the files do not: they may come back.
    is_unsettled: bool,
    /// Why the files could not be read the last time.
    unreadable: Option<String>,
    /// Objects and files that cannot be used at present.
    invalid: usize,
    told: Told,
    hangup: mpsc::Receiver<()>,
    /// What the operator says of access control.
    streamed: Streamed,
    updates: Option<mpsc::Receiver<Update>>,
    /// All that it says was looked at once: what is not watched stays as it is from then on.
    is_whole: bool,
    /// Tells when it says something else of other objects.
    states: Option<watch::Receiver<State>>,
}

/// Who is told of a new state, and the clock that says since when.
pub(crate) struct Told {
    /// Requests.
    pub(crate) live: watch::Sender<Arc<Live>>,
    /// Series.
    pub(crate) metrics: Arc<Metrics>,
    /// Time.
    pub(crate) clock: Clock,
    /// The warnings of the state in force.
    pub(crate) said: Vec<String>,
}

/// What the files say at one time.
enum Found {
    /// They cannot be read.
    Unread(DiskError),
    /// The same as before.
    Same,
    /// Something that is no configuration.
    Unusable(Bytes, DiskError),
    /// Something new.
    New(Box<Snapshot>),
}

/// What came of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reloaded {
    /// Nothing new.
    Same,
    /// A new state is in force.
    Published,
    /// The old state stays, and the reason was said.
    Kept,
}

// === impl Reloader ===

impl Reloader {
    /// Publishes to `told` whenever the files change or `hangup` says so. `last` is what is in force.
    pub(crate) fn new(disk: Disk, last: Snapshot, told: Told, hangup: mpsc::Receiver<()>) -> Self {
        let (states, is_whole) = (disk.states(), disk.is_whole());
        let reloader = Self {
            disk,
            last,
            states,
            is_whole,
            is_unsettled: false,
            unreadable: None,
            invalid: 0,
            told,
            hangup,
            streamed: Streamed::Absent,
            updates: None,
        };
        reloader.measure();
        reloader
    }

    /// Waits for what an operator says, too; with no `updates` that is never.
    #[must_use]
    pub(crate) fn streaming(mut self, updates: Option<mpsc::Receiver<Update>>) -> Self {
        self.streamed = Streamed::Pending;
        self.updates = updates;
        self
    }

    /// True unless the Configuration at the start switched watching off (feature `HotReload`).
    pub(crate) fn watches(&self) -> bool {
        self.last
            .configuration
            .is_feature_enabled(configuration::HOT_RELOAD)
    }

    /// Starts the watch, so that no edit after this is missed. Where there are no files there is none; where the
    /// system has no more watches, files are looked at now and then all the same.
    pub(crate) fn watch(&self) -> Watch {
        let mut watch = Watch::new();
        if self.watches() {
            watch.follow(self.disk.files());
        }
        watch
    }

    /// Reloads until `stop` is cancelled.
    pub(crate) async fn run(mut self, mut watch: Watch, stop: CancellationToken) {
        let relist = self.disk.files().relist;
        loop {
            let forced = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = self.hangup.recv() => true,
                Some(update) = next(&mut self.updates) => {
                    self.follow(update);
                    continue;
                }
                () = watch.edit() => {
                    watch.debounce().await;
                    false
                }
                () = changed(&mut self.states) => {
                    self.measure();
                    if !self.watches() && self.is_whole {
                        continue;
                    }
                    false
                }
                () = tokio::time::sleep(relist), if self.watches() => false,
            };
            let mut found = self.look(forced);
            self.is_whole |= self.disk.is_whole();
            if !forced && self.keep_removed(&mut found) {
                let _said = self.take(found, forced);
                // In the end what lies there counts, quiet or not.
                let quiet = self.until_quiet(&mut watch);
                let _quiet = tokio::time::timeout(REMOVAL_LIMIT, quiet).await;
                let _said = self.settle();
            } else {
                let _said = self.take(found, forced);
            }
            if self.watches() {
                // Directories that were replaced are watched anew; the others are already.
                watch.follow(self.disk.files());
            }
        }
    }

    /// Puts in force what the operator says: the rules are new, everything else stays as it is.
    fn follow(&mut self, update: Update) {
        let Update { state, applied } = update;
        let done = self.put_in_force(state);
        // Whoever asked may be gone.
        let _gone = applied.send(done);
    }

    /// Rules that cannot be used change nothing (fact F7).
    fn put_in_force(&mut self, state: Streamed) -> Result<(), AccessError> {
        let policy = match self.disk.policy(&self.last, &state) {
            Ok(policy) => policy,
            // What is too old must not stay.
            Err(cause) if matches!(state, Streamed::Expired(_)) => {
                error!(target: LOG, "access control cannot be put in force: {cause}; calls are refused");
                PolicySet::pending()
            }
            Err(cause) => {
                error!(target: LOG, "access control cannot be put in force: {cause}; the last good rules stay in force");
                return Err(cause);
            }
        };
        self.streamed = state;
        let mut live = Live::clone(&self.told.live.borrow());
        live.policy = Arc::new(policy);
        live.snapshot = self.number(false);
        access::measure(&self.told.metrics, &live, &self.streamed, self.invalid);
        self.told.live.send_replace(Arc::new(live));
        Ok(())
    }

    /// The number of the state that is about to be published, with the same rules as the last one or others.
    fn number(&self, is_same: bool) -> PolicySnapshot {
        let last = self.told.live.borrow().snapshot;
        let next = access::next(last, self.told.clock.now());
        match self.streamed.held() {
            _ if is_same => last,
            Some(held) => PolicySnapshot {
                number: held.snapshot,
                ..next
            },
            None => next,
        }
    }

    /// Tells the series how the operator and its objects stand.
    fn measure(&self) {
        let Some(states) = &self.states else {
            return;
        };
        let metrics = &self.told.metrics;
        metrics.operator_connected(states.borrow().is_connected);
        for kind in Kind::ALL {
            let refused = self.disk.accepted().map_or(0, |all| all.refused(kind));
            metrics.resources_refused(kind.as_str(), refused);
        }
        let live = self.told.live.borrow();
        let all = live.generations.iter();
        metrics.resource_generations(all.map(|one| (one.kind, &*one.name, one.generation)));
    }

    /// Reads and compares, and understands what is new: once for each edit, because parsing is what it costs.
    fn look(&mut self, forced: bool) -> Found {
        say_refused(&self.disk.gather());
        self.measure();
        let bytes = match self.disk.bytes() {
            Ok(bytes) => bytes,
            Err(cause) => return Found::Unread(cause),
        };
        if self.last.is_of(&bytes) && !forced && !self.is_unsettled {
            return Found::Same;
        }
        match self.disk.understand(&bytes) {
            Ok((configuration, loaded)) => {
                Found::New(Box::new(Snapshot::new(bytes, configuration, loaded)))
            }
            Err(cause) => Found::Unusable(bytes, cause),
        }
    }

    /// Puts objects of access control that are gone at the moment back in their places; false if there are none.
    ///
    /// Files that will be refused remove nothing.
    fn keep_removed(&mut self, found: &mut Found) -> bool {
        let Found::New(next) = found else {
            return false;
        };
        let Loaded {
            access_controls,
            policy_failures,
            ..
        } = &mut next.loaded;
        if !policy_failures.is_empty() {
            return false;
        }
        let mut is_removal = false;
        for (place, old) in self.last.loaded.access_controls.iter().enumerate() {
            if find_policy(access_controls, old).is_none() {
                access_controls.insert(place.min(access_controls.len()), old.clone());
                is_removal = true;
            }
        }
        self.is_unsettled |= is_removal;
        is_removal
    }

    /// Waits while files change. What else is edited meanwhile takes effect: only objects that are gone wait.
    async fn until_quiet(&mut self, watch: &mut Watch) {
        while let Ok(()) = tokio::time::timeout(REMOVAL_QUIET, watch.edit()).await {
            watch.debounce().await;
            let mut found = self.look(false);
            self.keep_removed(&mut found);
            let _said = self.take(found, false);
        }
    }

    /// Looks again once the files are quiet: what is gone by now is removed.
    fn settle(&mut self) -> Reloaded {
        let found = self.look(false);
        let is_read = !matches!(found, Found::Unread(_));
        let reloaded = self.take(found, false);
        self.is_unsettled &= !is_read;
        reloaded
    }

    /// Compiles and publishes what was found.
    fn take(&mut self, found: Found, forced: bool) -> Reloaded {
        let reloaded = match found {
            Found::Unread(cause) => return self.unread(&cause, forced),
            Found::Same => Reloaded::Same,
            Found::Unusable(bytes, cause) => {
                self.last.seen_instead(bytes);
                kept(&cause)
            }
            // Objects that went and came back, or may yet, are no edit.
            Found::New(next) if self.is_unsettled && !forced && next.says_as(&self.last) => {
                self.last = *next;
                self.invalid = 0;
                let live = Arc::clone(&self.told.live.borrow());
                access::measure(&self.told.metrics, &live, &self.streamed, 0);
                Reloaded::Same
            }
            Found::New(next) => self.publish(*next),
        };
        self.is_unsettled &= !forced;
        self.unreadable = None;
        reloaded
    }

    /// Files that cannot be read, said once for each reason.
    fn unread(&mut self, cause: &DiskError, forced: bool) -> Reloaded {
        let text = cause.to_string();
        if self.unreadable.as_ref() == Some(&text) && !forced {
            return Reloaded::Same;
        }
        self.unreadable = Some(text);
        kept(cause)
    }

    fn publish(&mut self, mut next: Snapshot) -> Reloaded {
        resiliency::keep_good(&self.last.loaded, &mut next.loaded);
        let policies = Arc::clone(&self.told.live.borrow().resiliency);
        match self.disk.compile(&next, &self.streamed, Some(&policies)) {
            Ok(Compiled {
                mut live,
                components: _,
                failed,
                warnings,
                errors,
            }) => {
                report(&self.last, &next);
                let (before, after) = (&self.last.loaded, &next.loaded);
                let metrics = &self.told.metrics;
                resiliency::announce(&before.resiliencies, &after.resiliencies, metrics);
                components::count(&before.components, &after.components, &failed, metrics);
                for text in errors.iter().filter(|one| !self.told.said.contains(one)) {
                    error!(target: LOG, "{text}; its last good state stays in force");
                }
                // A warning that stands is not news with each edit of something else.
                for warning in warnings.iter().filter(|one| !self.told.said.contains(one)) {
                    warn!(target: LOG, "{warning}");
                }
                self.told.said = warnings.into_iter().chain(errors).collect();
                live.snapshot = self.number(same_rules(&self.last, &next));
                self.last = next;
                self.invalid = 0;
                access::measure(&self.told.metrics, &live, &self.streamed, 0);
                self.told.live.send_replace(Arc::new(live));
                self.measure();
                info!(target: LOG, "configuration and resources are in force; ports and connections stay");
                Reloaded::Published
            }
            Err(cause) => {
                self.invalid = access::invalid(&next.loaded);
                let live = Arc::clone(&self.told.live.borrow());
                access::measure(&self.told.metrics, &live, &self.streamed, self.invalid);
                self.last.seen_instead(next.into_bytes());
                kept(&cause.into())
            }
        }
    }
}

/// True if both hold the same rules of access control.
fn same_rules(before: &Snapshot, after: &Snapshot) -> bool {
    before.configuration.spec.access_control == after.configuration.spec.access_control
        && before.loaded.access_controls == after.loaded.access_controls
}

/// Objects that cannot be used, one line each.
pub(crate) fn say_refused(news: &[News]) {
    for News {
        kind,
        name,
        generation,
        why,
        is_kept,
    } in news
    {
        let rest = if *is_kept {
            "its last good version stays in force until it is corrected"
        } else {
            "it is left out until it is corrected"
        };
        error!(target: LOG, "{kind} {name} cannot be used in generation {generation}: {why}; {rest}");
    }
}

async fn changed(states: &mut Option<watch::Receiver<State>>) {
    if let Some(states) = states
        && states.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

async fn next(updates: &mut Option<mpsc::Receiver<Update>>) -> Option<Update> {
    match updates {
        Some(updates) => updates.recv().await,
        None => std::future::pending().await,
    }
}

fn kept(cause: &DiskError) -> Reloaded {
    error!(target: LOG, "an edit cannot be used: {cause}; the last good state stays in force until the file is corrected");
    Reloaded::Kept
}

//! Statuses, written by the replica that leads.
//!
//! Owns the look at what has changed and the calls. What a status says and when it is due is `index::status`; how
//! many writes are under way, and how many a second there are in all, is here.

use super::{Done, PLACE, Reconciler, SCOPE};
use crate::cluster::CallError;
use crate::index::access::{Object, applied};
use crate::index::sidecars::{Asked, Standing};
use crate::index::status::{Due, Facts, Pace, due};
use futures_util::FutureExt as _;
use ironside_resources::access_control::AccessControlStatus;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// Field manager of statuses.
const MANAGER: &str = "dapr-operator-accesscontrol";
/// Writes under way, and begun before a pause: 64 a second at most.
const MAX_WRITING: usize = 16;
/// The pause.
const WRITE_PAUSE: Duration = Duration::from_millis(250);
/// A pod that is not connected is starting, or coming back, for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often sidecars are looked at that may become outdated without doing anything.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a first status waits for the examination of its rules.
const ANALYSIS: Duration = Duration::from_secs(1);

/// Pause after a write that failed; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest such pause.
const LONGEST_RETRY: Duration = Duration::from_secs(64);

/// What is remembered of an object beside itself.
#[derive(Debug, Default)]
pub(super) struct Kept {
    generation: Option<i64>,
    since: Duration,
    written: Option<Duration>,
    is_writing: bool,
    /// Writes that failed, one after the other, and before when there is no further one.
    failures: u32,
    retry_at: Duration,
    /// The last status that was written, and the revision that it made.
    last: Option<(u64, AccessControlStatus)>,
}

/// A write that has ended.
pub(super) struct Written {
    object: Arc<Object>,
    before: Option<AccessControlStatus>,
    status: AccessControlStatus,
    result: Result<Value, CallError>,
}

// === impl Kept ===

impl Kept {
    /// The object has this generation.
    pub(super) fn saw(&mut self, generation: i64, now: Duration) {
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.since = now;
        }
    }

    /// A write has failed, whatever it said: before it is tried again there is a pause.
    fn failed(&mut self, now: Duration) {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.retry_at = now + FIRST_RETRY.saturating_mul(factor).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
    }

    /// What the status says at present: as it was told, or as it was written since.
    fn held<'a>(&'a self, object: &'a Object) -> Option<&'a AccessControlStatus> {
        match &self.last {
            Some((revision, status)) if *revision > object.revision => Some(status),
            Some(_) | None => object.status.as_ref(),
        }
    }
}

// === impl Reconciler ===

impl Reconciler {
    /// Looks at the statuses that may have to be written now.
    pub(super) fn look_at_statuses(&mut self) {
        let (now, leads) = (self.now(), self.leads_since);
        let Some(leads_since) = leads else {
            self.touched.clear();
            self.touch_at = None;
            return;
        };
        // Before all pods are known, everybody would be complete.
        if !self.sidecars.is_whole() {
            self.touch_at = self.touch_at.map(|_| now + AGAIN);
            return;
        }
        let due: Vec<Arc<str>> = self
            .deadlines
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(namespace, _)| Arc::clone(namespace))
            .collect();
        self.touched.extend(due);
        let is_touched = self.touch_at.is_some_and(|at| at <= now);
        if !is_touched && !self.deadlines.values().any(|at| *at <= now) {
            return;
        }
        self.touch_at = None;
        for namespace in std::mem::take(&mut self.touched) {
            self.deadlines.remove(&namespace);
            let objects: Vec<Arc<Object>> =
                self.objects.of_namespace(&namespace).cloned().collect();
            let next = objects
                .iter()
                .filter_map(|object| self.look_at_status(object, leads_since, now));
            if let Some(next) = next.min() {
                self.deadlines.insert(namespace, next);
            }
        }
    }

    /// Writes a status if it is due, and returns when to look again.
    fn look_at_status(
        &mut self,
        object: &Arc<Object>,
        leads_since: Duration,
        now: Duration,
    ) -> Option<Duration> {
        let kept = self.kept.get(&object.stored.uid)?;
        if kept.is_writing {
            // Its end is a turn of its own.
            return None;
        }
        if kept.retry_at > now {
            return Some(kept.retry_at);
        }
        let standing = self.sidecars.standing(Asked {
            object,
            since: kept.since,
            now,
            patience: PATIENCE,
        });
        let pace = Pace {
            written: kept.written,
            since: kept.since,
            leads_since,
        };
        let before = kept.held(object).cloned();
        let known = self.analyses.known(object);
        let status = self.status(object, before.as_ref(), &standing);
        let again = (standing.pending + standing.starting > 0).then_some(now + AGAIN);
        let is_first = before
            .as_ref()
            .is_none_or(|before| before.observed_generation != object.stored.generation);
        match due(before.as_ref(), &status, &standing, pace, now) {
            Due::Never => again,
            Due::At(instant) => Some(again.map_or(instant, |again| again.min(instant))),
            Due::Now if is_first && known.is_old && now < pace.since + ANALYSIS => {
                Some(pace.since + ANALYSIS)
            }
            Due::Now if self.writing >= MAX_WRITING || self.write_at > now => {
                Some(self.write_at.max(now + WRITE_PAUSE))
            }
            Due::Now => {
                self.write(object, before, status, now);
                again
            }
        }
    }

    fn status(
        &self,
        object: &Arc<Object>,
        held: Option<&AccessControlStatus>,
        standing: &Standing,
    ) -> AccessControlStatus {
        let known = self.analyses.known(object);
        let facts = Facts {
            object,
            held,
            rules: self.objects.in_force(object).map(AsRef::as_ref),
            standing,
            lint: known
                .alone
                .map(|alone| alone.lint.as_slice())
                .unwrap_or_default(),
            equivalent: known.alone.map(|alone| &alone.equivalent),
            conflicted: known.conflicted,
            last_hour: self.sidecars.last_hour(&object.stored.uid),
            mtls: self.parts.mtls,
        };
        facts.status(&stamp(&self.parts.clock))
    }

    fn write(
        &mut self,
        object: &Arc<Object>,
        before: Option<AccessControlStatus>,
        status: AccessControlStatus,
        now: Duration,
    ) {
        if let Some(kept) = self.kept.get_mut(&object.stored.uid) {
            kept.is_writing = true;
            kept.written = Some(now);
        }
        self.writing += 1;
        self.begun += 1;
        if self.begun >= MAX_WRITING {
            self.begun = 0;
            self.write_at = now + WRITE_PAUSE;
        }
        let (calls, object) = (self.parts.calls.clone(), Arc::clone(object));
        let job = async move {
            let body = applied(&object, &status);
            let result = calls
                .apply_status(PLACE, object.namespace(), &object.name, &body, MANAGER)
                .await;
            Done::Written(Box::new(Written {
                object,
                before,
                status,
                result,
            }))
        };
        self.jobs.push(job.boxed());
    }

    pub(super) fn written(&mut self, written: Written) {
        let Written {
            object,
            before,
            status,
            result,
        } = written;
        self.writing = self.writing.saturating_sub(1);
        let now = self.now();
        if let Some(kept) = self.kept.get_mut(&object.stored.uid) {
            kept.is_writing = false;
            if let Ok(answer) = &result {
                let revision = answer
                    .pointer("/metadata/resourceVersion")
                    .and_then(Value::as_str);
                let revision = revision
                    .and_then(|text| text.parse().ok())
                    .unwrap_or_default();
                kept.last = Some((revision, status.clone()));
                kept.written = Some(now);
                kept.failures = 0;
            } else {
                kept.failed(now);
            }
        }
        let name = object.full_name();
        match result {
            Ok(_) => {
                debug!(target: SCOPE, "the status of AccessControl {name} is written");
                if self.leads_since.is_some() {
                    self.tell_turn(&object, before.as_ref(), &status);
                }
            }
            // It is gone, or another one has its name: the watch will tell.
            Err(cause) if cause.is_missing() || cause.is_conflict() => {}
            Err(cause) => {
                warn!(target: SCOPE, "cannot write the status of AccessControl {name}, trying again: {cause}")
            }
        }
        self.touch(object.namespace().into());
    }
}

/// The present, as conditions have it.
fn stamp(clock: &ironside_chassis::Clock) -> String {
    let now = jiff::Timestamp::try_from(clock.now()).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_fail_are_tried_later_and_later() {
        let seconds = Duration::from_secs;
        let mut kept = Kept::default();
        for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
            kept.failed(seconds(100));
            assert_eq!(kept.retry_at, seconds(100 + pause));
        }
        kept.failures = 77;
        kept.failed(seconds(100));
        assert_eq!(kept.retry_at, seconds(164));
    }
}

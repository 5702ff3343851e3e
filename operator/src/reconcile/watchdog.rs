//! Pods that asked for a sidecar and run without one (kubernetes 3.5).
//!
//! Owns finding, counting and telling of them, always; and, where that is asked for, restarting them by eviction, so
//! that disruption budgets hold, at a bounded rate, and later and later for an owner whose pods never get one. Pods
//! that nobody would make again, that end, or that the kubelet owns are told of only. The leader acts.

use super::Common;
use crate::cluster::{CallError, Place};
use crate::config::{Rounds, Watchdog as Settings};
use crate::index::pods::{PATCHED, PodView};
use crate::serve::assigned::LivePods;
use ironside_chassis::Tick;
use ironside_cluster::{Kind, News, Subject};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.operator.watchdog";
/// Who labels pods.
const MANAGER: &str = "dapr-operator-watchdog";
/// Name of the sidecar's container.
const SIDECAR: &str = "daprd";
/// Label of the injector's Deployment.
const INJECTOR: &str = "app=dapr-sidecar-injector";
/// Namespaces besides that of the control plane in which nothing is injected (decision 7).
const EXCLUDED: &str = "kube-system";
/// Pause between two looks when nothing is restarted.
const LOOK: Duration = Duration::from_secs(30);
/// Pause while the injector is not ready.
const INJECTOR_AWAY: Duration = Duration::from_secs(5);
/// Pause before the pods of an owner are restarted a second time.
const OWNER_FIRST: Duration = Duration::from_secs(30);
/// Longest such pause.
const OWNER_LONGEST: Duration = Duration::from_secs(3600);

/// The watchdog.
pub(crate) struct Watchdog {
    common: Common,
    pods: Arc<LivePods>,
    settings: Settings,
    owners: Owners,
    /// UIDs of pods that were told of.
    told: HashSet<Box<str>>,
    /// Why it cannot be seen whether the injector is ready, if that was said.
    trouble: Option<String>,
}

/// Which owners had pods restarted, and when they may again; pure.
#[derive(Debug, Default)]
struct Owners(HashMap<Box<str>, Pause>);

#[derive(Debug)]
struct Pause {
    restarts: u32,
    until: Tick,
}

/// What a pod turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It has a sidecar of its own, without our label.
    OwnSidecar,
    Missing,
    /// It went, or is another one by now.
    Gone,
}

// === impl Watchdog ===

impl Watchdog {
    pub(crate) fn new(common: Common, pods: Arc<LivePods>, settings: Settings) -> Self {
        Self {
            common,
            pods,
            settings,
            owners: Owners::default(),
            told: HashSet::new(),
            trouble: None,
        }
    }

    /// Looks for ever, while this replica leads. To stop, drop the future.
    pub(crate) async fn run(mut self) {
        self.pods.whole().await;
        while self.common.leads().await {
            let mut leadership = self.common.clone();
            tokio::select! {
                () = leadership.follows() => {}
                () = self.lead() => {}
            }
            self.common.metrics.show_without_sidecar(0);
        }
    }

    async fn lead(&mut self) {
        // Whether pods are restarted in the round to come.
        let mut restarts = self.settings.rounds != Rounds::Off;
        loop {
            // Without an injector a new pod would have no sidecar either.
            let is_ready = !restarts || self.is_injector_ready().await;
            self.round(restarts && is_ready).await;
            let pause = match self.settings.rounds {
                _ if !is_ready => INJECTOR_AWAY,
                Rounds::Off => LOOK,
                Rounds::Once => {
                    restarts = false;
                    LOOK
                }
                Rounds::Every(pause) => pause,
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn is_injector_ready(&mut self) -> bool {
        let namespace = self.common.namespace.as_str();
        let listed = self
            .common
            .calls
            .list(Place::DEPLOYMENTS, namespace, INJECTOR)
            .await;
        let is_ready = |deployment: &Value| {
            let ready = deployment.pointer("/status/readyReplicas");
            ready.and_then(Value::as_u64).is_some_and(|ready| ready > 0)
        };
        match listed {
            Ok(deployments) => {
                self.trouble = None;
                deployments.iter().any(is_ready)
            }
            Err(cause) => {
                let text = cause.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    warn!(target: SCOPE, "Cannot see whether the injector is ready: {text}");
                    self.trouble = Some(text);
                }
                false
            }
        }
    }

    /// Looks at all suspects once; restarts them if it may.
    async fn round(&mut self, restarts: bool) {
        let suspects = self.pods.lock().suspects();
        let suspects = suspects.into_iter().filter(|pod| {
            *pod.namespace != *self.common.namespace.as_str() && &*pod.namespace != EXCLUDED
        });
        let suspects: Vec<_> = suspects.collect();
        self.told
            .retain(|uid| suspects.iter().any(|pod| pod.uid == *uid));
        self.owners.forget(self.common.now());
        let mut missing = 0;
        let mut restarted = HashSet::new();
        for pod in suspects {
            match self.look(&pod).await {
                Ok(Found::Gone) => {}
                Ok(Found::OwnSidecar) => self.label(&pod).await,
                Ok(Found::Missing) => {
                    missing += 1;
                    self.tell(&pod);
                    if restarts {
                        self.restart(&pod, &mut restarted).await;
                    }
                }
                Err(cause) => {
                    warn!(target: SCOPE, "Pod {}/{}: {cause}", pod.namespace, pod.name);
                }
            }
        }
        self.common.metrics.show_without_sidecar(missing);
        let now = self.common.now();
        for owner in restarted {
            self.owners.restarted(owner, now);
        }
    }

    async fn look(&self, pod: &PodView) -> Result<Found, CallError> {
        let calls = &self.common.calls;
        let found = calls
            .get(Place::PODS, Some(&pod.namespace), &pod.name)
            .await?;
        let Some(found) = found else {
            return Ok(Found::Gone);
        };
        Ok(judge(&found, &pod.uid))
    }

    async fn label(&self, pod: &PodView) {
        if !self.settings.labels {
            return;
        }
        let patch = json!({"metadata": {"labels": {PATCHED: "true"}, "uid": &*pod.uid}});
        let (namespace, name) = (&pod.namespace, &pod.name);
        let calls = &self.common.calls;
        let done = calls
            .merge(Place::PODS, Some(namespace), name, &patch, MANAGER)
            .await;
        match done {
            Ok(_patched) => info!(target: SCOPE, "Pod {namespace}/{name} has its own sidecar"),
            Err(cause) => warn!(target: SCOPE, "Cannot label pod {namespace}/{name}: {cause}"),
        }
    }

    /// Says once that a pod has no sidecar, and what will be done.
    fn tell(&mut self, pod: &PodView) {
        if !self.told.insert(pod.uid.clone()) {
            return;
        }
        let (namespace, name) = (&pod.namespace, &pod.name);
        let then = match (self.settings.rounds, can_restart(pod)) {
            (Rounds::Off, _) => "delete it to get one; --watch-interval would have it done",
            (_, Err(why)) => why,
            (Rounds::Once | Rounds::Every(_), Ok(_owner)) => "it will be restarted",
        };
        warn!(target: SCOPE, "Pod {namespace}/{name} asked for a sidecar and has none: {then}");
        let note = format!("the pod asked for a sidecar and has none: {then}");
        self.event(pod, "Watch", note);
    }

    async fn restart(&self, pod: &PodView, restarted: &mut HashSet<Box<str>>) {
        let Ok(owner) = can_restart(pod) else {
            return;
        };
        if !self.owners.may_restart(owner, self.common.now()) {
            return;
        }
        let (namespace, name) = (&pod.namespace, &pod.name);
        let calls = &self.common.calls;
        match calls.evict(namespace, name, &pod.uid).await {
            Ok(()) => {
                info!(target: SCOPE, "Evicted pod {namespace}/{name}, which had no sidecar");
                let note = "evicted, so that it is made again with the sidecar it asked for";
                self.event(pod, "Evict", note.to_owned());
                self.common.metrics.count_restart(true);
                restarted.insert(owner.into());
            }
            Err(gone) if gone.is_missing() || gone.is_conflict() => return,
            Err(cause) => {
                let is_budget = cause.is_too_many();
                let why = if is_budget {
                    "a disruption budget: "
                } else {
                    ""
                };
                warn!(target: SCOPE, "Cannot evict pod {namespace}/{name}: {why}{cause}");
                self.common.metrics.count_restart(false);
            }
        }
        if let Some(limit) = self.settings.restarts_per_minute {
            tokio::time::sleep(pace(limit)).await;
        }
    }

    /// Tells; what differs in its note alone would be written as a repetition, so each kind has an action of its own.
    fn event(&self, pod: &PodView, action: &'static str, note: String) {
        let subject = Subject {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            uid: pod.uid.to_string(),
        };
        let news = News {
            kind: Kind::Warning,
            reason: "SidecarMissing",
            action,
            note,
        };
        self.common.recorder.tell(subject, news);
    }
}

/// The pause after a restart that keeps to so many a minute.
fn pace(limit: u32) -> Duration {
    Duration::from_secs(60) / limit.max(1)
}

/// The owner that would make the pod again, or why it is left alone.
fn can_restart(pod: &PodView) -> Result<&str, &'static str> {
    if pod.is_static {
        return Err("the kubelet owns it, so it is left alone");
    }
    match &pod.controller {
        Some((_kind, uid)) => Ok(uid),
        None => Err("nothing would make it again, so it is left alone"),
    }
}

/// Says what a pod is, read anew.
fn judge(pod: &Value, uid: &str) -> Found {
    let meta = pod.get("metadata").unwrap_or(&Value::Null);
    let is_ending = meta
        .get("deletionTimestamp")
        .is_some_and(|at| !at.is_null());
    if is_ending || crate::index::text(meta, "/uid").unwrap_or_default() != uid {
        return Found::Gone;
    }
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = lists.into_iter().flat_map(|list| {
        let list = pod.pointer(list).and_then(Value::as_array);
        list.into_iter().flatten()
    });
    let mut names = containers.filter_map(|container| container.get("name")?.as_str());
    match names.any(|name| name == SIDECAR) {
        true => Found::OwnSidecar,
        false => Found::Missing,
    }
}

// === impl Owners ===

impl Owners {
    fn may_restart(&self, owner: &str, now: Tick) -> bool {
        self.0.get(owner).is_none_or(|pause| pause.until <= now)
    }

    /// Notes a round in which pods of an owner were restarted.
    fn restarted(&mut self, owner: Box<str>, now: Tick) {
        let pause = self.0.entry(owner).or_insert(Pause {
            restarts: 0,
            until: now,
        });
        let factor = 1_u32.checked_shl(pause.restarts).unwrap_or(u32::MAX);
        pause.until = now + OWNER_FIRST.saturating_mul(factor).min(OWNER_LONGEST);
        pause.restarts = pause.restarts.saturating_add(1).min(16);
    }

    /// Forgets owners that had no restart for twice the longest pause.
    fn forget(&mut self, now: Tick) {
        self.0
            .retain(|_, pause| now - pause.until < 2 * OWNER_LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: Value, init: Value) -> Value {
        json!({"metadata": {"uid": "u"}, "spec": {"containers": containers, "initContainers": init}})
    }

    /// KO-23, KO-24, KO-25.
    #[test]
    fn a_sidecar_may_be_a_native_one() {
        let app = json!([{"name": "app"}]);
        let both = json!([{"name": "app"}, {"name": "daprd"}]);
        let native = json!([{"name": "daprd", "restartPolicy": "Always"}]);
        for (containers, init, found) in [
            (app.clone(), Value::Null, Found::Missing),
            (both, Value::Null, Found::OwnSidecar),
            (app.clone(), native, Found::OwnSidecar),
            (Value::Null, Value::Null, Found::Missing),
        ] {
            assert_eq!(judge(&pod(containers, init), "u"), found);
        }
        let other = pod(app.clone(), Value::Null);
        assert_eq!(judge(&other, "another"), Found::Gone);
        let mut ending = pod(app, Value::Null);
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(judge(&ending, "u"), Found::Gone);
    }

    /// KO-23: the rate.
    #[test]
    fn restarts_keep_to_their_rate() {
        for (limit, seconds) in [(1, 60), (20, 3), (60, 1), (0, 60)] {
            assert_eq!(pace(limit), Duration::from_secs(seconds), "{limit}");
        }
    }

    #[test]
    fn an_owner_whose_pods_never_get_one_is_left_in_peace() {
        let at = |seconds| Tick::at(Duration::from_secs(seconds));
        let mut owners = Owners::default();
        assert!(owners.may_restart("rs", at(0)));
        owners.restarted("rs".into(), at(0));
        assert!(!owners.may_restart("rs", at(29)));
        assert!(owners.may_restart("rs", at(30)));
        owners.restarted("rs".into(), at(30));
        assert!(!owners.may_restart("rs", at(89)));
        for _ in 0..20 {
            owners.restarted("rs".into(), at(100));
        }
        assert!(!owners.may_restart("rs", at(3699)));
        assert!(owners.may_restart("rs", at(3700)));
        assert!(owners.may_restart("another", at(100)));
        owners.forget(at(20_000));
        assert!(owners.0.is_empty());
    }
}

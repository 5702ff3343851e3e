//! The Service of each app, brought about by server-side apply (kubernetes 3.4).
//!
//! Owns the watches, the writes and what is said of those that cannot be made. Several writes are under way at once,
//! of different apps. Nothing is written by a replica that does not lead, or before everything was read once.

use super::Common;
use super::queue::{Outcome, Queue};
use crate::cluster::watching::Which;
use crate::cluster::{CallError, Place, Told, watch};
use crate::index::mirror::Fact;
use crate::index::pods::ENABLED;
use crate::index::services::{Desired, MANAGER, Plan, Seen, ServiceView, Services, Task, stands};
use crate::index::workloads::{Workload, WorkloadKind, WorkloadSpec, service_name};
use crate::metrics::Written;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, select_all};
use serde::Deserialize as _;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.operator.services";
/// Services that are written at once.
const WORKERS: usize = 16;

/// Settings of the reconciler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Rollouts of Argo have Services too.
    pub(crate) rollouts: bool,
    /// Sidecars speak mutual TLS with each other.
    pub(crate) mtls: bool,
}

/// The reconciler.
pub(crate) struct Reconciler {
    common: Common,
    kinds: Vec<WorkloadKind>,
    mtls: bool,
    index: Services,
    queue: Queue<Task>,
    /// What was written last, so that what is gone from it is written too.
    applied: HashMap<Task, Desired>,
    /// What was said last of a task, so that it is said once.
    told: HashMap<Task, String>,
    is_active: bool,
}

/// What a watch said.
enum Heard {
    Workload(WorkloadKind, Fact<Workload>),
    Service(Fact<ServiceView>),
}

/// How a task ended.
struct Done {
    task: Task,
    outcome: Outcome,
    applied: Option<Desired>,
    note: Option<Note>,
}

/// What is to be said of workloads.
struct Note {
    about: Vec<Arc<Workload>>,
    reason: &'static str,
    text: String,
}

/// What one task is done with.
struct Work {
    common: Common,
    task: Task,
    app_id: Arc<str>,
}

// === impl Reconciler ===

impl Reconciler {
    pub(crate) fn new(common: Common, settings: Settings) -> Self {
        let mut kinds = vec![WorkloadKind::Deployment, WorkloadKind::StatefulSet];
        if settings.rollouts {
            kinds.push(WorkloadKind::Rollout);
        }
        Self {
            common,
            kinds,
            mtls: settings.mtls,
            index: Services::default(),
            queue: Queue::default(),
            applied: HashMap::new(),
            told: HashMap::new(),
            is_active: false,
        }
    }

    /// Works for ever. To stop, drop the future.
    pub(crate) async fn run(mut self) {
        let mut heard = self.watches();
        let mut leadership = self.common.leadership.clone();
        let mut work = FuturesUnordered::new();
        loop {
            self.activate();
            while self.is_active && work.len() < WORKERS {
                let Some(task) = self.queue.take(self.common.now()) else {
                    break;
                };
                work.push(self.start(task));
            }
            self.common.metrics.show_service_queue(self.queue.len());
            let has_room = self.is_active && work.len() < WORKERS;
            let due = self.queue.next_at().filter(|_| has_room);
            let pause = due.map(|due| due - self.common.now());
            tokio::select! {
                Some(heard) = heard.next() => self.hear(heard),
                Some(done) = work.next() => self.finish(done),
                Ok(()) = leadership.changed() => {}
                () = sleep(pause) => {}
                else => return,
            }
        }
    }

    fn watches(&self) -> impl futures_util::Stream<Item = Heard> + Unpin + use<> {
        let client = self.common.calls.client();
        let namespace = self.common.watched();
        let all = Which {
            namespace,
            ..Which::default()
        };
        let mut streams: Vec<BoxStream<'static, Heard>> = Vec::new();
        for kind in self.kinds.iter().copied() {
            let view = move |told: Told<WorkloadSpec>| Workload::of(kind, &told.meta, &told.rest);
            let place = place(kind);
            let facts = watch(client, (place, kind.as_str()), &all, view);
            streams.push(facts.map(move |fact| Heard::Workload(kind, fact)).boxed());
        }
        let labels = format!("{ENABLED}=true");
        let ours = Which {
            labels: Some(&labels),
            ..all
        };
        let view = |told: Told<Value>| ServiceView::of(&told.rest);
        let facts = watch(client, (Place::SERVICES, "Service"), &ours, view);
        streams.push(facts.map(Heard::Service).boxed());
        select_all(streams)
    }

    /// Begins to act, or ceases to, as leadership and knowledge have it.
    fn activate(&mut self) {
        let may_act = self.common.is_leader() && self.index.is_whole(&self.kinds);
        match (self.is_active, may_act) {
            (false, true) => {
                let (now, tasks) = (self.common.now(), self.index.all_tasks());
                info!(target: SCOPE, "Looking after the Services of {} apps", tasks.len());
                for task in tasks {
                    self.queue.add(task, now);
                }
            }
            (true, false) => {
                self.queue.clear();
                self.applied.clear();
                self.told.clear();
            }
            (true, true) | (false, false) => {}
        }
        self.is_active = may_act;
    }

    fn hear(&mut self, heard: Heard) {
        let tasks = match heard {
            Heard::Workload(kind, fact) => self.index.take_workload(kind, fact),
            Heard::Service(fact) => {
                let Seen { tasks, gone } = self.index.take_service(fact);
                if self.is_active {
                    // The garbage collector's deletions count as well as ours (M-35).
                    for app_id in gone {
                        self.common.metrics.count_service(Written::Deleted, &app_id);
                    }
                }
                tasks
            }
        };
        if self.is_active {
            let now = self.common.now();
            for task in tasks {
                self.queue.add(task, now);
            }
        }
    }

    fn start(&self, task: Task) -> BoxFuture<'static, Done> {
        let common = self.common.clone();
        match &task {
            Task::BadId(kind, key) => {
                let workload = self.index.workload(*kind, key);
                let problem = workload.and_then(|workload| {
                    let problem = workload.check_app_id().err()?;
                    Some((Arc::clone(workload), problem.to_string()))
                });
                let note = problem.map(|(workload, text)| Note {
                    about: vec![workload],
                    reason: "InvalidAppID",
                    text: format!("no Service is made: {text}"),
                });
                let done = Done {
                    task,
                    outcome: Outcome::Done,
                    applied: None,
                    note,
                };
                Box::pin(std::future::ready(done))
            }
            Task::App(namespace, app_id) => {
                let plan = self.index.plan(namespace, app_id, self.mtls);
                let applied = self.applied.get(&task).cloned();
                let app_id = Arc::clone(app_id);
                let work = Work {
                    common,
                    task,
                    app_id,
                };
                Box::pin(work.run(plan, applied))
            }
        }
    }

    fn finish(&mut self, done: Done) {
        let Done {
            task,
            outcome,
            applied,
            note,
        } = done;
        match applied {
            Some(applied) => self.applied.insert(task.clone(), applied),
            None => self.applied.remove(&task),
        };
        match note {
            None => {
                self.told.remove(&task);
            }
            Some(note) if self.told.get(&task) == Some(&note.text) => {}
            Some(Note {
                about,
                reason,
                text,
            }) => {
                self.common.metrics.count_service_problem(reason);
                for workload in &about {
                    let (kind, namespace) = (workload.kind.as_str(), &workload.namespace);
                    warn!(target: SCOPE, "{kind} {namespace}/{}: {text}", workload.name);
                    self.common.warn_of(workload, reason, text.clone());
                }
                self.told.insert(task.clone(), text);
            }
        }
        self.queue.done(task, outcome, self.common.now());
    }
}

fn place(kind: WorkloadKind) -> Place {
    let root = match kind {
        WorkloadKind::Deployment | WorkloadKind::StatefulSet => "apis/apps/v1",
        WorkloadKind::Rollout => "apis/argoproj.io/v1alpha1",
    };
    Place::named(root, kind.plural())
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

// === impl Work ===

impl Work {
    async fn run(self, plan: Plan, applied: Option<Desired>) -> Done {
        match plan {
            Plan::Nothing => self.done(Outcome::Done, None, None),
            Plan::Taken { claims } => self.taken(claims),
            Plan::Remove { service, owner } => self.remove(&service, owner).await,
            Plan::Apply { desired, service } => match service {
                Some(service) => self.update(*desired, &service, applied).await,
                None => self.create(*desired, applied).await,
            },
        }
    }

    /// There is none with our label; one without it is not ours, unless it belongs to the claim.
    async fn create(self, desired: Desired, applied: Option<Desired>) -> Done {
        let namespace = Some(&*desired.namespace);
        let live = self
            .common
            .calls
            .get(Place::SERVICES, namespace, &desired.name)
            .await;
        match live {
            Err(cause) => self.failed(&cause),
            Ok(None) => {
                // Without force: what somebody else makes meanwhile is not overwritten.
                let how = (MANAGER, false);
                let object = desired.to_apply(None);
                let calls = &self.common.calls;
                let done = calls
                    .apply(Place::SERVICES, namespace, &desired.name, &object, how)
                    .await;
                self.written(Written::Created, desired, done)
            }
            Ok(Some(live)) => match ServiceView::of(&live) {
                Some(view) if view.is_ours(&self.app_id, desired.claims()) => {
                    self.update(desired, &view, applied).await
                }
                Some(_) | None => self.taken(desired.claims().to_vec()),
            },
        }
    }

    async fn update(self, desired: Desired, view: &ServiceView, applied: Option<Desired>) -> Done {
        if applied.as_ref() == Some(&desired) && view.is_as(&desired) {
            let note = doubled(&self.app_id, &desired);
            return self.done(Outcome::Done, Some(desired), note);
        }
        let object = desired.to_apply(Some(&view.uid));
        let done = self.apply(&desired, &object).await;
        let done = match done {
            Err(refused) if refused.is_invalid() => {
                // Ports that another manager left behind clash with ours.
                let ports = desired.to_merge_ports();
                let calls = &self.common.calls;
                let namespace = Some(&*desired.namespace);
                let merged = calls
                    .merge(Place::SERVICES, namespace, &desired.name, &ports, MANAGER)
                    .await;
                match merged {
                    Ok(_merged) => self.apply(&desired, &object).await,
                    Err(_again) => Err(refused),
                }
            }
            done => done,
        };
        self.written(Written::Updated, desired, done)
    }

    async fn apply(&self, desired: &Desired, object: &Value) -> Result<Value, CallError> {
        let (namespace, how) = (Some(&*desired.namespace), (MANAGER, true));
        let calls = &self.common.calls;
        calls
            .apply(Place::SERVICES, namespace, &desired.name, object, how)
            .await
    }

    fn written(self, written: Written, desired: Desired, done: Result<Value, CallError>) -> Done {
        match done {
            Ok(_live) => {
                self.common.metrics.count_service(written, &self.app_id);
                debug!(target: SCOPE, "{written:?} {}/{}", desired.namespace, desired.name);
                let note = doubled(&self.app_id, &desired);
                self.done(Outcome::Done, Some(desired), note)
            }
            Err(refused) if refused.is_invalid() => {
                let about = desired.claims().to_vec();
                let mut text = format!("the API server does not take the Service: {refused}");
                if self.app_id.starts_with(|c: char| c.is_ascii_digit()) {
                    text.push_str(
                        "; before Kubernetes 1.36 the name of a Service, and so the app ID, begins with a letter",
                    );
                }
                let note = Note {
                    about,
                    reason: "ServiceRefused",
                    text,
                };
                self.done(Outcome::Stuck, None, Some(note))
            }
            Err(cause) => self.failed(&cause),
        }
    }

    async fn remove(
        self,
        service: &ServiceView,
        (kind, name, uid): (WorkloadKind, Box<str>, Box<str>),
    ) -> Done {
        let namespace = Some(&*service.namespace);
        let calls = &self.common.calls;
        let owner = match calls.get(place(kind), namespace, &name).await {
            Err(cause) => return self.failed(&cause),
            Ok(owner) => owner,
        };
        // Without its owner it is the garbage collector's.
        let owner = owner.as_ref().and_then(Value::as_object);
        let Some(owner) = owner.filter(|owner| stands(owner, &uid)) else {
            return self.done(Outcome::Done, None, None);
        };
        if claims(kind, owner, &self.app_id) {
            // The watch is behind, and will tell.
            return self.done(Outcome::Done, None, None);
        }
        let deleted = calls
            .delete(
                Place::SERVICES,
                &service.namespace,
                &service.name,
                &service.uid,
            )
            .await;
        match deleted {
            Ok(()) => {
                info!(
                    target: SCOPE,
                    "Service {}/{} is deleted: {} {name} has no app {} any more",
                    service.namespace, service.name, kind.as_str(), self.app_id
                );
                self.done(Outcome::Done, None, None)
            }
            Err(gone) if gone.is_missing() || gone.is_conflict() => {
                self.done(Outcome::Done, None, None)
            }
            Err(cause) => self.failed(&cause),
        }
    }

    fn taken(self, claims: Vec<Arc<Workload>>) -> Done {
        let name = service_name(&self.app_id);
        let text = format!(
            "a Service {name} that is not the operator's is in the way: callers will not find this app until it is \
             renamed or deleted"
        );
        let note = Note {
            about: claims,
            reason: "ServiceNameTaken",
            text,
        };
        self.done(Outcome::Stuck, None, Some(note))
    }

    fn failed(self, cause: &CallError) -> Done {
        warn!(target: SCOPE, "Service of app {}, trying again: {cause}", self.app_id);
        self.done(Outcome::Failed, None, None)
    }

    fn done(self, outcome: Outcome, applied: Option<Desired>, note: Option<Note>) -> Done {
        Done {
            task: self.task,
            outcome,
            applied,
            note,
        }
    }
}

/// What is said when several workloads have one app ID.
fn doubled(app_id: &str, desired: &Desired) -> Option<Note> {
    let (first, others) = desired.claims().split_first()?;
    let owner = format!("{} {}", first.kind.as_str(), first.name);
    (!others.is_empty()).then(|| Note {
        about: others.to_vec(),
        reason: "DuplicateAppID",
        text: format!(
            "app ID {app_id} is that of {owner} too, which owns the Service; ports and annotations are taken from \
             there, calls reach the pods of both"
        ),
    })
}

/// Whether a workload, read anew, still wants this app's Service.
fn claims(kind: WorkloadKind, workload: &serde_json::Map<String, Value>, app_id: &str) -> bool {
    let part = |name: &str| workload.get(name).cloned().unwrap_or_default();
    let meta = kube::core::ObjectMeta::deserialize(part("metadata")).unwrap_or_default();
    let spec = WorkloadSpec::deserialize(part("spec")).unwrap_or_default();
    let workload = Workload::of(kind, &meta, &spec);
    workload.is_some_and(|workload| *workload.app_id == *app_id)
}

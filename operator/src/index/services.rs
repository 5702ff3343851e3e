//! Which Service an app has, and what is to be done so that it has it (kubernetes 3.4).
//!
//! Pure. Workloads claim an app ID; the first owner keeps the Service, so that two claims on one name settle instead
//! of overwriting each other (KO-13), and the Service of two claims selects the pods of both. What is not ours is not
//! touched: ours carries our label, names the app, is headless, and is owned by a workload or by nobody.

use super::mirror::{Change, Fact, Key, Mirror};
use super::pods::{APP_ID, ENABLED};
use super::workloads::{Workload, WorkloadKind, service_name};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Who writes Services, for server-side apply.
pub(crate) const MANAGER: &str = "dapr-operator";

/// A Service with our label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceView {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Box<str>,
    /// `dapr.io/app-id`.
    app_id: Option<Box<str>>,
    is_headless: bool,
    owners: Vec<Owner>,
    /// Labels, annotations, selector and ports, to see whether they are as they should be.
    live: Live,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    kind: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    is_controller: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Live {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    selector: BTreeMap<String, String>,
    /// Name, port, target, protocol of the app, as JSON.
    ports: Vec<Value>,
}

/// A Service as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: String,
    annotations: BTreeMap<String, String>,
    selector: BTreeMap<String, String>,
    ports: Vec<Value>,
    /// The first is the controller.
    owners: Vec<Arc<Workload>>,
}

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Task {
    /// The Service of an app: namespace, app ID.
    App(Arc<str>, Arc<str>),
    /// A workload whose app ID is none.
    BadId(WorkloadKind, Key),
}

/// What a fact about Services means.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What is to be looked at.
    pub(crate) tasks: Vec<Task>,
    /// Apps that had a Service of an operator's and have it no more, whoever took it away.
    pub(crate) gone: Vec<Arc<str>>,
}

/// What is to be done for an app.
#[derive(Debug)]
pub(crate) enum Plan {
    Nothing,
    /// Nobody claims it any more: it goes, if its owner says so too.
    Remove {
        service: Arc<ServiceView>,
        owner: (WorkloadKind, Box<str>, Box<str>),
    },
    /// It should be like this.
    Apply {
        desired: Box<Desired>,
        /// The one that is there, if it is ours.
        service: Option<Arc<ServiceView>>,
    },
    /// The name is taken by something else.
    Taken {
        claims: Vec<Arc<Workload>>,
    },
}

/// Workloads of one app ID.
type Claims = BTreeSet<(WorkloadKind, Key)>;

/// All workloads that ask for sidecars, and all Services with our label.
#[derive(Debug, Default)]
pub(crate) struct Services {
    workloads: HashMap<WorkloadKind, Mirror<Workload>>,
    /// Who claims which app: by namespace and app ID.
    claims: BTreeMap<(Arc<str>, Arc<str>), Claims>,
    services: Mirror<ServiceView>,
}

// === impl ServiceView ===

impl ServiceView {
    /// Takes what matters of a Service.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let text = |pointer: &str| super::text(value, pointer);
        let map = |pointer: &str| {
            let map = value.pointer(pointer).and_then(Value::as_object);
            let pairs = map.into_iter().flatten();
            let pairs = pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let owners = value.pointer("/metadata/ownerReferences");
        let owners = owners.and_then(Value::as_array).into_iter().flatten();
        let annotations = map("/metadata/annotations");
        let ports = value.pointer("/spec/ports").and_then(Value::as_array);
        Some(Self {
            namespace: text("/metadata/namespace")?.into(),
            name: text("/metadata/name")?.into(),
            uid: text("/metadata/uid").unwrap_or_default().into(),
            app_id: annotations.get(APP_ID).map(|id| id.as_str().into()),
            is_headless: text("/spec/clusterIP") == Some("None"),
            owners: owners.map(Owner::of).collect(),
            live: Live {
                labels: map("/metadata/labels"),
                selector: map("/spec/selector"),
                ports: ports.into_iter().flatten().map(port).collect(),
                annotations,
            },
        })
    }

    /// Whether it was made for this app by an operator, this one or the reference's: a claim on the app owns it, or
    /// it says so itself and nothing but a workload owns it.
    pub(crate) fn is_ours(&self, app_id: &str, claims: &[Arc<Workload>]) -> bool {
        let owner = self.controller();
        let is_claimed = |owner: &Owner| claims.iter().any(|claim| *claim.uid == *owner.uid);
        let label = self.live.labels.get(ENABLED).map(String::as_str);
        let says_so = label == Some("true")
            && self.app_id.as_deref() == Some(app_id)
            && owner.is_none_or(|owner| WorkloadKind::of(&owner.kind).is_some());
        self.is_headless && (says_so || owner.is_some_and(is_claimed))
    }

    fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.is_controller)
    }

    /// Whether a write would change nothing. What others put on it is theirs.
    pub(crate) fn is_as(&self, desired: &Desired) -> bool {
        let has = |have: &BTreeMap<String, String>, want: &BTreeMap<String, String>| {
            want.iter().all(|(key, value)| have.get(key) == Some(value))
        };
        let owners = self
            .owners
            .iter()
            .map(|owner| (&*owner.uid, owner.is_controller));
        let wanted = desired.owners.iter().enumerate();
        let wanted = wanted.map(|(at, owner)| (&*owner.uid, at == 0));
        has(&self.live.annotations, &desired.annotations)
            && self.live.selector == desired.selector
            && self.live.ports == desired.ports
            && owners.collect::<BTreeSet<_>>() == wanted.collect::<BTreeSet<_>>()
    }
}

impl Owner {
    fn of(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        Self {
            kind: text("kind").into(),
            name: text("name").into(),
            uid: text("uid").into(),
            is_controller: value.get("controller").and_then(Value::as_bool) == Some(true),
        }
    }
}

/// A port without what the API server adds to it.
fn port(live: &Value) -> Value {
    let names = ["name", "port", "targetPort", "appProtocol"];
    let fields = names.into_iter().filter_map(|name| {
        let value = live.get(name)?;
        Some((name.to_owned(), value.clone()))
    });
    Value::Object(fields.collect())
}

// === impl Desired ===

impl Desired {
    /// The Service of these claims, the first of which owns it.
    fn new(app_id: &str, claims: Vec<Arc<Workload>>, mtls: bool) -> Option<Self> {
        let first = claims.first()?;
        let selector = match claims.len() {
            1 => first.match_labels.clone(),
            _ => BTreeMap::from([(APP_ID.to_owned(), app_id.to_owned())]),
        };
        let (ports, protocol) = (first.ports, if mtls { "tls" } else { "grpc" });
        let port = |name: &str, port: u16, target: u16, protocol: &str| json!({"name": name, "port": port, "targetPort": target, "appProtocol": protocol});
        Some(Self {
            namespace: Arc::clone(&first.namespace),
            name: service_name(app_id),
            annotations: annotations(app_id, first),
            selector,
            ports: vec![
                port("dapr-http", 80, 3500, "http"),
                port("dapr-grpc", ports.grpc, ports.grpc, "grpc"),
                port("dapr-internal", ports.internal, ports.internal, protocol),
                port("dapr-metrics", ports.metrics, ports.metrics, "http"),
            ],
            owners: claims,
        })
    }

    /// The object to apply; with a UID it applies to that one only.
    pub(crate) fn to_apply(&self, uid: Option<&str>) -> Value {
        let owners = self.owners.iter().enumerate().map(|(at, owner)| {
            let mut reference = json!({
                "apiVersion": owner.kind.api_version(), "kind": owner.kind.as_str(),
                "name": &*owner.name, "uid": &*owner.uid,
            });
            if let (0, Some(map)) = (at, reference.as_object_mut()) {
                map.insert("controller".to_owned(), true.into());
                map.insert("blockOwnerDeletion".to_owned(), true.into());
            }
            reference
        });
        let mut metadata = json!({
            "name": self.name, "namespace": &*self.namespace, "labels": {ENABLED: "true"},
            "annotations": self.annotations, "ownerReferences": owners.collect::<Vec<_>>(),
        });
        if let (Some(uid), Some(map)) = (uid, metadata.as_object_mut()) {
            map.insert("uid".to_owned(), uid.into());
        }
        let mut ports = self.ports.clone();
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            port.insert("protocol".to_owned(), "TCP".into());
        }
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": "None", "selector": self.selector, "ports": ports},
        })
    }

    /// The ports alone, for a merge over those that another manager left behind.
    pub(crate) fn to_merge_ports(&self) -> Value {
        let applied = self.to_apply(None);
        json!({"spec": {"ports": applied.pointer("/spec/ports").cloned().unwrap_or_default()}})
    }

    /// All who claim the app, the owner first.
    pub(crate) fn claims(&self) -> &[Arc<Workload>] {
        &self.owners
    }
}

/// Annotations of the Service: the app's, those for scrapers, then the user's where they take no place.
fn annotations(app_id: &str, workload: &Workload) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(APP_ID.to_owned(), app_id.to_owned())]);
    if workload.metrics {
        let port = workload.ports.metrics.to_string();
        for (key, value) in [
            ("probe", "true"),
            ("scrape", "true"),
            ("port", port.as_str()),
            ("path", "/"),
        ] {
            all.insert(format!("prometheus.io/{key}"), value.to_owned());
        }
    }
    let extra = workload.extra.as_deref().unwrap_or_default();
    let pairs = extra.split(',').filter_map(|pair| pair.split_once('='));
    for (key, value) in pairs {
        let key = key.trim();
        if !key.is_empty() && !all.contains_key(key) {
            all.insert(key.to_owned(), value.trim().to_owned());
        }
    }
    all
}

// === impl Services ===

impl Services {
    /// Takes a fact about workloads and says what is to be looked at.
    pub(crate) fn take_workload(&mut self, kind: WorkloadKind, fact: Fact<Workload>) -> Vec<Task> {
        let changes = self.workloads.entry(kind).or_default().take(fact);
        let mut tasks = Vec::new();
        for change in changes {
            tasks.extend(self.claim(kind, &change));
        }
        tasks
    }

    /// Takes a fact about Services and says what it means.
    pub(crate) fn take_service(&mut self, fact: Fact<ServiceView>) -> Seen {
        let mut seen = Seen::default();
        for change in self.services.take(fact) {
            let view = change.after.as_ref().or(change.before.as_ref());
            seen.tasks.extend(view.and_then(|view| task_of(view)));
            seen.gone.extend(gone(&change));
        }
        seen
    }

    /// Says whether everything has been told at least once.
    pub(crate) fn is_whole(&self, kinds: &[WorkloadKind]) -> bool {
        let is_whole = |kind| self.workloads.get(kind).is_some_and(Mirror::is_whole);
        self.services.is_whole() && kinds.iter().all(is_whole)
    }

    /// Everything, for a new leader.
    pub(crate) fn all_tasks(&self) -> Vec<Task> {
        let claimed = self.claims.keys().cloned();
        let claimed = claimed.map(|(namespace, app_id)| Task::App(namespace, app_id));
        let services = self.services.all().filter_map(|(_, view)| task_of(view));
        let bad = self.workloads.iter().flat_map(|(kind, mirror)| {
            let bad = mirror
                .all()
                .filter(|(_, workload)| workload.check_app_id().is_err());
            bad.map(|(key, _)| Task::BadId(*kind, key.clone()))
        });
        let all: BTreeSet<Task> = claimed.chain(services).chain(bad).collect();
        all.into_iter().collect()
    }

    pub(crate) fn workload(&self, kind: WorkloadKind, key: &Key) -> Option<&Arc<Workload>> {
        self.workloads.get(&kind)?.get(key)
    }

    /// What is to be done for an app.
    pub(crate) fn plan(&self, namespace: &Arc<str>, app_id: &Arc<str>, mtls: bool) -> Plan {
        let name: Arc<str> = service_name(app_id).into();
        let service = self.services.get(&(Arc::clone(namespace), name));
        let claims = self.claims_of(namespace, app_id, service);
        match (claims.is_empty(), service) {
            (true, None) => Plan::Nothing,
            (true, Some(service)) => remove(service, app_id),
            (false, Some(service)) if !service.is_ours(app_id, &claims) => Plan::Taken { claims },
            (false, service) => match Desired::new(app_id, claims, mtls) {
                Some(desired) => Plan::Apply {
                    desired: Box::new(desired),
                    service: service.cloned(),
                },
                None => Plan::Nothing,
            },
        }
    }

    /// Who claims an app: the one that owns its Service first, then by age.
    fn claims_of(
        &self,
        namespace: &Arc<str>,
        app_id: &Arc<str>,
        service: Option<&Arc<ServiceView>>,
    ) -> Vec<Arc<Workload>> {
        let claims = self
            .claims
            .get(&(Arc::clone(namespace), Arc::clone(app_id)));
        let claims = claims.into_iter().flatten();
        let claims = claims.filter_map(|(kind, key)| self.workload(*kind, key).cloned());
        let mut claims: Vec<_> = claims.collect();
        let owner = service.and_then(|service| service.controller());
        let owner = owner.map(|owner| &*owner.uid);
        claims.sort_by_key(|workload| {
            (
                Some(&*workload.uid) != owner,
                workload.created.clone(),
                Arc::clone(&workload.uid),
            )
        });
        claims
    }

    fn claim(&mut self, kind: WorkloadKind, change: &Change<Workload>) -> Vec<Task> {
        if change.before == change.after {
            return Vec::new();
        }
        let mut tasks = Vec::new();
        let place = (kind, change.key.clone());
        let id = |workload: &Arc<Workload>| {
            (
                Arc::clone(&workload.namespace),
                Arc::clone(&workload.app_id),
            )
        };
        if let Some(before) = &change.before {
            let key = id(before);
            if let Some(claims) = self.claims.get_mut(&key) {
                claims.remove(&place);
                if claims.is_empty() {
                    self.claims.remove(&key);
                }
                tasks.push(Task::App(key.0, key.1));
            } else {
                // It had no app ID; what was said of that is over.
                tasks.push(Task::BadId(kind, change.key.clone()));
            }
        }
        match &change.after {
            Some(after) if after.check_app_id().is_ok() => {
                let key = id(after);
                self.claims.entry(key.clone()).or_default().insert(place);
                tasks.push(Task::App(key.0, key.1));
            }
            Some(_) => tasks.push(Task::BadId(kind, change.key.clone())),
            None => {}
        }
        tasks.dedup();
        tasks
    }
}

/// The app that a Service is of, if its name is that of such a Service.
fn task_of(view: &ServiceView) -> Option<Task> {
    let app_id = view.app_id.as_deref()?;
    (service_name(app_id) == *view.name)
        .then(|| Task::App(Arc::clone(&view.namespace), app_id.into()))
}

/// The app whose Service a change took away, if it was an operator's; another one of the same name is another one.
fn gone(change: &Change<ServiceView>) -> Option<Arc<str>> {
    let before = change.before.as_ref()?;
    let is_still_there = change
        .after
        .as_ref()
        .is_some_and(|after| after.uid == before.uid);
    let Some(Task::App(_namespace, app_id)) = task_of(before).filter(|_| !is_still_there) else {
        return None;
    };
    before.is_ours(&app_id, &[]).then_some(app_id)
}

fn remove(service: &Arc<ServiceView>, app_id: &str) -> Plan {
    let owner = service.controller().and_then(|owner| {
        let kind = WorkloadKind::of(&owner.kind)?;
        Some((kind, owner.name.clone(), owner.uid.clone()))
    });
    match owner {
        Some(owner) if service.is_ours(app_id, &[]) => Plan::Remove {
            service: Arc::clone(service),
            owner,
        },
        // Somebody's own, or the garbage collector's.
        _ => Plan::Nothing,
    }
}

/// Whether a workload, read anew, is the one that owned a Service and still stands, so that nobody else takes the
/// Service away.
pub(crate) fn stands(workload: &Map<String, Value>, uid: &str) -> bool {
    let meta = workload.get("metadata").unwrap_or(&Value::Null);
    super::text(meta, "/uid") == Some(uid)
        && meta.get("deletionTimestamp").is_none_or(Value::is_null)
}

#[cfg(test)]
mod tests;

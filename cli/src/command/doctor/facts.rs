//! What doctor asks a cluster, before anything is judged.
//!
//! One question each, all of them answered or refused: a right that is missing is a fact too. Changes nothing; the
//! reviews of rights are questions that the API server keeps no trace of.

use std::time::SystemTime;

use futures_util::{StreamExt as _, stream};
use ironside_identity::TrustBundle;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::{Value, json};

use super::Session;
use super::rights::{self, Right, Shape};
use crate::cluster::{ACCESS_CONTROLS, Cluster, control_plane, failed, sidecars};

/// Questions about rights that are under way at once.
const AT_ONCE: usize = 8;

/// An answer, or why there is none.
pub(super) type Asked<T> = Result<T, String>;

/// All that is known of a cluster.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The clock of this machine.
    pub now: Option<SystemTime>,
    /// The clock of the API server.
    pub server: Option<SystemTime>,
    /// Where the control plane is.
    pub namespace: String,
    /// `spec` of the system configuration.
    pub system: Option<Value>,
    /// The roots that everybody reads.
    pub roots: Option<Asked<Option<TrustBundle>>>,
    /// Roots and issuer of the Secret.
    pub secret: Option<Asked<Option<[TrustBundle; 2]>>>,
    /// The webhook of the injector.
    pub webhook: Option<Asked<Option<Value>>>,
    /// The definitions of kinds that are there.
    pub definitions: Option<Asked<Vec<Value>>>,
    /// Every pod.
    pub pods: Vec<Pod>,
    /// Rights, and whether each is there.
    pub rights: Vec<(Right, Asked<bool>)>,
    /// Nodes that are ready, with what their clocks said last.
    pub nodes: Option<Asked<Vec<(String, SystemTime)>>>,
    /// The objects of access control.
    pub access_controls: Option<Asked<Vec<DynamicObject>>>,
}

/// Asks everything; an error only if the cluster cannot be asked at all.
pub(super) async fn gather(session: &Session, cluster: &Cluster) -> anyhow::Result<Facts> {
    // The first question tells whether there is a cluster.
    let pods = cluster.pods(None, "").await?;
    let namespace = control_plane::namespace(cluster).await;
    let system = control_plane::system(cluster).await.ok().flatten();
    let shape = shape(
        &namespace,
        system.as_ref().and_then(|one| one.metadata.name.clone()),
        &pods,
    );
    let system = system.and_then(|system| system.data.get("spec").cloned());
    Ok(Facts {
        server: server_time(cluster).await,
        now: Some(session.clock.now()),
        roots: Some(words(control_plane::roots(cluster, &namespace).await)),
        secret: Some(words(secret(cluster, &namespace).await)),
        webhook: Some(webhook(cluster).await),
        definitions: Some(definitions(cluster).await),
        rights: rights(cluster, &shape).await?,
        nodes: Some(nodes(cluster).await),
        access_controls: Some(words(
            cluster
                .objects(ACCESS_CONTROLS, None)
                .await
                .map(Option::unwrap_or_default),
        )),
        namespace,
        system,
        pods,
    })
}

fn words<T>(answer: anyhow::Result<T>) -> Asked<T> {
    answer.map_err(|error| format!("{error:#}"))
}

fn refused(what: &str, error: &kube::Error) -> String {
    format!("{what}: {}", failed(error))
}

/// The API server's clock, by the head of its answer.
async fn server_time(cluster: &Cluster) -> Option<SystemTime> {
    let request = http::Request::get("/version").body(kube::client::Body::empty());
    let answer = cluster.client().send(request.ok()?).await.ok()?;
    let date = answer.headers().get(http::header::DATE)?.to_str().ok()?;
    let date = rfc2822::parse(date).ok()?;
    Some(SystemTime::from(date.timestamp()))
}

/// Roots and issuer, as Sentry has them.
async fn secret(cluster: &Cluster, namespace: &str) -> anyhow::Result<Option<[TrustBundle; 2]>> {
    let Some(secret) = control_plane::secret(cluster, namespace).await? else {
        return Ok(None);
    };
    let data = secret.data.unwrap_or_default();
    let file = |name: &str| data.get(name).filter(|text| !text.0.is_empty());
    let (Some(root), Some(issuer)) = (file("ca.crt"), file("issuer.crt")) else {
        return Ok(None);
    };
    Ok(Some([
        TrustBundle::from_pem(&root.0)?,
        TrustBundle::from_pem(&issuer.0)?,
    ]))
}

async fn webhook(cluster: &Cluster) -> Asked<Option<Value>> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client());
    let found = api.get_opt("dapr-sidecar-injector").await;
    let found = found.map_err(|error| refused("cannot read the webhook", &error))?;
    Ok(found.and_then(|found| serde_json::to_value(found).ok()))
}

async fn definitions(cluster: &Cluster) -> Asked<Vec<Value>> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &ApiResource::from_gvk(&kind));
    let mut found = Vec::new();
    for name in super::definitions::NAMES {
        let one = api.get_opt(name).await;
        let one = one.map_err(|error| refused("cannot read the definitions of kinds", &error))?;
        found.extend(one.and_then(|one| serde_json::to_value(one).ok()));
    }
    Ok(found)
}

/// What the rights of the programs depend on, by the operator's flags and by what runs.
fn shape(namespace: &str, system: Option<String>, pods: &[Pod]) -> Shape {
    let named = |name: &'static str| {
        let specs = pods.iter().filter_map(|pod| pod.spec.as_ref());
        let containers = specs.flat_map(|spec| &spec.containers);
        containers.filter(move |one| one.name == name)
    };
    let operators: Vec<_> = named("dapr-operator").collect();
    let watched = operators
        .iter()
        .filter_map(|one| sidecars::flag(one, "watch-namespace"));
    let words = operators
        .iter()
        .flat_map(|one| one.args.iter().flatten())
        .filter_map(|word| word.strip_prefix("--"));
    Shape {
        own: namespace.to_owned(),
        watched: watched
            .filter(|namespace| !namespace.is_empty())
            .map(str::to_owned)
            .next(),
        system,
        switches: words
            .map(|word| word.strip_suffix("=true").unwrap_or(word).to_owned())
            .collect(),
        is_without_injector: named("dapr-sidecar-injector").next().is_none(),
    }
}

/// Asks for every right; whoever may not ask is told so once.
async fn rights(cluster: &Cluster, shape: &Shape) -> anyhow::Result<Vec<(Right, Asked<bool>)>> {
    let kind = GroupVersionKind::gvk("authorization.k8s.io", "v1", "SubjectAccessReview");
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let (api, resource) = (&api, &resource);
    let ask = |right: Right| async move {
        let mut question = DynamicObject::new("", resource);
        question.metadata.name = None;
        question.data = json!({"spec": right.question(shape)});
        let answer = api.create(&PostParams::default(), &question).await;
        let answer = answer
            .map(|answer| answer.data.pointer("/status/allowed") == Some(&Value::Bool(true)))
            .map_err(|error| refused("cannot ask for the rights of others", &error));
        (right, answer)
    };
    let mut needed = rights::needed(shape)?.into_iter();
    let mut all = Vec::new();
    if let Some(first) = needed.next() {
        all.push(ask(first).await);
    }
    if all.iter().all(|(_, answer)| answer.is_ok()) {
        let rest: Vec<_> = stream::iter(needed)
            .map(ask)
            .buffered(AT_ONCE)
            .collect()
            .await;
        all.extend(rest);
    }
    Ok(all)
}

/// The clocks of ready nodes, by the lease that each kubelet renews every few seconds.
async fn nodes(cluster: &Cluster) -> Asked<Vec<(String, SystemTime)>> {
    let api: Api<Node> = Api::all(cluster.client());
    let nodes = api.list(&ListParams::default()).await;
    let nodes = nodes.map_err(|error| refused("cannot list nodes", &error))?;
    let api: Api<Lease> = Api::namespaced(cluster.client(), "kube-node-lease");
    let leases = api.list(&ListParams::default()).await;
    let leases = leases.map_err(|error| refused("cannot list the leases of nodes", &error))?;
    let is_ready = |name: &str| {
        let node = nodes
            .iter()
            .find(|node| node.metadata.name.as_deref() == Some(name));
        let conditions = node
            .and_then(|node| node.status.as_ref()?.conditions.as_ref())
            .into_iter()
            .flatten();
        conditions
            .into_iter()
            .any(|one| one.type_ == "Ready" && one.status == "True")
    };
    let renewed = |lease: Lease| {
        let name = lease.metadata.name?;
        let at: Timestamp = lease.spec?.renew_time?.0;
        is_ready(&name).then(|| (name, SystemTime::from(at)))
    };
    Ok(leases.items.into_iter().filter_map(renewed).collect())
}

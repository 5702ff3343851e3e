//! The way of a call from one app of a cluster to another, stage by stage.
//!
//! Facts of each stage are asked first, [`judge`] is pure. The sidecars' own word is read through the API server, at
//! the port that their probes use. Rules are tried with the decision engine of the sidecars, over the stored objects.
//! With `--call` one of the caller's sidecars makes the call, reached by a port-forward as `invoke -k` reaches it.

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use ironside_identity::TrustBundle;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;

use super::facts::{Asked, Facts};
use super::finding::Finding;
use super::judge::answered;
use super::{Session, call};
use crate::cluster::sidecars::{self, Sidecar};
use crate::cluster::{Cluster, failed};
use crate::command::{access, invoke};

/// The port of health and metadata.
const PUBLIC: u16 = 3501;
/// The port that sidecars call each other at, if nothing is said.
const INTERNAL: &str = "50002";

/// An app of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    pub(super) namespace: String,
    pub(super) id: String,
}

/// What is known of each stage.
#[derive(Debug)]
pub(super) struct Way<'a> {
    pub(super) from: App,
    pub(super) to: App,
    pub(super) callers: Vec<&'a Pod>,
    pub(super) callees: Vec<&'a Pod>,
    /// The ports of the callee's Service, by name.
    pub(super) service: Asked<Option<Vec<String>>>,
    /// Ready addresses behind it.
    pub(super) addresses: Asked<usize>,
    /// What sidecars say of themselves: the pod, the status code, the text.
    pub(super) healths: Vec<(String, Asked<(u16, String)>)>,
    pub(super) roots: Option<&'a TrustBundle>,
    /// Whether the rules let the call pass, and why.
    pub(super) verdict: Asked<(bool, String)>,
}

/// Asks for everything on the way and judges it.
pub(super) async fn walk(
    session: &Session,
    cluster: &Cluster,
    facts: &Facts,
    from: &str,
    to: &str,
) -> anyhow::Result<Vec<Finding>> {
    let (from, to) = (App::read(from), App::read(to));
    let (callers, callees) = (from.pods(&facts.pods), to.pods(&facts.pods));
    let mut healths = Vec::new();
    let caller = callers.first().map(|pod| (*pod, "healthz/outbound"));
    let callee = callees.iter().map(|pod| (*pod, "healthz"));
    for (pod, what) in caller.into_iter().chain(callee) {
        let name = format!("{}/{}", sidecars::namespace(pod), sidecars::name(pod));
        healths.push((name, health(cluster, pod, what).await));
    }
    let values = &session.values;
    let path = values.text("path").unwrap_or("/");
    let asked = access::Request {
        caller: format!("{}/{}", from.namespace, from.id),
        callee: format!("{}/{}", to.namespace, to.id),
        verb: values.text("verb").unwrap_or("GET").to_ascii_uppercase(),
        // Rules do not see a query.
        path: path.split('?').next().unwrap_or_default().to_owned(),
        is_grpc: callees.first().is_some_and(|pod| speaks_grpc(pod)),
    };
    let verdict = access::verdict(session, cluster, &asked).await;
    let called = called(session, cluster, (&from, callers.as_slice()), &to).await;
    let way = Way {
        service: service(cluster, &to).await,
        addresses: addresses(cluster, &to).await,
        healths,
        roots: answered(facts.roots.as_ref()).and_then(Option::as_ref),
        verdict: verdict
            .with_context(|| format!("the rules for {}", asked.callee))
            .map_err(|error| format!("{error:#}")),
        from,
        to,
        callers,
        callees,
    };
    let mut findings = judge(&way);
    findings.push(called);
    Ok(findings)
}

/// The real call, or why it was not made.
async fn called(
    session: &Session,
    cluster: &Cluster,
    (from, callers): (&App, &[&Pod]),
    to: &App,
) -> Finding {
    let asked = call::Asked::of(session, &from.to_string(), &to.target(from));
    if !session.values.switch("call") {
        return asked.not_wanted();
    }
    let mut sidecars = callers.iter().filter_map(|pod| Sidecar::of(pod));
    let Some(caller) = sidecars.find(Sidecar::runs) else {
        return asked.not_possible(&from.to_string());
    };
    match invoke::forwarded(session, cluster, &caller) {
        Ok(api) => asked.make(&api).await,
        Err(why) => Finding::error("call", format!("{why:#}"), "correct the flag"),
    }
}

fn speaks_grpc(pod: &Pod) -> bool {
    let protocol = Sidecar::of(pod).and_then(|sidecar| sidecar.flag("app-protocol"));
    matches!(protocol, Some("grpc" | "grpcs"))
}

async fn health(cluster: &Cluster, pod: &Pod, what: &str) -> Asked<(u16, String)> {
    let (namespace, name) = (sidecars::namespace(pod), sidecars::name(pod));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{PUBLIC}/proxy/v1.0/{what}");
    let request = http::Request::get(path).body(kube::client::Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let answer = cluster.client().send(request).await;
    let answer = answer.map_err(|error| failed(&error).to_string())?;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let message = parsed.and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
    Ok((code, message.unwrap_or(text)))
}

async fn service(cluster: &Cluster, to: &App) -> Asked<Option<Vec<String>>> {
    let api: Api<Service> = Api::namespaced(cluster.client(), &to.namespace);
    let found = api.get_opt(&to.service()).await;
    let found = found.map_err(|error| format!("cannot read the Service: {}", failed(&error)))?;
    Ok(found.map(|service| {
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        ports.into_iter().filter_map(|port| port.name).collect()
    }))
}

async fn addresses(cluster: &Cluster, to: &App) -> Asked<usize> {
    let api: Api<EndpointSlice> = Api::namespaced(cluster.client(), &to.namespace);
    let label = format!("kubernetes.io/service-name={}", to.service());
    let found = api.list(&ListParams::default().labels(&label)).await;
    let found = found.map_err(|error| format!("cannot list endpoints: {}", failed(&error)))?;
    let endpoints = found.items.into_iter().flat_map(|slice| slice.endpoints);
    let ready = endpoints.filter(|one| {
        let conditions = one.conditions.as_ref();
        conditions
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    });
    Ok(ready.map(|one| one.addresses.len()).sum())
}

// === impl App ===

impl App {
    /// `namespace/app-id`, or `app-id` in the namespace `default`.
    pub(super) fn read(text: &str) -> Self {
        let (namespace, id) = text.split_once('/').unwrap_or(("default", text));
        Self {
            namespace: namespace.to_owned(),
            id: id.to_owned(),
        }
    }

    fn service(&self) -> String {
        format!("{}-dapr", self.id)
    }

    /// The name by which another app calls it.
    fn target(&self, from: &Self) -> String {
        match self.namespace == from.namespace {
            true => self.id.clone(),
            false => format!("{}.{}", self.id, self.namespace),
        }
    }

    fn pods<'a>(&self, pods: &'a [Pod]) -> Vec<&'a Pod> {
        let is_mine = |pod: &&Pod| {
            let has_id = Sidecar::of(pod).is_some_and(|one| one.app_id() == self.id);
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            has_id
                && sidecars::namespace(pod) == self.namespace
                && !matches!(phase, Some("Succeeded" | "Failed"))
                && pod.metadata.deletion_timestamp.is_none()
        };
        pods.iter().filter(is_mine).collect()
    }
}

impl std::fmt::Display for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.id)
    }
}

/// Judges the way, stage by stage.
pub(super) fn judge(way: &Way<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (app, pods) in [(&way.from, &way.callers), (&way.to, &way.callees)] {
        if pods.is_empty() {
            findings.push(Finding::error(
                "sidecars",
                format!("no pod of {app} has a sidecar"),
                format!(
                    "ironside list -k shows those that have; is {} the namespace?",
                    app.namespace
                ),
            ));
        }
    }
    findings.extend(health_of(way));
    findings.extend(resolution(way));
    findings.extend(ports(way));
    findings.extend(identity(way));
    findings.push(match &way.verdict {
        Ok((true, why)) => Finding::good("policy", why),
        Ok((false, why)) => Finding::error(
            "policy",
            why,
            format!(
                "allow the caller in the rules of {}; --verb and --path name another request",
                way.to
            ),
        ),
        Err(why) => Finding::error(
            "policy",
            why,
            "correct what the text names: until then calls may be refused",
        ),
    });
    findings.extend(app(way));
    findings
}

fn health_of(way: &Way<'_>) -> Vec<Finding> {
    let judge = |(pod, health): &(String, Asked<(u16, String)>)| match health {
        Ok((200..=299, _)) => Finding::good("sidecars", format!("{pod} is ready")),
        Ok((401 | 403 | 404, text)) => {
            Finding::unknown("sidecars", format!("cannot ask {pod}: {text}"))
        }
        Ok((_, text)) => Finding::error(
            "sidecars",
            format!("{pod} is not ready: {text}"),
            format!("kubectl logs -c daprd; the brackets name what it waits for ({pod})"),
        ),
        Err(why) => Finding::unknown("sidecars", format!("cannot ask {pod}: {why}")),
    };
    way.healths.iter().map(judge).collect()
}

fn resolution(way: &Way<'_>) -> Vec<Finding> {
    const CHECK: &str = "resolution";
    let name = format!("{}/{}", way.to.namespace, way.to.service());
    let mut findings = Vec::new();
    match &way.service {
        Ok(Some(ports)) if ports.iter().any(|port| port == "dapr-internal") => {}
        Ok(Some(_)) => findings.push(Finding::error(
            CHECK,
            format!("the Service {name} has no port dapr-internal"),
            "somebody has changed it, or it is not the operator's: delete it, and the operator makes it again",
        )),
        Ok(None) => findings.push(Finding::error(
            CHECK,
            format!("there is no Service {name}"),
            "the operator makes it for a Deployment or StatefulSet whose pod template has the annotations; see its log",
        )),
        Err(why) => findings.push(Finding::unknown(CHECK, why)),
    }
    match way.addresses {
        Ok(0) => findings.push(Finding::error(
            CHECK,
            format!("the Service {name} has no ready address"),
            "are the callee's pods ready, and do they have the labels that the Service selects?",
        )),
        Ok(_) => {}
        Err(ref why) => findings.push(Finding::unknown(CHECK, why)),
    }
    if let (Ok(count), true) = (&way.addresses, findings.is_empty()) {
        findings.push(Finding::good(
            CHECK,
            format!("{name} leads to {count} addresses"),
        ));
    }
    findings
}

fn ports(way: &Way<'_>) -> Vec<Finding> {
    const CHECK: &str = "port";
    let internal = |pod: &Pod| {
        let flag = Sidecar::of(pod).and_then(|one| one.flag("dapr-internal-grpc-port"));
        flag.unwrap_or(INTERNAL).to_owned()
    };
    let mut findings = Vec::new();
    let own = way.callers.first().map(|pod| internal(pod));
    for pod in &way.callees {
        let theirs = internal(pod);
        if let Some(own) = own.as_ref().filter(|own| **own != theirs) {
            findings.push(Finding::error(
                CHECK,
                format!(
                    "the caller dials port {own}, its own, and {} listens on {theirs}",
                    sidecars::name(pod)
                ),
                "the same dapr.io/internal-grpc-port for both",
            ));
        }
        let app = Sidecar::of(pod)
            .and_then(|one| one.flag("app-port"))
            .unwrap_or("0");
        if app == "0" {
            findings.push(Finding::error(
                CHECK,
                format!("the sidecar of {} has no app port", sidecars::name(pod)),
                "dapr.io/app-port",
            ));
        }
    }
    if findings.is_empty() && own.is_some() && !way.callees.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "both sides have the same internal port, and the callee an app port",
        ));
    }
    findings
}

fn identity(way: &Way<'_>) -> Vec<Finding> {
    const CHECK: &str = "identity";
    let is_mutual = |pod: &Pod| {
        let sidecar = Sidecar::of(pod);
        sidecar.is_some_and(|one| {
            let args = one.container.args.iter().flatten();
            args.into_iter()
                .any(|word| matches!(word.as_str(), "--enable-mtls" | "--enable-mtls=true"))
        })
    };
    let mut findings = Vec::new();
    if let Some(caller) = way.callers.first() {
        for callee in &way.callees {
            if is_mutual(caller) != is_mutual(callee) {
                findings.push(Finding::error(
                    CHECK,
                    format!(
                        "one of {} and {} has mutual TLS, the other has not",
                        sidecars::name(caller),
                        sidecars::name(callee)
                    ),
                    "kubectl rollout restart the older one: mutual TLS was switched in between",
                ));
            }
        }
    }
    for pod in way.callers.iter().chain(&way.callees) {
        let (Some(roots), Some(trusted)) = (way.roots, trusted(pod)) else {
            continue;
        };
        let has = |root: &ironside_identity::TrustAnchor| {
            trusted.anchors().iter().any(|one| one.der() == root.der())
        };
        if roots.anchors().iter().any(has) {
            continue;
        }
        let text = format!(
            "{} was started with none of the current roots",
            sidecars::name(pod)
        );
        // What it holds by now is in no object: a rotation that took its time reached it.
        findings.push(match keeps_roots(pod) {
            true => Finding::note(
                CHECK,
                format!("{text}; a sidecar of this project takes new ones from Sentry while it runs"),
                "nothing if calls pass, which --call tells; else kubectl rollout restart its workload",
            ),
            false => Finding::warning(
                CHECK,
                format!("{text}, and nothing says that it takes new ones from Sentry"),
                "kubectl rollout restart its workload",
            ),
        });
    }
    if findings.is_empty() && !way.callers.is_empty() && !way.callees.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "both sides have the same mutual TLS and the current roots",
        ));
    }
    findings
}

/// Whether a sidecar takes the roots that Sentry delivers, or those of a file that is watched.
fn keeps_roots(pod: &Pod) -> bool {
    const LIVE: [&str; 2] = ["DAPR_TRUST_ANCHORS_CACHE", "DAPR_TRUST_ANCHORS_FILE"];
    Sidecar::of(pod).is_some_and(|sidecar| {
        let mut env = sidecar.container.env.iter().flatten();
        env.any(|one| LIVE.contains(&one.name.as_str()))
    })
}

/// The roots that a sidecar was started with.
fn trusted(pod: &Pod) -> Option<TrustBundle> {
    let sidecar = Sidecar::of(pod)?;
    let mut env = sidecar.container.env.iter().flatten();
    let text = env.find(|one| one.name == "DAPR_TRUST_ANCHORS")?;
    TrustBundle::from_pem(text.value.as_deref()?.as_bytes()).ok()
}

fn app(way: &Way<'_>) -> Vec<Finding> {
    const CHECK: &str = "app";
    let mut findings = Vec::new();
    let mut count = 0_usize;
    for pod in &way.callees {
        let status = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let apps = status
            .into_iter()
            .flatten()
            .filter(|one| one.name != sidecars::CONTAINER);
        for container in apps {
            count += 1;
            if !container.ready {
                findings.push(Finding::error(
                    CHECK,
                    format!(
                        "container {} of {} is not ready",
                        container.name,
                        sidecars::name(pod)
                    ),
                    format!(
                        "kubectl -n {} describe pod {}",
                        way.to.namespace,
                        sidecars::name(pod)
                    ),
                ));
            }
        }
    }
    if findings.is_empty() && count > 0 {
        findings.push(Finding::good(
            CHECK,
            format!("{count} containers of the callee are ready"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests;

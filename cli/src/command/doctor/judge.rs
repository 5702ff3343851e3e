//! What the facts about a cluster mean.
//!
//! Pure: facts in, findings out; each names what to do. The kinds' definitions are judged in [`super::definitions`],
//! the way from one app to another in [`super::way`].

use std::time::{Duration, SystemTime};

use ironside_identity::TrustBundle;
use ironside_resources::GoDuration;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::facts::{Asked, Facts};
use super::finding::Finding;
use super::rights::Right;
use crate::cluster::control_plane::{rfc1123, roots_end};
use crate::cluster::sidecars::{self, Sidecar};
use crate::command::cluster::status::version;

const PROGRAMS: [&str; 3] = ["dapr-sentry", "dapr-operator", "dapr-sidecar-injector"];
const INSTALL: &str = "ironside init -k, or helm install";
/// Findings of one kind that are told one by one.
const TOLD: usize = 20;
/// Certificates that end sooner are told.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What a certificate's start may lie ahead, if nothing is said (security 1.5).
const SKEW: Duration = Duration::from_secs(15 * 60);
/// A clock that differs by more is wrong, though nothing may fail yet.
const WRONG_CLOCK: Duration = Duration::from_secs(60);

/// Judges everything but the definitions.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = programs(facts);
    findings.extend(certificates(facts));
    findings.extend(webhook(facts));
    findings.extend(rights(facts));
    findings.extend(pods(facts));
    findings.extend(clocks(facts));
    findings.extend(access_controls(facts));
    findings
}

fn programs(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "control plane";
    let mut findings = Vec::new();
    let mut versions = Vec::new();
    for program in PROGRAMS {
        let label = |pod: &&Pod| {
            let labels = pod.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get("app"))
                .map(String::as_str)
                == Some(program)
        };
        let pods: Vec<&Pod> = facts.pods.iter().filter(label).collect();
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        match (pods.len(), ready) {
            (0, _) => findings.push(Finding::error(
                CHECK,
                format!("{program} does not run"),
                INSTALL,
            )),
            (all, 0) => findings.push(Finding::error(
                CHECK,
                format!("none of the {all} pods of {program} is ready"),
                format!("kubectl -n {} logs deploy/{program}", facts.namespace),
            )),
            (all, ready) if ready < all => findings.push(Finding::warning(
                CHECK,
                format!("{ready} of {all} pods of {program} are ready"),
                format!("kubectl -n {} get pods -l app={program}", facts.namespace),
            )),
            _ => {}
        }
        versions.extend(pods.iter().map(|pod| version(pod)));
    }
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        findings.push(Finding::warning(
            CHECK,
            format!(
                "its programs are of several versions: {}",
                versions.join(", ")
            ),
            "wait for the rollout, or upgrade what stays behind",
        ));
    }
    if facts.system.is_none() {
        findings.push(Finding::error(
            CHECK,
            "there is no Configuration daprsystem, nor one of another name that the chart made",
            format!("{INSTALL}: sidecars and programs read it"),
        ));
    } else if !is_mutual(facts) {
        findings.push(Finding::warning(
            CHECK,
            "mutual TLS is off: callers have no identity, and rules that name callers let nobody in",
            "install with global.mtls.enabled=true",
        ));
    }
    or_good(findings, CHECK, || {
        format!("three programs are ready in {}", facts.namespace)
    })
}

fn is_mutual(facts: &Facts) -> bool {
    let system = facts.system.as_ref();
    system.and_then(|system| system.pointer("/mtls/enabled")) == Some(&Value::Bool(true))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

fn certificates(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    let mut findings = Vec::new();
    let now = facts.now.unwrap_or(SystemTime::UNIX_EPOCH);
    let mut roots = None;
    match facts.roots.as_ref() {
        Some(Ok(Some(found))) => {
            roots = Some(found);
            findings.extend(ends(CHECK, "the last root", roots_end(found), now));
        }
        Some(Ok(None)) => findings.push(Finding::error(
            CHECK,
            format!(
                "the ConfigMap {}/dapr-trust-bundle has no root",
                facts.namespace
            ),
            "Sentry fills it: see its log",
        )),
        Some(Err(why)) => findings.push(Finding::unknown(CHECK, why)),
        None => {}
    }
    match (facts.secret.as_ref(), roots) {
        (Some(Ok(Some([root, issuer]))), roots) => {
            let first = issuer.anchors().first().map(|one| one.not_after());
            findings.extend(ends(CHECK, "the issuer", first, now));
            if roots.is_some_and(|roots| !is_within(root, roots)) {
                findings.push(Finding::error(
                    CHECK,
                    "the ConfigMap lacks a root that the Secret has",
                    "Sentry puts it right within a minute: if not, see its log",
                ));
            }
        }
        (Some(Ok(None)), Some(_)) => findings.push(Finding::error(
            CHECK,
            format!(
                "the Secret {}/dapr-trust-bundle has no certificate authority",
                facts.namespace
            ),
            "Sentry fills an empty one; a partial one has to be restored",
        )),
        (Some(Err(why)), _) => findings.push(Finding::unknown(CHECK, why)),
        (Some(Ok(None)) | None, _) => {}
    }
    or_good(findings, CHECK, || {
        let end = roots.and_then(roots_end).map(rfc1123).unwrap_or_default();
        format!("roots and issuer are valid, the last root until {end}")
    })
}

/// Whether every root of one bundle is in the other.
fn is_within(part: &TrustBundle, whole: &TrustBundle) -> bool {
    let held = whole.anchors();
    part.anchors()
        .iter()
        .all(|one| held.iter().any(|other| other.der() == one.der()))
}

/// What is to be said of the end of a certificate.
pub(super) fn ends(
    check: &'static str,
    what: &str,
    end: Option<SystemTime>,
    now: SystemTime,
) -> Option<Finding> {
    let end = end?;
    let at = rfc1123(end);
    match end.duration_since(now) {
        Err(_past) => Some(Finding::error(
            check,
            format!("{what} has expired on {at}"),
            "ironside mtls renew-certificate -k; Sentry's log says why it has not replaced it",
        )),
        Ok(left) if left < SOON => Some(Finding::warning(
            check,
            format!("{what} ends on {at}"),
            "ironside mtls renew-certificate -k, unless Sentry rotates already",
        )),
        Ok(_) => None,
    }
}

fn webhook(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "webhook";
    let hook = match facts.webhook.as_ref() {
        Some(Ok(Some(hook))) => hook,
        Some(Ok(None)) => {
            let text = "there is no MutatingWebhookConfiguration dapr-sidecar-injector: no pod gets a sidecar";
            return vec![Finding::error(CHECK, text, INSTALL)];
        }
        Some(Err(why)) => return vec![Finding::unknown(CHECK, why)],
        None => return Vec::new(),
    };
    let mut findings = Vec::new();
    let text = |pointer: &str| hook.pointer(pointer).and_then(Value::as_str);
    let service = text("/webhooks/0/clientConfig/service/namespace").unwrap_or_default();
    if service != facts.namespace {
        findings.push(Finding::error(
            CHECK,
            format!(
                "it leads to namespace {service:?}, and the control plane is in {:?}",
                facts.namespace
            ),
            "two installations collide: remove one of them",
        ));
    }
    match authority(hook) {
        None => findings.push(Finding::error(
            CHECK,
            "it has no caBundle, so the API server cannot call the injector",
            "the injector fills it in: see its log",
        )),
        Some(bundle) => {
            if let Some(Ok(Some(roots))) = &facts.roots
                && !roots
                    .anchors()
                    .iter()
                    .any(|root| bundle.anchors().iter().any(|one| one.der() == root.der()))
            {
                findings.push(Finding::error(
                    CHECK,
                    "its caBundle holds none of the current roots",
                    "the injector keeps it up to date: see its log",
                ));
            }
        }
    }
    if text("/webhooks/0/failurePolicy") == Some("Ignore") {
        findings.push(Finding::warning(
            CHECK,
            "failurePolicy is Ignore: while no injector runs, pods that ask for a sidecar start without one",
            "dapr_sidecar_injector.webhookFailurePolicy=Fail",
        ));
    }
    or_good(findings, CHECK, || {
        "it leads to the injector, and is trusted".to_owned()
    })
}

/// The roots that the API server trusts for the injector.
fn authority(hook: &Value) -> Option<TrustBundle> {
    let text = hook.pointer("/webhooks/0/clientConfig/caBundle")?.clone();
    let text: k8s_openapi::ByteString = serde_json::from_value(text).ok()?;
    TrustBundle::from_pem(&text.0).ok()
}

fn rights(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "rights";
    let missing: Vec<&Right> = facts
        .rights
        .iter()
        .filter(|(_, answer)| *answer == Ok(false))
        .map(|(right, _)| right)
        .collect();
    let groups: Vec<&[&Right]> = missing.chunk_by(|one, next| one.is_beside(next)).collect();
    let more = groups.len().saturating_sub(TOLD);
    let fix = "apply the chart's roles again (helm upgrade, ironside upgrade -k)";
    let tell = |group: &&[&Right]| {
        let text = Right::words(group);
        match group.iter().any(|right| right.is_vital()) {
            true => Finding::error(CHECK, text, fix),
            false => Finding::warning(CHECK, text, fix),
        }
    };
    let mut findings: Vec<Finding> = groups.iter().take(TOLD).map(tell).collect();
    if more > 0 {
        findings.push(Finding::error(CHECK, format!("and {more} more"), fix));
    }
    let mut refused = facts
        .rights
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().err());
    findings.extend(refused.next().map(|why| Finding::unknown(CHECK, why)));
    or_good(findings, CHECK, || {
        format!(
            "the control plane has the {} rights that every install gives it",
            facts.rights.len()
        )
    })
}

/// Whether a text means yes (kubernetes 0).
fn is_truthy(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    matches!(text.as_str(), "y" | "yes" | "true" | "t" | "on" | "1")
}

fn pods(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "sidecars";
    let current = sidecar_image(facts);
    let mut missing = Vec::new();
    let mut outdated = Vec::new();
    let mut ill = Vec::new();
    let mut count = 0_usize;
    for pod in &facts.pods {
        let name = format!("{}/{}", sidecars::namespace(pod), sidecars::name(pod));
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed"))
            || pod.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        let annotations = pod.metadata.annotations.as_ref();
        let annotation = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);
        let Some(sidecar) = Sidecar::of(pod) else {
            let asks = annotation("dapr.io/enabled").is_some_and(is_truthy);
            let is_excluded =
                ["kube-system", facts.namespace.as_str()].contains(&sidecars::namespace(pod));
            if asks && !is_excluded {
                missing.push(name);
            }
            continue;
        };
        count += 1;
        let image = sidecar.container.image.as_deref().unwrap_or_default();
        // An image of the user's own is as wanted.
        let is_own = annotation("dapr.io/sidecar-image").is_some();
        if current.is_some_and(|current| current != image) && !is_own {
            outdated.push(format!("{name} ({image})"));
        }
        if sidecar.status().is_some_and(|status| !status.ready) {
            ill.push(name);
        }
    }
    let mut findings = Vec::new();
    let mut tell = |found: Vec<String>, make: &dyn Fn(String) -> Finding| {
        let more = found.len().saturating_sub(TOLD);
        findings.extend(found.into_iter().take(TOLD).map(make));
        if more > 0 {
            findings.push(make(format!("and {more} more")));
        }
    };
    tell(missing, &|name| {
        Finding::error(
            CHECK,
            format!("{name} asks for a sidecar and has none"),
            "delete the pod, so that its controller makes it again; its Events say why if it has none then",
        )
    });
    tell(ill, &|name| {
        Finding::error(
            CHECK,
            format!("the sidecar of {name} is not ready"),
            "its log says what it waits for: kubectl logs -c daprd",
        )
    });
    let current = current.unwrap_or_default().to_owned();
    tell(outdated, &|name| {
        Finding::warning(
            CHECK,
            format!("{name} has another image than {current}, which new pods get"),
            "kubectl rollout restart its workload",
        )
    });
    or_good(findings, CHECK, || {
        format!("{count} run, none is missing or outdated")
    })
}

/// The image that the injector gives to sidecars.
fn sidecar_image(facts: &Facts) -> Option<&str> {
    let containers = facts.pods.iter().filter_map(|pod| pod.spec.as_ref());
    let mut containers = containers.flat_map(|spec| &spec.containers);
    let injector = containers.find(|one| one.name == "dapr-sidecar-injector")?;
    let mut env = injector.env.iter().flatten();
    let image = env.find(|one| one.name == "SIDECAR_IMAGE")?;
    image.value.as_deref().filter(|image| !image.is_empty())
}

fn clocks(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "clocks";
    let Some(server) = facts.server else {
        return vec![Finding::unknown(
            CHECK,
            "the API server does not say what time it is",
        )];
    };
    let allowed = facts.system.as_ref().and_then(|system| {
        let text = system.pointer("/mtls/allowedClockSkew")?.as_str()?;
        text.parse::<GoDuration>().ok()?.to_std()
    });
    let allowed = allowed.unwrap_or(SKEW);
    let mut findings = Vec::new();
    let mut check = |what: String, at: SystemTime| {
        let apart = at
            .duration_since(server)
            .unwrap_or_else(|behind| behind.duration());
        if apart <= WRONG_CLOCK {
            return;
        }
        let text = format!(
            "{what} differs from the API server's by {} s",
            apart.as_secs()
        );
        let fix = "synchronise it (NTP)";
        findings.push(if apart > allowed {
            Finding::error(CHECK, format!("{text}, more than allowedClockSkew"), fix)
        } else {
            Finding::warning(CHECK, text, fix)
        });
    };
    if let Some(now) = facts.now {
        check("the clock of this machine".to_owned(), now);
    }
    match facts.nodes.as_ref() {
        Some(Ok(nodes)) => {
            for (name, at) in nodes {
                check(format!("the clock of node {name}"), *at);
            }
        }
        Some(Err(why)) => findings.push(Finding::unknown(CHECK, why)),
        None => {}
    }
    or_good(findings, CHECK, || {
        "this machine, the API server and the nodes agree".to_owned()
    })
}

fn access_controls(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "access control";
    let objects = match facts.access_controls.as_ref() {
        Some(Ok(objects)) => objects,
        Some(Err(why)) => return vec![Finding::unknown(CHECK, why)],
        None => return Vec::new(),
    };
    let mut findings = Vec::new();
    for object in objects {
        let metadata = &object.metadata;
        let name = format!(
            "{}/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        );
        let conditions = object.data.pointer("/status/conditions");
        let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
        for condition in conditions {
            let text = |member: &str| condition.get(member).and_then(Value::as_str);
            let message = text("message").unwrap_or_default();
            match (text("type"), text("status")) {
                (Some("Accepted"), Some("False")) => findings.push(Finding::error(
                    CHECK,
                    format!("{name} is not accepted: {message}"),
                    "correct it; until then its apps refuse what it speaks of",
                )),
                (Some("Programmed"), Some("False")) => findings.push(Finding::warning(
                    CHECK,
                    format!("{name} is not in force everywhere: {message}"),
                    "the pods that the message names: is their sidecar ready, and not one of Dapr?",
                )),
                (Some("Conflicted"), Some("True")) => findings.push(Finding::warning(
                    CHECK,
                    format!("{name} contradicts another: {message}"),
                    format!("ironside accesscontrol lint -k --callee {name}"),
                )),
                _ => {}
            }
        }
    }
    or_good(findings, CHECK, || {
        format!("{} objects, all in force", objects.len())
    })
}

/// The findings, or that there are none.
fn or_good(
    findings: Vec<Finding>,
    check: &'static str,
    text: impl FnOnce() -> String,
) -> Vec<Finding> {
    if findings.is_empty() {
        return vec![Finding::good(check, text())];
    }
    findings
}

/// An answer that was given.
pub(super) fn answered<T>(asked: Option<&Asked<T>>) -> Option<&T> {
    asked.and_then(|answer| answer.as_ref().ok())
}

#[cfg(test)]
mod tests;

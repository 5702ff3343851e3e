//! What becomes of a pod: a review in, a verdict out.
//!
//! Owns the order of the questions (kubernetes 2.5), the texts of the answers, and what is counted and reported of
//! each. Pure: what holds at the moment comes in as [`Moment`], and the caller does the counting and the reporting.
//! How a review travels is `serve`'s matter, how a sidecar looks `patch`'s, who may have one `caller`'s.

pub(crate) mod caller;
pub(crate) mod review;

use crate::patch::pod::{Pod, PodError};
use crate::patch::settings::Settings;
use crate::patch::{self, DAPRD, Input, Operation, PatchError, lint};
use caller::Callers;
use ironside_cluster::{Kind, News, Subject};
use ironside_resources::annotations::{APP_ID, ENABLED, is_enabled, is_falsy};
use ironside_telemetry::quoted;
use review::{Request, UserInfo};
use serde_json::Value;

/// The longest name of a Service.
const MAX_NAME: usize = 63;
/// What the Service of an app has behind the app's name.
const SERVICE: &str = "-dapr";
/// The reason of an Event about a pod that seems to want a sidecar and gets none.
const NOT_INJECTED: &str = "SidecarNotInjected";
/// What was done when an Event tells of it. Events of one reason and action are one that repeats, in the first words.
const INJECT: &str = "InjectSidecar";

/// What holds when a review arrives.
pub(crate) struct Moment<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) callers: &'a Callers,
    /// The trust anchors in effect as PEM; none before there are any.
    pub(crate) trust_anchors: Option<&'a str>,
    pub(crate) mtls: bool,
}

/// The answer, and what else is to be done.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) answer: Answer,
    pub(crate) outcome: Outcome,
    /// The label of the metrics; empty where nothing is counted by app.
    pub(crate) app_id: String,
    pub(crate) warnings: Vec<String>,
    /// What is told of the owner of the pod.
    pub(crate) event: Option<(Subject, News)>,
}

/// What the API server is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Go on as it is.
    Allow,
    /// Go on with these changes.
    Patch(Vec<Operation>),
    /// No, and why.
    Deny(String),
}

/// What happened, as a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Injected,
    NotAPod,
    NotEnabled,
    CallerNotAllowed,
    SidecarExists,
    Denied,
}

/// Why a pod is denied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error("value for the {APP_ID} annotation is empty")]
    NoAppId,
    #[error("invalid app id (input: '{app_id}', service: '{app_id}{SERVICE}'): {flaw}")]
    AppId { app_id: String, flaw: &'static str },
    #[error(transparent)]
    Port(#[from] lint::NoPort),
    #[error("the trust anchors are not available yet; the injector waits for Sentry")]
    NoAnchors,
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// Decides.
pub(crate) fn decide(request: &Request, moment: &Moment<'_>) -> Verdict {
    if request.kind.kind != "Pod" {
        return Verdict::allow(Outcome::NotAPod);
    }
    let enabled = annotation(&request.object, ENABLED);
    // What cannot be read is not passed over in silence: it may have asked for a sidecar.
    let pod = match Pod::read(&request.object) {
        Ok(pod) => pod,
        Err(_unread) if enabled.is_none() && request.object.is_object() => {
            return Verdict::allow(Outcome::NotEnabled);
        }
        Err(cause) => return Verdict::deny(String::new(), &cause.into()),
    };
    if !is_enabled(enabled) {
        let warning = enabled.and_then(not_enabled);
        return Verdict {
            event: warning
                .clone()
                .and_then(|note| event(request, &pod, NOT_INJECTED, "ReadEnabled", note)),
            warnings: warning.into_iter().collect(),
            ..Verdict::allow(Outcome::NotEnabled)
        };
    }
    let app_id = app_id(&pod);
    if !moment.callers.allow(&request.user_info) {
        return not_allowed(request, &pod, app_id);
    }
    if pod.has_container(DAPRD) {
        return Verdict::allow(Outcome::SidecarExists);
    }
    let warnings = lint::warnings(&pod);
    let mut verdict = match inject(request, moment, &pod, &app_id) {
        Ok(operations) => Verdict {
            answer: Answer::Patch(operations),
            outcome: Outcome::Injected,
            app_id,
            warnings: Vec::new(),
            event: warned(request, &pod, &warnings),
        },
        Err(cause) => {
            let event = event(request, &pod, "SidecarDenied", INJECT, cause.to_string());
            let mut verdict = Verdict::deny(app_id, &cause);
            verdict.event = event;
            verdict
        }
    };
    verdict.warnings = warnings;
    verdict
}

fn inject(
    request: &Request,
    moment: &Moment<'_>,
    pod: &Pod,
    app_id: &str,
) -> Result<Vec<Operation>, Refusal> {
    check_app_id(app_id)?;
    lint::check(pod.annotations())?;
    let operations = patch::build(&Input {
        settings: moment.settings,
        trust_anchors: moment.trust_anchors.ok_or(Refusal::NoAnchors)?,
        mtls: moment.mtls,
        namespace: &request.namespace,
        app_id,
        pod,
    })?;
    Ok(operations)
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(name)?
        .as_str()
}

/// A value that is neither yes nor no may have been meant.
fn not_enabled(value: &str) -> Option<String> {
    (!is_falsy(value)).then(|| {
        let value: String = value.chars().take(32).collect();
        format!(
            "{ENABLED}: {} counts as false; no sidecar is injected",
            quoted(&value)
        )
    })
}

/// The name of the app: annotated, or that of the pod.
fn app_id(pod: &Pod) -> String {
    let annotated = pod.annotations().some("app-id");
    let named = pod.metadata.name.as_deref();
    annotated.or(named).unwrap_or_default().to_owned()
}

/// The name must make a name of a Service (kubernetes 2.5).
fn check_app_id(app_id: &str) -> Result<(), Refusal> {
    if app_id.is_empty() {
        return Err(Refusal::NoAppId);
    }
    let bad = |flaw| {
        Err(Refusal::AppId {
            app_id: app_id.chars().take(2 * MAX_NAME).collect(),
            flaw,
        })
    };
    if app_id.len() + SERVICE.len() > MAX_NAME {
        return bad("at most 58 characters are possible");
    }
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !app_id.bytes().all(is_inner) || app_id.starts_with('-') {
        return bad("it must consist of a-z, 0-9 and '-', and must not begin with '-'");
    }
    Ok(())
}

/// A pod that asked for a sidecar and gets none: this must not go unnoticed.
fn not_allowed(request: &Request, pod: &Pod, app_id: String) -> Verdict {
    let UserInfo { username, .. } = &request.user_info;
    let user: String = username.chars().take(253).collect();
    let warning = format!(
        "no sidecar is injected: {user} is not an allowed controller; set ALLOWED_SERVICE_ACCOUNTS of the injector"
    );
    Verdict {
        event: event(request, pod, NOT_INJECTED, INJECT, warning.clone()),
        warnings: vec![warning],
        app_id,
        ..Verdict::allow(Outcome::CallerNotAllowed)
    }
}

/// Warnings reach whoever makes the pod; that is a controller, so its owner's user is told by an Event.
fn warned(request: &Request, pod: &Pod, warnings: &[String]) -> Option<(Subject, News)> {
    let (first, more) = warnings.split_first()?;
    let mut note = first.clone();
    for warning in more {
        note.push_str("; ");
        note.push_str(warning);
    }
    event(request, pod, "SidecarAnnotations", INJECT, note)
}

/// An Event on the owner; a pod without one is made by a user, who sees the answer.
fn event(
    request: &Request,
    pod: &Pod,
    reason: &'static str,
    action: &'static str,
    note: String,
) -> Option<(Subject, News)> {
    let owner = pod
        .owner()
        .filter(|_| !request.dry_run.unwrap_or_default())?;
    let subject = Subject {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        namespace: request.namespace.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    };
    let news = News {
        kind: Kind::Warning,
        reason,
        action,
        note,
    };
    Some((subject, news))
}

// === impl Verdict ===

impl Verdict {
    fn allow(outcome: Outcome) -> Self {
        Self {
            answer: Answer::Allow,
            outcome,
            app_id: String::new(),
            warnings: Vec::new(),
            event: None,
        }
    }

    fn deny(app_id: String, cause: &Refusal) -> Self {
        Self {
            answer: Answer::Deny(cause.to_string()),
            app_id,
            ..Self::allow(Outcome::Denied)
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// The value of the label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::NotAPod => "not_a_pod",
            Self::NotEnabled => "not_enabled",
            Self::CallerNotAllowed => "caller_not_allowed",
            Self::SidecarExists => "sidecar_exists",
            Self::Denied => "denied",
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

//! Certificates, access control, components and error codes.
//!
//! The counters of access control carry the caller's app id, trust domain and
//! namespace; they are looked up once per connection. Source:
//! resiliency-observability 3.4.

use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::{family::Family, gauge::Gauge};

use super::bounded::Bounded;
use super::family::{Count, Counts, Families};

/// Callers that get counters of their own.
const MAX_CALLERS: usize = 2000;
/// Component types that get a counter of their own.
const MAX_TYPES: usize = 100;
/// The label of all further ones.
const OTHER: &str = "_other";

/// Why no certificate could be obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationFailure {
    /// Sentry could not be reached.
    SentryConnection,
    /// The token could not be read.
    SentryToken,
    /// Sentry did not sign.
    Sign,
    /// The certificate is not valid now.
    InvalidTime,
    /// The JWT could not be read.
    JwtParse,
    /// The JWT is for somebody else.
    JwtAudience,
}

/// Why a component is not in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ComponentFailure {
    /// There is no such type here.
    Creation,
    /// It cannot be used as written.
    Init,
}

/// Whose default action decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AclScope {
    /// The policy of the caller.
    App,
    /// All others.
    Global,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AclOutcome {
    /// Let in.
    Allowed,
    /// Refused.
    Blocked,
}

/// The access-control counters of one caller.
#[derive(Clone, Debug)]
pub struct AclCaller(Option<Arc<AclSeries>>);

/// A gauge of one instant.
type Instants = Family<Vec<(&'static str, String)>, Gauge>;

#[derive(Debug)]
pub(super) struct SecurityFamilies {
    initialised: Counts,
    init_failed: Counts,
    own_expiry: Instants,
    anchor_expiry: Instants,
    rotated: Counts,
    rotation_failed: Counts,
    component_loaded: Counts,
    component_started: Counts,
    started: Bounded<(), Count>,
    component_failed: Counts,
    failed: Bounded<ComponentFailure, Count>,
    errors: Option<Counts>,
}

#[derive(Debug)]
pub(super) struct AclFamilies {
    counts: Arc<AclCounts>,
    callers: Bounded<(), Arc<AclSeries>>,
}

#[derive(Debug)]
struct AclCounts {
    app_allowed: Counts,
    app_blocked: Counts,
    global_allowed: Counts,
    global_blocked: Counts,
}

#[derive(Debug)]
struct AclSeries {
    counts: Arc<AclCounts>,
    labels: [Box<str>; 3],
    app_allowed: OnceLock<Count>,
    app_blocked: OnceLock<Count>,
    global_allowed: OnceLock<Count>,
    global_blocked: OnceLock<Count>,
}

// === impl RotationFailure ===

impl RotationFailure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::SentryConnection => "sentry_conn",
            Self::SentryToken => "sentry_token",
            Self::Sign => "sign",
            Self::InvalidTime => "invalid_ts",
            Self::JwtParse => "jwt_parse",
            Self::JwtAudience => "jwt_aud",
        }
    }
}

// === impl ComponentFailure ===

impl ComponentFailure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::Init => "init",
        }
    }
}

// === impl SecurityFamilies ===

impl SecurityFamilies {
    pub(super) fn new(families: &mut Families<'_>, record_error_codes: bool) -> Self {
        let (errors, help) = (
            "error_code_total",
            "Number of times an error with a specific errorcode was encountered",
        );
        let errors =
            record_error_codes.then(|| families.counts(errors, help, &["category", "error_code"]));
        Self {
            initialised: families.counts(
                "runtime_mtls_init_total",
                "The number of successful mTLS authenticator initialization",
                &[],
            ),
            init_failed: families.counts(
                "runtime_mtls_init_fail_total",
                "The number of failed attempts to initialise the mTLS authenticator",
                &["reason"],
            ),
            own_expiry: families.gauges(
                "runtime_mtls_workload_cert_expiry_timestamp",
                "When the certificate in use ends, in Unix seconds",
            ),
            anchor_expiry: families.gauges(
                "runtime_mtls_trust_anchor_expiry_timestamp",
                "When the first of the trust anchors in use ends, in Unix seconds",
            ),
            rotated: families.counts(
                "runtime_mtls_workload_cert_rotated_total",
                "The number of the successful workload certificate rotations",
                &[],
            ),
            rotation_failed: families.counts(
                "runtime_mtls_workload_cert_rotated_fail_total",
                "The number of the failed workload certificate rotations",
                &["reason"],
            ),
            component_loaded: families.counts(
                "runtime_component_loaded",
                "The number of successfully loaded components",
                &[],
            ),
            component_started: families.counts(
                "runtime_component_init_total",
                "The number of initialized components",
                &["component"],
            ),
            started: Bounded::new(
                MAX_TYPES,
                (OTHER, ()),
                families.governor("runtime_component_init_total"),
            ),
            component_failed: families.counts(
                "runtime_component_init_fail_total",
                "The number of component initialization failures",
                &["component", "reason", "componentName"],
            ),
            failed: Bounded::new(
                MAX_TYPES,
                (OTHER, ComponentFailure::Init),
                families.governor("runtime_component_init_fail_total"),
            ),
            errors,
        }
    }

    pub(super) fn initialised(&self) {
        self.initialised.series(&[]).inc();
    }

    pub(super) fn init_failed(&self, reason: RotationFailure) {
        self.init_failed.series(&[reason.as_str()]).inc();
    }

    pub(super) fn expiry(&self, own: i64, anchors: Option<i64>) {
        self.own_expiry.get_or_create(&Vec::new()).set(own);
        if let Some(anchors) = anchors {
            self.anchor_expiry.get_or_create(&Vec::new()).set(anchors);
        }
    }

    pub(super) fn rotated(&self) {
        self.rotated.series(&[]).inc();
    }

    pub(super) fn rotation_failed(&self, reason: RotationFailure) {
        self.rotation_failed.series(&[reason.as_str()]).inc();
    }

    pub(super) fn component_loaded(&self) {
        self.component_loaded.series(&[]).inc();
    }

    pub(super) fn component_started(&self, kind: &str) {
        let make = |kind: &str, ()| self.component_started.series(&[kind]);
        self.started.with(kind, (), make, Count::inc);
    }

    pub(super) fn component_failed(&self, kind: &str, why: ComponentFailure, name: &str) {
        // Names and types hold no line feed.
        let make = |text: &str, why: ComponentFailure| {
            let (kind, name) = text.split_once('\n').unwrap_or((text, text));
            self.component_failed.series(&[kind, why.as_str(), name])
        };
        self.failed
            .with(&format!("{kind}\n{name}"), why, make, Count::inc);
    }

    pub(super) fn error_answered(&self, category: &'static str, code: &'static str) {
        if let Some(errors) = &self.errors {
            errors.series(&[category, code]).inc();
        }
    }
}

// === impl AclFamilies ===

impl AclFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        let governor = families.governor("runtime_acl_policy_actions");
        let mut counts = |name: &str, help: &str| {
            families.counts(name, help, &["app_id", "trustDomain", "namespace"])
        };
        let counts = AclCounts {
            app_allowed: counts(
                "runtime_acl_app_policy_action_allowed_total",
                "The number of requests allowed by the app specific action specified in the access control policy",
            ),
            app_blocked: counts(
                "runtime_acl_app_policy_action_blocked_total",
                "The number of requests blocked by the app specific action specified in the access control policy",
            ),
            global_allowed: counts(
                "runtime_acl_global_policy_action_allowed_total",
                "The number of requests allowed by the global action specified in the access control policy",
            ),
            global_blocked: counts(
                "runtime_acl_global_policy_action_blocked_total",
                "The number of requests blocked by the global action specified in the access control policy",
            ),
        };
        Self {
            counts: Arc::new(counts),
            callers: Bounded::new(MAX_CALLERS, (OTHER, ()), governor),
        }
    }

    pub(super) fn caller(&self, app_id: &str, trust_domain: &str, namespace: &str) -> AclCaller {
        // No identity holds a space, so the joined text stands for one triple only.
        let key = format!("{app_id} {trust_domain} {namespace}");
        let make = |label: &str, ()| {
            let labels = if label == OTHER {
                [OTHER; 3]
            } else {
                [app_id, trust_domain, namespace]
            };
            Arc::new(AclSeries::new(self.counts.clone(), labels))
        };
        AclCaller(self.callers.with(&key, (), make, Arc::clone))
    }
}

// === impl AclCaller ===

impl AclCaller {
    pub(super) const fn disabled() -> Self {
        Self(None)
    }

    /// A call of this caller was decided.
    pub fn decided(&self, scope: AclScope, outcome: AclOutcome) {
        if let Some(series) = &self.0 {
            series.count(scope, outcome).inc();
        }
    }
}

// === impl AclSeries ===

impl AclSeries {
    fn new(counts: Arc<AclCounts>, labels: [&str; 3]) -> Self {
        Self {
            counts,
            labels: labels.map(Into::into),
            app_allowed: OnceLock::new(),
            app_blocked: OnceLock::new(),
            global_allowed: OnceLock::new(),
            global_blocked: OnceLock::new(),
        }
    }

    fn count(&self, scope: AclScope, outcome: AclOutcome) -> &Count {
        use AclOutcome::{Allowed, Blocked};
        use AclScope::{App, Global};
        let (cell, family) = match (scope, outcome) {
            (App, Allowed) => (&self.app_allowed, &self.counts.app_allowed),
            (App, Blocked) => (&self.app_blocked, &self.counts.app_blocked),
            (Global, Allowed) => (&self.global_allowed, &self.counts.global_allowed),
            (Global, Blocked) => (&self.global_blocked, &self.counts.global_blocked),
        };
        cell.get_or_init(|| family.series(&self.labels.each_ref().map(|label| &**label)))
    }
}

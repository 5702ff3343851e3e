//! The metric families of service invocation: names, labels, buckets.
//!
//! A [`Metrics`] holds every family of a sidecar and renders Prometheus text.
//! A series appears with its first observation. Labels are bounded by construction: texts that callers choose
//! (paths, app ids, gRPC methods) fall together once there are too many of
//! them. Refused: listening, clocks, and deciding when something is measured.
//! Source: resiliency-observability 3.

use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

mod access;
mod bounded;
mod cluster;
mod family;
mod grpc;
mod http;
mod invocation;
mod path;
mod relabel;
mod resiliency;
mod security;
mod traces;
mod words;

pub use access::{DecisionCount, DecisionLabels, ObjectState, Outcome, SourceState};
pub use grpc::Rpc;
pub use http::{HttpCalled, HttpServed};
pub use invocation::{CallKind, Failure};
pub use path::{PathPatterns, PatternError};
pub use relabel::{RuleError, Rules};
pub use resiliency::{
    AttemptsMeter, BreakerMeter, BreakerState, EndpointState, PolicyKind, PolicyLabels, PolicyMeter,
};
pub use security::{AclCaller, AclOutcome, AclScope, ComponentFailure, RotationFailure};
pub use traces::{SpanExporter, SpanLoss};
pub use words::grpc_code_name;

use access::AccessFamilies;
use cluster::ClusterFamilies;
use family::{Buckets, Families};
use grpc::GrpcFamilies;
use http::HttpFamilies;
use invocation::InvocationFamilies;
use resiliency::ResiliencyFamilies;
use security::{AclFamilies, SecurityFamilies};
use traces::TraceFamilies;

/// Bounds of latency histograms where the configuration gives none, in milliseconds:
/// resiliency-observability 3.1.
pub const DEFAULT_LATENCY_BUCKETS_MS: [u64; 34] = [
    1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 250, 300, 400,
    500, 650, 800, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
];
/// Beginning of all names.
const PREFIX: &str = "dapr";

/// What the metric section of a configuration decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the raw path is a label.
    pub increased_cardinality: bool,
    /// Whether the verb is left out.
    pub exclude_verbs: bool,
    /// Whether error codes are counted.
    pub record_error_codes: bool,
    /// Bounds of latency histograms in milliseconds; empty for the default ones.
    pub latency_buckets_ms: Vec<u64>,
    /// Patterns that stand for paths.
    pub path_matching: PathPatterns,
    /// Rules that change label values.
    pub rules: Rules,
}

/// The families of a sidecar. One that is disabled measures nothing.
#[derive(Debug)]
pub struct Metrics(Option<Box<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Families that carry the own app id.
    own: Registry,
    /// Families whose `app_id` is somebody else's.
    foreign: Registry,
    http: HttpFamilies,
    grpc: GrpcFamilies,
    invocation: InvocationFamilies,
    resiliency: ResiliencyFamilies,
    security: SecurityFamilies,
    acl: AclFamilies,
    access: AccessFamilies,
    cluster: ClusterFamilies,
    traces: TraceFamilies,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            increased_cardinality: true,
            exclude_verbs: false,
            record_error_codes: false,
            latency_buckets_ms: Vec::new(),
            path_matching: PathPatterns::default(),
            rules: Rules::default(),
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Registers all families for the sidecar of `app_id`.
    #[must_use]
    pub fn new(app_id: &str, settings: Settings) -> Self {
        let label = [("app_id".into(), app_id.to_owned().into())];
        let mut own = Registry::with_prefix_and_labels(PREFIX, label.into_iter());
        let mut foreign = Registry::with_prefix(PREFIX);
        let buckets = Buckets::new(&settings.latency_buckets_ms);
        let overflow = Families::overflow(&mut own);
        let mut families = Families::new(&mut own, &buckets, &settings.rules, overflow.clone());
        let http = HttpFamilies::new(&mut families, &settings);
        let grpc = GrpcFamilies::new(&mut families);
        let invocation = InvocationFamilies::new(&mut families);
        let resiliency = ResiliencyFamilies::new(&mut families);
        let security = SecurityFamilies::new(&mut families, settings.record_error_codes);
        let cluster = ClusterFamilies::new(&mut families);
        let traces = TraceFamilies::new(&mut families);
        let mut others = Families::new(&mut foreign, &buckets, &settings.rules, overflow);
        let acl = AclFamilies::new(&mut others);
        let access = AccessFamilies::new(&mut others);
        Self(Some(Box::new(Inner {
            own,
            foreign,
            http,
            grpc,
            invocation,
            resiliency,
            security,
            acl,
            access,
            cluster,
            traces,
        })))
    }

    /// Returns metrics that measure nothing and render nothing.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Returns whether anything is measured.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Renders all series in Prometheus text format.
    #[must_use]
    pub fn exposition(&self) -> String {
        let registries = self.0.iter().flat_map(|inner| [&inner.own, &inner.foreign]);
        render(registries)
    }

    /// A request of the HTTP API or the public port is answered.
    pub fn http_served(&self, served: &HttpServed<'_>) {
        self.with(|inner| inner.http.served(served));
    }

    /// A request to the app is answered, or failed (status 500).
    pub fn http_called(&self, called: &HttpCalled<'_>) {
        self.with(|inner| inner.http.called(called));
    }

    /// A health probe of an HTTP app ended; a network error counts as 500.
    pub fn http_probed(&self, status: u16, latency: Duration) {
        self.with(|inner| inner.http.probed(status, latency));
    }

    /// An RPC to one of the gRPC servers ended.
    pub fn rpc_served(&self, rpc: &Rpc<'_>) {
        self.with(|inner| inner.grpc.served(rpc));
    }

    /// An RPC to the app or to another sidecar ended.
    pub fn rpc_called(&self, rpc: &Rpc<'_>) {
        self.with(|inner| inner.grpc.called(rpc));
    }

    /// A health probe of a gRPC app ended with this code.
    pub fn grpc_probed(&self, code: i32, latency: Duration) {
        self.with(|inner| inner.grpc.probed(code, latency));
    }

    /// Caller: an attempt is about to be sent to `callee`, spelled as the counter wants it.
    pub fn invocation_sent(&self, callee: &str, kind: CallKind) {
        self.with(|inner| inner.invocation.sent(callee, kind));
    }

    /// Caller: a response arrived; `latency` is absent for streams.
    pub fn invocation_answered(
        &self,
        callee: &str,
        status: i32,
        kind: CallKind,
        latency: Option<Duration>,
    ) {
        self.with(|inner| inner.invocation.answered(callee, status, kind, latency));
    }

    /// Caller: a call to `callee` ended without an answer of its app.
    pub fn invocation_failed(&self, callee: &str, why: Failure) {
        self.with(|inner| inner.invocation.failed(callee, why));
    }

    /// Callee: a request of `caller` was let in.
    pub fn invocation_received(&self, caller: &str) {
        self.with(|inner| inner.invocation.received(caller));
    }

    /// Callee: a request of `caller` was answered.
    pub fn invocation_replied(&self, caller: &str, status: i32) {
        self.with(|inner| inner.invocation.replied(caller, status));
    }

    /// A Resiliency was read and is in force.
    pub fn resiliency_loaded(&self, name: &str, namespace: &str) {
        self.with(|inner| inner.resiliency.loaded(name, namespace));
    }

    /// Returns the counters of one policy of a target, to be kept beside it.
    #[must_use]
    pub fn resiliency_policy(&self, kind: PolicyKind, labels: PolicyLabels<'_>) -> PolicyMeter {
        let inner = self.0.as_ref();
        inner.map_or_else(PolicyMeter::disabled, |inner| {
            inner.resiliency.policy(kind, labels)
        })
    }

    /// Returns the counters of the breakers of a target, to be kept beside them.
    #[must_use]
    pub fn resiliency_breaker(&self, labels: PolicyLabels<'_>) -> BreakerMeter {
        let inner = self.0.as_ref();
        inner.map_or_else(BreakerMeter::disabled, |inner| {
            inner.resiliency.breaker(labels)
        })
    }

    /// A call was sent more than once, or would have been; `outcome` is one of a fixed list of words.
    pub fn resiliency_retried(&self, target: &str, policy: &str, outcome: &'static str) {
        self.with(|inner| inner.resiliency.retried(target, policy, outcome));
    }

    /// Returns what is counted of the attempts of a target, to be kept beside it.
    #[must_use]
    pub fn resiliency_attempts(&self, target: &str) -> AttemptsMeter {
        let inner = self.0.as_ref();
        inner.map_or_else(AttemptsMeter::disabled, |inner| {
            inner.resiliency.attempts(target)
        })
    }

    /// An address of a target is left out for a while; `reason` is one of a fixed list of words.
    pub fn resiliency_ejected(&self, target: &str, reason: &'static str) {
        self.with(|inner| inner.resiliency.ejected(target, reason));
    }

    /// So many addresses of a target are in this state.
    pub fn resiliency_endpoints(&self, target: &str, state: EndpointState, count: usize) {
        self.with(|inner| inner.resiliency.endpoints(target, state, count));
    }

    /// Returns the counters of one caller, to be kept with its connection.
    #[must_use]
    pub fn acl_caller(&self, app_id: &str, trust_domain: &str, namespace: &str) -> AclCaller {
        let inner = self.0.as_ref();
        inner.map_or_else(AclCaller::disabled, |inner| {
            inner.acl.caller(app_id, trust_domain, namespace)
        })
    }

    /// Returns the counter of one kind of decision, to be kept with the caller.
    #[must_use]
    pub fn decision_count(&self, labels: &DecisionLabels<'_>) -> DecisionCount {
        let inner = self.0.as_ref();
        inner.map_or_else(DecisionCount::disabled, |inner| {
            inner.access.decision(labels)
        })
    }

    /// The state of access control with this number is in force.
    pub fn access_control_snapshot(&self, number: u64) {
        self.with(|inner| inner.access.snapshot(number));
    }

    /// So many objects of access control are in this state.
    pub fn access_control_objects(&self, state: ObjectState, count: usize) {
        self.with(|inner| inner.access.objects(state, count));
    }

    /// The rules in force come from there.
    pub fn access_control_source(&self, state: SourceState) {
        self.with(|inner| inner.access.source(state));
    }

    /// The stream of rules was last heard of so long ago; files have no such series.
    pub fn access_control_heartbeat(&self, age: Duration) {
        self.with(|inner| inner.access.heartbeat(age));
    }

    /// There is a connection to the operator, or none.
    pub fn operator_connected(&self, is_connected: bool) {
        self.with(|inner| inner.cluster.connected(is_connected));
    }

    /// These generations of objects of the cluster are in force: kind, name, generation.
    pub fn resource_generations<'a>(
        &self,
        all: impl Iterator<Item = (&'static str, &'a str, i64)>,
    ) {
        self.with(|inner| inner.cluster.generations(all));
    }

    /// So many objects of a kind cannot be used in their newest version.
    pub fn resources_refused(&self, kind: &'static str, count: usize) {
        self.with(|inner| inner.cluster.refused(kind, count));
    }

    /// Calls that the access log file does not hold.
    pub fn access_log_dropped(&self, calls: u64) {
        self.with(|inner| inner.access.log_dropped(calls));
    }

    /// A collector took so many spans.
    pub fn spans_exported(&self, exporter: SpanExporter, spans: u64) {
        self.with(|inner| inner.traces.exported(exporter, spans));
    }

    /// So many spans were recorded and not exported.
    pub fn spans_dropped(&self, exporter: SpanExporter, why: SpanLoss, spans: u64) {
        self.with(|inner| inner.traces.dropped(exporter, why, spans));
    }

    /// The first certificate was obtained.
    pub fn mtls_initialised(&self) {
        self.with(|inner| inner.security.initialised());
    }

    /// A request for the first certificate failed.
    pub fn mtls_initialisation_failed(&self, reason: RotationFailure) {
        self.with(|inner| inner.security.init_failed(reason));
    }

    /// When the own certificate and the first of the trust anchors end, in Unix seconds.
    pub fn certificates_expire(&self, own: i64, anchors: Option<i64>) {
        self.with(|inner| inner.security.expiry(own, anchors));
    }

    /// A certificate was obtained, the first or a later one.
    pub fn certificate_rotated(&self) {
        self.with(|inner| inner.security.rotated());
    }

    /// A request for a certificate failed.
    pub fn certificate_rotation_failed(&self, reason: RotationFailure) {
        self.with(|inner| inner.security.rotation_failed(reason));
    }

    /// A component was loaded.
    pub fn component_loaded(&self) {
        self.with(|inner| inner.security.component_loaded());
    }

    /// A component of this type was started.
    pub fn component_started(&self, kind: &str) {
        self.with(|inner| inner.security.component_started(kind));
    }

    /// A component of this type and name could not be started.
    pub fn component_failed(&self, kind: &str, why: ComponentFailure, name: &str) {
        self.with(|inner| inner.security.component_failed(kind, why, name));
    }

    /// An error was answered; counted only where the configuration says so.
    pub fn error_answered(&self, category: &'static str, code: &'static str) {
        self.with(|inner| inner.security.error_answered(category, code));
    }

    fn with(&self, measure: impl FnOnce(&Inner)) {
        if let Some(inner) = &self.0 {
            measure(inner);
        }
    }
}

fn render<'a>(registries: impl Iterator<Item = &'a Registry>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for registry in registries {
        let _infallible = encode_registry(&mut text, registry);
    }
    let _infallible = encode_eof(&mut text);
    text
}

/// Whole milliseconds, as the reference observes HTTP and gRPC latencies.
fn whole_millis(latency: Duration) -> f64 {
    let millis = u32::try_from(latency.as_millis()).unwrap_or(u32::MAX);
    f64::from(millis)
}

#[cfg(test)]
mod tests;

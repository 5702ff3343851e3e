//! The five families of service invocation proper.
//!
//! The caller counts attempts and answers, the callee requests let in and
//! replies. Source: resiliency-observability 3.2.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::bounded::Bounded;
use super::family::{Count, Counts, Families, Histograms, Measure};
use super::words::StatusLabel;

/// Series of a family; names of apps that do not exist count as well.
const MAX_SERIES: usize = 2000;
/// The label of all further ones.
const OTHER: &str = "_other";

/// Whether a call is one request and one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// One request, one answer.
    Unary,
    /// A stream.
    Streaming,
}

impl CallKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Streaming => "streaming",
        }
    }
}

/// Why a call ended without an answer of the app: resiliency-observability 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection to the peer, or it broke.
    Connect,
    /// The peer could not prove who it is, or did not believe this sidecar.
    Tls,
    /// A limit or the caller's deadline passed.
    Timeout,
    /// A circuit breaker refused it.
    BreakerOpen,
    /// Access control of the callee refused it.
    Acl,
    /// Nobody knows where the app listens.
    Resolve,
    /// Too many calls: it was not taken.
    Shed,
    /// Anything else: the app could not be called, say.
    Other,
}

impl Failure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::BreakerOpen => "cb_open",
            Self::Acl => "acl",
            Self::Resolve => "resolve",
            Self::Shed => "shed",
            Self::Other => "other",
        }
    }
}

#[derive(Debug)]
pub(super) struct InvocationFamilies {
    req_sent: Counts,
    res_recv: Counts,
    res_recv_latency: Histograms,
    req_recv: Counts,
    res_sent: Counts,
    sent: Bounded<CallKind, Count>,
    answered: Bounded<(StatusLabel, CallKind), Count>,
    latency: Bounded<StatusLabel, Histogram>,
    received: Bounded<(), Count>,
    replied: Bounded<StatusLabel, Count>,
    errors: Counts,
    failed: Bounded<Failure, Count>,
}

fn bounded<K: Copy + PartialEq, S>(
    families: &Families<'_>,
    family: &'static str,
    other: K,
) -> Bounded<K, S> {
    Bounded::new(MAX_SERIES, (OTHER, other), families.governor(family))
}

impl InvocationFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        let errors = "runtime_service_invocation_errors_total";
        Self {
            failed: bounded(families, errors, Failure::Connect),
            errors: families.counts(
                errors,
                "The number of calls that ended without an answer of the app, by reason",
                &["dst_app_id", "reason"],
            ),
            req_sent: families.counts(
                "runtime_service_invocation_req_sent_total",
                "The number of requests sent via service invocation",
                &["dst_app_id", "type"],
            ),
            res_recv: families.counts(
                "runtime_service_invocation_res_recv_total",
                "The number of responses received via service invocation",
                &["src_app_id", "status", "type"],
            ),
            res_recv_latency: families.histograms(
                Measure::Latency,
                "runtime_service_invocation_res_recv_latency_ms",
                "The latency of service invocation response",
                &["src_app_id", "status"],
            ),
            req_recv: families.counts(
                "runtime_service_invocation_req_recv_total",
                "The number of requests received via service invocation",
                &["src_app_id"],
            ),
            res_sent: families.counts(
                "runtime_service_invocation_res_sent_total",
                "The number of responses sent via service invocation",
                &["dst_app_id", "status"],
            ),
            sent: bounded(
                families,
                "runtime_service_invocation_req_sent_total",
                CallKind::Unary,
            ),
            answered: bounded(
                families,
                "runtime_service_invocation_res_recv_total",
                (StatusLabel::NONE, CallKind::Unary),
            ),
            latency: bounded(
                families,
                "runtime_service_invocation_res_recv_latency_ms",
                StatusLabel::NONE,
            ),
            received: bounded(families, "runtime_service_invocation_req_recv_total", ()),
            replied: bounded(
                families,
                "runtime_service_invocation_res_sent_total",
                StatusLabel::NONE,
            ),
        }
    }

    pub(super) fn sent(&self, callee: &str, kind: CallKind) {
        let make = |callee: &str, kind: CallKind| self.req_sent.series(&[callee, kind.as_str()]);
        self.sent.with(callee, kind, make, Count::inc);
    }

    pub(super) fn answered(
        &self,
        callee: &str,
        status: i32,
        kind: CallKind,
        latency: Option<Duration>,
    ) {
        let status = StatusLabel::of(status);
        let make = |callee: &str, (status, kind): (StatusLabel, CallKind)| {
            let status = status.to_string();
            self.res_recv.series(&[callee, &status, kind.as_str()])
        };
        self.answered.with(callee, (status, kind), make, Count::inc);
        let Some(latency) = latency else { return };
        let make = |callee: &str, status: StatusLabel| {
            self.res_recv_latency.series(&[callee, &status.to_string()])
        };
        let millis = latency.as_secs_f64() * 1000.0;
        let observe = |series: &Histogram| series.observe(millis);
        self.latency.with(callee, status, make, observe);
    }

    pub(super) fn received(&self, caller: &str) {
        let make = |caller: &str, ()| self.req_recv.series(&[caller]);
        self.received.with(caller, (), make, Count::inc);
    }

    pub(super) fn replied(&self, caller: &str, status: i32) {
        let status = StatusLabel::of(status);
        let make = |caller: &str, status: StatusLabel| {
            self.res_sent.series(&[caller, &status.to_string()])
        };
        self.replied.with(caller, status, make, Count::inc);
    }

    pub(super) fn failed(&self, callee: &str, failure: Failure) {
        let make = |callee: &str, failure: Failure| self.errors.series(&[callee, failure.as_str()]);
        self.failed.with(callee, failure, make, Count::inc);
    }
}

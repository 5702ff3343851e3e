//! The five families of service invocation proper.
//!
//! The caller counts attempts and answers, the callee requests let in and
//! replies. Source: resiliency-observability 3.2.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::bounded::Bounded;
use super::family::{Count, Counts, Families, Histograms, Measure};
use super::words::StatusLabel;

/// App ids that get a series of their own; names of apps that do not exist count as well.
const MAX_PEERS: usize = 2000;
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
}

impl InvocationFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        Self {
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
            sent: Bounded::new(MAX_PEERS, OTHER),
            answered: Bounded::new(MAX_PEERS, OTHER),
            latency: Bounded::new(MAX_PEERS, OTHER),
            received: Bounded::new(MAX_PEERS, OTHER),
            replied: Bounded::new(MAX_PEERS, OTHER),
        }
    }

    pub(super) fn sent(&self, callee: &str, kind: CallKind) {
        let make = |callee: &str| self.req_sent.series(&[callee, kind.as_str()]);
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
        let make = |callee: &str| {
            let status = status.to_string();
            self.res_recv.series(&[callee, &status, kind.as_str()])
        };
        self.answered.with(callee, (status, kind), make, Count::inc);
        let Some(latency) = latency else { return };
        let make = |callee: &str| self.res_recv_latency.series(&[callee, &status.to_string()]);
        let millis = latency.as_secs_f64() * 1000.0;
        let observe = |series: &Histogram| series.observe(millis);
        self.latency.with(callee, status, make, observe);
    }

    pub(super) fn received(&self, caller: &str) {
        let make = |caller: &str| self.req_recv.series(&[caller]);
        self.received.with(caller, (), make, Count::inc);
    }

    pub(super) fn replied(&self, caller: &str, status: i32) {
        let status = StatusLabel::of(status);
        let make = |caller: &str| self.res_sent.series(&[caller, &status.to_string()]);
        self.replied.with(caller, status, make, Count::inc);
    }
}

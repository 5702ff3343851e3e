//! The counters and gauges of the operator, by the names of kubernetes 3.11 and some of our own.
//!
//! Owns names and labels and the text that a scraper reads. Which events there are is decided where they happen.

use crate::index::objects::Kind;
use ironside_chassis::metrics_server::prometheus_text;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Handles to all metrics of this process. Clones are the same metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    services_created: Family<App, Counter>,
    services_updated: Family<App, Counter>,
    services_deleted: Family<App, Counter>,
    service_problems: Family<Reason, Counter>,
    service_queue: Gauge,
    streams: Family<OfKind, Gauge>,
    stream_queue: Family<OfKind, Gauge>,
    deliveries: Deliveries,
    secret_failures: Counter,
    leader: Gauge,
    without_sidecar: Gauge,
    restarts: Counter,
    restarts_refused: Counter,
    more: More,
}

/// What other parts have registered.
#[derive(Clone, Default)]
struct More(Arc<Mutex<Vec<Register>>>);

/// Registers metrics of another part.
type Register = Box<dyn FnOnce(&mut Registry) + Send>;

/// Upper bounds of the time from a change to its delivery, in seconds.
const DELIVERY: [f64; 9] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

#[derive(Debug, Clone)]
struct Deliveries(Family<OfKind, Histogram, fn() -> Histogram>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct App {
    app_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What became of a Service. One counts as deleted when it is seen to be gone, whoever took it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Created,
    Updated,
    Deleted,
}

// === impl Deliveries ===

impl Default for Deliveries {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(DELIVERY)))
    }
}

// === impl More ===

impl std::fmt::Debug for More {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("More")
    }
}

// === impl Metrics ===

impl Metrics {
    /// Counts a write to the Service of an app.
    pub(crate) fn count_service(&self, written: Written, app_id: &str) {
        let family = match written {
            Written::Created => &self.services_created,
            Written::Updated => &self.services_updated,
            Written::Deleted => &self.services_deleted,
        };
        let app_id = app_id.to_owned();
        family.get_or_create(&App { app_id }).inc();
    }

    /// Counts an app that cannot have its Service.
    pub(crate) fn count_service_problem(&self, reason: &'static str) {
        self.service_problems
            .get_or_create(&Reason { reason })
            .inc();
    }

    /// Shows how many Services wait to be looked at.
    pub(crate) fn show_service_queue(&self, length: usize) {
        self.service_queue
            .set(i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// Counts a stream that was opened (1) or ended (-1).
    pub(crate) fn count_stream(&self, kind: &'static str, change: i64) {
        self.streams.get_or_create(&OfKind { kind }).inc_by(change);
    }

    /// Counts events that wait for a client (positive), or wait no longer.
    pub(crate) fn count_waiting(&self, kind: Kind, change: i64) {
        let kind = kind.as_str();
        self.stream_queue
            .get_or_create(&OfKind { kind })
            .inc_by(change);
    }

    /// Notes how long a change took to be handed to a client.
    pub(crate) fn note_delivery(&self, kind: Kind, lag: Duration) {
        let kind = kind.as_str();
        let family = &self.deliveries.0;
        family
            .get_or_create(&OfKind { kind })
            .observe(lag.as_secs_f64());
    }

    /// Counts an object that was left out because a secret of it could not be read.
    pub(crate) fn count_secret_failure(&self) {
        self.secret_failures.inc();
    }

    /// Shows whether this replica leads.
    pub(crate) fn show_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// Shows how many pods run without the sidecar that they asked for.
    pub(crate) fn show_without_sidecar(&self, pods: usize) {
        self.without_sidecar
            .set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// Counts a pod that was evicted, or that could not be.
    pub(crate) fn count_restart(&self, is_done: bool) {
        match is_done {
            true => self.restarts.inc(),
            false => self.restarts_refused.inc(),
        };
    }

    /// Has metrics of another part shown beside these; before [`Self::exposition`]. Names begin with
    /// `dapr_operator_`.
    pub(crate) fn register(&self, more: impl FnOnce(&mut Registry) + Send + 'static) {
        let mut all = self.more.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Box::new(more));
    }

    /// Returns the closure that writes all metrics as text.
    pub(crate) fn exposition(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let registry = self.registry();
        move || {
            let mut text = String::new();
            // Writing to a String cannot fail.
            let _infallible = prometheus_client::encoding::text::encode(&mut text, &registry);
            prometheus_text(&text)
        }
    }

    fn registry(&self) -> Registry {
        let Self {
            services_created,
            services_updated,
            services_deleted,
            service_problems,
            service_queue,
            streams,
            stream_queue,
            deliveries,
            secret_failures,
            leader,
            without_sidecar,
            restarts,
            restarts_refused,
            more,
        } = self.clone();
        let mut all = Registry::with_prefix("dapr_operator");
        let help = "The number of Services created";
        all.register("service_created", help, services_created);
        let help = "The number of Services written anew";
        all.register("service_updated", help, services_updated);
        let help = "The number of Services deleted";
        all.register("service_deleted", help, services_deleted);
        let help = "The number of times that an app could not have its Service";
        all.register("service_problems", help, service_problems);
        let help = "The number of Services that wait to be looked at";
        all.register("service_queue_length", help, service_queue);
        let help = "The number of open streams";
        all.register("streams", help, streams);
        let help = "The number of events that wait for clients";
        all.register("stream_queue_length", help, stream_queue);
        let help = "The seconds from a change to its delivery to one client";
        all.register("stream_delivery_seconds", help, deliveries.0);
        let help =
            "The number of times that an object was left out for a secret that could not be read";
        all.register("secret_resolution_failures", help, secret_failures);
        let help = "1 if this replica leads";
        all.register("leader", help, leader);
        let help = "The number of pods that asked for a sidecar and run without";
        all.register("pods_without_sidecar", help, without_sidecar);
        let help = "The number of pods evicted because they ran without a sidecar";
        all.register("pod_restarts", help, restarts);
        let help = "The number of such evictions that were refused";
        all.register("pod_restarts_refused", help, restarts_refused);
        let mut more = more.0.lock().unwrap_or_else(PoisonError::into_inner);
        for register in more.drain(..) {
            register(&mut all);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: kubernetes 3.11.
    #[test]
    fn names_and_types_are_the_references() {
        let metrics = Metrics::default();
        let extra = Counter::<u64>::default();
        let shown = extra.clone();
        metrics.register(move |all| all.register("extra", "Another part's", shown));
        let exposition = metrics.exposition();
        extra.inc();
        metrics.count_service(Written::Created, "app1");
        metrics.count_service(Written::Deleted, "app1");
        metrics.count_stream("Resiliency", 2);
        metrics.count_stream("Resiliency", -1);
        metrics.note_delivery(Kind::HttpEndpoint, Duration::from_millis(30));
        let text = exposition();
        for line in [
            "# TYPE dapr_operator_service_created_total counter",
            "dapr_operator_service_created_total{app_id=\"app1\"} 1",
            "dapr_operator_service_deleted_total{app_id=\"app1\"} 1",
            "dapr_operator_streams{kind=\"Resiliency\"} 1",
            "dapr_operator_stream_delivery_seconds_bucket{le=\"0.1\",kind=\"HTTPEndpoint\"} 1",
            "dapr_operator_extra_total 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
    }
}

//! The counters and gauges of the injector.
//!
//! Owns names, labels and the text that a scraper reads: the three counters of the reference (kubernetes 2.19), and
//! what it does not measure. The label `app_id` holds what pods say, so the number of its values is bounded: what
//! comes later is counted under one name.

use crate::admission::{Answer, Outcome, Verdict};
use ironside_chassis::metrics_server::prometheus_text;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Values of the label `app_id`.
const MAX_APPS: usize = 4096;
/// What stands for all others.
const OTHERS: &str = "_other";
/// Longest value of the label; no app ID is longer.
const MAX_APP: usize = 63;
/// Bounds of the latency, in seconds: a review takes less than a millisecond, unless something is wrong.
const SECONDS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// Handles to all metrics of this process. Clones are the same metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) requests: Counter,
    succeeded: Family<App, Counter>,
    failed: Family<Failure, Counter>,
    outcomes: Family<Labelled, Counter>,
    /// Requests that could not be understood, or came at a bad time.
    rejected: Family<Labelled, Counter>,
    latency: Histogram,
    in_flight: Gauge,
    certificate_expiry: Gauge,
    anchors_expiry: Gauge,
    patches: Family<Labelled, Counter>,
    identity_failed: Family<Labelled, Counter>,
    apps: Arc<Mutex<HashSet<String>>>,
}

/// Counts a request for as long as it lives.
pub(crate) struct Flight(Gauge);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct App {
    app_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    app_id: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labelled {
    reason: &'static str,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Counter::default(),
            succeeded: Family::default(),
            failed: Family::default(),
            outcomes: Family::default(),
            rejected: Family::default(),
            latency: Histogram::new(SECONDS),
            in_flight: Gauge::default(),
            certificate_expiry: Gauge::default(),
            anchors_expiry: Gauge::default(),
            patches: Family::default(),
            identity_failed: Family::default(),
            apps: Arc::default(),
        }
    }
}

impl Metrics {
    /// Counts what became of a review.
    pub(crate) fn count(&self, verdict: &Verdict) {
        let reason = verdict.outcome.as_str();
        self.outcomes.get_or_create(&Labelled { reason }).inc();
        let failed = match (verdict.outcome, &verdict.answer) {
            (Outcome::Injected, Answer::Patch(_)) => {
                let app_id = self.app(&verdict.app_id);
                self.succeeded.get_or_create(&App { app_id }).inc();
                return;
            }
            (Outcome::NotAPod | Outcome::CallerNotAllowed, _) => "pod_patch",
            (Outcome::Denied, _) => "patch",
            (Outcome::Injected | Outcome::NotEnabled | Outcome::SidecarExists, _) => return,
        };
        self.count_failed(&verdict.app_id, failed);
    }

    /// Counts an answer that could not be written.
    pub(crate) fn count_failed(&self, app_id: &str, reason: &'static str) {
        let app_id = self.app(app_id);
        self.failed.get_or_create(&Failure { app_id, reason }).inc();
    }

    /// Counts a request that was no review.
    pub(crate) fn count_rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Labelled { reason }).inc();
    }

    /// Counts a patch of the webhook's configuration.
    pub(crate) fn count_bundle_patch(&self, reason: &'static str) {
        self.patches.get_or_create(&Labelled { reason }).inc();
    }

    /// Counts a failure to get the own certificate.
    pub(crate) fn count_identity_failed(&self, reason: &'static str) {
        self.identity_failed
            .get_or_create(&Labelled { reason })
            .inc();
    }

    /// Counts a request that is under way.
    pub(crate) fn fly(&self) -> Flight {
        self.in_flight.inc();
        Flight(self.in_flight.clone())
    }

    /// Keeps how long a review took.
    pub(crate) fn took(&self, time: Duration) {
        self.latency.observe(time.as_secs_f64());
    }

    /// Shows when the own certificate and the first of the roots end.
    pub(crate) fn show_expiry(&self, certificate: SystemTime, anchors: Option<SystemTime>) {
        self.certificate_expiry.set(unix_seconds(certificate));
        self.anchors_expiry.set(anchors.map_or(0, unix_seconds));
    }

    /// The label for this app.
    fn app(&self, app_id: &str) -> String {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: String = app_id.chars().take(MAX_APP).collect();
        if !apps.contains(&kept) {
            if apps.len() >= MAX_APPS {
                return OTHERS.to_owned();
            }
            apps.insert(kept.clone());
        }
        kept
    }

    /// Writes all of them.
    pub(crate) fn exposition(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let registry = self.registry();
        move || {
            let mut text = String::new();
            // Writing to a String does not fail.
            let _written = encode(&mut text, &registry).is_ok();
            prometheus_text(&text)
        }
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("dapr_injector");
        let r = &mut registry;
        r.register(
            "sidecar_injection_requests",
            "Reviews of pods",
            self.requests.clone(),
        );
        let help = "Pods that were given a sidecar";
        r.register("sidecar_injection_succeeded", help, self.succeeded.clone());
        let help = "Pods that asked for a sidecar and were not given one";
        r.register("sidecar_injection_failed", help, self.failed.clone());
        let help = "Reviews by what became of them";
        r.register("admission_outcomes", help, self.outcomes.clone());
        let help = "Requests to the webhook that were no reviews";
        r.register("admission_rejected", help, self.rejected.clone());
        let help = "Time from a request to its answer";
        r.register("admission_duration_seconds", help, self.latency.clone());
        let help = "Requests under way";
        r.register("admissions_in_flight", help, self.in_flight.clone());
        let help = "End of the own certificate, in seconds since 1970";
        r.register(
            "certificate_expiry_timestamp",
            help,
            self.certificate_expiry.clone(),
        );
        let help = "End of the first trust anchor to end, in seconds since 1970";
        r.register(
            "trustanchor_expiry_timestamp",
            help,
            self.anchors_expiry.clone(),
        );
        let help = "Patches of the webhook's CA bundle by their result";
        r.register("ca_bundle_patches", help, self.patches.clone());
        let help = "Failures to get the own certificate";
        r.register("identity_failures", help, self.identity_failed.clone());
        registry
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn unix_seconds(instant: SystemTime) -> i64 {
    let since = instant.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

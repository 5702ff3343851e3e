//! The counters and gauges of Sentry, by the names of security 1.12.
//!
//! Owns names and labels and the text that a scraper reads. Which events there are is decided where they happen.

use crate::rotation::Step;
use ironside_chassis::metrics_server::prometheus_text;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::time::{SystemTime, UNIX_EPOCH};

/// Handles to all metrics of this process. Clones are the same metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// Requests for a certificate.
    pub(crate) received: Counter,
    issued: Counter,
    refused: Family<Reason, Counter>,
    decisions: Family<Decision, Counter>,
    server_certificate_failed: Family<Reason, Counter>,
    issuer_changed: Late,
    /// Changes of the credential files that could not be used.
    pub(crate) reload_failed: Counter,
    issuer_expiry: Gauge,
    anchor_expiry: Gauge,
    phase: Family<Phase, Gauge>,
    next_step: Gauge,
    steps: Family<StepLabel, Counter>,
    /// Steps of a rotation that were due and could not be done.
    pub(crate) rotation_failed: Counter,
}

/// A counter that has no line before its first event, as the reference has it (M-32).
#[derive(Debug, Clone, Default)]
struct Late(Counter);

/// What an authority that Sentry does not rotate is shown as, in the place of a phase.
const SUPPLIED: &str = "supplied";
/// All values of the label `phase`.
const PHASES: [&str; 4] = ["steady", "distribute", "sign", SUPPLIED];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// One decision on a request (fact O-S13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    validator: &'static str,
    decision: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

// === impl Late ===

impl EncodeMetric for Late {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }

    fn is_empty(&self) -> bool {
        self.0.get() == 0
    }
}

// === impl Metrics ===

impl Metrics {
    /// Counts a request that got its certificate.
    pub(crate) fn count_issued(&self, validator: &'static str) {
        self.issued.inc();
        self.count_decision(validator, "issued", "none");
    }

    /// Counts a request that got no certificate. The reference knows one reason only (security 1.12).
    pub(crate) fn count_refused(&self, validator: &'static str, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason: "sign" }).inc();
        self.count_decision(validator, "denied", reason);
    }

    fn count_decision(
        &self,
        validator: &'static str,
        decision: &'static str,
        reason: &'static str,
    ) {
        let labels = Decision {
            validator,
            decision,
            reason,
        };
        self.decisions.get_or_create(&labels).inc();
    }

    /// Counts a failure to issue Sentry's own certificate.
    pub(crate) fn count_server_certificate_failed(&self) {
        self.server_certificate_failed
            .get_or_create(&Reason { reason: "sign" })
            .inc();
    }

    /// Counts a change of the credential files, their making included.
    pub(crate) fn count_issuer_changed(&self) {
        self.issuer_changed.0.inc();
    }

    /// How many changes of the credential files there were.
    #[cfg(test)]
    pub(crate) fn issuer_changed(&self) -> u64 {
        self.issuer_changed.0.get()
    }

    /// Shows when issuer and roots cease to be valid.
    pub(crate) fn show_expiry(&self, issuer: SystemTime, anchors: Option<SystemTime>) {
        self.issuer_expiry.set(unix_seconds(issuer));
        self.anchor_expiry.set(anchors.map_or(0, unix_seconds));
    }

    /// Shows the phase of the rotation, none for a supplied authority, and when its next step is due.
    pub(crate) fn show_rotation(
        &self,
        phase: Option<&'static str>,
        next: Option<(SystemTime, Step)>,
    ) {
        let current = phase.unwrap_or(SUPPLIED);
        for phase in PHASES {
            let gauge = self.phase.get_or_create(&Phase { phase });
            gauge.set(i64::from(phase == current));
        }
        self.next_step
            .set(next.map_or(0, |(due, _step)| unix_seconds(due)));
    }

    /// Counts a step of a rotation.
    pub(crate) fn count_step(&self, step: Step) {
        let step = step.as_str();
        self.steps.get_or_create(&StepLabel { step }).inc();
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
            received,
            issued,
            refused,
            decisions,
            server_certificate_failed,
            issuer_changed,
            reload_failed,
            issuer_expiry,
            anchor_expiry,
            phase,
            next_step,
            steps,
            rotation_failed,
        } = self.clone();
        let mut registry = Registry::with_prefix("dapr_sentry");
        let help = "The number of CSRs received";
        registry.register("cert_sign_request_received", help, received);
        let help = "The number of certificates issued";
        registry.register("cert_sign_success", help, issued);
        let help = "The number of errors occurred when signing the CSR";
        registry.register("cert_sign_failure", help, refused);
        let help = "The number of decisions on CSRs, by validator and reason";
        registry.register("decisions", help, decisions);
        let help = "The number of errors occurred when issuing Sentry's own certificate";
        registry.register("servercert_issue_failed", help, server_certificate_failed);
        let help = "The number of issuer certificate updates";
        registry.register("issuercert_changed", help, issuer_changed);
        let help = "The number of issuer certificate updates that could not be used";
        registry.register("issuercert_reload_failed", help, reload_failed);
        let help = "The unix timestamp, in seconds, when the issuer certificate expires";
        registry.register("issuercert_expiry_timestamp", help, issuer_expiry);
        let help = "The unix timestamp, in seconds, when the first trust anchor expires";
        registry.register("trustanchor_expiry_timestamp", help, anchor_expiry);
        let help = "The phase of the rotation of root and issuer: 1 for the current one";
        registry.register("rotation_phase", help, phase);
        let help = "The unix timestamp, in seconds, when the next step of the rotation is due";
        registry.register("rotation_next_step_timestamp", help, next_step);
        let help = "The number of steps of the rotation that were done";
        registry.register("rotation_steps", help, steps);
        let help = "The number of steps of the rotation that could not be done";
        registry.register("rotation_failed", help, rotation_failed);
        registry
    }
}

fn unix_seconds(instant: SystemTime) -> i64 {
    let seconds = instant
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Fact: security.md 1.12, K059; M-32.
    #[test]
    fn names_and_types_are_the_references() {
        let metrics = Metrics::default();
        let exposition = metrics.exposition();
        metrics.received.inc();
        metrics.received.inc();
        metrics.count_issued("insecure");
        metrics.count_refused("insecure", "claim");
        let expiry = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        metrics.show_expiry(expiry, None);
        let text = exposition();
        for line in [
            "# TYPE dapr_sentry_cert_sign_request_received_total counter",
            "dapr_sentry_cert_sign_request_received_total 2",
            "dapr_sentry_cert_sign_success_total 1",
            "dapr_sentry_cert_sign_failure_total{reason=\"sign\"} 1",
            "dapr_sentry_decisions_total{validator=\"insecure\",decision=\"issued\",reason=\"none\"} 1",
            "dapr_sentry_decisions_total{validator=\"insecure\",decision=\"denied\",reason=\"claim\"} 1",
            "dapr_sentry_issuercert_reload_failed_total 0",
            "# TYPE dapr_sentry_issuercert_expiry_timestamp gauge",
            "dapr_sentry_issuercert_expiry_timestamp 1800000000",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
        assert!(!text.contains("# EOF"));
        // M-32: the reference has no such line before the first change.
        let changed = "dapr_sentry_issuercert_changed_total";
        assert!(!text.contains(changed), "{text}");
        metrics.count_issuer_changed();
        assert!(exposition().contains(&format!("\n{changed} 1\n")));
    }
}

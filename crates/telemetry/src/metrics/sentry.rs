//! The families of Sentry.
//!
//! Source: resiliency-observability 3.5.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::family::{Buckets, Counts, Families};
use super::{PREFIX, render};

/// Why a request for a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Refusal {
    Sign,
    InvalidCsr,
    CaError,
}

/// What Sentry counts.
#[derive(Debug)]
pub struct SentryMetrics {
    registry: Registry,
    requests: Counts,
    signed: Counts,
    failed: Counts,
    issue_failed: Counts,
    issuer_changed: Counts,
    issuer_expiry: Family<Vec<(&'static str, String)>, Gauge>,
}

impl Default for SentryMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl SentryMetrics {
    /// Registers all families.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let buckets = Buckets::new(&[]);
        let mut families = Families::new(&mut registry, &buckets);
        let requests = families.counts(
            "sentry_cert_sign_request_received_total",
            "The number of CSRs received",
            &[],
        );
        let signed = families.counts(
            "sentry_cert_sign_success_total",
            "The number of certificates issuances that have succeeded",
            &[],
        );
        let failed = families.counts(
            "sentry_cert_sign_failure_total",
            "The number of errors occurred when signing the CSR",
            &["reason"],
        );
        let issue_failed = families.counts(
            "sentry_servercert_issue_failed_total",
            "The number of server TLS certificate issuance failures",
            &["reason"],
        );
        let issuer_changed = families.counts(
            "sentry_issuercert_changed_total",
            "The number of issuer cert updates, when issuer cert or key is changed",
            &[],
        );
        let issuer_expiry = families.gauges(
            "sentry_issuercert_expiry_timestamp",
            "The unix timestamp, in seconds, when issuer/root cert will expire",
        );
        Self {
            registry,
            requests,
            signed,
            failed,
            issue_failed,
            issuer_changed,
            issuer_expiry,
        }
    }

    /// Renders all series in Prometheus text format.
    #[must_use]
    pub fn exposition(&self) -> String {
        render(std::iter::once(&self.registry))
    }

    /// A request for a certificate arrived.
    pub fn request_received(&self) {
        self.requests.series(&[]).inc();
    }

    /// A certificate was issued.
    pub fn signed(&self) {
        self.signed.series(&[]).inc();
    }

    /// A request was refused, for whatever reason.
    pub fn sign_failed(&self) {
        self.failed.series(&[Refusal::Sign.as_str()]).inc();
    }

    /// A request was refused because its CSR is not acceptable.
    pub fn csr_invalid(&self) {
        self.issue_failed
            .series(&[Refusal::InvalidCsr.as_str()])
            .inc();
    }

    /// A request was refused because the issuer could not sign.
    pub fn issuer_failed(&self) {
        self.issue_failed.series(&[Refusal::CaError.as_str()]).inc();
    }

    /// A bundle was generated and stored.
    pub fn issuer_changed(&self) {
        self.issuer_changed.series(&[]).inc();
    }

    /// The issuer certificate in use ends at this Unix time in seconds.
    pub fn set_issuer_expiry(&self, unix_seconds: i64) {
        self.issuer_expiry
            .get_or_create(&Vec::new())
            .set(unix_seconds);
    }
}

// === impl Refusal ===

impl Refusal {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::InvalidCsr => "invalid_csr",
            Self::CaError => "ca_error",
        }
    }
}

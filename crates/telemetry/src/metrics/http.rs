//! The families of the HTTP server and of calls to the app.
//!
//! What the `path` label holds is [`super::path`]'s decision. Source:
//! resiliency-observability 3.3.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::bounded::Bounded;
use super::family::{Count, Counts, Families, Histograms, Measure};
use super::path::PathLabels;
use super::words::{StatusLabel, VerbLabel};
use super::{Settings, whole_millis};

/// Paths that get a series of their own where the raw path is a label.
const MAX_PATHS: usize = 2000;
/// The label of all further ones, and of paths that are not to be told apart.
const NO_PATH: &str = "";

/// A request of the HTTP API that was answered.
#[derive(Clone, Copy, Debug)]
pub struct HttpServed<'a> {
    /// Verb.
    pub verb: &'a str,
    /// Path, without query.
    pub path: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// The whole handling, body included.
    pub latency: Duration,
    /// `Content-Length` of the request, if it had one.
    pub request_bytes: Option<u64>,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

/// A request to the app that was answered, or failed.
#[derive(Clone, Copy, Debug)]
pub struct HttpCalled<'a> {
    /// Verb.
    pub verb: &'a str,
    /// Path, without query.
    pub path: &'a str,
    /// Status of the answer; 500 for a failure of transport.
    pub status: u16,
    /// To the head of the answer.
    pub latency: Duration,
    /// Bytes of the request's body.
    pub sent_bytes: u64,
    /// `Content-Length` of the answer, if it had one.
    pub received_bytes: Option<u64>,
}

#[derive(Debug)]
pub(super) struct HttpFamilies {
    paths: PathLabels,
    exclude_verbs: bool,
    server: Server,
    client: Client,
    probes: Counts,
    probe_latency: Histograms,
}

type Key = (VerbLabel, StatusLabel);

#[derive(Debug)]
struct Server {
    requests: Counts,
    responses: Option<Counts>,
    latency: Histograms,
    request_bytes: Single,
    response_bytes: Single,
    series: Bounded<Key, (Count, Option<Count>, Histogram)>,
}

#[derive(Debug)]
struct Client {
    completed: Counts,
    latency: Histograms,
    sent_bytes: Histograms,
    received_bytes: Single,
    series: Bounded<Key, (Count, Histogram)>,
    sent_series: Bounded<VerbLabel, Histogram>,
}

/// A histogram without labels of its own; absent until its first observation.
#[derive(Debug)]
struct Single {
    family: Histograms,
    series: OnceLock<Histogram>,
}

const LABELS: &[&str] = &["method", "path", "status"];

// === impl HttpFamilies ===

impl HttpFamilies {
    pub(super) fn new(families: &mut Families<'_>, settings: &Settings) -> Self {
        Self {
            paths: PathLabels::new(settings),
            exclude_verbs: settings.exclude_verbs,
            server: Server::new(families, settings),
            client: Client::new(families),
            probes: families.counts(
                "http_healthprobes_completed_count",
                "Count of completed health probes",
                &["status"],
            ),
            probe_latency: families.histograms(
                Measure::Latency,
                "http_healthprobes_roundtrip_latency",
                "Time between first byte of health probes headers sent to last byte of response received, or terminal error",
                &["status"],
            ),
        }
    }

    pub(super) fn served(&self, served: &HttpServed<'_>) {
        let path = self.paths.label(served.path);
        self.server.served(served, self.verb(served.verb), &path);
    }

    pub(super) fn called(&self, called: &HttpCalled<'_>) {
        let path = self.paths.label(called.path);
        self.client.called(called, self.verb(called.verb), &path);
    }

    pub(super) fn probed(&self, status: u16, latency: Duration) {
        let status = StatusLabel::of(status.into()).to_string();
        self.probes.series(&[&status]).inc();
        self.probe_latency
            .series(&[&status])
            .observe(whole_millis(latency));
    }

    fn verb(&self, verb: &str) -> VerbLabel {
        if self.exclude_verbs {
            VerbLabel::NONE
        } else {
            VerbLabel::of(verb)
        }
    }
}

// === impl Server ===

impl Server {
    fn new(families: &mut Families<'_>, settings: &Settings) -> Self {
        let (count, help) = ("http_server_response_count", "The number of HTTP responses");
        let responses = settings
            .increased_cardinality
            .then(|| families.counts(count, help, LABELS));
        Self {
            requests: families.counts(
                "http_server_request_count",
                "Count of HTTP requests processed by the server",
                LABELS,
            ),
            responses,
            latency: families.histograms(
                Measure::Latency,
                "http_server_latency",
                "HTTP request end-to-end latency in server",
                LABELS,
            ),
            request_bytes: Single::new(families.histograms(
                Measure::Size,
                "http_server_request_bytes",
                "HTTP request body size if set as ContentLength (uncompressed) in server",
                &[],
            )),
            response_bytes: Single::new(families.histograms(
                Measure::Size,
                "http_server_response_bytes",
                "HTTP response body size (uncompressed) in server",
                &[],
            )),
            series: Bounded::new(MAX_PATHS, NO_PATH),
        }
    }

    fn served(&self, served: &HttpServed<'_>, verb: VerbLabel, path: &str) {
        let status = StatusLabel::of(served.status.into());
        let make = |path: &str| {
            let status = status.to_string();
            let labels = [verb.as_str(), path, status.as_str()];
            let responses = self.responses.as_ref();
            (
                self.requests.series(&labels),
                responses.map(|responses| responses.series(&labels)),
                self.latency.series(&labels),
            )
        };
        self.series.with(
            path,
            (verb, status),
            make,
            |(requests, responses, latency)| {
                requests.inc();
                if let Some(responses) = responses {
                    responses.inc();
                }
                latency.observe(whole_millis(served.latency));
            },
        );
        self.request_bytes
            .observe(float(served.request_bytes.unwrap_or(0)));
        self.response_bytes.observe(float(served.response_bytes));
    }
}

// === impl Client ===

impl Client {
    fn new(families: &mut Families<'_>) -> Self {
        Self {
            completed: families.counts(
                "http_client_completed_count",
                "Count of completed requests",
                LABELS,
            ),
            latency: families.histograms(
                Measure::Latency,
                "http_client_roundtrip_latency",
                "Time between first byte of request headers sent to last byte of response received, or terminal error",
                LABELS,
            ),
            sent_bytes: families.histograms(
                Measure::Size,
                "http_client_sent_bytes",
                "Total bytes sent in request body (not including headers)",
                LABELS,
            ),
            received_bytes: Single::new(families.histograms(
                Measure::Size,
                "http_client_received_bytes",
                "Total bytes received in response bodies (not including headers but including error responses with bodies)",
                &[],
            )),
            series: Bounded::new(MAX_PATHS, NO_PATH),
            sent_series: Bounded::new(MAX_PATHS, NO_PATH),
        }
    }

    fn called(&self, called: &HttpCalled<'_>, verb: VerbLabel, path: &str) {
        let status = StatusLabel::of(called.status.into());
        let make = |path: &str| {
            let status = status.to_string();
            let labels = [verb.as_str(), path, status.as_str()];
            (self.completed.series(&labels), self.latency.series(&labels))
        };
        self.series
            .with(path, (verb, status), make, |(completed, latency)| {
                completed.inc();
                latency.observe(whole_millis(called.latency));
            });
        // The status is not known yet when the reference observes this one.
        let make = |path: &str| self.sent_bytes.series(&[verb.as_str(), path, ""]);
        let sent = float(called.sent_bytes);
        self.sent_series
            .with(path, verb, make, |series| series.observe(sent));
        // An unknown length is observed as -1.
        self.received_bytes
            .observe(called.received_bytes.map_or(-1.0, float));
    }
}

// === impl Single ===

impl Single {
    const fn new(family: Histograms) -> Self {
        Self {
            family,
            series: OnceLock::new(),
        }
    }

    fn observe(&self, value: f64) {
        self.series
            .get_or_init(|| self.family.series(&[]))
            .observe(value);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a size histogram is not exact above 2^52"
)]
const fn float(bytes: u64) -> f64 {
    bytes as f64
}

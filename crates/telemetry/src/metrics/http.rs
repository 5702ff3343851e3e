//! The families of the HTTP server and of calls to the app.
//!
//! What the `path` label holds is [`super::path`]'s decision. Source:
//! resiliency-observability 3.3.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::bounded::Bounded;
use super::family::{Count, Counts, Families, Histograms, Measure};
use super::path::PathLabels;
use super::relabel::FamilyRules;
use super::words::{StatusLabel, VerbLabel};
use super::{Settings, whole_millis};

/// Series of a family, whatever paths callers and statuses apps choose.
const MAX_SERIES: usize = 2000;
/// The path of all further ones.
const OTHER: &str = "_other";
/// Verb and status of those that share even that.
const NO_KEY: Key = (VerbLabel::NONE, StatusLabel::NONE);

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
    key: PathKey,
    requests: Counts,
    responses: Option<Counts>,
    latency: Histograms,
    request_bytes: Single,
    response_bytes: Single,
    series: Bounded<Key, (Count, Option<Count>, Histogram)>,
}

#[derive(Debug)]
struct Client {
    key: PathKey,
    completed: Counts,
    latency: Histograms,
    sent_bytes: Histograms,
    received_bytes: Single,
    series: Bounded<Key, (Count, Histogram)>,
    sent_series: Bounded<VerbLabel, Histogram>,
}

/// What tells the series of two paths apart: the paths themselves, unless rules change them.
#[derive(Debug)]
struct PathKey(Vec<FamilyRules>);

/// A histogram without labels of its own; absent until its first observation.
#[derive(Debug)]
struct Single {
    family: Histograms,
    series: OnceLock<Histogram>,
}

const LABELS: &[&str] = &["method", "path", "status"];
const REQUESTS: &str = "http_server_request_count";
const COMPLETED: &str = "http_client_completed_count";
const SENT: &str = "http_client_sent_bytes";

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
        let verb = self.verb(served.verb);
        self.paths
            .with(served.path, |path| self.server.served(served, verb, path));
    }

    pub(super) fn called(&self, called: &HttpCalled<'_>) {
        let verb = self.verb(called.verb);
        self.paths
            .with(called.path, |path| self.client.called(called, verb, path));
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
        let requests = families.counts(
            REQUESTS,
            "Count of HTTP requests processed by the server",
            LABELS,
        );
        let latency = families.histograms(
            Measure::Latency,
            "http_server_latency",
            "HTTP request end-to-end latency in server",
            LABELS,
        );
        let rules = [
            Some(requests.rules()),
            responses.as_ref().map(Counts::rules),
            Some(latency.rules()),
        ];
        Self {
            key: PathKey::new(rules.into_iter().flatten()),
            requests,
            responses,
            latency,
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
            series: Bounded::new(MAX_SERIES, (OTHER, NO_KEY), families.governor(REQUESTS)),
        }
    }

    fn served(&self, served: &HttpServed<'_>, verb: VerbLabel, path: &str) {
        let status = StatusLabel::of(served.status.into());
        let make = |text: &str, (verb, status): Key| {
            let status = status.to_string();
            let labels = [verb.as_str(), shown(text, path), status.as_str()];
            let responses = self.responses.as_ref();
            (
                self.requests.series(&labels),
                responses.map(|responses| responses.series(&labels)),
                self.latency.series(&labels),
            )
        };
        self.series.with(
            &self.key.of(path),
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
        let completed = families.counts(COMPLETED, "Count of completed requests", LABELS);
        let latency = families.histograms(
            Measure::Latency,
            "http_client_roundtrip_latency",
            "Time between first byte of request headers sent to last byte of response received, or terminal error",
            LABELS,
        );
        let sent_bytes = families.histograms(
            Measure::Size,
            SENT,
            "Total bytes sent in request body (not including headers)",
            LABELS,
        );
        let rules = [completed.rules(), latency.rules(), sent_bytes.rules()];
        Self {
            key: PathKey::new(rules.into_iter()),
            completed,
            latency,
            sent_bytes,
            received_bytes: Single::new(families.histograms(
                Measure::Size,
                "http_client_received_bytes",
                "Total bytes received in response bodies (not including headers but including error responses with bodies)",
                &[],
            )),
            series: Bounded::new(MAX_SERIES, (OTHER, NO_KEY), families.governor(COMPLETED)),
            sent_series: Bounded::new(
                MAX_SERIES,
                (OTHER, VerbLabel::NONE),
                families.governor(SENT),
            ),
        }
    }

    fn called(&self, called: &HttpCalled<'_>, verb: VerbLabel, path: &str) {
        let status = StatusLabel::of(called.status.into());
        let key = self.key.of(path);
        let make = |text: &str, (verb, status): Key| {
            let status = status.to_string();
            let labels = [verb.as_str(), shown(text, path), status.as_str()];
            (self.completed.series(&labels), self.latency.series(&labels))
        };
        self.series
            .with(&key, (verb, status), make, |(completed, latency)| {
                completed.inc();
                latency.observe(whole_millis(called.latency));
            });
        // The status is not known yet when the reference observes this one.
        let make = |text: &str, verb: VerbLabel| {
            self.sent_bytes
                .series(&[verb.as_str(), shown(text, path), ""])
        };
        let sent = float(called.sent_bytes);
        self.sent_series
            .with(&key, verb, make, |series| series.observe(sent));
        // An unknown length is observed as -1.
        self.received_bytes
            .observe(called.received_bytes.map_or(-1.0, float));
    }
}

// === impl PathKey ===

impl PathKey {
    fn new<'a>(rules: impl Iterator<Item = &'a FamilyRules>) -> Self {
        let rules: Vec<FamilyRules> = rules.cloned().collect();
        let is_any = rules.iter().any(|rules| rules.changes("path"));
        Self(if is_any { rules } else { Vec::new() })
    }

    fn of<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(path);
        }
        let all: Vec<Cow<'_, str>> = self
            .0
            .iter()
            .map(|rules| rules.apply("path", path))
            .collect();
        Cow::Owned(all.join("\n"))
    }
}

/// The path of a series that is told apart by `text`.
fn shown<'a>(text: &str, path: &'a str) -> &'a str {
    if text == OTHER { OTHER } else { path }
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

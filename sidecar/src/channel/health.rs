//! Is the app there, and is it well?
//!
//! Owns the wait for the app's port, the health probes of HTTP and gRPC apps, and the one call of `/dapr/config`
//! (service-invocation 5.3, 5.4). Runs on the control thread with a client of its own; what it finds reaches requests
//! through [`super::admission::Admission`]. Failures count in a row: a success starts the count anew (H4).

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, header};
use http_body_util::BodyExt as _;
use ironside_chassis::{Clock, tasks::Group};
use ironside_resolution::Authority;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::{debug, info, warn};

use super::{grpc::GrpcApp, http as http_channel, tls};
use crate::{
    body,
    config::{AppHealth, AppProtocol, AppTarget, Config},
    invocation::{chunks, grpc},
    worker::Shared,
};

#[cfg(test)]
mod tests;

/// Time between two tries at the app's port (service-invocation 5.4).
const KNOCK_PAUSE: Duration = Duration::from_millis(100);
/// Time one try may take.
const KNOCK_LIMIT: Duration = Duration::from_millis(500);
/// After so many failures in a row the wait is logged again (process-interface 2.5).
const KNOCK_REPORT: u32 = 100;
/// Time the app has for `/dapr/config` (cli-and-clients 2.8).
const CONFIG_LIMIT: Duration = Duration::from_secs(5);
/// Path of the gRPC probe.
const HEALTH_CHECK: &str = "/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck";
/// Scope of these lines.
const LOG: &str = "dapr.runtime";

/// Waits until the app accepts a connection, without end.
pub(crate) async fn wait_for_port(target: &AppTarget) {
    let mut failures: u32 = 0;
    while tokio::time::timeout(KNOCK_LIMIT, knock(target))
        .await
        .unwrap_or(None)
        .is_none()
    {
        failures = failures.wrapping_add(1);
        if failures.is_multiple_of(KNOCK_REPORT) {
            info!(target: LOG, "waiting for application to listen on port {}", target.port);
        }
        tokio::time::sleep(KNOCK_PAUSE).await;
    }
}

/// True if the app accepts connections now.
pub(crate) async fn is_listening(target: &AppTarget) -> bool {
    let knocked = tokio::time::timeout(KNOCK_LIMIT, knock(target)).await;
    // An app that is slow to answer is there.
    knocked.is_err() || knocked.is_ok_and(|answer| answer.is_some())
}

/// One try: TCP, and a TLS handshake where the app speaks TLS.
async fn knock(target: &AppTarget) -> Option<()> {
    let host = target.address.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, target.port)).await.ok()?;
    if !target.protocol.is_tls() {
        return Some(());
    }
    let config = tls::app_config(&[]).ok()?;
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).ok()?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .ok()
        .map(drop)
}

/// Probes the app until `stop` is cancelled, the first time at once.
pub(crate) async fn probe(
    shared: Arc<Shared>,
    prober: Prober,
    settings: AppHealth,
    stop: CancellationToken,
) {
    let mut verdict = Verdict::new(settings.threshold);
    loop {
        let probed = tokio::select! {
            () = stop.cancelled() => return,
            probed = prober.probe(&shared, settings.timeout) => probed,
        };
        if let Some(healthy) = verdict.after(probed)
            && shared.admission.set_healthy(healthy)
        {
            match healthy {
                true => info!(target: "dapr.apphealth", "App entered healthy status"),
                false => warn!(target: "dapr.apphealth", "App entered un-healthy status"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(settings.interval) => {}
        }
    }
}

/// Counts failures in a row.
#[derive(Debug)]
struct Verdict {
    threshold: u32,
    failures: u32,
}

impl Verdict {
    fn new(threshold: u32) -> Self {
        Self {
            threshold,
            failures: 0,
        }
    }

    /// What is known after one more probe; `None` leaves things as they are.
    fn after(&mut self, probed: Probed) -> Option<bool> {
        match probed {
            Probed::Well => {
                self.failures = 0;
                Some(true)
            }
            Probed::Ill => {
                self.failures = self.failures.saturating_add(1);
                (self.failures >= self.threshold).then_some(false)
            }
        }
    }
}

/// What one probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probed {
    Well,
    Ill,
}

/// How this app is asked for its health.
pub(crate) enum Prober {
    /// `GET <path>`.
    Http(Box<HttpProbe>),
    /// `AppCallbackHealthCheck`.
    Grpc(Box<GrpcApp>),
}

/// What an HTTP probe needs.
pub(crate) struct HttpProbe {
    client: http_channel::AppClient,
    url: http::Uri,
}

// === impl Prober ===

impl Prober {
    /// Prepares probes of `target` at `path`.
    ///
    /// # Errors
    /// If address and path make no URL.
    pub(crate) fn new(
        target: &AppTarget,
        path: &str,
        config: &Config,
        tasks: &Group,
        clock: &Clock,
    ) -> Result<Self, http::uri::InvalidUri> {
        if !target.protocol.is_http() {
            return Ok(Self::Grpc(Box::new(GrpcApp::new(
                target,
                config,
                tasks.clone(),
                clock.clone(),
            ))));
        }
        let client = http_channel::client(tasks, target.protocol == AppProtocol::H2c);
        let url = url(target, path)?;
        Ok(Self::Http(Box::new(HttpProbe { client, url })))
    }

    async fn probe(&self, shared: &Shared, limit: Duration) -> Probed {
        let started = shared.clock.monotonic();
        let asked = tokio::time::timeout(limit, async {
            match self {
                Self::Http(probe) => Answer::Http(get(&probe.client, &probe.url, &[], None).await),
                Self::Grpc(app) => Answer::Grpc(health_check(app).await),
            }
        });
        let answer = match (asked.await, self) {
            (Ok(answer), _) => answer,
            (Err(_elapsed), Self::Http(_)) => Answer::Http(None),
            (Err(_elapsed), Self::Grpc(_)) => Answer::Grpc(Code::DeadlineExceeded),
        };
        let took = shared.clock.monotonic() - started;
        debug!(target: "dapr.apphealth", ?answer, ?took, "probed");
        match answer {
            // Without an answer the reference counts a 500.
            Answer::Http(status) => shared.metrics.http_probed(status.unwrap_or(500), took),
            Answer::Grpc(code) => shared.metrics.grpc_probed(code as i32, took),
        }
        answer.judged()
    }
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Status; `None` without an answer.
    Http(Option<u16>),
    Grpc(Code),
}

impl Answer {
    fn judged(self) -> Probed {
        match self {
            Self::Http(Some(200..=299)) | Self::Grpc(Code::Ok) => Probed::Well,
            Self::Http(_) | Self::Grpc(_) => Probed::Ill,
        }
    }
}

fn url(target: &AppTarget, path: &str) -> Result<http::Uri, http::uri::InvalidUri> {
    let scheme = if target.protocol.is_tls() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}:{}{path}", target.address, target.port).parse()
}

/// Status of a GET; `None` if there was no answer. The body is not read: the connection is dropped with it.
async fn get(
    client: &http_channel::AppClient,
    url: &http::Uri,
    headers: &[(header::HeaderName, HeaderValue)],
    meter: Option<&http_channel::Meter>,
) -> Option<u16> {
    let mut request = Request::get(url.clone()).body(body::empty()).ok()?;
    request.headers_mut().extend(headers.iter().cloned());
    let response = match meter {
        Some(meter) => {
            meter
                .around(request, |request| client.request(request))
                .await
        }
        None => client.request(request).await,
    };
    let response = response.ok()?;
    let status = response.status().as_u16();
    // A short body is drained, so that the connection can be used again.
    let _drained = http_body_util::Limited::new(response.into_body(), 64 * 1024)
        .collect()
        .await;
    Some(status)
}

/// The gRPC probe. It names an authority, because some servers refuse a request without one.
fn health_request(app: Option<&Authority>) -> http::Result<Request<body::Body>> {
    let authority = app.map_or("app", Authority::as_str);
    Request::post(format!("http://{authority}{HEALTH_CHECK}"))
        .header(header::CONTENT_TYPE, grpc::CONTENT_TYPE)
        .header(header::TE, "trailers")
        .body(body::full(chunks::message(
            &ironside_proto::google::protobuf::Empty {},
        )))
}

async fn health_check(app: &GrpcApp) -> Code {
    let Ok(request) = health_request(app.authority()) else {
        return Code::Internal;
    };
    let response = match app.send(request).await {
        Ok(response) => response,
        Err(failed) => return failed.status.code(),
    };
    if let Some(status) = grpc::status_in(response.headers()) {
        return status.code();
    }
    match grpc::read_unary(response.into_body(), 64 * 1024).await {
        Ok((_message, trailers)) => trailers
            .as_ref()
            .and_then(grpc::status_in)
            .map_or(Code::Unknown, |status| status.code()),
        Err(status) => status.code(),
    }
}

/// Calls the app's `/dapr/config` once it is healthy; whatever it answers is ignored.
pub(crate) async fn call_config(
    shared: Arc<Shared>,
    target: AppTarget,
    tasks: Group,
    stop: CancellationToken,
) {
    let mut health = shared.admission.watch_health();
    let healthy = async { health.wait_for(|healthy| *healthy).await.is_ok() };
    tokio::select! {
        () = stop.cancelled() => return,
        up = healthy => if !up { return },
    }
    let client = http_channel::client(&tasks, target.protocol == AppProtocol::H2c);
    let (Ok(url), Ok(app_id)) = (
        url(&target, "/dapr/config"),
        shared.config.app_id.as_str().parse(),
    ) else {
        return;
    };
    let headers = [
        (header::HeaderName::from_static("dapr-app-id"), app_id),
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
    ];
    let meter = http_channel::Meter::new(&shared.clock, &shared.metrics);
    let asked = get(&client, &url, &headers, Some(&meter));
    match tokio::time::timeout(CONFIG_LIMIT, asked).await {
        Ok(Some(200)) => info!(target: LOG, "Application configuration loaded"),
        Ok(answer) => debug!(target: LOG, ?answer, "the app has no configuration"),
        Err(_elapsed) => debug!(target: LOG, "the app did not answer with a configuration in time"),
    }
}

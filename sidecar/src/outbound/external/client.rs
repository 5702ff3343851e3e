//! HTTP clients for the outside: their TLS, their roots, and how long a connection may take.
//!
//! Owns the roots of the system, which are read once and only where `https` needs them. Whom a client calls is the
//! business of whoever asked for it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioTimer,
};
use ironside_chassis::tasks::Group;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use crate::{body::Body, channel::deadline::Deadline, peers::connection::TaskExecutor};

type ConfigBuilder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

pub(super) fn config_builder() -> Result<ConfigBuilder, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
}

/// The roots of the system, read once; a machine without any verifies nothing, so that `https` targets fail
/// closed.
pub(super) fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        // A root that the verifier cannot use is one root less, not a reason to refuse all.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}

/// The same from a data thread, which must not wait for a disk.
async fn read_roots() -> Arc<RootCertStore> {
    tokio::task::spawn_blocking(system_roots)
        .await
        .unwrap_or_else(|_cancelled| Arc::new(RootCertStore::empty()))
}

pub(super) type HttpClient = Client<Deadline<HttpsConnector<HttpConnector>>, Body>;

/// Bound of TCP and TLS to an external target together (service-invocation 1.6: 30 s and 10 s, or 15 s each).
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A client of a collector of traces.
pub(crate) type CollectorClient = HttpClient;

/// Which HTTP a collector is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    /// HTTP/1.1, or what TLS agrees on.
    Any,
    /// HTTP/2, over plaintext too.
    Two,
}

/// A client of a collector: it verifies servers against the roots of the system, which are read only for `https`.
pub(crate) async fn collector_client(tasks: &Group, uri: &Uri, version: Http) -> CollectorClient {
    let roots = if uri.scheme_str() == Some("https") {
        read_roots().await
    } else {
        Arc::new(RootCertStore::empty())
    };
    let config = match config_builder() {
        Ok(builder) => builder,
        // Unreachable while the provider is compiled in; the default one is the same.
        Err(_no_versions) => ClientConfig::builder(),
    };
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = connector(config);
    builder(tasks)
        .http2_only(version == Http::Two)
        .build(connector)
}

/// A client that verifies servers against the roots of the system; `None` if the build has no TLS.
pub(crate) async fn verifying_client(tasks: &Group) -> Option<HttpClient> {
    let config = config_builder()
        .ok()?
        .with_root_certificates(read_roots().await)
        .with_no_client_auth();
    Some(client(tasks, config))
}

pub(super) fn client(tasks: &Group, config: ClientConfig) -> HttpClient {
    builder(tasks).build(connector(config))
}

fn connector(config: ClientConfig) -> Deadline<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Deadline::new(connector, CONNECT_LIMIT)
}

fn builder(tasks: &Group) -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TaskExecutor(tasks.clone()));
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http1_title_case_headers(true);
    builder
}

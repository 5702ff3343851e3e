//! Calls to the outside: a URL that the client wrote, or an HTTPEndpoint resource.
//!
//! Owns the clients for both (service-invocation 1.6). A URL is called with a client of its own that verifies
//! certificates against the system's roots and carries no app token (H2, H3); an HTTPEndpoint brings its own
//! roots, client certificate and headers, and its redirects are followed (H21).

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioTimer,
};
use ironside_chassis::tasks::Group;
use ironside_policy::Verb;
use ironside_resolution::ExternalUrl;
use ironside_telemetry::without_user;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{redirect, replay::Replay};
use crate::{
    body::{self, Body},
    channel::{
        ChannelError,
        deadline::Deadline,
        http::{around, build, incoming, method_of, send_error},
        url,
    },
    invocation::{Invocation, Length, Reply, context::CallContext},
    middleware::Pipeline,
    peers::connection::TaskExecutor,
};

/// Where an external call goes.
#[derive(Debug)]
pub(crate) enum Destination {
    /// A URL that the client wrote.
    Url(ExternalUrl),
    /// A loaded HTTPEndpoint, and its name.
    Endpoint(Arc<Endpoint>, Box<str>),
}

/// The TLS side of an HTTPEndpoint, as PEM text.
#[derive(Debug, Default)]
pub(crate) struct EndpointTls<'a> {
    /// Roots to verify against instead of the system's.
    pub(crate) root_ca: Option<&'a str>,
    /// Client certificate chain.
    pub(crate) certificate: Option<&'a str>,
    /// Its key.
    pub(crate) private_key: Option<&'a str>,
}

/// Why an HTTPEndpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// The base URL is none.
    #[error("spec.baseUrl {url:?} is no http:// or https:// URL: {cause}")]
    BaseUrl {
        /// What was written.
        url: Box<str>,
        /// What is wrong with it.
        cause: Box<str>,
    },
    /// A header that no request can carry.
    #[error("spec.headers entry {0:?} is no valid HTTP header")]
    Header(Box<str>),
    /// A PEM text that holds nothing usable.
    #[error("spec.clientTLS.{field}: {cause}")]
    Pem {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        cause: Box<str>,
    },
    /// Certificate and key come together or not at all.
    #[error("spec.clientTLS: certificate and privateKey must be given together")]
    HalfPair,
    /// The parts do not make a TLS client.
    #[error("spec.clientTLS: {0}")]
    Tls(Box<str>),
}

/// An HTTPEndpoint resource, ready for calls.
pub(crate) struct Endpoint {
    written: Box<str>,
    base: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Option<ClientConfig>,
}

impl Endpoint {
    /// Checks and prepares a resource.
    ///
    /// # Errors
    /// [`EndpointError`] names the field.
    pub(crate) fn new(
        base_url: &str,
        headers: &[(Box<str>, Box<str>)],
        tls: &EndpointTls<'_>,
    ) -> Result<Self, EndpointError> {
        let invalid = |cause: &str| EndpointError::BaseUrl {
            url: base_url.into(),
            cause: cause.into(),
        };
        let base: Uri = base_url
            .parse()
            .map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.authority().is_none() {
            return Err(invalid("scheme and host are needed"));
        }
        let headers = headers
            .iter()
            .map(|(name, value)| parse_header(name, value))
            .collect::<Result<_, _>>()?;
        let plain = tls.root_ca.is_none() && tls.certificate.is_none() && tls.private_key.is_none();
        let tls = if plain {
            None
        } else {
            Some(endpoint_tls(tls)?)
        };
        Ok(Self {
            written: base_url.into(),
            base,
            headers,
            tls,
        })
    }
}

impl Destination {
    /// The target as labels show it: without the user of a URL.
    pub(crate) fn shown(&self) -> Cow<'_, str> {
        without_user(self.written())
    }

    /// The target as the client wrote it.
    pub(crate) fn written(&self) -> &str {
        match self {
            Self::Url(url) => url.as_str(),
            Self::Endpoint(_, name) => name,
        }
    }
}

impl Endpoint {
    /// The base URL as written.
    pub(crate) const fn base(&self) -> &str {
        &self.written
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), EndpointError> {
    let invalid = || EndpointError::Header(name.into());
    let value = HeaderValue::from_str(value).map_err(|_invalid| invalid())?;
    Ok((name.parse().map_err(|_invalid| invalid())?, value))
}

fn endpoint_tls(tls: &EndpointTls<'_>) -> Result<ClientConfig, EndpointError> {
    let roots = match tls.root_ca {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("rootCA", pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| pem_error("rootCA", &error))?;
            }
            Arc::new(roots)
        }
        None => system_roots(),
    };
    let builder = config_builder()
        .map_err(|error| EndpointError::Tls(error.to_string().into()))?
        .with_root_certificates(roots);
    match (tls.certificate, tls.private_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates("certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| pem_error("privateKey", &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| EndpointError::Tls(error.to_string().into()))
        }
        _ => Err(EndpointError::HalfPair),
    }
}

fn certificates(
    field: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| pem_error(field, &error))?;
    if found.is_empty() {
        return Err(EndpointError::Pem {
            field,
            cause: "holds no PEM certificate".into(),
        });
    }
    Ok(found)
}

fn pem_error(field: &'static str, cause: &dyn fmt::Display) -> EndpointError {
    EndpointError::Pem {
        field,
        cause: cause.to_string().into(),
    }
}

type ConfigBuilder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn config_builder() -> Result<ConfigBuilder, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
}

/// The roots of the system, read once; a machine without any verifies nothing, so that `https` targets fail
/// closed.
fn system_roots() -> Arc<RootCertStore> {
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

type HttpClient = Client<Deadline<HttpsConnector<HttpConnector>>, Body>;

/// Bound of TCP and TLS to an external target together (service-invocation 1.6: 30 s and 10 s, or 15 s each).
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Clients for external targets of one data worker.
pub(crate) struct External {
    tasks: Group,
    plain: tokio::sync::OnceCell<Option<HttpClient>>,
    endpoints: Mutex<Vec<(Weak<Endpoint>, HttpClient)>>,
}

impl External {
    /// Clients are made at their first use: reading the system's roots takes time that most sidecars save.
    pub(crate) fn new(tasks: Group) -> Self {
        Self {
            tasks,
            plain: tokio::sync::OnceCell::new(),
            endpoints: Mutex::default(),
        }
    }

    /// Calls an external target.
    ///
    /// # Errors
    /// [`ChannelError`] if there is no answer.
    pub(crate) async fn call(
        &self,
        destination: &Destination,
        mut call: Invocation,
        context: &CallContext,
        pipeline: &Pipeline,
    ) -> Result<Reply, ChannelError> {
        let verb = call.verb;
        if !call.has_http {
            return Err(ChannelError::MissingExtension);
        }
        if matches!(verb, Verb::None | Verb::Connect) {
            return Err(ChannelError::Verb);
        }
        let (base, endpoint) = match destination {
            Destination::Url(url) => (parse_base(url.as_str())?, None),
            Destination::Endpoint(endpoint, _) => (endpoint.base.clone(), Some(endpoint)),
        };
        let client = self.client(endpoint).await?;
        let replay = Replay::new(
            std::mem::replace(call.body.get_mut(), body::empty()),
            match call.length {
                Length::Fixed(_) if endpoint.is_some() => None,
                Length::Fixed(_) | Length::Streaming => Some(0),
            },
        );
        *call.body.get_mut() = replay.attempt();
        let uri = join(&base, &call)?;
        let mut request = build(call, context, uri).await?;
        if let Some(endpoint) = endpoint {
            for (name, value) in &endpoint.headers {
                request.headers_mut().insert(name.clone(), value.clone());
            }
        }
        // An outside target has no policy of ours.
        around(
            pipeline,
            request,
            |parts| method_of(parts).map(|_method| ()),
            |request| follow(client, request, replay, verb, endpoint.map(Arc::as_ref)),
        )
        .await
    }

    /// The client of this target; one that brings no TLS settings shares the verifying one.
    async fn client(&self, endpoint: Option<&Arc<Endpoint>>) -> Result<HttpClient, ChannelError> {
        let Some((endpoint, config)) =
            endpoint.and_then(|endpoint| Some((endpoint, endpoint.tls.as_ref()?)))
        else {
            let made = self
                .plain
                .get_or_init(|| verifying_client(&self.tasks))
                .await;
            return made
                .clone()
                .ok_or_else(|| ChannelError::Unavailable("no TLS version is available".into()));
        };
        let mut known = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _)| of.strong_count() > 0);
        let found = known
            .iter()
            .find(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(endpoint)));
        if let Some((_, client)) = found {
            return Ok(client.clone());
        }
        let made = client(&self.tasks, config.clone());
        known.push((Arc::downgrade(endpoint), made.clone()));
        Ok(made)
    }
}

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

fn client(tasks: &Group, config: ClientConfig) -> HttpClient {
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

fn parse_base(url: &str) -> Result<Uri, ChannelError> {
    let failed = |cause: &str| ChannelError::Url {
        url: url.into(),
        cause: cause.into(),
    };
    let uri: Uri = url
        .parse()
        .map_err(|error: http::uri::InvalidUri| failed(&error.to_string()))?;
    if uri.authority().is_none() {
        return Err(failed("no Host in request URL"));
    }
    Ok(uri)
}

/// Base URL, method and query in one URI.
fn join(base: &Uri, call: &Invocation) -> Result<Uri, ChannelError> {
    let path = base.path().trim_end_matches('/');
    let failed = |cause: Box<str>| ChannelError::Url {
        url: format!("{base}{}", call.method).into(),
        cause,
    };
    let line = url::path_and_query(path, call.method.as_str(), &call.query).map_err(failed)?;
    crate::channel::http::uri(
        base.scheme_str().unwrap_or("http"),
        base.authority().map_or("", http::uri::Authority::as_str),
        &line,
    )
}

/// Sends a request and, for an endpoint, goes where its answers point.
async fn follow(
    client: HttpClient,
    request: Request<Body>,
    replay: Replay,
    verb: Verb,
    endpoint: Option<&Endpoint>,
) -> Result<Response<Body>, ChannelError> {
    let (mut parts, mut body) = request.into_parts();
    let resource = endpoint.map_or(&[][..], |endpoint| &endpoint.headers);
    let mut left = if endpoint.is_some() {
        redirect::REDIRECTS
    } else {
        0
    };
    loop {
        let url = parts.uri.to_string();
        let authority = parts
            .uri
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let request = Request::from_parts(parts.clone(), body);
        let response = client
            .request(request)
            .await
            .map_err(|error| send_error(verb, &url, &error, &authority))?;
        let Some(next) = (left > 0)
            .then(|| redirect::next(&response, &parts.uri))
            .flatten()
        else {
            replay.release();
            return Ok(response.map(incoming));
        };
        left -= 1;
        let keeps_body = matches!(
            response.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        if keeps_body && replay.is_gone() {
            return Ok(response.map(incoming));
        }
        body = if keeps_body {
            replay.attempt()
        } else {
            without_body(&mut parts)
        };
        parts.headers.remove(header::REFERER);
        if let Some(referer) = redirect::referer(&parts.uri, &next) {
            parts.headers.insert(header::REFERER, referer);
        }
        if !redirect::is_same_place(&parts.uri, &next) {
            redirect::strip_credentials(&mut parts.headers, resource);
        }
        parts.uri = next;
    }
}

fn without_body(parts: &mut http::request::Parts) -> Body {
    if parts.method != http::Method::HEAD {
        parts.method = http::Method::GET;
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    body::empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_endpoint_is_refused_by_field() {
        for (base, tls, text) in [
            (
                "ftp://x",
                EndpointTls::default(),
                "spec.baseUrl \"ftp://x\"",
            ),
            ("/x", EndpointTls::default(), "spec.baseUrl \"/x\""),
            (
                "https://x",
                EndpointTls {
                    root_ca: Some("nonsense"),
                    ..EndpointTls::default()
                },
                "spec.clientTLS.rootCA",
            ),
            (
                "https://x",
                EndpointTls {
                    private_key: Some("k"),
                    ..EndpointTls::default()
                },
                "spec.clientTLS: certificate",
            ),
        ] {
            let error = Endpoint::new(base, &[], &tls).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let header = Endpoint::new(
            "http://x",
            &[("a b".into(), "c".into())],
            &EndpointTls::default(),
        );
        assert!(header.unwrap_err().to_string().contains("\"a b\""));
    }
}

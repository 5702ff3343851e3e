//! Calls to the outside: a URL that the client wrote, or an HTTPEndpoint resource.
//!
//! Owns which client calls (service-invocation 1.6): they are made in `external/client.rs`. A URL is
//! called with a client of its own that verifies certificates against the system's roots and carries no app token (H2,
//! H3); an HTTPEndpoint (`external/endpoint.rs`) brings its own roots, client certificate and headers, and its
//! redirects are followed (H21).

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::{Request, Response, StatusCode, Uri, header};

use ironside_chassis::tasks::Group;
use ironside_policy::Verb;
use ironside_resolution::ExternalUrl;
use ironside_telemetry::without_user;

use super::{redirect, replay::Replay};
use crate::{
    body::{self, Body},
    channel::{
        ChannelError,
        http::{around, build, incoming, method_of, send_error},
        url,
    },
    invocation::{Invocation, Length, Reply, context::CallContext},
    middleware::Pipeline,
};

mod client;
mod endpoint;

pub(crate) use client::{CollectorClient, Http, collector_client, verifying_client};
pub(crate) use endpoint::{Endpoint, EndpointError, EndpointTls};

use client::{HttpClient, client};

/// Where an external call goes.
#[derive(Debug)]
pub(crate) enum Destination {
    /// A URL that the client wrote.
    Url(ExternalUrl),
    /// A loaded HTTPEndpoint, and its name.
    Endpoint(Arc<Endpoint>, Box<str>),
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

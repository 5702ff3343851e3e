//! What discovery answers: two documents, and who may be told of by which name.
//!
//! Owns the host rules of security 1.10. The documents name the host that was asked for, so a header that anybody may
//! write must not get into them: `X-Forwarded-Host` counts only where a list of hosts admits what it says (K063).

use crate::config::OidcConfig;
use crate::jwt::JwtIssuer;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Response, StatusCode, request};
use http_body_util::Full;
use serde::Serialize;

/// Where OpenID Connect looks for the document.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the key set is.
const KEYS: &str = "/jwks.json";
/// How long answers may be kept (security 1.10).
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=3600");
const NOT_CACHED: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The text of the reference.
const FORBIDDEN: &str = "Forbidden: unauthorized domain";

/// Writes the documents.
#[derive(Debug)]
pub(crate) struct Documents {
    scheme: &'static str,
    issuer: Option<String>,
    jwks_uri: Option<String>,
    prefix: String,
    hosts: Hosts,
}

/// Whom the documents may name.
#[derive(Debug)]
enum Hosts {
    /// Whatever the request is addressed to.
    Any,
    /// These, in lower case; one without a port stands for all ports.
    Listed(Vec<String>),
}

/// Why there is no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    NoHost,
    Host,
    Path,
    Method,
}

/// The document, by the names of OpenID Connect Discovery 1.0.
#[derive(Serialize)]
struct Discovery<'a> {
    issuer: &'a str,
    jwks_uri: &'a str,
    response_types_supported: [&'a str; 1],
    subject_types_supported: [&'a str; 1],
    id_token_signing_alg_values_supported: Vec<&'a str>,
    scopes_supported: [&'a str; 1],
    claims_supported: [&'a str; 7],
}

// === impl Documents ===

impl Documents {
    /// Makes the documents of a configuration.
    pub(crate) fn new(config: &OidcConfig) -> Self {
        let OidcConfig {
            address: _,
            tls,
            issuer,
            jwks_uri,
            prefix,
            allowed_hosts,
        } = config;
        Self {
            scheme: match tls {
                Some(_) => "https",
                None => "http",
            },
            issuer: issuer.clone(),
            jwks_uri: jwks_uri.clone(),
            prefix: prefix.clone(),
            hosts: Hosts::new(allowed_hosts),
        }
    }

    /// Answers a request, of which only the head is looked at.
    pub(crate) fn answer(&self, head: &request::Parts, jwt: &JwtIssuer) -> Response<Full<Bytes>> {
        match self.document(head, jwt) {
            Ok(document) => {
                let mut response = respond(StatusCode::OK, JSON, CACHED, document);
                if let Hosts::Listed(_) = self.hosts {
                    let vary = FORWARDED_HOST.into();
                    response.headers_mut().insert(header::VARY, vary);
                }
                response
            }
            Err(refused) => refused.into_response(),
        }
    }

    fn document(&self, head: &request::Parts, jwt: &JwtIssuer) -> Result<String, Refused> {
        // A target that names its authority hides the header, good or bad (RFC 9112, 3.2.2).
        let asked = match head.uri.authority() {
            Some(authority) => plain(authority.clone()),
            None => single(&head.headers, &header::HOST),
        };
        let host = self.hosts.admit(asked, &head.headers)?;
        let path = head.uri.path().strip_prefix(self.prefix.as_str());
        let document: fn(&Self, &Authority, &JwtIssuer) -> String = match path {
            Some(DISCOVERY) => Self::discovery,
            Some(KEYS) => |_, _, jwt| jwt.set().to_json(),
            Some(_) | None => return Err(Refused::Path),
        };
        match head.method == Method::GET {
            true => Ok(document(self, &host, jwt)),
            false => Err(Refused::Method),
        }
    }

    fn discovery(&self, host: &Authority, jwt: &JwtIssuer) -> String {
        let (scheme, prefix) = (self.scheme, &self.prefix);
        let base = format!("{scheme}://{host}{prefix}");
        let keys = format!("{base}{KEYS}");
        let mut algorithms = vec![jwt.algorithm().as_str()];
        let others = jwt.set().algorithms();
        algorithms.extend(
            others
                .into_iter()
                .filter(|other| *other != jwt.algorithm().as_str()),
        );
        let discovery = Discovery {
            issuer: self.issuer.as_deref().unwrap_or(&base),
            jwks_uri: self.jwks_uri.as_deref().unwrap_or(&keys),
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: algorithms,
            scopes_supported: ["openid"],
            claims_supported: ["sub", "iss", "aud", "exp", "iat", "nbf", "use"],
        };
        // Texts and lists of texts are always JSON.
        serde_json::to_string(&discovery).unwrap_or_default()
    }
}

// === impl Hosts ===

impl Hosts {
    fn new(allowed: &[String]) -> Self {
        match allowed.is_empty() || allowed.iter().any(|host| host == "*") {
            true => Self::Any,
            false => Self::Listed(
                allowed
                    .iter()
                    .map(|host| host.to_ascii_lowercase())
                    .collect(),
            ),
        }
    }

    /// Returns the host that the documents name.
    fn admit(&self, asked: Option<Authority>, headers: &HeaderMap) -> Result<Authority, Refused> {
        let Self::Listed(listed) = self else {
            return asked.ok_or(Refused::NoHost);
        };
        let host = match headers.contains_key(FORWARDED_HOST) {
            true => single(headers, &FORWARDED_HOST).ok_or(Refused::Host)?,
            false => asked.ok_or(Refused::NoHost)?,
        };
        let (whole, name) = (
            host.as_str().to_ascii_lowercase(),
            host.host().to_ascii_lowercase(),
        );
        match listed
            .iter()
            .any(|listed| *listed == whole || *listed == name)
        {
            true => Ok(host),
            false => Err(Refused::Host),
        }
    }
}

// === impl Refused ===

impl Refused {
    fn into_response(self) -> Response<Full<Bytes>> {
        let (status, text) = match self {
            Self::NoHost => (
                StatusCode::BAD_REQUEST,
                "Bad Request: one valid host is needed",
            ),
            Self::Host => (StatusCode::FORBIDDEN, FORBIDDEN),
            Self::Path => (StatusCode::NOT_FOUND, "Not Found"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        };
        let mut response = respond(status, TEXT, NOT_CACHED, text.to_owned());
        if self == Self::Method {
            let get = HeaderValue::from_static("GET");
            response.headers_mut().insert(header::ALLOW, get);
        }
        response
    }
}

/// The one host that a header names; none if there are several, or if it names a user too.
fn single(headers: &HeaderMap, name: &HeaderName) -> Option<Authority> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    plain(Authority::try_from(value.as_bytes()).ok()?)
}

/// An authority that may be named: with a host, and without a user.
fn plain(authority: Authority) -> Option<Authority> {
    let is_plain = !authority.as_str().contains('@') && !authority.host().is_empty();
    is_plain.then_some(authority)
}

fn respond(
    status: StatusCode,
    kind: HeaderValue,
    cached: HeaderValue,
    body: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, cached);
    response
}

#[cfg(test)]
mod tests;

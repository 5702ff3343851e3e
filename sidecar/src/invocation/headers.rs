//! Header rules of an invocation, both ways: what is dropped, renamed, stamped.
//!
//! Owns service-invocation 1.7, 1.8, 1.9 and 4.3. Identity headers that a client sent are dropped before ours
//! are added (H1), on both legs. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Who the caller's sidecar says the caller is.
pub(crate) const CALLER_APP_ID: HeaderName = HeaderName::from_static("dapr-caller-app-id");
/// Namespace of the caller.
pub(crate) const CALLER_NAMESPACE: HeaderName = HeaderName::from_static("dapr-caller-namespace");
/// Whom the caller called, without namespace.
pub(crate) const CALLEE_APP_ID: HeaderName = HeaderName::from_static("dapr-callee-app-id");
/// Target of a call that names it in a header.
pub(crate) const APP_ID: HeaderName = HeaderName::from_static("dapr-app-id");
/// Target as the sidecar hop carries it; no app sees it.
pub(crate) const DESTINATION_APP_ID: HeaderName = HeaderName::from_static("destination-app-id");
/// Token of the API on the way in, of the app on the way out.
pub(crate) const API_TOKEN: HeaderName = HeaderName::from_static("dapr-api-token");
/// Milliseconds that the caller waits, on the way in and on the way out; a key of our own (resiliency-observability
/// 6.2).
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("dapr-timeout");
/// Trace context, text.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Trace state.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Trace context, binary.
pub(crate) const GRPC_TRACE_BIN: HeaderName = HeaderName::from_static("grpc-trace-bin");
/// W3C baggage.
pub(crate) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// Proxies on the way, host addresses.
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Name of the caller's host.
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What sidecars say: a client's `Connection` header may not take it away.
const STAMPED: [HeaderName; 8] = [
    CALLER_APP_ID,
    CALLER_NAMESPACE,
    CALLEE_APP_ID,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    header::FORWARDED,
    TRACEPARENT,
    API_TOKEN,
];

/// Values of headers that a request may have, and names that an answer may. A header map of the HTTP library holds six
/// times as many names and ends the process when asked for more.
pub(crate) const MAX_NAMES: usize = 4096;

/// Headers that end at this hop (service-invocation 1.7).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "te",
    "trailer",
    "proxy-authorization",
    "proxy-authenticate",
];

/// Names that a gRPC app sees with `dapr-` before them when an HTTP client sent them (service-invocation 1.8).
const RESERVED: [&str; 28] = [
    "accept",
    "accept-charset",
    "accept-language",
    "accept-ranges",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "cache-control",
    "content-type",
    "content-length",
    "cookie",
    "date",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-schedule-tag-match",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "referer",
    "via",
    "warning",
];

/// Takes how long an HTTP client waits. What is no number of milliseconds from 1 to 99,999,999 is a header like any
/// other, and stays.
pub(crate) fn take_timeout(headers: &mut HeaderMap) -> Option<Duration> {
    const MAX: u64 = 99_999_999;
    let mut all = headers.get_all(&TIMEOUT).iter();
    let (text, None) = (all.next()?.to_str().ok()?, all.next()) else {
        return None;
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = text.parse().ok().filter(|_| is_number)?;
    (1..=MAX).contains(&millis).then(|| {
        headers.remove(&TIMEOUT);
        Duration::from_millis(millis)
    })
}

/// Tells an HTTP app how long its caller still waits; what came under that name before is not ours.
pub(crate) fn tell_timeout(headers: &mut HeaderMap, left: Option<Duration>) {
    headers.remove(&TIMEOUT);
    if let Some(left) = left {
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        headers.insert(TIMEOUT, HeaderValue::from(millis.max(1)));
    }
}

/// Takes what an HTTP client sent and leaves what travels to the callee's sidecar.
///
/// Hop-by-hop names travel (the callee drops them before an HTTP app, a gRPC app sees them renamed), except the
/// ones that describe this connection's framing. Target and token headers of the client go; its identity headers
/// go where ours are stamped.
pub(crate) fn take_client_headers(headers: &mut HeaderMap) {
    for name in [
        APP_ID,
        DESTINATION_APP_ID,
        API_TOKEN,
        header::HOST,
        header::TRANSFER_ENCODING,
        header::TRAILER,
    ] {
        headers.remove(&name);
    }
}

/// Drops what an HTTP message to or from an app may not carry: hop-by-hop names, names that `Connection` lists,
/// `-bin` names, the internal target.
pub(crate) fn strip_for_http(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().to_ascii_lowercase().parse().ok())
        .collect();
    for name in nominated.iter().filter(|name| !STAMPED.contains(name)) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(DESTINATION_APP_ID);
    headers.remove(header::HOST);
    let binary: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().ends_with("-bin"))
        .cloned()
        .collect();
    for name in &binary {
        headers.remove(name);
    }
}

/// Renames `grpc-*` metadata for an HTTP app: the names belong to the gRPC hop.
pub(crate) fn rename_grpc_for_http(headers: HeaderMap) -> HeaderMap {
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with("grpc-"))
    {
        return headers;
    }
    rename(headers, |name| name.as_str().starts_with("grpc-"))
}

/// Renames what HTTP reserves for a gRPC peer: `content-type` becomes `dapr-content-type`.
pub(crate) fn prefix_reserved(headers: HeaderMap) -> HeaderMap {
    rename(headers, |name| RESERVED.contains(&name.as_str()))
}

/// Puts `dapr-` before the names that `wanted` picks; values and their order stay.
fn rename(headers: HeaderMap, wanted: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    for (name, value) in headers {
        if let Some(name) = name {
            let renamed = if wanted(&name) {
                format!("dapr-{name}").parse().unwrap_or(name)
            } else {
                name
            };
            current = Some(renamed);
        }
        if let Some(name) = &current {
            out.append(name.clone(), value);
        }
    }
    out
}

/// Metadata that a gRPC hop sets itself: nothing of it may come from a client.
const GRPC_HOP: [&str; 8] = [
    "te",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "user-agent",
    "content-type",
    "content-length",
    "host",
];

/// Drops from a gRPC app's request metadata what the gRPC hop sets itself and what HTTP/2 forbids.
pub(crate) fn strip_for_grpc(headers: &mut HeaderMap) {
    for name in GRPC_HOP.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(DESTINATION_APP_ID);
}

/// The caller as the callee and its app are told, made once per process.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    caller_app_id: HeaderValue,
    caller_namespace: HeaderValue,
    forwarded_for: HeaderValue,
    forwarded_host: HeaderValue,
    forwarded: HeaderValue,
}

impl Stamp {
    /// Encodes who this sidecar speaks for and where it stands.
    ///
    /// # Errors
    /// If an ID or the host name holds bytes that no header may carry.
    pub(crate) fn new(
        app_id: &str,
        namespace: &str,
        address: std::net::IpAddr,
        hostname: &str,
    ) -> Result<Self, header::InvalidHeaderValue> {
        let node = match address {
            std::net::IpAddr::V4(v4) => v4.to_string(),
            std::net::IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        Ok(Self {
            caller_app_id: app_id.parse()?,
            caller_namespace: namespace.parse()?,
            forwarded_for: address.to_string().parse()?,
            forwarded_host: hostname.parse()?,
            forwarded: format!("for={node};by={node};host={hostname}").parse()?,
        })
    }

    /// Says who calls whom; for both legs.
    pub(crate) fn identity(&self, headers: &mut HeaderMap, callee: &HeaderValue) {
        take_identity(headers);
        headers.insert(CALLER_APP_ID, self.caller_app_id.clone());
        headers.insert(CALLER_NAMESPACE, self.caller_namespace.clone());
        headers.insert(CALLEE_APP_ID, callee.clone());
    }

    /// Says through whom the call goes; for the remote leg.
    pub(crate) fn forwarded(&self, headers: &mut HeaderMap, callee: &HeaderValue) {
        headers.insert(DESTINATION_APP_ID, callee.clone());
        headers.append(X_FORWARDED_FOR, self.forwarded_for.clone());
        headers.append(X_FORWARDED_HOST, self.forwarded_host.clone());
        headers.append(header::FORWARDED, self.forwarded.clone());
    }

    /// What a proxied call says: caller and callee, without the namespace (service-invocation 3).
    pub(crate) fn proxied(&self, headers: &mut HeaderMap, callee: &HeaderValue) {
        take_identity(headers);
        headers.insert(CALLER_APP_ID, self.caller_app_id.clone());
        headers.insert(CALLEE_APP_ID, callee.clone());
    }
}

/// Drops identity headers that a client sent, and names that some apps read as the same ones: gateway
/// interfaces make one variable of `Dapr_Caller_App_Id` and `Dapr-Caller-App-Id`.
pub(crate) fn take_identity(headers: &mut HeaderMap) {
    const IDENTITY: [HeaderName; 3] = [CALLER_APP_ID, CALLER_NAMESPACE, CALLEE_APP_ID];
    for name in &IDENTITY {
        headers.remove(name);
    }
    let folded: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .filter(|name| {
            let read = name.as_str().replace('_', "-");
            IDENTITY.iter().any(|identity| identity.as_str() == read)
        })
        .cloned()
        .collect();
    for name in &folded {
        headers.remove(name);
    }
}

/// Drops what HTTP/2 forbids.
pub(crate) fn strip_connection(headers: &mut HeaderMap) {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

/// Spells a name the way HTTP/1 peers of the reference do: `x-forwarded-for` is `X-Forwarded-For`.
pub(crate) fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let out = if upper {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            upper = c == '-';
            out
        })
        .collect()
}

#[cfg(test)]
mod tests;

//! What a span says of the request that began it (resiliency-observability 2.4).
//!
//! Owns which headers become attributes and what is left out of them: a token never, a query never, the user of
//! a URL never. Called for sampled calls only.

use std::{borrow::Cow, net::SocketAddr};

use http::{HeaderMap, request::Parts};
use ironside_telemetry::{span::keys, without_user};

use super::Recording;
use crate::invocation::headers::{API_TOKEN, APP_ID};

/// Value of `rpc.service` of every invocation.
const SERVICE: &str = "ServiceInvocation";
/// How often a call was sent before (gRFC A6).
pub(crate) const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// A request of the HTTP API.
pub(crate) fn http(span: &Recording, head: &Parts, from: Option<SocketAddr>) {
    let (verb, path) = (head.method.as_str(), &*without_user(head.uri.path()));
    span.set(keys::PROTOCOL, "http");
    span.set(keys::API, &format!("{verb} {path}"));
    span.set(keys::HTTP_METHOD, verb);
    span.set(keys::URL, path);
    if let Some(from) = from {
        span.set(keys::CLIENT_ADDRESS, &from.ip().to_string());
        span.set(keys::CLIENT_PORT, &from.port().to_string());
    }
    for name in head.headers.keys() {
        // The target is an attribute of its own.
        if name.as_str().starts_with("dapr-") && ![API_TOKEN, APP_ID].contains(name) {
            let last = head.headers.get_all(name).iter().next_back();
            let value = last.map(|value| String::from_utf8_lossy(value.as_bytes()));
            span.set(name.as_str().to_owned(), &value.unwrap_or_default());
        }
    }
}

/// Metadata of a gRPC call.
pub(crate) fn metadata(span: &Recording, headers: &HeaderMap) {
    for name in headers.keys() {
        let text = name.as_str();
        if text.starts_with("dapr-") && !text.ends_with("-bin") && *name != API_TOKEN {
            let value = headers.get(name).map(|value| value.as_bytes());
            let value = String::from_utf8_lossy(value.unwrap_or_default());
            span.set(text.to_owned(), &value);
        }
    }
}

/// A method of the API over gRPC.
pub(crate) fn grpc_api(span: &Recording, path: &str) {
    span.set(keys::RPC_SYSTEM, "grpc");
    span.set(keys::PROTOCOL, "grpc");
    span.set(keys::API, path);
}

/// An invocation whose target and method are known: the caller's span.
pub(crate) fn invoked(span: &Recording, target: &str, method: &str) {
    let target = shown(target);
    span.rename(&name(&target, method));
    span.set(keys::RPC_SERVICE, SERVICE);
    span.set(keys::PEER_NAME, &target);
    span.set(keys::SERVER_ADDRESS, &target);
}

/// A call of another sidecar, with the number of its attempt.
pub(crate) fn hop(span: &Recording, path: &str, headers: &HeaderMap, is_invocation: bool) {
    span.set(keys::RPC_SYSTEM, "grpc");
    if is_invocation {
        span.set(keys::RPC_SERVICE, SERVICE);
        span.set(keys::PROTOCOL, "grpc");
        span.set(keys::API, path);
    }
    metadata(span, headers);
    let before = headers.get(PREVIOUS_ATTEMPTS);
    let before = before.and_then(|value| value.to_str().ok()?.parse().ok());
    let attempt = before.unwrap_or(0_u32).saturating_add(1);
    span.set(keys::ATTEMPT, &attempt.to_string());
}

/// An invocation that arrived: the callee's span.
pub(crate) fn arrived(span: &Recording, app_id: &str, method: &str) {
    span.rename(&name(app_id, method));
    span.set(keys::INVOKE_METHOD, method);
}

fn name(app: &str, method: &str) -> String {
    format!("CallLocal/{app}/{}", method.trim_start_matches('/'))
}

/// A target without query, and without the user of a URL.
fn shown(target: &str) -> Cow<'_, str> {
    without_user(target.split('?').next().unwrap_or(target))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ironside_chassis::Clock;
    use ironside_telemetry::{Span, TraceParent, metrics::Metrics, span::Kind};

    use super::*;
    use crate::traces::{queue, recording::Beginning};

    fn recorded(tell: impl FnOnce(&Recording)) -> Span {
        let metrics = Arc::new(Metrics::disabled());
        let (queue, mut waiting) = queue::new(&metrics, &Clock::system());
        let beginning = Beginning {
            context: TraceParent::zero(),
            parent: None,
            state: None,
            name: "n",
            kind: Kind::Client,
        };
        let recording = Recording::begin(beginning, &queue);
        tell(&recording);
        drop(recording);
        waiting.try_recv().unwrap()
    }

    fn pairs(span: &Span) -> Vec<(&str, &str)> {
        let mut pairs: Vec<_> = span.attributes.iter().map(|(k, v)| (&**k, &**v)).collect();
        pairs.sort_unstable();
        pairs
    }

    fn head(uri: &str, headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Facts: resiliency-observability T-22, T-23, T-24.
    #[test]
    fn an_http_request_says_no_token_and_no_query() {
        let head = head(
            "/v1.0/invoke/b/method/m?secret=1",
            &[
                ("dapr-api-token", "t"),
                ("dapr-app-id", "b"),
                ("Dapr-Foo", "x"),
                ("dapr-foo", "y"),
                ("other", "z"),
            ],
        );
        let span = recorded(|span| {
            http(span, &head, Some(([127, 0, 0, 1], 99).into()));
            invoked(span, "b", "/m");
        });
        assert_eq!(&*span.name, "CallLocal/b/m");
        let want = [
            ("client.address", "127.0.0.1"),
            ("client.port", "99"),
            ("dapr-foo", "y"),
            ("dapr.api", "POST /v1.0/invoke/b/method/m"),
            ("dapr.protocol", "http"),
            ("http.request.method", "POST"),
            ("net.peer.name", "b"),
            ("rpc.service", "ServiceInvocation"),
            ("server.address", "b"),
            ("url.full", "/v1.0/invoke/b/method/m"),
        ];
        assert_eq!(pairs(&span), want);
    }

    #[test]
    fn a_hop_counts_its_attempts() {
        for (before, want) in [(None, "1"), (Some("2"), "3"), (Some("x"), "1")] {
            let mut headers = HeaderMap::new();
            headers.insert("dapr-stream", "true".parse().unwrap());
            headers.insert("dapr-x-bin", "AA".parse().unwrap());
            headers.insert(API_TOKEN, "t".parse().unwrap());
            if let Some(before) = before {
                headers.insert(PREVIOUS_ATTEMPTS, before.parse().unwrap());
            }
            let span = recorded(|span| hop(span, "/s/m", &headers, false));
            let want = [
                ("dapr-stream", "true"),
                ("dapr.resiliency.attempt", want),
                ("rpc.system", "grpc"),
            ];
            assert_eq!(pairs(&span), want);
        }
    }

    #[test]
    fn a_url_loses_user_and_query() {
        for (target, want) in [
            ("b.ns", "b.ns"),
            ("http://h/p", "http://h/p"),
            ("https://u:p@h:1/p/q?k=s", "https://h:1/p/q"),
            ("https://u:p@h", "https://h"),
            ("http://h/a@b", "http://h/a@b"),
        ] {
            assert_eq!(shown(target), want);
        }
    }
}

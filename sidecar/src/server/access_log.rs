//! Stage 7, `access_log`: one line a call of the API, when it is asked for.
//!
//! Owns the fields and their words (process-interface 7, resiliency-observability 4.3). The line is written
//! when the response body ends, by `observe.rs`, which knows size and duration. Requests that an earlier stage
//! refused never get here.

use std::time::Duration;

use http::{HeaderMap, header, request::Parts};
use ironside_resolution::form;
use tracing::info;

use crate::api::{Route, blocks::Block};

/// What the API log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AccessLog {
    /// Anything at all.
    pub(crate) enabled: bool,
    /// Operation names in place of paths.
    pub(crate) obfuscate_urls: bool,
    /// Nothing about health checks of the HTTP API.
    pub(crate) omit_health_checks: bool,
}

/// A line in the making; travels in the extensions of a response.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    method: String,
    user_agent: String,
    api: Api,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Http,
    Grpc,
}

/// The line of an HTTP request; `None` if none is wanted.
pub(crate) fn http_line(log: &AccessLog, route: &Route<'_>, head: &Parts) -> Option<Line> {
    let health = matches!(route, Route::Healthz | Route::Outbound);
    if !log.enabled || (health && log.omit_health_checks) {
        return None;
    }
    let method = if log.obfuscate_urls {
        operation(route, head)
    } else {
        format!("{} {}", head.method, head.uri.path())
    };
    Some(Line {
        method,
        user_agent: user_agent(&head.headers),
        api: Api::Http,
    })
}

/// The line of a gRPC call; `None` if none is wanted.
pub(crate) fn grpc_line(log: &AccessLog, head: &Parts) -> Option<Line> {
    log.enabled.then(|| Line {
        method: head.uri.path().to_owned(),
        user_agent: user_agent(&head.headers),
        api: Api::Grpc,
    })
}

// === impl Line ===

impl Line {
    /// Writes the line. `code` is an HTTP or a gRPC status, `size` the bytes of the response body.
    pub(super) fn write(self, code: i64, size: u64, took: Duration) {
        let Self {
            method,
            user_agent,
            api,
        } = self;
        let duration = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match api {
            Api::Http => info!(
                target: "dapr.runtime.http-info",
                method, code, size, duration, useragent = user_agent, "HTTP API Called"
            ),
            Api::Grpc => info!(
                target: "dapr.runtime.grpc.api-info",
                method, code, duration, useragent = user_agent, "gRPC API Called"
            ),
        }
    }
}

fn user_agent(headers: &HeaderMap) -> String {
    let value = headers.get(header::USER_AGENT);
    value
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        .unwrap_or_default()
}

/// The name of an operation, which shows no path.
fn operation(route: &Route<'_>, head: &Parts) -> String {
    match route {
        Route::Healthz => "Healthz".to_owned(),
        Route::Outbound => "HealthzOutbound".to_owned(),
        Route::Metadata => "GetMetadata".to_owned(),
        Route::SetMetadata(_) => "SetMetadata".to_owned(),
        Route::Decisions => "GetAccessControlDecisions".to_owned(),
        Route::Shutdown => "Shutdown".to_owned(),
        Route::Block(call) => block_name(call.block).to_owned(),
        Route::Invoke | Route::Nothing => format!("InvokeService/{}", target(head)),
    }
}

fn target(head: &Parts) -> String {
    let Ok(path) = form::decode_path(head.uri.path()) else {
        return String::new();
    };
    let value = |name| head.headers.get(name).map(http::HeaderValue::as_bytes);
    let request = form::Request {
        path: &path,
        app_id: value(form::APP_ID_HEADER),
        authorization: value("authorization"),
    };
    form::find(request)
        .map(|found| found.target.into_owned())
        .unwrap_or_default()
}

fn block_name(block: Block) -> &'static str {
    match block {
        Block::State => "State",
        Block::Publish => "PublishEvent",
        Block::Bindings => "InvokeBinding",
        Block::Secrets => "GetSecret",
        Block::Configuration => "GetConfiguration",
        Block::Lock => "Lock",
        Block::Crypto => "Crypto",
        Block::Actors => "Actors",
        Block::Workflows => "Workflows",
        Block::Jobs => "Jobs",
        Block::Conversation => "Conversation",
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::api::{access::ApiAccess, routing_path};

    fn method(log: AccessLog, verb: &str, uri: &str) -> Option<String> {
        let request = Request::builder()
            .method(verb)
            .uri(uri)
            .header("user-agent", "t/1");
        let head = request.body(()).unwrap().into_parts().0;
        let path = routing_path(uri).into_owned();
        let route = Route::find(&head.method, &path, &ApiAccess::default());
        http_line(&log, &route, &head).map(|line| line.method)
    }

    /// Fact: resiliency-observability 4.3.
    #[test]
    fn lines_as_configured() {
        let off = AccessLog::default();
        let on = AccessLog {
            enabled: true,
            ..off
        };
        let hidden = AccessLog {
            obfuscate_urls: true,
            ..on
        };
        let quiet = AccessLog {
            omit_health_checks: true,
            ..on
        };
        for (log, verb, uri, line) in [
            (off, "GET", "/v1.0/metadata", None),
            (on, "GET", "/v1.0/metadata", Some("GET /v1.0/metadata")),
            (on, "GET", "/v1.0/healthz", Some("GET /v1.0/healthz")),
            (quiet, "GET", "/v1.0/healthz", None),
            (quiet, "GET", "/v1.0/healthz/outbound", None),
            (quiet, "GET", "/v1.0/metadata", Some("GET /v1.0/metadata")),
            (
                on,
                "POST",
                "/v1.0/invoke/appb/method/secret?x=1",
                Some("POST /v1.0/invoke/appb/method/secret"),
            ),
            (
                hidden,
                "POST",
                "/v1.0/invoke/appb/method/secret",
                Some("InvokeService/appb"),
            ),
            (hidden, "GET", "/v1.0/metadata", Some("GetMetadata")),
            (hidden, "GET", "/v1.0/state/s/k", Some("State")),
        ] {
            assert_eq!(method(log, verb, uri).as_deref(), line, "{verb} {uri}");
        }
    }
}

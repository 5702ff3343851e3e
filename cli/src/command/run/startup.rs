//! The steps of a start that single runs and templates share: wait for the sidecar, tell it who we are.
//!
//! Every step is a future that may be dropped at any moment, so that a signal is honoured at once. Facts:
//! cli-and-clients 1.7, CH5, CL-40.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::prepare::{ApiKind, Plan};
use crate::api::Api;
use crate::output::Level;

/// How long each API may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// How often an API is tried.
const OPEN_POLL: Duration = Duration::from_millis(50);
/// The pauses between tries to set metadata.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// How long one try may take.
const SET_LIMIT: Duration = Duration::from_secs(5);

/// Where lines about a start go.
pub(crate) type Say<'a> = &'a (dyn Fn(Level, &str) + 'a);

/// The line that names the sidecar's ports or sockets.
pub(crate) fn addresses(plan: &Plan) -> String {
    if plan.spec.unix_domain_socket.is_some() {
        let path = |api| plan.endpoint(api).to_string().replacen("socket ", "", 1);
        return format!(
            "HTTP Socket: {}. gRPC Socket: {}.",
            path(ApiKind::Http),
            path(ApiKind::Grpc)
        );
    }
    format!(
        "HTTP Port: {}. gRPC Port: {}",
        plan.ports.http, plan.ports.grpc
    )
}

/// Waits until both APIs accept connections; says so, or that they don't.
pub(crate) async fn wait_for_sidecar(plan: &Plan, say: Say<'_>) {
    for (api, name) in [(ApiKind::Http, "HTTP"), (ApiKind::Grpc, "GRPC")] {
        let endpoint = plan.endpoint(api);
        say(
            Level::Info,
            &format!("Checking if Dapr sidecar is listening on {name} {endpoint}"),
        );
        let open = async {
            while !endpoint.accepts().await {
                tokio::time::sleep(OPEN_POLL).await;
            }
        };
        if tokio::time::timeout(OPEN_LIMIT, open).await.is_err() {
            say(Level::Warning, "Dapr sidecar might not be responding.");
            return;
        }
    }
    say(Level::Info, "Dapr sidecar is up and running.");
}

/// Tells the sidecar what others are to learn from it.
pub(crate) async fn set_metadata(api: &Api, pairs: &[(&str, String)], say: Say<'_>) {
    for (key, value) in pairs {
        if let Err(reason) = set(api, key, value).await {
            say(
                Level::Warning,
                &format!("Could not update sidecar metadata for {key}: {reason}"),
            );
        }
    }
}

async fn set(api: &Api, key: &str, value: &str) -> Result<(), String> {
    let mut pauses = PAUSES.iter();
    loop {
        let (reason, may_pass) = match put(api, key, value).await {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) => (crate::api::status_line(status), status.is_server_error()),
            Err(error) => (error.to_string(), true),
        };
        match pauses.next() {
            Some(&pause) if may_pass => tokio::time::sleep(pause).await,
            Some(_) | None => return Err(reason),
        }
    }
}

async fn put(api: &Api, key: &str, value: &str) -> Result<StatusCode, crate::api::CallError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let target = format!("/v1.0/metadata/{key}");
    let body = Bytes::from(value.to_owned());
    let answer = api
        .call(Method::PUT, &target, headers, body, Some(SET_LIMIT))
        .await?;
    Ok(answer.status())
}

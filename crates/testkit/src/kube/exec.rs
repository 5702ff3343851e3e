//! A command that runs in a container, as the API server passes on what it writes.
//!
//! Owns the upgrade to a WebSocket and the channels on it: 2 for the standard error, 3 for how it ended. Nothing runs:
//! what comes out is what the test says.

use super::serve::Body;
use bytes::Bytes;
use futures_util::SinkExt as _;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, handshake::derive_accept_key, protocol::Role};

/// The newest of the protocols that clients offer.
const PROTOCOL: HeaderValue = HeaderValue::from_static("v5.channel.k8s.io");
const STDERR: u8 = 2;
const STATUS: u8 = 3;

/// What a command does.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What it writes to its standard error.
    pub stderr: String,
    /// Its exit code.
    pub code: u8,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task ends with its connection"
)]
fn begin(ran: Ran, upgrade: OnUpgrade) {
    tokio::spawn(async move {
        // A client that goes away is the test's business.
        let _gone = play(ran, upgrade).await;
    });
}

/// The answer that opens the WebSocket; the rest follows on it.
pub(super) fn answer(ran: Ran, headers: &HeaderMap, upgrade: OnUpgrade) -> Response<Body> {
    begin(ran, upgrade);
    switching(headers)
}

/// The answer that opens a WebSocket.
pub(super) fn switching(headers: &HeaderMap) -> Response<Body> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let accept = derive_accept_key(key.map(HeaderValue::as_bytes).unwrap_or_default());
    let empty = Full::new(Bytes::new()).map_err(|never: Infallible| match never {});
    let mut response = Response::new(empty.boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn play(
    ran: Ran,
    upgrade: OnUpgrade,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let io = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    let on = |channel: u8, text: &str| {
        let mut bytes = vec![channel];
        bytes.extend_from_slice(text.as_bytes());
        Message::binary(bytes)
    };
    for part in ran.stderr.as_bytes().chunks(512) {
        socket
            .send(on(STDERR, &String::from_utf8_lossy(part)))
            .await?;
    }
    socket
        .send(on(STATUS, &status(ran.code).to_string()))
        .await?;
    socket.close(None).await?;
    Ok(())
}

fn status(code: u8) -> Value {
    match code {
        0 => json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
        code => json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
    }
}

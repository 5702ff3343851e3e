//! A port of a pod, as the API server passes its bytes on.
//!
//! Owns the channels on the WebSocket: 0 for the bytes of the port, 1 for what goes wrong with it; each begins with the
//! number of the port. What listens in the "pod" is a port of this machine.

use super::exec::switching;
use super::serve::Body;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

const DATA: u8 = 0;
const ERROR: u8 = 1;

/// The answer that opens the WebSocket; bytes to and from `here` follow on it.
#[expect(
    clippy::disallowed_methods,
    reason = "the task ends with its connection"
)]
pub(super) fn answer(
    port: u16,
    here: u16,
    headers: &HeaderMap,
    upgrade: OnUpgrade,
) -> Response<Body> {
    tokio::spawn(async move {
        // A client that goes away is the test's business.
        let _gone = pass(port, here, upgrade).await;
    });
    switching(headers)
}

async fn pass(
    port: u16,
    here: u16,
    upgrade: OnUpgrade,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let io = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    let on = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [DATA, ERROR] {
        socket.send(on(channel, &port.to_le_bytes())).await?;
    }
    let mut stream = match TcpStream::connect((Ipv4Addr::LOCALHOST, here)).await {
        Ok(stream) => stream,
        Err(error) => {
            socket.send(on(ERROR, error.to_string().as_bytes())).await?;
            return Ok(socket.close(None).await?);
        }
    };
    let mut buffer = vec![0; 4096];
    loop {
        tokio::select! {
            message = socket.next() => match message.transpose()? {
                Some(Message::Binary(bytes)) => {
                    if let Some((&DATA, bytes)) = bytes.split_first() {
                        stream.write_all(bytes).await?;
                    }
                }
                Some(Message::Close(_)) | None => return Ok(()),
                Some(_) => {}
            },
            read = stream.read(&mut buffer) => {
                let read = read?;
                if read == 0 {
                    return Ok(socket.close(None).await?);
                }
                socket.send(on(DATA, buffer.get(..read).unwrap_or_default())).await?;
            }
        }
    }
}

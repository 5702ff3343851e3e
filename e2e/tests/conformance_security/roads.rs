//! The roads by which a path comes to a callee, and what came of it.
//!
//! An HTTP caller has three, a gRPC caller two; a crafted peer on the internal port has as many again, and no
//! sidecar that cleans what it says.

use std::{collections::HashMap, fmt};

use anyhow::{Result, bail};
use base64::Engine as _;
use ironside_proto::{
    common::{HttpExtension, InvokeRequest, http_extension::Verb},
    google::protobuf::Any,
    internals::{InternalInvokeRequest, InternalInvokeRequestStream, ListStringValue},
    runtime::InvokeServiceRequest,
};
use ironside_testkit::{
    grpc::{BareClient, GrpcClient, GrpcReply},
    http::{Reply, Request},
};
use prost::Message as _;

use crate::rig::{App, Callee, Mesh, WEB, percent_decoded};

pub(crate) const INVOKE_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";
pub(crate) const UNARY: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";
pub(crate) const STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";

/// A way to call an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// `/v1.0/invoke/<id>/method/<path>`.
    Path,
    /// `/<path>` with the header `dapr-app-id`.
    Header,
    /// `/<path>` with the id in `Authorization: Basic`.
    Basic,
    /// `InvokeService` at the caller's sidecar.
    InvokeService,
    /// `CallLocal` by a crafted peer.
    Unary,
    /// `CallLocalStream` by a crafted peer.
    Stream,
    /// Proxied gRPC through the caller's sidecar.
    Proxied,
    /// Proxied gRPC by a crafted peer.
    ProxiedPeer,
}

/// Those that take the path of a request line.
pub(crate) const LINES: [Road; 3] = [Road::Path, Road::Header, Road::Basic];
/// Those that take the text of a method.
pub(crate) const METHODS: [Road; 3] = [Road::InvokeService, Road::Unary, Road::Stream];
/// Those that take a full method name.
pub(crate) const PROXIED: [Road; 2] = [Road::Proxied, Road::ProxiedPeer];

/// All: lines, methods, proxied.
pub(crate) const ROADS: [Road; 8] = [
    Road::Path,
    Road::Header,
    Road::Basic,
    Road::InvokeService,
    Road::Unary,
    Road::Stream,
    Road::Proxied,
    Road::ProxiedPeer,
];

impl Road {
    pub(crate) fn is_line(self) -> bool {
        LINES.contains(&self)
    }

    pub(crate) fn is_proxied(self) -> bool {
        PROXIED.contains(&self)
    }

    /// Whether a call for this path gets to the app of a callee without policy: what says no is then policy.
    pub(crate) fn delivers(self, path: &str, app: App) -> bool {
        let forbidden = |text: &str| {
            text.bytes()
                .any(|byte| matches!(byte, b'#' | b'?' | 0..=0x1f | 0x7f))
        };
        let method = match self {
            Self::Path | Self::Header | Self::Basic => {
                let Ok(decoded) = String::from_utf8(percent_decoded(path)) else {
                    return false;
                };
                // The HTTP API cleans before it looks at the bytes.
                cleaned(&decoded)
            }
            Self::InvokeService | Self::Unary | Self::Stream => cleaned(path),
            Self::Proxied | Self::ProxiedPeer => {
                let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
                let plain = |segment: &&str| !matches!(*segment, "" | "." | "..");
                return app == App::Grpc
                    && !path.starts_with("//")
                    && segments.len() == 2
                    && segments.iter().all(plain)
                    && path.is_ascii()
                    && !forbidden(path)
                    && !path.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']);
            }
        };
        let raw = if self.is_line() { &method } else { path };
        !forbidden(raw) && (app == App::Grpc || is_escaped(&method))
    }
}

/// Lexically cleaned, without leading slash.
fn cleaned(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    kept.join("/")
}

/// Whether each percent sign begins an escape: no URL can be made of others.
fn is_escaped(path: &str) -> bool {
    path.match_indices('%').all(|(at, _)| {
        path.get(at + 1..at + 3)
            .is_some_and(|hex| u8::from_str_radix(hex, 16).is_ok() && !hex.starts_with('+'))
    })
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The app answered.
    Delivered,
    /// Policy said no, in this text.
    Denied(String),
    /// It was refused for another reason.
    Refused(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Denied(text) => write!(f, "denied: {text}"),
            Self::Refused(text) => write!(f, "refused: {text}"),
        }
    }
}

/// Open connections of the caller.
pub(crate) struct Roads<'a> {
    mesh: &'a Mesh,
    api: GrpcClient,
    peers: HashMap<String, GrpcClient>,
}

impl<'a> Roads<'a> {
    pub(crate) async fn open(mesh: &'a Mesh) -> Result<Self> {
        Ok(Self {
            mesh,
            api: mesh.web.client().await?,
            peers: HashMap::new(),
        })
    }

    /// Sends a call for `path` to `callee`, as GET where the road has a verb.
    pub(crate) async fn call(
        &mut self,
        road: Road,
        callee: &Callee,
        path: &str,
    ) -> Result<Outcome> {
        // The future is large; rows hold several of them.
        Box::pin(self.send(road, callee, path)).await
    }

    async fn send(&mut self, road: Road, callee: &Callee, path: &str) -> Result<Outcome> {
        match road {
            Road::Path => {
                let line = format!("/v1.0/invoke/{}/method/{path}", callee.id());
                self.line(&Request::get(&line)).await
            }
            Road::Header => {
                let request = Request::get(&rooted(path)).header("dapr-app-id", callee.id());
                self.line(&request).await
            }
            Road::Basic => {
                let named = format!("dapr-app-id:{}", callee.id());
                let named = base64::engine::general_purpose::STANDARD.encode(named);
                let request =
                    Request::get(&rooted(path)).header("Authorization", &format!("Basic {named}"));
                self.line(&request).await
            }
            Road::InvokeService => {
                let request = InvokeServiceRequest {
                    id: callee.id().to_owned(),
                    message: Some(message(path, Verb::Get)),
                };
                let message = request.encode_to_vec();
                let reply = self.api.call(INVOKE_SERVICE, &[], &[&message]).await?;
                Ok(judged(&reply))
            }
            Road::Unary => {
                let message = request(path, Verb::Get).encode_to_vec();
                self.peer(callee, UNARY, &message).await
            }
            Road::Stream => {
                let message = InternalInvokeRequestStream {
                    request: Some(request(path, Verb::Get)),
                    payload: None,
                };
                self.peer(callee, STREAM, &message.encode_to_vec()).await
            }
            Road::Proxied => {
                let io =
                    tokio::net::TcpStream::connect(("127.0.0.1", self.mesh.web.grpc())).await?;
                proxied(BareClient::over(io).await?, callee.id(), &rooted(path)).await
            }
            Road::ProxiedPeer => {
                let client = self.mesh.bare_peer(WEB, callee).await?;
                proxied(client, callee.id(), &rooted(path)).await
            }
        }
    }

    /// Sends a request to the caller's HTTP API.
    pub(crate) async fn line(&self, request: &Request) -> Result<Outcome> {
        answered(&self.mesh.web.send(request).await?)
    }

    /// Sends one message to an RPC of the callee's internal port, as the caller would.
    pub(crate) async fn peer(
        &mut self,
        callee: &Callee,
        rpc: &str,
        message: &[u8],
    ) -> Result<Outcome> {
        if !self.peers.contains_key(callee.id()) {
            let client = self.mesh.peer(WEB, callee).await?;
            self.peers.insert(callee.id().to_owned(), client);
        }
        let client = &self.peers[callee.id()];
        Ok(judged(&client.call(rpc, &[], &[message]).await?))
    }
}

/// With a slash in front, unless there is one.
fn rooted(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

/// Sends a proxied call with this `:path`, whatever it is.
pub(crate) async fn proxied(mut client: BareClient, id: &str, path: &str) -> Result<Outcome> {
    let fields: [(&str, &[u8]); 7] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"localhost"),
        (":path", path.as_bytes()),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
        ("dapr-app-id", id.as_bytes()),
    ];
    Ok(judged(&client.call(&fields, &[b"message"]).await?))
}

/// A message of the caller's app.
pub(crate) fn message(method: &str, verb: Verb) -> InvokeRequest {
    InvokeRequest {
        method: method.to_owned(),
        data: Some(Any::default()),
        content_type: String::new(),
        http_extension: Some(HttpExtension {
            verb: verb.into(),
            querystring: String::new(),
        }),
    }
}

/// What a sidecar makes of it.
pub(crate) fn request(method: &str, verb: Verb) -> InternalInvokeRequest {
    InternalInvokeRequest {
        ver: 1,
        metadata: HashMap::from([(
            "x-from".to_owned(),
            ListStringValue {
                values: vec!["peer".to_owned()],
            },
        )]),
        message: Some(message(method, verb)),
        ..InternalInvokeRequest::default()
    }
}

/// Reads an answer of the HTTP API.
pub(crate) fn answered(reply: &Reply) -> Result<Outcome> {
    let text = reply.text();
    Ok(match reply.status() {
        200 => Outcome::Delivered,
        403 if text.contains("access control policy has denied access") => Outcome::Denied(text),
        // The body of an answer to HEAD is empty.
        403 if text.is_empty() => Outcome::Denied(text),
        status @ (400 | 404 | 431 | 500) => Outcome::Refused(format!("{status} {text}")),
        status => bail!("an answer that no row knows: {status} {text}"),
    })
}

/// Reads an answer of a gRPC server; `InvokeService` hides the code, not the text.
pub(crate) fn judged(reply: &GrpcReply) -> Outcome {
    let text = reply.message();
    match reply.code() {
        Some(0) => Outcome::Delivered,
        Some(7) => Outcome::Denied(text),
        Some(13) if text.contains("code = PermissionDenied desc = ") => Outcome::Denied(text),
        Some(code) => Outcome::Refused(format!("{code} {text}")),
        None => Outcome::Refused(format!(
            "no status: HTTP {} {:?}",
            reply.http_status, reply.broken
        )),
    }
}

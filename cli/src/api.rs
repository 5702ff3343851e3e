//! Calls of a sidecar's HTTP API, over TCP, its Unix socket, or forwarded into a pod.
//!
//! One connection a call. Owns addresses and the token (CH5); what is asked is the caller's business. Facts:
//! cli-and-clients 1.7 step 4, 1.12, 1.13.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::cluster::failed;

/// The header that carries the API token.
pub(crate) const TOKEN_HEADER: &str = "dapr-api-token";

/// Where one API of a sidecar listens.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// A port on the first of these hosts that answers.
    Tcp {
        /// The hosts.
        hosts: Vec<String>,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Socket(PathBuf),
    /// A port of a pod, which need not be open to others.
    Pod(Box<Pod>),
}

/// A port of a pod, reached through the API server.
#[derive(Clone)]
pub(crate) struct Pod {
    /// The pods of its namespace.
    pub pods: kube::Api<k8s_openapi::api::core::v1::Pod>,
    /// Its name.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection.
    #[error("cannot connect to {at}: {source}")]
    Connect {
        /// The address tried last.
        at: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    /// No way into the pod.
    #[error("cannot forward a port to pod {pod}: {cause}")]
    Forward {
        /// The pod.
        pod: String,
        /// Why not, in the API server's words.
        cause: anyhow::Error,
    },
    /// The request could not be written down.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The limit of the call ran out.
    #[error("no answer within {0:?}")]
    Slow(Duration),
}

/// A sidecar's HTTP API, with the token it asks for.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The token of `DAPR_API_TOKEN`.
    pub token: Option<String>,
}

// === impl Endpoint ===

impl Endpoint {
    /// A port on the addresses of `--dapr-listen-addresses`, or on this machine's own.
    pub(crate) fn tcp(port: u16, listen_addresses: &str) -> Self {
        let mut hosts: Vec<String> = listen_addresses
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .map(reachable)
            .collect();
        if hosts.is_empty() {
            hosts = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
        }
        Self::Tcp { hosts, port }
    }

    /// The Unix socket of one API (`http` or `grpc`) of an app, in the folder of its sockets.
    pub(crate) fn socket(folder: &Path, app_id: &str, api: &str) -> Self {
        Self::Socket(folder.join(format!("dapr-{app_id}-{api}.socket")))
    }

    /// Whether something accepts connections there.
    pub(crate) async fn accepts(&self) -> bool {
        match self {
            Self::Tcp { hosts, port } => connect(hosts, *port).await.is_ok(),
            Self::Socket(path) => UnixStream::connect(path).await.is_ok(),
            Self::Pod(pod) => pod.connect().await.is_ok(),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { port, .. } => write!(f, "port {port}"),
            Self::Socket(path) => write!(f, "socket {}", path.display()),
            Self::Pod(pod) => write!(f, "port {} of pod {}", pod.port, pod.name),
        }
    }
}

/// The address at which something that listens on this one is reached from this machine.
fn reachable(listen: &str) -> String {
    let bare = listen.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".to_owned(),
        Ok(_) | Err(_) => bare.to_owned(),
    }
}

async fn connect(hosts: &[String], port: u16) -> Result<TcpStream, CallError> {
    let mut last = CallError::Connect {
        at: format!("port {port}"),
        source: io::Error::from(io::ErrorKind::AddrNotAvailable),
    };
    for host in hosts {
        match TcpStream::connect((host.as_str(), port)).await {
            Ok(stream) => return Ok(stream),
            // The first refusal says most: later hosts are guesses.
            Err(source) if source.kind() == io::ErrorKind::ConnectionRefused => {
                last = CallError::Connect {
                    at: format!("{host}:{port}"),
                    source,
                };
            }
            Err(_) => {}
        }
    }
    Err(last)
}

// === impl Api ===

impl Api {
    /// Sends a request and reads the whole answer, within the limit if there is one.
    pub(crate) async fn call(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
        limit: Option<Duration>,
    ) -> Result<Response<Bytes>, CallError> {
        let request = self.request(method, target, headers, body)?;
        let call = self.send(request);
        match limit {
            None => call.await,
            Some(limit) => match tokio::time::timeout(limit, call).await {
                Ok(answer) => answer,
                Err(_elapsed) => Err(CallError::Slow(limit)),
            },
        }
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let host = match &self.endpoint {
            Endpoint::Tcp { hosts, port } => {
                let host = hosts.first().map_or("127.0.0.1", String::as_str);
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            }
            Endpoint::Socket(_) | Endpoint::Pod(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host);
        if let Some(token) = &self.token {
            request = request.header(TOKEN_HEADER, token);
        }
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(body))?)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, CallError> {
        match &self.endpoint {
            Endpoint::Tcp { hosts, port } => exchange(connect(hosts, *port).await?, request).await,
            Endpoint::Socket(path) => {
                let stream =
                    UnixStream::connect(path)
                        .await
                        .map_err(|source| CallError::Connect {
                            at: path.display().to_string(),
                            source,
                        })?;
                exchange(stream, request).await
            }
            Endpoint::Pod(pod) => exchange(pod.connect().await?, request).await,
        }
    }
}

// === impl Pod ===

impl Pod {
    /// A connection to the port, as `kubectl port-forward` makes it.
    async fn connect(&self) -> Result<impl AsyncRead + AsyncWrite + Unpin + 'static, CallError> {
        let refused = |cause| CallError::Forward {
            pod: self.name.clone(),
            cause,
        };
        let forward = self.pods.portforward(&self.name, &[self.port]).await;
        let mut forward = forward.map_err(|error| refused(failed(&error)))?;
        let stream = forward.take_stream(self.port);
        stream.ok_or_else(|| refused(anyhow::anyhow!("there is no stream of its port")))
    }
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = f.debug_struct("Pod");
        all.field("name", &self.name).field("port", &self.port);
        all.finish_non_exhaustive()
    }
}

/// Sends one request on a fresh connection, driving both in one future.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, CallError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    match select(std::pin::pin!(answer), std::pin::pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // The connection ended first: whatever it left behind is in the answer's channel.
        Either::Right((_, answer)) => answer.await,
    }
}

/// The status line as the reference prints it: `404 Not Found`.
pub(crate) fn status_line(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_become_reachable_ones() {
        for (listen, expected) in [
            ("", vec!["127.0.0.1", "::1"]),
            ("0.0.0.0", vec!["127.0.0.1"]),
            ("[::1],127.0.0.1", vec!["::1", "127.0.0.1"]),
            ("[::], 10.0.0.1", vec!["::1", "10.0.0.1"]),
        ] {
            let Endpoint::Tcp { hosts, port } = Endpoint::tcp(3500, listen) else {
                panic!("not a port");
            };
            assert_eq!(
                (hosts.iter().map(String::as_str).collect::<Vec<_>>(), port),
                (expected, 3500)
            );
        }
    }

    #[test]
    fn a_socket_is_named_after_app_and_api() {
        let Endpoint::Socket(path) = Endpoint::socket(Path::new("/s"), "app", "http") else {
            panic!("not a socket");
        };
        assert_eq!(path, Path::new("/s/dapr-app-http.socket"));
    }
}

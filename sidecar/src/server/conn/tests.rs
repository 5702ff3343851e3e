//! Connections that never speak, idle, or drain; over pipes, with paused time.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use ironside_chassis::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::body;

struct Served {
    client: DuplexStream,
    drain: CancellationToken,
    tasks: Tasks,
}

/// Serves one end of a pipe as the gRPC port does (`idle`), or as the HTTP port (`None`).
fn serve(idle: Option<Duration>) -> Served {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (tasks, drain) = (Tasks::new(), CancellationToken::new());
    let streams = Arc::new(Streams::default());
    let counted = Arc::clone(&streams);
    let service = service_fn(move |_request: Request<Incoming>| {
        let open = counted.open();
        async move {
            drop(open);
            Ok::<_, Infallible>(Response::new(body::full("ok")))
        }
    });
    let io = TokioIo::new(streams.count(server));
    let life = Life {
        drain: drain.clone(),
        streams,
        idle,
        lease: None,
    };
    let group = tasks.group("connection");
    match idle {
        Some(_) => {
            let connection = grpc(group, 4096).serve_connection(io, service);
            tasks.spawn("drive", async move { drop(drive(connection, life).await) });
        }
        None => {
            let builder = http_api(group, 4096, H2c::PriorKnowledge);
            tasks.spawn("drive", async move {
                drop(drive(builder.serve_connection(io, service), life).await)
            });
        }
    }
    Served {
        client,
        drain,
        tasks,
    }
}

impl Served {
    async fn ended(&self) -> bool {
        self.tasks.wait(Duration::from_secs(3600)).await.is_empty()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_speaks_is_let_go() {
    for idle in [None, Some(IDLE_LIMIT)] {
        let served = serve(idle);
        assert!(served.ended().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_half_a_preface_is_let_go() {
    let mut served = serve(None);
    served.client.write_all(b"PRI * HTTP").await.unwrap();
    assert!(served.ended().await);
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_let_go() {
    let mut served = serve(None);
    served
        .client
        .write_all(b"GET / HTTP/1.1\r\nHost: some-long-name\r\n")
        .await
        .unwrap();
    assert!(served.ended().await);
}

impl Served {
    /// A whole request and its whole answer.
    async fn ask(&mut self) {
        self.client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            answer.push(self.client.read_u8().await.unwrap());
        }
    }
}

/// Fact: the reference has no idle limit on its HTTP API.
#[tokio::test(start_paused = true)]
async fn a_kept_connection_may_be_silent() {
    let mut served = serve(None);
    for _ in 0..3 {
        served.ask().await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_on_a_kept_connection_is_let_go() {
    let mut served = serve(None);
    served.ask().await;
    tokio::time::sleep(HEAD_TIMEOUT * 2).await;
    served.client.write_all(b"G").await.unwrap();
    tokio::time::sleep(HEAD_TIMEOUT - Duration::from_secs(1)).await;
    served.client.write_all(b"ET / HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    let end = served.client.read_to_end(&mut rest);
    let ended = tokio::time::timeout(Duration::from_secs(2), end).await;
    assert!(ended.is_ok(), "counted from its first byte");
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_ends_with_the_drain() {
    let mut served = serve(None);
    served
        .client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    served.client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    served.drain.cancel();
    assert!(served.ended().await);
}

/// Fact: service-invocation 2.1: GOAWAY after three idle minutes, not before.
#[tokio::test(start_paused = true)]
async fn an_idle_grpc_connection_is_told_to_go() {
    let served = serve(Some(IDLE_LIMIT));
    let (_send, connection) = h2_client(served.client).await;
    let started = tokio::time::timeout(IDLE_LIMIT - Duration::from_secs(20), connection);
    let Err(_elapsed) = started.await else {
        panic!("it ended early")
    };
    assert!(served.tasks.wait(IDLE_TICK * 3).await.is_empty());
}

async fn h2_client(
    io: DuplexStream,
) -> (
    hyper::client::conn::http2::SendRequest<body::Body>,
    impl Future<Output = Result<(), hyper::Error>>,
) {
    let tasks = Tasks::new();
    hyper::client::conn::http2::handshake(
        crate::peers::connection::TaskExecutor(tasks.group("c")),
        TokioIo::new(io),
    )
    .await
    .unwrap()
}

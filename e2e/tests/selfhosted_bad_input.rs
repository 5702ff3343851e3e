//! Broken requests, peers and surroundings: each has a defined answer, and the process lives on.

#![cfg(test)]

use std::{net::TcpListener, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, ports, wait};
use ironside_proto::{
    common::InvokeRequest,
    internals::{InternalInvokeRequest, InternalInvokeRequestStream, ListStringValue},
};
use ironside_testkit::{
    grpc::{GrpcApp, GrpcClient},
    http::{Answer, Connection, End, HttpApp, Request},
};
use prost::Message as _;

const PATH: &str = "/v1.0/invoke/app/method/x";
const STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";
const UNARY: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";

struct Pair {
    app: HttpApp,
    caller: Sidecar,
    callee: Sidecar,
    _world: World,
}

impl Pair {
    async fn start() -> Result<Self> {
        let world = World::new();
        let app = HttpApp::start(|_| Answer::text("ok")).await?;
        let callee = Spec::new("app").app(app.port()).ready(&world).await?;
        let caller = Spec::new("caller").start(&world).await?;
        Ok(Self {
            app,
            caller,
            callee,
            _world: world,
        })
    }

    /// A good call still works, and the app never took a broken request for a whole one.
    async fn lives_on(&self) -> Result<()> {
        let whole = self
            .app
            .take()
            .iter()
            .filter(|seen| seen.end == End::Whole)
            .count();
        ensure!(whole == 0, "the app got {whole} whole requests");
        let reply = self
            .caller
            .get(PATH)
            .await
            .context("a good call afterwards")?;
        ensure!(reply.status() == 200, "{} {}", reply.status(), reply.text());
        drop(self.app.take());
        Ok(())
    }

    /// Sends bytes and returns the status of the answer; 0 when the connection ended without one.
    async fn status_of(&self, bytes: &[u8]) -> Result<u16> {
        let mut connection = Connection::tcp(self.caller.http()).await?;
        connection.write(bytes).await?;
        let reply = wait::within("answer", wait::LONG, connection.reply("GET")).await?;
        Ok(reply.map_or(0, |reply| reply.status()))
    }
}

#[tokio::test]
async fn requests() {
    let pair = Pair::start().await.unwrap();
    let mut rows = Rows::of("bad-input");
    rows.row("heads", "bytes that are no request", async {
        for (bytes, allowed) in [
            (
                &b"GET /v1.0/invoke/app/method/a%zz HTTP/1.1\r\nHost: x\r\n\r\n"[..],
                &[400, 500][..],
            ),
            (
                &b"GET /v1.0/invoke/app/method/\x01 HTTP/1.1\r\nHost: x\r\n\r\n"[..],
                &[400][..],
            ),
            (
                &b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n"[..],
                &[400][..],
            ),
            (
                &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n"[..],
                &[400, 0][..],
            ),
            (
                &b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"[..],
                &[400][..],
            ),
        ] {
            let status = pair.status_of(bytes).await?;
            ensure!(
                allowed.contains(&status),
                "{:?}: {status}",
                String::from_utf8_lossy(bytes)
            );
            pair.lives_on().await?;
        }
        Ok(())
    })
    .await;
    rows.row(
        "64 KiB of headers",
        "431, and nothing is kept of them",
        async {
            let before = pair.caller.program.resident_kib();
            for _ in 0..20 {
                let request = Request::get(PATH).header("X-Big", &"y".repeat(64 << 10));
                let status = pair.caller.send(&request).await?.status();
                ensure!(status == 431, "{status}");
            }
            let grown = pair.caller.program.resident_kib().saturating_sub(before);
            ensure!(grown < 8 << 10, "memory grew by {grown} KiB");
            pair.lives_on().await
        },
    )
    .await;
    rows.row(
        "chunks",
        "chunks that are none, and a body that stops",
        async {
            let head =
                format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            let status = pair
                .status_of(format!("{head}zz\r\nabc\r\n").as_bytes())
                .await?;
            ensure!(status == 0 || status >= 400, "{status}");
            pair.lives_on().await?;
            for start in [
                format!("{head}5\r\nab"),
                format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"),
            ] {
                let mut connection = Connection::tcp(pair.caller.http()).await?;
                connection.write(start.as_bytes()).await?;
                drop(connection);
                pair.lives_on().await?;
            }
            Ok(())
        },
    )
    .await;
    rows.row(
        "half-closed",
        "a client that closed its half has left: it is not kept waiting",
        async {
            let mut connection = Connection::tcp(pair.caller.http()).await?;
            connection.write(Request::get(PATH).bytes()).await?;
            connection.half_close().await?;
            // As in the reference, whose HTTP library cancels such a request; an answer that is ready may still come.
            let reply = wait::within("answer or end", wait::LONG, connection.reply("GET")).await?;
            ensure!(
                reply.is_err() || reply.is_ok_and(|reply| reply.status() == 200),
                "another answer"
            );
            // Its request may still be on the way to the app.
            let reply = pair.caller.get(PATH).await?;
            ensure!(reply.status() == 200, "{}", reply.status());
            drop(pair.app.take());
            Ok(())
        },
    )
    .await;
    rows.row(
        "slow writer",
        "a head that does not come is not awaited for ever",
        async {
            let mut connection = Connection::tcp(pair.caller.http()).await?;
            connection
                .write(b"GET /v1.0/healthz HTTP/1.1\r\nHost: x\r\n")
                .await?;
            // The limit is ten seconds.
            wait::within(
                "end of the slow connection",
                Duration::from_secs(15),
                connection.closed(),
            )
            .await?;
            pair.lives_on().await
        },
    )
    .await;
    rows.close();
}

#[tokio::test]
async fn peers() {
    let pair = Pair::start().await.unwrap();
    let mut rows = Rows::of("bad-input");
    rows.row(
        "no HTTP/2",
        "bytes that are no HTTP/2 on the internal port",
        async {
            for bytes in [
                &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
                &[0xff; 200][..],
                &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            ] {
                let mut connection = Connection::tcp(pair.callee.internal()).await?;
                connection.write(bytes).await?;
                wait::within(
                    "end of the connection",
                    Duration::from_secs(15),
                    connection.closed(),
                )
                .await?;
                pair.lives_on().await?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("frames", "messages that are none", async {
        let client = GrpcClient::connect(pair.callee.internal()).await?;
        for message in [&b"\xff\xff\xff"[..], &[0x0a, 0x7f, 0x01][..], b""] {
            let reply = client.call(STREAM, &[], &[message]).await?;
            ensure!(
                reply.code().is_some_and(|code| code > 0),
                "{message:?}: {reply:?}"
            );
            pair.lives_on().await?;
        }
        let reply = client.call(STREAM, &[], &[]).await?;
        ensure!(
            reply.code() == Some(2) && reply.message() == "EOF",
            "no message at all: {reply:?}"
        );
        let mut call = client.open(STREAM, &[]).await?;
        // A length that promises more than any limit.
        call.send_data([0, 0xff, 0xff, 0xff, 0xff].as_slice().into(), false);
        call.half_close();
        let reply = wait::within("answer", wait::LONG, call.finish()).await?;
        ensure!(reply.code() != Some(0), "{reply:?}");
        pair.lives_on().await
    })
    .await;
    rows.row(
        "values",
        "two bytes each, fifty times as much decoded",
        async {
            let client = GrpcClient::connect(pair.callee.internal()).await?;
            let values = vec![String::new(); 1 << 20];
            let request = InternalInvokeRequest {
                metadata: [("x".to_owned(), ListStringValue { values })].into(),
                message: Some(InvokeRequest::default()),
                ..InternalInvokeRequest::default()
            };
            let unary = request.encode_to_vec();
            let stream = InternalInvokeRequestStream {
                request: Some(request),
                payload: None,
            };
            let stream = stream.encode_to_vec();
            for (path, message) in [(UNARY, unary), (STREAM, stream)] {
                let reply = client.call(path, &[], &[&message]).await?;
                ensure!(reply.code() == Some(8), "{path}: {:?}", reply.code());
                ensure!(
                    reply.message().contains("metadata values"),
                    "{}",
                    reply.message()
                );
                pair.lives_on().await?;
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}

/// Heads and trailers with more names than a map of headers holds: they are refused where they come in.
#[tokio::test]
async fn names() {
    let world = World::new();
    let app = GrpcApp::start(|mut call| {
        Box::pin(async move {
            let message = call.message().await.unwrap_or_default();
            let names: Vec<String> = (0..24_000).map(|name| format!("x{name}")).collect();
            let pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "")).collect();
            let (head, trailers) = match message.first() {
                Some(b'h') => (&*pairs, &[][..]),
                _ => (&[][..], &*pairs),
            };
            call.begin_reply(head);
            call.reply(b"x");
            call.end(0, "", trailers);
        })
    });
    let app = app.await.unwrap();
    let spec = Spec::new("app").app(app.port()).protocol("grpc");
    let mut callee = spec.ready(&world).await.unwrap();
    let mut caller = Spec::new("caller").start(&world).await.unwrap();
    let mut rows = Rows::of("bad-input");
    for (what, message) in [("head", b"h"), ("trailers", b"t")] {
        rows.row("names", what, async {
            for sidecar in [&caller, &callee] {
                let client = GrpcClient::connect(sidecar.grpc()).await?;
                let names = [("dapr-app-id", "app"), ("baggage", "a=b")];
                let reply = client.call("/e2e.Any/Call", &names, &[message]).await?;
                let (code, text) = (reply.code(), reply.message());
                ensure!(
                    code.is_some_and(|code| code > 0) && text.contains("names"),
                    "{code:?}: {text}"
                );
            }
            Ok(())
        })
        .await;
    }
    rows.close();
    for sidecar in [&mut caller, &mut callee] {
        assert!(sidecar.program.stop().await.unwrap().success());
    }
}

/// Details of a status that are no base64: whoever may be called does not end its callers' sidecars.
#[tokio::test]
async fn statuses() {
    let world = World::new();
    let app = GrpcApp::start(|mut call| {
        Box::pin(async move {
            let has_head = call
                .message()
                .await
                .is_some_and(|message| message.len() > 1);
            if has_head {
                call.begin_reply(&[]);
            }
            call.end(3, "no", &[("grpc-status-details-bin", "%%")]);
        })
    });
    let app = app.await.unwrap();
    let spec = Spec::new("app").app(app.port()).protocol("grpc");
    let callee = spec.ready(&world).await.unwrap();
    let caller = Spec::new("caller").start(&world).await.unwrap();
    let mut rows = Rows::of("bad-input");
    rows.row("details", "of OnInvoke", async {
        let reply = caller.get(PATH).await?;
        ensure!(reply.status() == 400, "{} {}", reply.status(), reply.text());
        Ok(())
    })
    .await;
    for (what, message) in [("trailers", &b"two"[..]), ("head", b"1")] {
        rows.row("details", what, async {
            for sidecar in [&caller, &callee] {
                let client = GrpcClient::connect(sidecar.grpc()).await?;
                let names = [("dapr-app-id", "app")];
                let reply = client.call("/e2e.Any/Call", &names, &[message]).await?;
                ensure!(reply.code() == Some(3), "{:?}", reply.code());
                ensure!(reply.message() == "no", "{:?}", reply.message());
            }
            Ok(())
        })
        .await;
    }
    rows.close();
    for mut sidecar in [caller, callee] {
        assert!(sidecar.program.stop().await.unwrap().success());
    }
}

#[tokio::test]
async fn surroundings() {
    let world = World::new();
    let mut rows = Rows::of("bad-input");
    rows.row("port in use", "the start ends and names the port", async {
        let holder = TcpListener::bind(("127.0.0.1", ports::free()))?;
        let port = holder.local_addr()?.port().to_string();
        let mut taken = Spec::new("taken")
            .flag("--dapr-http-port", &port)
            .launch(&world);
        let status = taken.program.exit(Duration::from_secs(20)).await?;
        ensure!(
            status.code() == Some(1) && taken.program.log().contains(&port),
            "{status}: {}",
            taken.program.log()
        );
        Ok(())
    })
    .await;
    rows.row(
        "files",
        "a file that is not there ends the start and is named",
        async {
            for (flag, path) in [
                ("--config", "/nowhere/config.yaml"),
                ("--resources-path", "/nowhere/resources"),
            ] {
                let mut missing = Spec::new("missing").flag(flag, path).launch(&world);
                let status = missing.program.exit(wait::LONG).await?;
                ensure!(
                    status.code() == Some(1) && missing.program.log().contains(path),
                    "{status}: {}",
                    missing.program.log()
                );
            }
            Ok(())
        },
    )
    .await;
    rows.row("other blocks", "a folder full of other blocks' components is accepted with a line each", async {
        let kinds = ["state.redis", "pubsub.redis", "bindings.cron", "secretstores.local.file", "configuration.redis", "lock.redis", "crypto.jwks", "conversation.echo"];
        let spec = kinds.iter().enumerate().fold(Spec::new("mixed"), |spec, (number, kind)| {
            let yaml = format!("apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: c{number}\nspec:\n  type: {kind}\n  version: v1\n  metadata:\n  - name: redisHost\n    value: localhost:6379\n");
            spec.resource(&format!("{number}.yaml"), &yaml)
        });
        let mixed = spec.start(&world).await?;
        let log = mixed.program.log();
        for kind in kinds {
            ensure!(log.lines().filter(|line| line.contains(kind)).count() == 1, "{kind}: not one line in {log}");
        }
        ensure!(!mixed.get("/v1.0/metadata").await?.text().contains("components"), "the metadata lists them");
        Ok(())
    })
    .await;
    rows.close();
}

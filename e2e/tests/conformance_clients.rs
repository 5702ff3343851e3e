//! What any HTTP or gRPC client may expect: rows of `cli-and-clients.md` 5.5 and 5.6 that need no SDK.

#![cfg(test)]

use std::{fmt::Debug, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, ports, wait};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, GrpcClient, Running},
    http::{Answer, Connection, HttpApp, Request, Setup},
    tls::SelfSigned,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

fn same<T: PartialEq + Debug>(what: &str, expected: T, found: T) -> Result<()> {
    ensure!(
        expected == found,
        "{what}: expected {expected:?}, found {found:?}"
    );
    Ok(())
}

fn echo(mut call: Exchange) -> Running {
    Box::pin(async move {
        let message = call.message().await.unwrap_or_default();
        call.begin_reply(&[]);
        call.reply(&message);
        call.end(0, "", &[]);
    })
}

#[tokio::test]
async fn plain_http_clients() {
    let world = World::new();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let _b = Spec::new("app")
        .app(app.port())
        .ready(&world)
        .await
        .unwrap();
    // Both families: a client that says localhost may take either.
    let a = Spec::new("caller")
        .flag("--dapr-listen-addresses", "127.0.0.1,[::1]")
        .start(&world)
        .await
        .unwrap();
    let mut rows = Rows::of("clients");
    rows.row(
        "SD-40",
        "a JDK client offers an upgrade with its POST",
        async {
            drop(app.take());
            let request = Request::new("POST", "/orders")
                .header("Connection", "Upgrade, HTTP2-Settings")
                .header("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
                .header("Upgrade", "h2c")
                .header("User-Agent", "Java-http-client/17.0.9")
                .header("dapr-app-id", "app")
                .header("X-DaprRequestId", "one-id")
                .body("{\"orderId\":1}");
            same("status", 200, a.send(&request).await?.status())?;
            let seen = app.take().remove(0);
            for name in ["upgrade", "http2-settings", "connection"] {
                same(name, None, seen.header(name))?;
            }
            same(
                "agent",
                Some("Java-http-client/17.0.9"),
                seen.header("user-agent"),
            )?;
            same(
                "id and body",
                (Some("one-id"), "{\"orderId\":1}"),
                (seen.header("x-daprrequestid"), &seen.text()),
            )
        },
    )
    .await;
    rows.row(
        "SD-41",
        "curl's bytes: upgrade, Expect with 2 MiB, both families",
        async {
            let upgrade = Request::get("/v1.0/invoke/app/method/x")
                .header("Connection", "Upgrade, HTTP2-Settings");
            let upgrade = upgrade
                .header("Upgrade", "h2c")
                .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA");
            same("upgrade", 200, a.send(&upgrade).await?.status())?;
            let expect =
                Request::new("POST", "/v1.0/invoke/app/method/x").header("Expect", "100-continue");
            let expect = expect.body(vec![b'x'; 2 << 20]);
            same("Expect", 200, a.send(&expect).await?.status())?;
            for host in ["127.0.0.1", "[::1]"] {
                let mut connection = Connection::to(&format!("{host}:{}", a.http())).await?;
                same(
                    host,
                    200,
                    connection
                        .send(&Request::get("/v1.0/invoke/app/method/x"))
                        .await?
                        .status(),
                )?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("SD-42", "a target in the user-info of a URL", async {
        // dapr-app-id:app
        let request = Request::get("/m").header("Authorization", "Basic ZGFwci1hcHAtaWQ6YXBw");
        drop(app.take());
        same("status", 200, a.send(&request).await?.status())?;
        same("path", "/m", app.take()[0].path())
    })
    .await;
    rows.close();
}

/// Requests of building blocks that are not offered: verb, path, body, status, code, part of the message.
const HTTP_BLOCKS: &[(&str, &str, &str, u16, &str, &str)] = &[
    (
        "GET",
        "/v1.0/state/s/k",
        "",
        500,
        "ERR_STATE_STORE_NOT_CONFIGURED",
        "state store s is not configured",
    ),
    (
        "DELETE",
        "/v1.0/state/s/k",
        "",
        500,
        "ERR_STATE_STORE_NOT_CONFIGURED",
        "state store s is not configured",
    ),
    (
        "POST",
        "/v1.0/state/s",
        "[]",
        500,
        "ERR_STATE_STORE_NOT_CONFIGURED",
        "state store s is not configured",
    ),
    (
        "POST",
        "/v1.0/state/s/bulk",
        "{}",
        500,
        "ERR_STATE_STORE_NOT_CONFIGURED",
        "state store s is not configured",
    ),
    (
        "POST",
        "/v1.0/state/s/transaction",
        "{}",
        500,
        "ERR_STATE_STORE_NOT_CONFIGURED",
        "state store s is not configured",
    ),
    (
        "POST",
        "/v1.0-alpha1/state/s/query",
        "{}",
        500,
        "ERR_STATE_STORE_NOT_CONFIGURED",
        "state store s is not configured",
    ),
    (
        "POST",
        "/v1.0/publish/p/topic",
        "{}",
        404,
        "ERR_PUBSUB_NOT_FOUND",
        "pubsub p is not found",
    ),
    (
        "PUT",
        "/v1.0/publish/p/topic",
        "{}",
        404,
        "ERR_PUBSUB_NOT_FOUND",
        "pubsub p is not found",
    ),
    (
        "POST",
        "/v1.0/bindings/b",
        "{}",
        500,
        "ERR_INVOKE_OUTPUT_BINDING",
        "couldn't find output binding b",
    ),
    (
        "GET",
        "/v1.0/secrets/s/k",
        "",
        500,
        "ERR_SECRET_STORES_NOT_CONFIGURED",
        "secret store is not configured",
    ),
    (
        "GET",
        "/v1.0/secrets/s/bulk",
        "",
        500,
        "ERR_SECRET_STORES_NOT_CONFIGURED",
        "secret store is not configured",
    ),
    (
        "GET",
        "/v1.0/configuration/s",
        "",
        500,
        "ERR_CONFIGURATION_STORE_NOT_CONFIGURED",
        "configuration stores not configured",
    ),
    (
        "POST",
        "/v1.0-alpha1/lock/s",
        "{}",
        500,
        "ERR_LOCK_STORE_NOT_CONFIGURED",
        "lock store is not configured",
    ),
    (
        "POST",
        "/v1.0-alpha1/unlock/s",
        "{}",
        500,
        "ERR_LOCK_STORE_NOT_CONFIGURED",
        "lock store is not configured",
    ),
    (
        "PUT",
        "/v1.0-alpha1/crypto/c/encrypt",
        "x",
        500,
        "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED",
        "",
    ),
    (
        "POST",
        "/v1.0/actors/T/id/method/m",
        "",
        400,
        "ERR_ACTOR_NO_PLACEMENT",
        "placement service is not configured",
    ),
    (
        "POST",
        "/v1.0/workflows/dapr/w/start",
        "",
        400,
        "ERR_ACTOR_NO_PLACEMENT",
        "placement service is not configured",
    ),
    (
        "POST",
        "/v1.0-alpha1/conversation/c/converse",
        "{}",
        400,
        "ERR_CONVERSATION_NOT_FOUND",
        "",
    ),
];

/// Calls of building blocks that are not offered, and their codes.
const GRPC_BLOCKS: &[(&str, u32)] = &[
    ("GetState", 9),
    ("SaveState", 9),
    ("DeleteState", 9),
    ("ExecuteStateTransaction", 9),
    ("PublishEvent", 3),
    ("InvokeBinding", 13),
    ("GetSecret", 9),
    ("GetBulkSecret", 9),
    ("GetConfiguration", 9),
    ("SubscribeConfiguration", 9),
    ("TryLockAlpha1", 9),
    ("UnlockAlpha1", 9),
    ("EncryptAlpha1", 13),
    ("InvokeActor", 14),
    ("StartWorkflowBeta1", 14),
    ("ScheduleJobAlpha1", 13),
    ("ConverseAlpha1", 3),
    ("SubscribeTopicEventsAlpha1", 3),
    ("NoSuchThing", 12),
];

#[tokio::test]
async fn blocks_that_are_not_offered() {
    let world = World::new();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let a = Spec::new("app")
        .app(app.port())
        .ready(&world)
        .await
        .unwrap();
    drop(app.take());
    let mut rows = Rows::of("clients");
    rows.row(
        "SD-50",
        "each block answers its own error over HTTP",
        async {
            for (verb, path, body, status, code, message) in HTTP_BLOCKS {
                let reply = a
                    .send(
                        &Request::new(verb, path)
                            .header("Content-Type", "application/json")
                            .body(body),
                    )
                    .await?;
                let found: serde_json::Value =
                    serde_json::from_str(&reply.text()).with_context(|| reply.text())?;
                same(
                    path,
                    (*status, Some(*code)),
                    (reply.status(), found["errorCode"].as_str()),
                )?;
                let text = found["message"].as_str().unwrap_or_default();
                ensure!(text.contains(message), "{path}: {text}");
            }
            let jobs = a.send(&Request::post("/v1.0-alpha1/jobs/j", "{}")).await?;
            ensure!(
                jobs.status() == 500 && jobs.text().contains("failed to schedule job due to: "),
                "{}",
                jobs.text()
            );
            let malformed = a
                .send(&Request::post("/v1.0/bindings/b", "{not json"))
                .await?;
            same("malformed binding", 400, malformed.status())?;
            same("calls of the app", 0, app.take().len())
        },
    )
    .await;
    rows.row(
        "SD-50 gRPC",
        "each block answers its own code over gRPC",
        async {
            let client = a.client().await?;
            for (method, code) in GRPC_BLOCKS {
                let path = format!("/dapr.proto.runtime.v1.Dapr/{method}");
                let reply = wait::within(
                    method,
                    Duration::from_secs(5),
                    client.call(&path, &[], &[b""]),
                )
                .await??;
                same(method, Some(*code), reply.code())?;
            }
            let path = "/TaskHubSidecarService/Hello";
            same(
                "workflow engine",
                Some(12),
                client.call(path, &[], &[b""]).await?.code(),
            )
        },
    )
    .await;
    rows.row(
        "SD-51",
        "an API route with a target header is no invocation",
        async {
            let request = Request::post("/v1.0/publish/p/t", "{}").header("dapr-app-id", "app");
            let reply = a.send(&request).await?;
            ensure!(
                reply.status() == 404 && reply.text().contains("ERR_PUBSUB_NOT_FOUND"),
                "{}",
                reply.text()
            );
            same("calls of the app", 0, app.take().len())
        },
    )
    .await;
    rows.row(
        "GP-08",
        "an unknown call of the Dapr service is never proxied",
        async {
            let client = a.client().await?;
            for metadata in [&[][..], &[("dapr-app-id", "app")][..]] {
                let reply = client
                    .call("/dapr.proto.runtime.v1.Dapr/NoSuch", metadata, &[b""])
                    .await?;
                same("code", Some(12), reply.code())?;
            }
            same("connections of the app", 0, app.take().len())
        },
    )
    .await;
    rows.row("SD-45", "reflection answers within a second", async {
        let client = a.client().await?;
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let asked = client.call(path, &[], &[&[0x3a, 0x00]]);
        let code = wait::within("reflection", Duration::from_secs(1), asked)
            .await??
            .code();
        ensure!(code == Some(0) || code == Some(12), "{code:?}");
        Ok(())
    })
    .await;
    rows.close();
}

async fn healthy_soon(
    world: &World,
    id: &str,
    setup: impl FnOnce(u16) -> Setup,
) -> Result<Sidecar> {
    let port = ports::free();
    let mut sidecar = Spec::new(id).app(port).start(world).await?;
    let app = setup(port).start().await?;
    let watch = wait::Stopwatch::start();
    sidecar.healthy("/v1.0/healthz").await?;
    let took = watch.elapsed();
    ensure!(took < Duration::from_secs(1), "healthy after {took:?}");
    drop(app);
    Ok(sidecar)
}

#[tokio::test]
async fn apps_of_all_kinds() {
    let world = World::new();
    let mut rows = Rows::of("clients");
    rows.row(
        "SD-52",
        "an app that does not know, or hangs on, its configuration",
        async {
            healthy_soon(&world, "unknowing", |port| {
                Setup::new(|_| Answer::status(404)).port(port)
            })
            .await?;
            let gate = ironside_testkit::http::Gate::new();
            let held = gate.clone();
            healthy_soon(&world, "hanging", move |port| {
                Setup::new(move |_| Answer::status(200).gate(&held)).port(port)
            })
            .await?;
            gate.open();
            Ok(())
        },
    )
    .await;
    rows.row(
        "GP-02",
        "an app of protocol grpc never sees HTTP/1.1",
        async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let port = listener.local_addr()?.port();
            let sidecar = Spec::new("grpc-only")
                .app(port)
                .protocol("grpc")
                .launch(&world);
            let first = async {
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    let mut start = [0; 3];
                    // A bare connect is the look for the port; the first bytes are what counts.
                    if stream.read_exact(&mut start).await.is_ok() {
                        return anyhow::Ok(start);
                    }
                }
            };
            let client = async {
                sidecar
                    .program
                    .logged("application discovered on port")
                    .await?;
                let client = sidecar.client().await?;
                let mut call = client
                    .open("/greet.G/Hi", &[("dapr-app-id", "grpc-only")])
                    .await?;
                call.half_close();
                anyhow::Ok((client, call))
            };
            let (first, held) = tokio::join!(first, client);
            drop(held?);
            same("first bytes", *b"PRI", first?)
        },
    )
    .await;
    rows.row("GP-09", "an app that restarts between two calls", async {
        let mut app = GrpcApp::start(echo).await?;
        let sidecar = Spec::new("restarting")
            .app(app.port())
            .protocol("grpc")
            .ready(&world)
            .await?;
        let to = [("dapr-app-id", "restarting")];
        let client = sidecar.client().await?;
        same(
            "before",
            Some(0),
            client.call("/greet.G/Hi", &to, &[b"1"]).await?.code(),
        )?;
        app.stop().await;
        same(
            "meanwhile",
            Some(14),
            client.call("/greet.G/Hi", &to, &[b"2"]).await?.code(),
        )?;
        let _again = GrpcApp::start_on(app.port(), None, echo).await?;
        let served = || async {
            client
                .call("/greet.G/Hi", &to, &[b"3"])
                .await
                .ok()
                .filter(|reply| reply.code() == Some(0))
        };
        wait::until("a call after the restart", wait::LONG, served).await?;
        Ok(())
    })
    .await;
    rows.row(
        "GP-10",
        "an app with TLS and a self-signed certificate",
        async {
            let app =
                GrpcApp::start_on(0, Some(SelfSigned::new().wrap(&["h2"], None)), echo).await?;
            let sidecar = Spec::new("grpcs")
                .app(app.port())
                .protocol("grpcs")
                .ready(&world)
                .await?;
            let reply = sidecar
                .client()
                .await?
                .call("/greet.G/Hi", &[("dapr-app-id", "grpcs")], &[b"hi"])
                .await?;
            same(
                "answer",
                (Some(0), vec![b"hi".to_vec()]),
                (reply.code(), reply.messages),
            )
        },
    )
    .await;
    rows.row(
        "2.9 pings",
        "pings without calls are no reason to leave",
        async {
            let sidecar = Spec::new("pinged").start(&world).await?;
            let client = GrpcClient::connect(sidecar.grpc()).await?;
            let path = "/dapr.proto.runtime.v1.Dapr/GetMetadata";
            same(
                "call",
                Some(0),
                client.call(path, &[], &[b""]).await?.code(),
            )?;
            ensure!(client.is_open(), "the connection is gone");
            Ok(())
        },
    )
    .await;
    rows.close();
}

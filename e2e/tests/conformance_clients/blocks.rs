//! Building blocks that are not offered answer their own errors and never reach an app: SD-45, SD-50, SD-51, GP-08.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ironside_e2e::{Rows, Spec, World, wait};
use ironside_testkit::http::{Answer, HttpApp, Request};

use crate::same;

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

//! Health, metadata, shutdown and CORS of the API: SI-110 to SI-118.

use anyhow::ensure;
use ironside_e2e::{Rows, Spec, World, wait};
use ironside_proto::runtime::{GetMetadataRequest, GetMetadataResponse, SetMetadataRequest};
use ironside_testkit::http::{Answer, Request, send};
use prost::Message as _;

use crate::rig::{dead_port, error, no_target, same};

#[tokio::test]
async fn health_and_metadata() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    let public = dead_port();
    let port = dead_port();
    let spec = Spec::new("appA")
        .app(port)
        .flag("--dapr-public-port", &public.to_string());
    let mut a = spec
        .flag("--dapr-public-listen-address", "127.0.0.1")
        .start(&world)
        .await
        .unwrap();
    rows.row("SI-111", "outbound is healthy without the app", async {
        same(
            "status",
            204,
            a.get("/v1.0/healthz/outbound").await?.status(),
        )
    })
    .await;
    rows.row("SI-110", "health before and after the app listens", async {
        error(
            &a.get("/v1.0/healthz").await?,
            500,
            "ERR_HEALTH_NOT_READY",
            "dapr is not ready: [runtime]",
        )?;
        let _app = ironside_testkit::http::Setup::new(|_| Answer::text("ok"))
            .port(port)
            .start()
            .await?;
        a.healthy("/v1.0/healthz").await
    })
    .await;
    rows.row("SI-112", "health asked for another app", async {
        let reply = a.get("/v1.0/healthz?appid=other").await?;
        error(
            &reply,
            500,
            "ERR_HEALTH_APPID_NOT_MATCH",
            "dapr app-id does not match",
        )?;
        same(
            "own id",
            204,
            a.get("/v1.0/healthz?appid=appA").await?.status(),
        )
    })
    .await;
    rows.row("SI-113", "metadata on the API and the public port", async {
        for asked in [a.http(), public] {
            let reply = send(asked, &Request::get("/v1.0/metadata")).await?;
            same(
                "status",
                (200, Some("application/json")),
                (reply.status(), reply.header("content-type")),
            )?;
            let body: serde_json::Value = serde_json::from_str(&reply.text())?;
            same("id", Some("appA"), body["id"].as_str())?;
            ensure!(
                body["runtimeVersion"].is_string()
                    && body["extended"]["daprRuntimeVersion"].is_string(),
                "{body}"
            );
            let app = &body["appConnectionProperties"];
            same(
                "app",
                (Some(u64::from(port)), Some("http")),
                (app["port"].as_u64(), app["protocol"].as_str()),
            )?;
            same("address", Some("127.0.0.1"), app["channelAddress"].as_str())?;
        }
        Ok(())
    })
    .await;
    rows.row(
        "SI-114",
        "a label is set and read, over HTTP and gRPC",
        async {
            same(
                "set",
                204,
                a.send(&Request::new("PUT", "/v1.0/metadata/k").body("v"))
                    .await?
                    .status(),
            )?;
            let body: serde_json::Value =
                serde_json::from_str(&a.get("/v1.0/metadata").await?.text())?;
            same("over HTTP", Some("v"), body["extended"]["k"].as_str())?;
            let client = a.client().await?;
            let get = || async {
                let path = "/dapr.proto.runtime.v1.Dapr/GetMetadata";
                let reply = client
                    .call(path, &[], &[&GetMetadataRequest::default().encode_to_vec()])
                    .await?;
                anyhow::Ok(GetMetadataResponse::decode(reply.messages[0].as_slice())?)
            };
            same(
                "over gRPC",
                Some("v"),
                get().await?.extended_metadata.get("k").map(String::as_str),
            )?;
            let set = SetMetadataRequest {
                key: "k".to_owned(),
                value: "w".to_owned(),
            };
            let reply = client
                .call(
                    "/dapr.proto.runtime.v1.Dapr/SetMetadata",
                    &[],
                    &[&set.encode_to_vec()],
                )
                .await?;
            same("set over gRPC", Some(0), reply.code())?;
            same(
                "read back",
                Some("w"),
                get().await?.extended_metadata.get("k").map(String::as_str),
            )
        },
    )
    .await;
    rows.close();
}

#[tokio::test]
async fn shutdown_by_api() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-115", "the shutdown API ends with 0", async {
        let mut a = Spec::new("appA").start(&world).await?;
        same(
            "status",
            204,
            a.send(&Request::post("/v1.0/shutdown", "")).await?.status(),
        )?;
        same("exit", Some(0), a.program.exit(wait::LONG).await?.code())?;
        let mut a = Spec::new("appA").start(&world).await?;
        let reply = a
            .client()
            .await?
            .call("/dapr.proto.runtime.v1.Dapr/Shutdown", &[], &[b""])
            .await?;
        same("over gRPC", Some(0), reply.code())?;
        same("exit", Some(0), a.program.exit(wait::LONG).await?.code())
    })
    .await;
    rows.row("SI-116", "forced, it ends with 1", async {
        let mut a = Spec::new("appA").start(&world).await?;
        let request = Request::new("POST", "/v1.0/shutdown").header("dapr-force-shutdown", "True");
        same("status", 204, a.send(&request).await?.status())?;
        same("exit", Some(1), a.program.exit(wait::LONG).await?.code())
    })
    .await;
    rows.close();
}

fn preflight(origin: &str) -> Request {
    let asked = Request::new("OPTIONS", "/v1.0/metadata").header("Origin", origin);
    asked.header("Access-Control-Request-Method", "GET")
}

#[tokio::test]
async fn cors() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-117", "no origins, no CORS", async {
        let a = Spec::new("appA").start(&world).await?;
        let reply = a.send(&preflight("https://x")).await?;
        no_target(&reply)?;
        let cors = reply
            .head
            .headers
            .iter()
            .filter(|(name, _)| name.to_ascii_lowercase().starts_with("access-control"));
        same("CORS headers", 0, cors.count())
    })
    .await;
    rows.row(
        "SI-118",
        "a preflight is answered before the token is asked for",
        async {
            let spec = Spec::new("appA")
                .flag("--allowed-origins", "https://x")
                .env("DAPR_API_TOKEN", "t");
            let a = spec.start(&world).await?;
            for (origin, allowed) in [("https://x", Some("https://x")), ("https://y", None)] {
                let reply = a.send(&preflight(origin)).await?;
                same(
                    origin,
                    (200, allowed),
                    (reply.status(), reply.header("access-control-allow-origin")),
                )?;
                ensure!(reply.header("vary").is_some(), "no Vary for {origin}");
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}

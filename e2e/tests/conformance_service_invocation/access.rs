//! Tokens, access lists and protocols of the API: SI-119 to SI-127.

use ironside_e2e::{Rows, Spec};
use ironside_testkit::{
    grpc::GrpcClient,
    http::{Answer, HttpApp, Request, send},
};

use crate::rig::{Rig, contains, dead_port, invoke, no_target, same};

#[tokio::test]
async fn tokens() {
    let rig = Rig::start_with(|spec| spec.env("DAPR_API_TOKEN", "t"))
        .await
        .unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-119", "a token is demanded and not passed on", async {
        for wrong in [
            invoke("GET", "appB", "foo"),
            invoke("GET", "appB", "foo").header("dapr-api-token", "x"),
        ] {
            let reply = rig.refused(&wrong).await?;
            same(
                "refused",
                (401, "invalid api token\n"),
                (reply.status(), &reply.text()),
            )?;
        }
        let (reply, seen) = rig
            .through(&invoke("GET", "appB", "foo").header("dapr-api-token", "t"))
            .await?;
        same(
            "status and header",
            (200, None),
            (reply.status(), seen.header("dapr-api-token")),
        )
    })
    .await;
    rows.row("SI-120", "health by GET needs no token", async {
        same("GET", 204, rig.a.get("/v1.0/healthz").await?.status())?;
        same(
            "outbound",
            204,
            rig.a.get("/v1.0/healthz/outbound").await?.status(),
        )?;
        same(
            "PUT",
            401,
            rig.a
                .send(&Request::new("PUT", "/v1.0/healthz"))
                .await?
                .status(),
        )
    })
    .await;
    rows.row("SI-121", "a token is demanded over gRPC", async {
        let client = rig.a.client().await?;
        for (metadata, why) in [
            (&[][..], "missing api token in request metadata"),
            (
                &[("dapr-api-token", "x")][..],
                "authentication error: api token mismatch",
            ),
        ] {
            for path in ["/dapr.proto.runtime.v1.Dapr/GetMetadata", "/greet.G/Hi"] {
                let reply = client.call(path, metadata, &[b""]).await?;
                same(
                    path,
                    (Some(16), "Unauthorized"),
                    (reply.code(), &reply.message()),
                )?;
                let details = details(reply.trailer("grpc-status-details-bin").unwrap_or_default());
                for part in [
                    "google.rpc.ErrorInfo",
                    "dapr.io",
                    "Unauthorized",
                    "http.code",
                    "401",
                    why,
                ] {
                    contains(path, &details, part)?;
                }
            }
        }
        let good = [("dapr-api-token", "t"), ("dapr-app-id", "appG")];
        same(
            "right",
            Some(0),
            client.call("/greet.G/Hi", &good, &[b"hi"]).await?.code(),
        )
    })
    .await;
    rows.row("SI-122", "each app gets its own token", async {
        let app = HttpApp::start(|_| Answer::text("ok")).await?;
        let own = |id: &str, token: &str| Spec::new(id).app(app.port()).env("APP_API_TOKEN", token);
        let caller = own("callerApp", "callers").ready(&rig.world).await?;
        let _callee = own("calleeApp", "callees").ready(&rig.world).await?;
        let request = invoke("GET", "calleeApp", "foo").header("dapr-api-token", "clients");
        caller.send(&request).await?;
        same(
            "token",
            vec!["callees"],
            app.take()[0].head.all("dapr-api-token"),
        )
    })
    .await;
    rows.row(
        "SI-123",
        "the public port needs no token and serves little",
        async {
            let public = dead_port();
            let spec = Spec::new("open")
                .env("DAPR_API_TOKEN", "t")
                .flag("--dapr-public-port", &public.to_string());
            let _open = spec
                .flag("--dapr-public-listen-address", "127.0.0.1")
                .start(&rig.world)
                .await?;
            same(
                "health",
                204,
                send(public, &Request::get("/v1.0/healthz")).await?.status(),
            )?;
            same(
                "metadata",
                200,
                send(public, &Request::get("/v1.0/metadata"))
                    .await?
                    .status(),
            )?;
            let reply = send(public, &invoke("GET", "appB", "foo")).await?;
            same(
                "others",
                (404, "404 page not found"),
                (reply.status(), reply.text().trim_end()),
            )
        },
    )
    .await;
    rows.close();
}

fn details(text: &str) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    String::from_utf8_lossy(
        &engine
            .decode(text.trim_end_matches('='))
            .unwrap_or_default(),
    )
    .into_owned()
}

#[tokio::test]
async fn access_lists() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    let list = |kind: &str, name: &str, version: &str, protocol: &str| {
        format!(
            "  api:\n    {kind}:\n    - name: {name}\n      version: {version}\n      protocol: {protocol}\n"
        )
    };
    rows.row("SI-124", "a denied route falls to the invocation", async {
        let a = Spec::new("denied")
            .configure(&list("denied", "metadata", "v1.0", "http"))
            .start(&rig.world)
            .await?;
        no_target(&a.get("/v1.0/metadata").await?)?;
        same("health", 204, a.get("/v1.0/healthz").await?.status())
    })
    .await;
    rows.row(
        "SI-125",
        "without invocation there is nothing to fall to",
        async {
            let a = Spec::new("allowed")
                .configure(&list("allowed", "state", "v1.0", "http"))
                .start(&rig.world)
                .await?;
            let reply = a.send(&invoke("GET", "appB", "foo")).await?;
            same(
                "answer",
                (404, "404 page not found"),
                (reply.status(), reply.text().trim_end()),
            )
        },
    )
    .await;
    rows.row(
        "SI-126",
        "a gRPC list blocks the API, never proxied calls",
        async {
            let a = Spec::new("grpcOnly")
                .configure(&list("allowed", "state", "v1", "grpc"))
                .start(&rig.world)
                .await?;
            let client = a.client().await?;
            let reply = client
                .call(crate::from_grpc::INVOKE_SERVICE, &[], &[b""])
                .await?;
            same(
                "API",
                (Some(12), "Not Implemented"),
                (reply.code(), &reply.message()),
            )?;
            contains(
                "details",
                &details(reply.trailer("grpc-status-details-bin").unwrap_or_default()),
                "requested endpoint is not available",
            )?;
            let reply = client
                .call("/greet.G/Hi", &[("dapr-app-id", "appG")], &[b"hi"])
                .await?;
            same("proxied", Some(0), reply.code())
        },
    )
    .await;
    rows.row(
        "SI-127",
        "h2c by prior knowledge; an upgrade is answered over HTTP/1.1",
        async {
            let client = GrpcClient::connect(rig.a.http()).await?;
            let mut call = client.open("/v1.0/invoke/appB/method/foo", &[]).await?;
            call.half_close();
            call.headers().await;
            same("prior knowledge", 200, call.finish().await.http_status)?;
            let upgrade =
                invoke("GET", "appB", "foo").header("Connection", "Upgrade, HTTP2-Settings");
            let (reply, seen) = rig
                .through(
                    &upgrade
                        .header("Upgrade", "h2c")
                        .header("HTTP2-Settings", "AAMAAABkAAQAoAAA"),
                )
                .await?;
            // The reference switches with 101; ours ignores the offer, as a server may.
            same(
                "upgrade",
                (200, "HTTP/1.1"),
                (reply.status(), reply.head.word(0)),
            )?;
            same(
                "not passed on",
                (None, None),
                (seen.header("upgrade"), seen.header("http2-settings")),
            )
        },
    )
    .await;
    rows.close();
}

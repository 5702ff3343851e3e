//! Proxied gRPC: SI-084 to SI-098, SI-159.

use anyhow::{Result, ensure};
use ironside_e2e::{Rows, Spec, wait};
use ironside_testkit::grpc::{GrpcApp, GrpcClient, GrpcReply};

use crate::rig::{Rig, contains, greeter, same};

async fn proxied(
    rig: &Rig,
    path: &str,
    metadata: &[(&str, &str)],
    messages: &[&[u8]],
) -> Result<GrpcReply> {
    Ok(rig.a.client().await?.call(path, metadata, messages).await?)
}

const TO_G: [(&str, &str); 1] = [("dapr-app-id", "appG")];

#[tokio::test]
async fn proxied_calls() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    calls(&rig, &mut rows).await;
    errors(&rig, &mut rows).await;
    rows.close();
}

async fn calls(rig: &Rig, rows: &mut Rows) {
    rows.row("SI-084", "a unary call by dapr-app-id", async {
        drop(rig.app_g.take());
        let reply = proxied(
            rig,
            "/greet.G/Hi",
            &[("dapr-app-id", "appG"), ("x-b-bin", "AQI")],
            &[b"hi"],
        )
        .await?;
        same(
            "answer",
            (Some(0), vec![b"hi".to_vec()]),
            (reply.code(), reply.messages),
        )?;
        let seen = rig.app_g.take().remove(0);
        same("caller", vec!["appA"], seen.all("dapr-caller-app-id"))?;
        same("callee", vec!["appG"], seen.all("dapr-callee-app-id"))?;
        same(
            "not there",
            (None, None),
            (
                seen.header("dapr-app-id"),
                seen.header("dapr-caller-namespace"),
            ),
        )?;
        same(
            "binary",
            Some("AQI"),
            seen.header("x-b-bin")
                .map(|value| value.trim_end_matches('=')),
        )
    })
    .await;
    rows.row("SI-085", "only dapr-callee-app-id", async {
        let reply = proxied(
            rig,
            "/greet.G/Hi",
            &[("dapr-callee-app-id", "appG")],
            &[b"hi"],
        )
        .await?;
        same(
            "answer",
            (Some(0), vec![b"hi".to_vec()]),
            (reply.code(), reply.messages),
        )
    })
    .await;
    rows.row("SI-086", "streams of all three kinds", async {
        let reply = proxied(rig, "/greet.G/Collect", &TO_G, &[b"a", b"b", b"c"]).await?;
        same(
            "client",
            (Some(0), vec![b"abc".to_vec()]),
            (reply.code(), reply.messages),
        )?;
        let reply = proxied(rig, "/greet.G/Spread", &TO_G, &[b"xyz"]).await?;
        same(
            "server",
            (vec![b"x".to_vec(), b"y".to_vec(), b"z".to_vec()], Some("2")),
            (reply.messages.clone(), reply.trailer("x-trail")),
        )?;
        let client = rig.a.client().await?;
        let mut call = client.open("/greet.G/Echo", &TO_G).await?;
        for number in 0..5_u8 {
            call.send(&[number]);
            same(
                "both: answered before the next",
                Some(vec![number]),
                call.message().await,
            )?;
        }
        call.half_close();
        let reply = call.finish().await;
        same(
            "both: end",
            (Some(0), Some("2")),
            (reply.code(), reply.trailer("x-trail")),
        )
    })
    .await;
    rows.row(
        "SI-095",
        "a callee that restarts between two calls",
        async {
            let app = GrpcApp::start(greeter).await?;
            let spec = Spec::new("phoenix").app(app.port()).protocol("grpc");
            let mut callee = spec.ready(&rig.world).await?;
            let client = rig.a.client().await?;
            let to = [("dapr-app-id", "phoenix")];
            same(
                "before",
                Some(0),
                client.call("/greet.G/Hi", &to, &[b"1"]).await?.code(),
            )?;
            callee.program.stop().await?;
            let _again = spec.ready(&rig.world).await?;
            same(
                "after",
                Some(0),
                client.call("/greet.G/Hi", &to, &[b"2"]).await?.code(),
            )
        },
    )
    .await;
    rows.row(
        "SI-096",
        "an id with namespace: the callee header has none",
        async {
            drop(rig.app_g.take());
            let reply =
                proxied(rig, "/greet.G/Hi", &[("dapr-app-id", "appG.ns2")], &[b"hi"]).await?;
            same("code", Some(0), reply.code())?;
            same(
                "callee",
                vec!["appG"],
                rig.app_g.take()[0].all("dapr-callee-app-id"),
            )
        },
    )
    .await;
    rows.row(
        "SI-098",
        "reflection on the API port, not on the internal one",
        async {
            // ServerReflectionRequest { list_services: "" }
            const LIST: &[u8] = &[0x3a, 0x00];
            const PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
            let api = rig.a.client().await?.call(PATH, &[], &[LIST]).await?;
            same("code", Some(0), api.code())?;
            let text = String::from_utf8_lossy(api.messages.first().map_or(&[][..], Vec::as_slice))
                .into_owned();
            contains("services", &text, "dapr.proto.runtime.v1.Dapr")?;
            // The reference has it there too; ours tells peers nothing (security.md O-C11).
            let internal = GrpcClient::connect(rig.a.internal())
                .await?
                .call(PATH, &[], &[LIST])
                .await?;
            ensure!(
                internal.code() != Some(0),
                "the internal port answers reflection"
            );
            Ok(())
        },
    )
    .await;
}

async fn errors(rig: &Rig, rows: &mut Rows) {
    rows.row("SI-087", "no target", async {
        let reply = proxied(rig, "/greet.G/Hi", &[], &[b"hi"]).await?;
        same("code", Some(2), reply.code())?;
        contains(
            "message",
            &reply.message(),
            "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata",
        )
    })
    .await;
    rows.row("SI-088", "an unknown app", async {
        let reply = proxied(rig, "/greet.G/Hi", &[("dapr-app-id", "nosuch")], &[b"hi"]).await?;
        same(
            "answer",
            (Some(2), "no host found with the given ID"),
            (reply.code(), &reply.message()),
        )
    })
    .await;
    rows.row("SI-089", "an error of the app", async {
        let reply = proxied(rig, "/greet.G/Fail", &TO_G, &[b"hi"]).await?;
        same(
            "answer",
            (Some(9), "precond x", Some("1")),
            (reply.code(), &reply.message(), reply.trailer("x-t")),
        )?;
        let details = reply
            .trailer("grpc-status-details-bin")
            .map(|value| value.trim_end_matches('='));
        same("details", Some("CAkSBmZwIG1zZw"), details)
    })
    .await;
    rows.row("SI-091", "a message above the limit", async {
        let large = vec![b'z'; (4 << 20) + 1];
        let reply = proxied(rig, "/greet.G/Hi", &TO_G, &[&large]).await?;
        same("code", Some(8), reply.code())?;
        contains(
            "message",
            &reply.message(),
            "grpc: received message larger than max (4194305 vs. 4194304)",
        )
    })
    .await;
    rows.row("SI-097", "the health service is not there", async {
        let reply = proxied(rig, "/grpc.health.v1.Health/Check", &[], &[b""]).await?;
        same("code", Some(2), reply.code())
    })
    .await;
    rows.row("SI-159", "an HTTP app as target", async {
        let call = proxied(rig, "/greet.G/Hi", &[("dapr-app-id", "appB")], &[b"hi"]);
        let reply = wait::within("answer", wait::LONG, call).await??;
        same("code", Some(14), reply.code())?;
        ensure!(
            reply.message().contains("connection error"),
            "{}",
            reply.message()
        );
        Ok(())
    })
    .await;
}

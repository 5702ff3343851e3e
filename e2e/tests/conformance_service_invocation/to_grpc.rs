//! HTTP callers, gRPC apps: SI-066 to SI-071, SI-156. Holds the OnInvoke of the rig's gRPC app as well.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use ironside_e2e::Rows;
use ironside_proto::{
    common::{InvokeRequest, InvokeResponse},
    google::protobuf::Any,
};
use ironside_testkit::grpc::{Exchange, GrpcSeen};
use prost::Message as _;

use crate::rig::{Rig, contains, invoke, same};

/// Decodes the only call that an app got.
pub(crate) fn invoked(seen: &[GrpcSeen]) -> Result<InvokeRequest> {
    ensure!(seen.len() == 1, "the gRPC app got {} calls", seen.len());
    Ok(InvokeRequest::decode(
        seen[0].messages.first().context("no message")?.as_slice(),
    )?)
}

/// Answers by method.
pub(crate) async fn on_invoke(mut call: Exchange) {
    let request = InvokeRequest::decode(call.message().await.unwrap_or_default().as_slice())
        .unwrap_or_default();
    let data = request.data.unwrap_or_default();
    match request.method.as_str() {
        "nf" => call.end(5, "not here", &[("x-err", "1")]),
        "unimplemented" => call.end(12, "", &[]),
        "details" => {
            call.begin_reply(&[("x-init", "1")]);
            call.end(
                9,
                "fp msg",
                &[
                    ("x-trail", "2"),
                    ("grpc-status-details-bin", "CAkSBmZwIG1zZw"),
                ],
            );
        }
        "typed" => answer(&mut call, data.type_url, data.value, ""),
        "large" => answer(&mut call, String::new(), vec![b'z'; 4 << 20].into(), "x/y"),
        "slow" => call.cancelled().await,
        _ => {
            call.begin_reply(&[("x-init", "1")]);
            call.reply(&response(String::new(), data.value, "x/echo"));
            call.end(0, "", &[("x-trail", "2")]);
        }
    }
}

fn answer(call: &mut Exchange, type_url: String, value: Bytes, content_type: &str) {
    call.begin_reply(&[]);
    call.reply(&response(type_url, value, content_type));
    call.end(0, "", &[]);
}

fn response(type_url: String, value: Bytes, content_type: &str) -> Vec<u8> {
    InvokeResponse {
        data: Some(Any { type_url, value }),
        content_type: content_type.to_owned(),
    }
    .encode_to_vec()
}

#[tokio::test]
async fn http_callers_of_grpc_apps() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-066", "OK with a content type", async {
        let reply = rig
            .a
            .send(&invoke("POST", "appG", "echo").body("data"))
            .await?;
        same(
            "answer",
            (200, Some("x/echo")),
            (reply.status(), reply.header("content-type")),
        )?;
        same("body", "data", &reply.text())
    })
    .await;
    rows.row(
        "SI-067",
        "NotFound becomes 404 with the code in JSON",
        async {
            let reply = rig.a.send(&invoke("GET", "appG", "nf")).await?;
            same("status", 404, reply.status())?;
            contains("body", &reply.text(), "\"code\":5")?;
            contains("body", &reply.text(), "\"message\":\"not here\"")
        },
    )
    .await;
    rows.row("SI-068", "an app without OnInvoke becomes 501", async {
        let reply = rig.a.send(&invoke("GET", "appG", "unimplemented")).await?;
        same("status", 501, reply.status())?;
        contains("body", &reply.text(), "\"code\":12")
    })
    .await;
    rows.row("SI-069 SI-156", "metadata of the app", async {
        drop(rig.app_g.take());
        let request = invoke("POST", "appG", "m")
            .header("Content-Type", "a/b")
            .header("X-A", "1");
        rig.a
            .send(&request.header("X-Data-Bin", "AQI=").body("{}"))
            .await?;
        let seen = rig.app_g.take();
        same("type", Some("a/b"), seen[0].header("dapr-content-type"))?;
        same("custom", Some("1"), seen[0].header("x-a"))?;
        ensure!(seen[0].header("traceparent").is_some(), "no traceparent");
        ensure!(
            seen[0].header("grpc-trace-bin").is_some(),
            "no grpc-trace-bin"
        );
        // The text itself becomes the binary value: QVFJPQ is AQI=.
        same(
            "binary",
            Some("QVFJPQ"),
            seen[0]
                .header("x-data-bin")
                .map(|value| value.trim_end_matches('=')),
        )?;
        same(
            "content type of the message",
            "a/b",
            &invoked(&seen)?.content_type,
        )
    })
    .await;
    rows.row("SI-070", "a type URL in the answer", async {
        let request = ironside_proto::runtime::InvokeServiceRequest {
            id: "appG".to_owned(),
            message: Some(InvokeRequest {
                method: "typed".to_owned(),
                data: Some(Any {
                    type_url: "t/Q".to_owned(),
                    value: Bytes::from_static(b"pb"),
                }),
                ..InvokeRequest::default()
            }),
        };
        let client = rig.a.client().await?;
        let reply = client
            .call(
                crate::from_grpc::INVOKE_SERVICE,
                &[],
                &[&request.encode_to_vec()],
            )
            .await?;
        let direct = InvokeResponse::decode(reply.messages[0].as_slice())?;
        same(
            "over gRPC",
            "t/Q",
            direct.data.unwrap_or_default().type_url.as_str(),
        )?;
        // An HTTP caller cannot set one; the app's own does it.
        let typed = GrpcTyped::start(&rig).await?;
        let reply = rig.a.send(&invoke("GET", "typed", "x")).await?;
        drop(typed);
        same(
            "over HTTP",
            (200, Some("application/x-protobuf")),
            (reply.status(), reply.header("content-type")),
        )
    })
    .await;
    rows.row("SI-071", "an answer above the limit becomes 429", async {
        let reply = rig.a.send(&invoke("GET", "appG", "large")).await?;
        same("status", 429, reply.status())?;
        contains("body", &reply.text(), "received message larger than max")
    })
    .await;
    rows.close();
}

/// A gRPC app that always answers with a type URL, behind a sidecar of its own.
struct GrpcTyped {
    _app: ironside_testkit::grpc::GrpcApp,
    _sidecar: ironside_e2e::Sidecar,
}

impl GrpcTyped {
    async fn start(rig: &Rig) -> Result<Self> {
        let app = ironside_testkit::grpc::GrpcApp::start(|mut call| {
            Box::pin(async move {
                call.message().await;
                answer(&mut call, "t/Q".to_owned(), Bytes::from_static(b"pb"), "");
            })
        })
        .await?;
        let spec = ironside_e2e::Spec::new("typed")
            .app(app.port())
            .protocol("grpc");
        let sidecar = spec.ready(&rig.world).await?;
        Ok(Self {
            _app: app,
            _sidecar: sidecar,
        })
    }
}

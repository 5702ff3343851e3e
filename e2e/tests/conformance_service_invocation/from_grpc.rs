//! gRPC callers by `InvokeService`: SI-072 to SI-083.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use bytes::Bytes;
use ironside_e2e::{Rows, wait};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest, InvokeResponse, http_extension::Verb},
    google::protobuf::Any,
    runtime::InvokeServiceRequest,
};
use ironside_testkit::grpc::GrpcReply;
use prost::Message as _;

use crate::rig::{Rig, contains, same};

pub(crate) const INVOKE_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";

/// The request for a method, with a verb.
fn request(id: &str, method: &str) -> InvokeServiceRequest {
    InvokeServiceRequest {
        id: id.to_owned(),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            data: Some(Any {
                type_url: String::new(),
                value: Bytes::from_static(b"{}"),
            }),
            content_type: "application/json".to_owned(),
            http_extension: Some(HttpExtension {
                verb: Verb::Post.into(),
                querystring: "q=1".to_owned(),
            }),
        }),
    }
}

async fn call(
    rig: &Rig,
    request: &InvokeServiceRequest,
    metadata: &[(&str, &str)],
) -> Result<GrpcReply> {
    let client = rig.a.client().await?;
    Ok(client
        .call(INVOKE_SERVICE, metadata, &[&request.encode_to_vec()])
        .await?)
}

/// The status details as bytes, which hold the texts of an ErrorInfo in clear.
fn details(reply: &GrpcReply) -> String {
    let text = reply
        .trailer("grpc-status-details-bin")
        .unwrap_or_default()
        .trim_end_matches('=');
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(text)
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn callers_over_grpc() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    http_apps(&rig, &mut rows).await;
    grpc_apps(&rig, &mut rows).await;
    rows.close();
}

async fn http_apps(rig: &Rig, rows: &mut Rows) {
    rows.row("SI-072", "an HTTP app answers 201", async {
        let reply = call(rig, &request("appB", "status/201"), &[]).await?;
        same("code", Some(0), reply.code())?;
        same("status", Some("201"), reply.header("dapr-http-status"))?;
        same(
            "type",
            Some("text/plain"),
            reply.header("dapr-content-type"),
        )?;
        let message = InvokeResponse::decode(reply.messages[0].as_slice())?;
        same("content type", "text/plain", message.content_type.as_str())?;
        same(
            "data",
            &b"body of 201"[..],
            &message.data.unwrap_or_default().value,
        )
    })
    .await;
    rows.row("SI-073 SI-074", "error codes of an HTTP app", async {
        for (status, code, text) in [
            (404, 5, "Not Found"),
            (400, 13, "Bad Request"),
            (500, 2, "Internal Server Error"),
            (301, 2, "Moved Permanently"),
        ] {
            let reply = call(rig, &request("appB", &format!("status/{status}")), &[]).await?;
            same(
                "code and message",
                (Some(code), text),
                (reply.code(), &reply.message()),
            )?;
            same(
                "status",
                Some(status.to_string().as_str()),
                reply.header("dapr-http-status"),
            )?;
            let details = details(&reply);
            for part in [
                "google.rpc.ErrorInfo",
                "dapr.io",
                "http.code",
                "http.error_message",
            ] {
                contains("details", &details, part)?;
            }
            contains("details", &details, &format!("body of {status}"))?;
        }
        Ok(())
    })
    .await;
    rows.row("SI-075", "63 bytes of an error body are kept", async {
        let body = "abc".repeat(40);
        let app = ironside_testkit::http::HttpApp::start(move |_| {
            ironside_testkit::http::Answer::status(404).body(&body)
        });
        let app = app.await?;
        let _sidecar = ironside_e2e::Spec::new("wordy")
            .app(app.port())
            .ready(&rig.world)
            .await?;
        let details = details(&call(rig, &request("wordy", "x"), &[]).await?);
        contains("details", &details, &"abc".repeat(21))?;
        ensure!(
            !details.contains(&format!("{}a", "abc".repeat(21))),
            "more than 63 bytes: {details:?}"
        );
        Ok(())
    })
    .await;
    rows.row("SI-076", "an HTTP app needs a verb", async {
        let mut bare = request("appB", "foo");
        bare.message.as_mut().unwrap().http_extension = None;
        let reply = call(rig, &bare, &[]).await?;
        same("code", Some(13), reply.code())?;
        contains("message", &reply.message(), "missing HTTP extension field")?;
        let mut none = request("appB", "foo");
        none.message.as_mut().unwrap().http_extension = Some(HttpExtension::default());
        contains(
            "message",
            &call(rig, &none, &[]).await?.message(),
            "invalid HTTP verb",
        )
    })
    .await;
    rows.row(
        "SI-080",
        "a method is cleaned, never percent-decoded",
        async {
            for (method, path) in [
                ("a%2Fb", "/a%2Fb"),
                ("public/", "/public"),
                ("a/../b", "/b"),
                ("a///b", "/a/b"),
            ] {
                drop(rig.app_b.take());
                call(rig, &request("appB", method), &[]).await?;
                same(
                    method,
                    format!("{path}?q=1").as_str(),
                    rig.app_b.take()[0].path(),
                )?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("SI-082", "what an HTTP app sees of a gRPC caller", async {
        drop(rig.app_b.take());
        let mut typed = request("appB", "foo");
        typed.message.as_mut().unwrap().content_type = "text/x".to_owned();
        call(rig, &typed, &[("x-a", "1")]).await?;
        let seen = rig.app_b.take().remove(0);
        let authority = format!("localhost:{}", rig.a.grpc());
        same(
            "authority",
            Some(authority.as_str()),
            seen.header("dapr-authority"),
        )?;
        same(
            "type and custom",
            (Some("text/x"), Some("1")),
            (seen.header("content-type"), seen.header("x-a")),
        )?;
        same("caller", vec!["appA"], seen.head.all("dapr-caller-app-id"))
    })
    .await;
    rows.row("SI-083", "a deadline reaches a slow HTTP app", async {
        drop(rig.app_b.take());
        let slow = request("appB", "gate");
        let reply = call(rig, &slow, &[("grpc-timeout", "500m")]).await?;
        // The reference resets the stream: the client's own clock then says DeadlineExceeded.
        ensure!(
            reply.code() == Some(4) || (reply.code().is_none() && reply.broken.is_some()),
            "{reply:?}"
        );
        wait::within(
            "cancellation at the app",
            Duration::from_secs(3),
            rig.app_b.cancelled(),
        )
        .await
    })
    .await;
}

async fn grpc_apps(rig: &Rig, rows: &mut Rows) {
    rows.row("SI-077", "an error of a gRPC app arrives verbatim", async {
        let reply = call(rig, &request("appG", "details"), &[]).await?;
        same(
            "code and message",
            (Some(9), "fp msg"),
            (reply.code(), &reply.message()),
        )?;
        let details = reply
            .trailer("grpc-status-details-bin")
            .map(|value| value.trim_end_matches('='));
        same("details", Some("CAkSBmZwIG1zZw"), details)?;
        same(
            "header and trailer",
            (Some("1"), Some("2")),
            (reply.header("x-init"), reply.trailer("x-trail")),
        )
    })
    .await;
    rows.row("SI-081", "type URLs survive both ways", async {
        drop(rig.app_g.take());
        let mut typed = request("appG", "typed");
        let message = typed.message.as_mut().unwrap();
        message.data = Some(Any {
            type_url: "type.x/Q".to_owned(),
            value: Bytes::from_static(b"zz"),
        });
        let reply = call(rig, &typed, &[]).await?;
        let seen = crate::to_grpc::invoked(&rig.app_g.take())?;
        same(
            "in the request",
            "type.x/Q",
            seen.data.unwrap_or_default().type_url.as_str(),
        )?;
        let back = InvokeResponse::decode(reply.messages[0].as_slice())?
            .data
            .unwrap_or_default();
        same(
            "in the answer",
            ("type.x/Q", &b"zz"[..]),
            (back.type_url.as_str(), &back.value),
        )
    })
    .await;
}

//! What a denied caller sees: SI-078, SI-079, SI-090.

use bytes::Bytes;
use ironside_e2e::{Rows, Sentry, Spec, World};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest, http_extension::Verb},
    google::protobuf::Any,
    runtime::InvokeServiceRequest,
};
use ironside_testkit::http::{Answer, HttpApp};
use prost::Message as _;

use crate::{
    from_grpc::INVOKE_SERVICE,
    rig::{contains, invoke, same},
};

/// Nobody may call anything.
const CLOSED: &str = "  accessControl:\n    defaultAction: deny\n";
const DENIED: &str =
    "access control policy has denied access to id: spiffe://public/ns/default/appA operation: ";

#[tokio::test]
async fn denials() {
    let world = World::new();
    let sentry = Sentry::start(&world).await.unwrap();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let a = Spec::new("appA").mtls(&sentry).start(&world).await.unwrap();
    let b = Spec::new("appB")
        .app(app.port())
        .mtls(&sentry)
        .configure(CLOSED)
        .ready(&world)
        .await
        .unwrap();
    let client = a.client().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-078",
        "InvokeService hides the code, not the text",
        async {
            let request = InvokeServiceRequest {
                id: "appB".to_owned(),
                message: Some(InvokeRequest {
                    method: "x".to_owned(),
                    data: Some(Any {
                        type_url: String::new(),
                        value: Bytes::new(),
                    }),
                    content_type: String::new(),
                    http_extension: Some(HttpExtension {
                        verb: Verb::Post.into(),
                        querystring: String::new(),
                    }),
                }),
            };
            let reply = client
                .call(INVOKE_SERVICE, &[], &[&request.encode_to_vec()])
                .await?;
            same("code", Some(13), reply.code())?;
            contains(
                "message",
                &reply.message(),
                "code = PermissionDenied desc = ",
            )?;
            contains(
                "message",
                &reply.message(),
                &format!("{DENIED}x verb: POST"),
            )?;
            same("calls of the app", 0, app.take().len())
        },
    )
    .await;
    rows.row("SI-079", "an HTTP call is a 403 with body E9", async {
        let reply = a.send(&invoke("GET", "appB", "x")).await?;
        same("status", 403, reply.status())?;
        let body = format!(
            r#"{{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: appB, err: rpc error: code = PermissionDenied desc = {DENIED}x verb: GET"}}"#
        );
        same("body", body, reply.text())?;
        same("calls of the app", 0, app.take().len())
    })
    .await;
    rows.row(
        "SI-090",
        "a proxied call is PermissionDenied, verb NONE",
        async {
            let reply = client
                .call("/greet.G/Hi", &[("dapr-app-id", "appB")], &[b"hi"])
                .await?;
            same("code", Some(7), reply.code())?;
            same(
                "message",
                format!("{DENIED}/greet.G/Hi verb: NONE"),
                reply.message(),
            )?;
            same("calls of the app", 0, app.take().len())
        },
    )
    .await;
    drop(b);
    rows.close();
}

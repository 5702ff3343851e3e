//! Peers that are genuine and mean ill: relays, reserved services, forged names, odd paths and odd identities.
//! K162 to K168, K172 to K174.

use anyhow::{Result, ensure};
use ironside_e2e::Rows;
use ironside_proto::{
    common::{InvokeRequest, http_extension::Verb},
    internals::{InternalInvokeRequest, ListStringValue},
    runtime::InvokeServiceRequest,
};
use ironside_testkit::{
    grpc::{BareClient, GrpcClient},
    http::{self, Request},
    tls,
};
use prost::Message as _;

use crate::{
    rig::{App, Callee, Form, Mesh, WEB, entry, only, same},
    roads::{INVOKE_SERVICE, Outcome, UNARY, judged, proxied, request},
};

/// Header fields of a gRPC call with this path.
fn fields<'a>(path: &'a [u8], more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    let mut fields: Vec<(&str, &[u8])> = vec![
        (":method", b"POST"),
        (":scheme", b"http"),
        (":authority", b"localhost"),
        (":path", path),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    fields.extend_from_slice(more);
    fields
}

#[tokio::test]
async fn the_internal_port_serves_its_own_app_only() {
    let mesh = Mesh::start().await.unwrap();
    let open = mesh.open_callees().await.unwrap();
    let [_, callee] = open.as_slice() else {
        panic!("two callees");
    };
    let third = mesh.callee("third", App::Grpc, |spec| spec).await.unwrap();
    let mut rows = Rows::of("security");
    rows.row("K162 K163", "a call for a third app", async {
        let peer = mesh.peer(WEB, callee).await?;
        // Its own sidecar looked whether it is there.
        let before = third.probe.connections();
        let other = format!("{}.other", callee.id());
        for metadata in [
            [("dapr-app-id", "third")].as_slice(),
            &[("dapr-callee-app-id", "third")],
            &[("dapr-app-id", "third.default")],
            &[
                ("dapr-app-id", callee.id()),
                ("dapr-callee-app-id", "third"),
            ],
            &[
                ("dapr-callee-app-id", "third"),
                ("dapr-app-id", callee.id()),
            ],
            &[("dapr-app-id", "third"), ("dapr-app-id", callee.id())],
            &[("dapr-app-id", &other)],
            &[("dapr-callee-app-id", &other)],
            &[("dapr-app-id", "nobody")],
            &[("dapr-app-id", "http://127.0.0.1:1")],
        ] {
            let reply = peer.call("/x.Y/Z", metadata, &[b"message"]).await?;
            ensure!(
                matches!(judged(&reply), Outcome::Denied(_)),
                "{metadata:?}: {}",
                judged(&reply)
            );
        }
        same("hits at the callee", 0, callee.probe.hits().len())?;
        same(
            "connections of the third",
            before,
            third.probe.connections(),
        )?;
        // Control: the third app is there, and the callee's own is served.
        let client = mesh.web.client().await?;
        let reply = client
            .call("/x.Y/Z", &[("dapr-app-id", "third")], &[b"message"])
            .await?;
        same("through a sidecar", Outcome::Delivered, judged(&reply))?;
        same("hits", 1, third.probe.hits().len())?;
        let own = [("dapr-app-id", callee.id())];
        let reply = peer.call("/x.Y/Z", &own, &[b"message"]).await?;
        same("the own app", Outcome::Delivered, judged(&reply))?;
        same("hits", 1, callee.probe.hits().len())
    })
    .await;
    rows.row(
        "K164 K165",
        "handlers that invocation reaches otherwise",
        async {
            let payload = InvokeRequest {
                method: "admin".to_owned(),
                ..InvokeRequest::default()
            }
            .encode_to_vec();
            let (peer, client) = (mesh.peer(WEB, callee).await?, mesh.web.client().await?);
            for path in [
                "/dapr.proto.runtime.v1.AppCallback/OnInvoke",
                "/dapr.proto.runtime.v1.AppCallback/OnTopicEvent",
                "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent",
                "/dapr.proto.runtime.v1.AppCallback/ListTopicSubscriptions",
                "/dapr.proto.runtime.v1.AppCallbackAlpha/OnBulkTopicEventAlpha1",
                "/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck",
                "/dapr.proto.internals.v1.Other/Call",
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "/dapr.proto.runtime.v1.AppCallback/%4fnInvoke",
                "/%64apr.proto.runtime.v1.AppCallback/OnInvoke",
                "/dapr.proto.runtime.v1.AppCallback;x/OnInvoke",
            ] {
                let to = [("dapr-app-id", callee.id())];
                let reply = peer.call(path, &to, &[&payload]).await?;
                let outcome = judged(&reply);
                ensure!(matches!(outcome, Outcome::Denied(_)), "{path}: {outcome}");
                // The API port answers reflection itself.
                if !path.starts_with("/grpc.reflection.") {
                    let outcome = judged(&client.call(path, &to, &[&payload]).await?);
                    ensure!(outcome != Outcome::Delivered, "{path}: {outcome}");
                }
            }
            same("hits", 0, callee.probe.hits().len())?;
            // Control: the handler is there for those who come the right way.
            let call = InvokeServiceRequest {
                id: callee.id().to_owned(),
                message: Some(crate::roads::message("admin", Verb::Post)),
            };
            let reply = client
                .call(INVOKE_SERVICE, &[], &[&call.encode_to_vec()])
                .await?;
            same("InvokeService", Outcome::Delivered, judged(&reply))?;
            same("the method", "admin", &only(callee.probe.hits())?.path)
        },
    )
    .await;
    rows.row("K166", "reflection on the internal port", async {
        // ServerReflectionRequest { list_services: "" }
        const LIST: &[u8] = &[0x3a, 0x00];
        for callee in &open {
            let peer = mesh.peer(WEB, callee).await?;
            for version in ["v1", "v1alpha"] {
                let path =
                    format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
                let reply = peer.call(&path, &[], &[LIST]).await?;
                same("code", Some(12), reply.code())?;
                same("messages", 0, reply.messages.len())?;
            }
        }
        Ok(())
    })
    .await;
    rows.row(
        "K172",
        "paths that are no method name",
        Box::pin(odd_paths(&mesh, callee)),
    )
    .await;
    rows.close();
}

/// Every path over both ports; the app of a callee without policy hears of none.
async fn odd_paths(mesh: &Mesh, callee: &Callee) -> Result<()> {
    let paths: &[&[u8]] = &[
        b"pkg.S/M",
        b"pkg.S",
        b"",
        b"*",
        b"/",
        b"//",
        b"/pkg.S",
        b"/pkg.S/",
        b"//pkg.S/M",
        b"/pkg.S//M",
        b"/pkg.S/M/",
        b"/pkg.S/A/../M",
        b"/pkg.S/./M",
        b"/./pkg.S/M",
        b"/../pkg.S/M",
        b"/pkg.S/..",
        b"/a/pkg.S/M",
        b"/pkg.S/M\0",
        b"/pkg.S/M\r\nx: y",
        b"/pkg.S/M\x7f",
        b"/pkg.S/\xc0\xae",
        b"http://localhost/pkg.S/M",
        b"localhost:1/pkg.S/M",
    ];
    let id = callee.id().as_bytes();
    let mut reached = Vec::new();
    for path in paths {
        let fields = fields(path, &[("dapr-app-id", id)]);
        let mut peer = mesh.bare_peer(WEB, callee).await?;
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", mesh.web.grpc())).await?;
        let mut client = BareClient::over(stream).await?;
        for (port, reply) in [
            ("internal", peer.call(&fields, &[b"message"]).await?),
            ("API", client.call(&fields, &[b"message"]).await?),
        ] {
            let what = format!("{} on the {port} port", path.escape_ascii());
            let outcome = judged(&reply);
            let hits = callee.probe.hits();
            if !hits.is_empty() || outcome == Outcome::Delivered {
                reached.push(format!("{what}: {outcome}: {hits:?}"));
            }
            // A status of gRPC, or a stream that HTTP/2 itself broke off.
            ensure!(
                matches!(reply.code(), Some(3 | 12) | None),
                "{what}: {outcome}"
            );
        }
    }
    ensure!(reached.is_empty(), "{reached:#?}");
    // Control: what they are bent from arrives over both.
    let mut peer = mesh.bare_peer(WEB, callee).await?;
    let reply = peer
        .call(&fields(b"/pkg.S/M", &[("dapr-app-id", id)]), &[b"message"])
        .await?;
    same("code", Some(0), reply.code())?;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", mesh.web.grpc())).await?;
    let outcome = proxied(BareClient::over(stream).await?, callee.id(), "/pkg.S/M").await?;
    same("API port", Outcome::Delivered, outcome)?;
    same("hits", 2, callee.probe.hits().len())
}

#[tokio::test]
async fn a_caller_is_who_its_certificate_says() {
    let mesh = Mesh::start().await.unwrap();
    let open = mesh.open_callees().await.unwrap();
    let [plain, grpc] = open.as_slice() else {
        panic!("two callees");
    };
    let mut rows = Rows::of("security");
    rows.row("K167", "a client that names another caller", async {
        let forged = [
            ("Dapr-Caller-App-Id", "admin-app"),
            ("dapr-caller-app-id", "admin-app"),
            ("DAPR-CALLER-NAMESPACE", "admin-ns"),
        ];
        for callee in &open {
            let line = format!("/v1.0/invoke/{}/method/x", callee.id());
            let request = forged
                .iter()
                .fold(Request::get(&line), |request, (name, value)| {
                    request.header(name, value)
                });
            same("HTTP", 200, mesh.web.send(&request).await?.status())?;
            web_alone(callee)?;
            let call = InvokeServiceRequest {
                id: callee.id().to_owned(),
                message: Some(crate::roads::message("x", Verb::Get)),
            };
            let client = mesh.web.client().await?;
            let metadata = [
                ("dapr-caller-app-id", "admin-app"),
                ("dapr-caller-namespace", "admin-ns"),
            ];
            let reply = client
                .call(INVOKE_SERVICE, &metadata, &[&call.encode_to_vec()])
                .await?;
            same("InvokeService", Some(0), reply.code())?;
            web_alone(callee)?;
        }
        let client = mesh.web.client().await?;
        let metadata = [
            ("dapr-app-id", grpc.id()),
            ("dapr-caller-app-id", "admin-app"),
        ];
        let reply = client.call("/x.Y/Z", &metadata, &[b""]).await?;
        same("proxied", Some(0), reply.code())?;
        web_alone(grpc)
    })
    .await;
    rows.row(
        "K168",
        "a sidecar that names another caller",
        Box::pin(async {
            for callee in &open {
                let peer = mesh.peer(WEB, callee).await?;
                let mut call = request("x", Verb::Get);
                for (name, value) in [
                    ("dapr-caller-app-id", "admin-app"),
                    ("Dapr-Caller-App-Id", "admin-app"),
                    ("DAPR-CALLER-APP-ID", "admin-app"),
                    ("dapr-caller-namespace", "admin-ns"),
                ] {
                    let values = vec![value.to_owned(), value.to_owned()];
                    call.metadata
                        .insert(name.to_owned(), ListStringValue { values });
                }
                let reply = peer.call(UNARY, &[], &[&call.encode_to_vec()]).await?;
                same("CallLocal", Some(0), reply.code())?;
                web_alone(callee)?;
            }
            let mut peer = mesh.bare_peer(WEB, grpc).await?;
            let named: [(&str, &[u8]); 3] = [
                ("dapr-app-id", grpc.id().as_bytes()),
                ("dapr-caller-app-id", b"admin-app"),
                ("dapr-caller-app-id", b"another"),
            ];
            let reply = peer.call(&fields(b"/x.Y/Z", &named), &[b""]).await?;
            same("proxied", Some(0), reply.code())?;
            web_alone(grpc)?;
            for callee in &open {
                web_is_counted(callee).await?;
            }
            Ok(())
        }),
    )
    .await;
    drop(plain.probe.hits());
    rows.close();
}

/// The app heard one caller, the genuine one.
fn web_alone(callee: &Callee) -> Result<()> {
    let hit = only(callee.probe.hits())?;
    same("caller", vec!["web"], hit.all("dapr-caller-app-id"))?;
    let namespace = hit.all("dapr-caller-namespace");
    ensure!(
        namespace.is_empty() || namespace == ["default"],
        "{namespace:?}"
    );
    ensure!(
        !hit.headers
            .iter()
            .any(|(_, value)| value.contains("admin-")),
        "{hit:?}"
    );
    Ok(())
}

/// The series name the genuine caller, and nobody else.
async fn web_is_counted(callee: &Callee) -> Result<()> {
    let reply = http::send(callee.sidecar.metrics(), &Request::get("/")).await?;
    let text = reply.text();
    let is_web = |line: &str| {
        line.starts_with("dapr_runtime_service_invocation_req_recv_total")
            && line.contains("src_app_id=\"web\"")
    };
    ensure!(text.lines().any(is_web), "{text}");
    for name in ["\"admin-app", "\"admin-ns", "\"another\""] {
        ensure!(!text.contains(name), "{name}: {text}");
    }
    Ok(())
}

/// K173, K174: identities that a lax issuer gave out.
#[tokio::test]
async fn identities_that_are_not_quite_a_name() {
    let mesh = Mesh::start().await.unwrap();
    let policy = format!(
        "{{defaultAction: deny, policies: [{}]}}",
        entry(", defaultAction: allow")
    );
    let kinds = [(App::Http, Form::Block), (App::Http, Form::Object)];
    let callees = mesh.callees("named", &kinds, &policy).await.unwrap();
    let mut rows = Rows::of("security");
    rows.row(
        "K173 K174",
        "SPIFFE IDs that are not quite the caller's",
        Box::pin(async {
            let call = request("x", Verb::Get).encode_to_vec();
            for callee in &callees {
                for id in [
                    "spiffe://public/ns/default/web/extra",
                    "spiffe://public/ns/default/web/",
                    "spiffe://public/ns/default//web",
                    "spiffe://public/ns/default/web/..",
                    "spiffe://public/ns/default/../default/web",
                    "spiffe://public/ns/default/web%2fextra",
                    "spiffe://public/ns/default/web||default",
                    "spiffe://public/ns/default/*",
                    "spiffe://public/ns/*/web",
                    "spiffe://public/ns/default/we*",
                    "spiffe://public/ns/default/WEB",
                    "spiffe://public/ns/default/web?x",
                    "spiffe://public/ns/default/web#x",
                    "spiffe://user@public/ns/default/web",
                    "spiffe://public:1/ns/default/web",
                    "spiffe://PUBLIC/ns/default/web",
                    "spiffe://other/ns/default/web",
                    "https://public/ns/default/web",
                ] {
                    let issued = mesh.ca.svid(id).issue();
                    let io = tls::dial(callee.sidecar.internal(), issued).await;
                    let outcome = match io {
                        Err(error) => Outcome::Refused(error.to_string()),
                        Ok(io) => match GrpcClient::over(io, "localhost").await {
                            Err(error) => Outcome::Refused(error.to_string()),
                            Ok(peer) => match peer.call(UNARY, &[], &[&call]).await {
                                Err(error) => Outcome::Refused(error.to_string()),
                                Ok(reply) => judged(&reply),
                            },
                        },
                    };
                    ensure!(outcome != Outcome::Delivered, "{id}: {outcome}");
                    let hits = callee.probe.hits();
                    ensure!(hits.is_empty(), "{id}: {hits:?}");
                }
                // Control: the caller itself gets through.
                let peer = mesh.peer(WEB, callee).await?;
                let reply = peer.call(UNARY, &[], &[&call]).await?;
                same("the caller", Outcome::Delivered, judged(&reply))?;
                same("hits", 1, callee.probe.hits().len())?;
            }
            Ok(())
        }),
    )
    .await;
    rows.close();
}

/// A message that names a version no sidecar speaks, or no message at all, gets nowhere either.
#[tokio::test]
async fn broken_calls_of_a_peer_reach_nobody() {
    let mesh = Mesh::start().await.unwrap();
    let policy = "{defaultAction: deny}";
    let kinds = [(App::Http, Form::Block), (App::Grpc, Form::Object)];
    for callee in mesh.callees("closed", &kinds, policy).await.unwrap() {
        let peer = mesh.peer(WEB, &callee).await.unwrap();
        let versioned = InternalInvokeRequest {
            ver: 7,
            ..request("admin", Verb::Get)
        };
        for message in [
            versioned.encode_to_vec(),
            InternalInvokeRequest::default().encode_to_vec(),
            Vec::new(),
            b"\xff\xff\xff".to_vec(),
        ] {
            for path in [UNARY, crate::roads::STREAM] {
                let outcome = judged(&peer.call(path, &[], &[&message]).await.unwrap());
                assert_ne!(outcome, Outcome::Delivered);
            }
        }
        assert!(callee.probe.hits().is_empty());
    }
}

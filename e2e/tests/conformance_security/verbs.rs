//! Verbs that want to be another: K156 to K161, and query strings: K175.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use ironside_e2e::Rows;
use ironside_proto::{
    common::{HttpExtension, StreamPayload, http_extension::Verb},
    internals::{InternalInvokeRequest, InternalInvokeRequestStream, ListStringValue},
};
use ironside_testkit::{grpc::GrpcReply, http::Request};
use prost::Message as _;

use crate::{
    rig::{App, Callee, Form, Mesh, WEB, entry, only, same},
    roads::{Outcome, Roads, STREAM, UNARY, answered, judged, request},
};

const HTTP: [(App, Form); 2] = [(App::Http, Form::Block), (App::Http, Form::Object)];

/// `/del`: all but DELETE; `/post`: POST only; `/get`: GET only; the rest as the entry says.
fn policy() -> String {
    let rules = [
        "{name: /del, httpVerb: [DELETE], action: deny}",
        "{name: /post, httpVerb: [POST], action: allow}",
        "{name: /nopost, httpVerb: [POST], action: deny}",
        "{name: /get, httpVerb: [GET], action: allow}",
    ];
    let open = entry(&format!(
        ", defaultAction: allow, operations: [{}, {}]",
        rules[0], rules[2]
    ));
    let closed = entry(&format!(
        ", defaultAction: deny, operations: [{}, {}]",
        rules[1], rules[3]
    ))
    .replace("appId: web", "appId: strict");
    format!("{{defaultAction: deny, policies: [{open}, {closed}]}}")
}

const STRICT: &str = "spiffe://public/ns/default/strict";

fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, ListStringValue> {
    let value = |text: &str| ListStringValue {
        values: vec![text.to_owned()],
    };
    pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), value(text)))
        .collect()
}

async fn as_peer(
    mesh: &Mesh,
    id: &str,
    callee: &Callee,
    call: &InternalInvokeRequest,
) -> Result<[Outcome; 2]> {
    let client = mesh.peer(id, callee).await?;
    let unary = client.call(UNARY, &[], &[&call.encode_to_vec()]).await?;
    let stream = InternalInvokeRequestStream {
        request: Some(call.clone()),
        payload: None,
    };
    let stream = client.call(STREAM, &[], &[&stream.encode_to_vec()]).await?;
    Ok([judged(&unary), judged(&stream)])
}

fn all_denied(outcomes: &[Outcome]) -> Result<()> {
    for outcome in outcomes {
        ensure!(matches!(outcome, Outcome::Denied(_)), "{outcome}");
    }
    Ok(())
}

#[tokio::test]
async fn a_verb_is_what_the_app_will_see() {
    let mesh = Mesh::start().await.unwrap();
    let callees = mesh.callees("verbs", &HTTP, &policy()).await.unwrap();
    let open = mesh.open_callees().await.unwrap();
    let mut rows = Rows::of("security");
    for callee in &callees {
        rows.row("K156", "no metadata, verb DELETE", async {
            let call = InternalInvokeRequest {
                metadata: HashMap::new(),
                ..request("del", Verb::Delete)
            };
            let bytes = call.encode_to_vec();
            let mut roads = Roads::open(&mesh).await?;
            let outcome = roads.peer(callee, UNARY, &bytes).await?;
            all_denied(&[outcome])?;
            same("hits", 0, callee.probe.hits().len())?;
            // Control: it is the rule that says no.
            let outcome = roads.peer(&open[0], UNARY, &bytes).await?;
            same("without policy", Outcome::Delivered, outcome)?;
            same("hits", "DELETE", &only(open[0].probe.hits())?.verb)?;
            let other = InternalInvokeRequest {
                metadata: HashMap::new(),
                ..request("other", Verb::Delete)
            };
            let outcome = roads.peer(callee, UNARY, &other.encode_to_vec()).await?;
            same("another path", Outcome::Delivered, outcome)?;
            same("hits", 1, callee.probe.hits().len())
        })
        .await;
        rows.row("K157", "no HTTP extension", async {
            let mut call = request("del", Verb::Delete);
            if let Some(message) = &mut call.message {
                message.http_extension = None;
            }
            all_denied(&as_peer(&mesh, WEB, callee, &call).await?)?;
            same("hits", 0, callee.probe.hits().len())?;
            // Control: without policy the app is not reached either, for another reason.
            for outcome in as_peer(&mesh, WEB, &open[0], &call).await? {
                let refused = matches!(&outcome, Outcome::Refused(text) if text.contains("missing HTTP extension field"));
                ensure!(refused, "{outcome}");
            }
            same("hits", 0, open[0].probe.hits().len())
        })
        .await;
        rows.row("K156", "verbs that the wire does not know", async {
            for number in [10, 99, -1] {
                let mut call = request("del", Verb::Delete);
                if let Some(message) = &mut call.message {
                    message.http_extension = Some(HttpExtension {
                        verb: number,
                        querystring: String::new(),
                    });
                }
                for outcome in as_peer(&mesh, WEB, callee, &call).await? {
                    ensure!(outcome != Outcome::Delivered, "verb {number}: {outcome}");
                }
            }
            same("hits", 0, callee.probe.hits().len())
        })
        .await;
        rows.row(
            "K158",
            "a later message changes method and verb",
            later(&mesh, callee),
        )
        .await;
        rows.row(
            "K159",
            "a header that overrides the verb",
            overrides(&mesh, callee),
        )
        .await;
        rows.row("K160", "an unknown verb is POST", async {
            let path = format!("/v1.0/invoke/{}/method/nopost", callee.id());
            let reply = mesh.web.send(&Request::new("PROPFIND", &path)).await?;
            let outcome = answered(&reply)?;
            ensure!(
                matches!(&outcome, Outcome::Denied(text) if text.contains("verb: POST")),
                "{outcome}"
            );
            same("hits", 0, callee.probe.hits().len())?;
            let line = format!("/v1.0/invoke/{}/method/nopost", open[0].id());
            mesh.web.send(&Request::new("PROPFIND", &line)).await?;
            same("without policy", "POST", &only(open[0].probe.hits())?.verb)?;
            same(
                "GET",
                200,
                mesh.web.send(&Request::get(&path)).await?.status(),
            )?;
            same("hits", 1, callee.probe.hits().len())
        })
        .await;
        rows.row("K161", "HEAD where GET is allowed", async {
            let head = as_peer(&mesh, STRICT, callee, &request("get", Verb::Head)).await?;
            all_denied(&head)?;
            same("hits", 0, callee.probe.hits().len())?;
            let get = as_peer(&mesh, STRICT, callee, &request("get", Verb::Get)).await?;
            same("GET", [Outcome::Delivered, Outcome::Delivered], get)?;
            same("hits", 2, callee.probe.hits().len())
        })
        .await;
        rows.row(
            "K175",
            "a query string is no part of the decision",
            queries(&mesh, callee),
        )
        .await;
    }
    rows.close();
}

/// Fact 4.2: a later message carries data and nothing else; the first decision stands.
async fn later(mesh: &Mesh, callee: &Callee) -> Result<()> {
    let payload = |seq| {
        Some(StreamPayload {
            data: "data".into(),
            seq,
        })
    };
    let chunk = |request, seq| {
        InternalInvokeRequestStream {
            request,
            payload: payload(seq),
        }
        .encode_to_vec()
    };
    let client = mesh.peer(WEB, callee).await?;
    let first = chunk(Some(request("other", Verb::Post)), 0);
    for second in [
        request("del", Verb::Delete),
        request("other", Verb::Delete),
        InternalInvokeRequest {
            message: None,
            ..request("", Verb::None)
        },
    ] {
        let reply: GrpcReply = client
            .call(STREAM, &[], &[&first, &chunk(Some(second), 1)])
            .await?;
        ensure!(reply.code() != Some(0), "{reply:?}");
        ensure!(
            reply
                .message()
                .contains("request metadata found in non-leading chunk"),
            "{}",
            reply.message()
        );
        let hits = callee.probe.hits();
        ensure!(
            hits.iter()
                .all(|hit| hit.verb == "POST" && hit.may_be("/other")),
            "{hits:?}"
        );
    }
    // Control: the same stream without the trick arrives.
    let reply = client.call(STREAM, &[], &[&first, &chunk(None, 1)]).await?;
    same("code", Some(0), reply.code())?;
    same("hits", 1, callee.probe.hits().len())
}

/// Fact O-A4.
async fn overrides(mesh: &Mesh, callee: &Callee) -> Result<()> {
    let line = |path: &str| format!("/v1.0/invoke/{}/method/{path}", callee.id());
    for name in [
        "X-HTTP-Method-Override",
        "x-http-method",
        "X-METHOD-OVERRIDE",
    ] {
        for value in ["DELETE", "delete", "POST, DELETE", "GET,delete , PUT"] {
            let request = Request::new("POST", &line("del"))
                .header(name, value)
                .body("");
            let outcome = answered(&mesh.web.send(&request).await?)?;
            ensure!(
                matches!(outcome, Outcome::Denied(_)),
                "{name}: {value}: {outcome}"
            );
            let mut call = request_of(name, value, "del");
            all_denied(&as_peer(mesh, WEB, callee, &call).await?)?;
            call = request_of(name, value, "post");
            all_denied(&as_peer(mesh, STRICT, callee, &call).await?)?;
        }
    }
    same("hits", 0, callee.probe.hits().len())?;
    // Control: without the header, and with one that says the same, the calls arrive.
    let request = Request::new("POST", &line("del")).body("");
    let outcome = answered(&mesh.web.send(&request).await?)?;
    same("POST", Outcome::Delivered, outcome)?;
    let call = request_of("X-HTTP-Method-Override", "post", "post");
    let twice = as_peer(mesh, STRICT, callee, &call).await?;
    same("the same", [Outcome::Delivered, Outcome::Delivered], twice)?;
    same("hits", 3, callee.probe.hits().len())
}

fn request_of(name: &str, value: &str, path: &str) -> InternalInvokeRequest {
    InternalInvokeRequest {
        metadata: metadata(&[(name, value)]),
        ..request(path, Verb::Post)
    }
}

async fn queries(mesh: &Mesh, callee: &Callee) -> Result<()> {
    for query in ["a=../../del", "x=%23&y=%2e%2e%2fdel", "a=1&a=2"] {
        let line = format!("/v1.0/invoke/{}/method/other?{query}", callee.id());
        let outcome = answered(&mesh.web.send(&Request::get(&line)).await?)?;
        same("HTTP", Outcome::Delivered, outcome)?;
        let hit = only(callee.probe.hits())?;
        same("at the app", format!("/other?{query}"), hit.path)?;
        // A query does not help a path that is denied.
        let line = format!("/v1.0/invoke/{}/method/del?{query}", callee.id());
        let reply = mesh.web.send(&Request::new("DELETE", &line)).await?;
        ensure!(
            matches!(answered(&reply)?, Outcome::Denied(_)),
            "{}",
            reply.text()
        );
    }
    for query in ["a=../../del", "x=1#/../del", "?x/../del", "/../del"] {
        let mut call = request("other", Verb::Get);
        if let Some(http) = call
            .message
            .as_mut()
            .and_then(|m| m.http_extension.as_mut())
        {
            http.querystring = query.to_owned();
        }
        for outcome in as_peer(mesh, WEB, callee, &call).await? {
            ensure!(!matches!(outcome, Outcome::Denied(_)), "{query}: {outcome}");
        }
        let hits = callee.probe.hits();
        ensure!(
            hits.iter()
                .all(|hit| hit.path.starts_with("/other?") && !hit.may_be("/del")),
            "{query}: {hits:?}"
        );
        ensure!(!hits.is_empty(), "{query} does not arrive");
    }
    Ok(())
}

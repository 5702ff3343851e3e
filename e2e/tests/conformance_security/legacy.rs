//! The block of the Configuration, chapter 6.3: what it decides at a real callee, for callers of any name.
//!
//! Callers are crafted peers, so that one callee meets many; where a row is about what a caller's sidecar shows,
//! the caller is a sidecar. The vectors of the matcher, K112, are in the policy crate.

use anyhow::{Result, ensure};
use ironside_e2e::Rows;
use ironside_proto::{common::http_extension::Verb, runtime::InvokeServiceRequest};
use ironside_testkit::http::{Connection, Request, client::encode_chunk};
use prost::Message as _;

use crate::{
    rig::{App, Callee, Form, Mesh, WEB, entry, same},
    roads::{INVOKE_SERVICE, Outcome, UNARY, answered, judged, message, request},
};

const BLOCK: [(App, Form); 1] = [(App::Http, Form::Block)];
const BLOCKS: [(App, Form); 2] = [(App::Http, Form::Block), (App::Grpc, Form::Block)];

/// Somebody without an entry.
const UNKNOWN: &str = "spiffe://public/ns/default/unknown";

/// Asks as `id`; `verb path` pairs and whether each is allowed.
async fn decides(mesh: &Mesh, callee: &Callee, id: &str, calls: &[(&str, bool)]) -> Result<()> {
    let peer = mesh.peer(id, callee).await?;
    for (call, is_allowed) in calls {
        drop(callee.probe.hits());
        let (verb, path) = call.split_once(' ').unwrap_or(("GET", call));
        let verb = Verb::from_str_name(verb).unwrap_or_default();
        let message = request(path, verb).encode_to_vec();
        let outcome = judged(&peer.call(UNARY, &[], &[&message]).await?);
        let what = format!("{id}: {call}: {outcome}");
        let hits = callee.probe.hits().len();
        match is_allowed {
            true => ensure!(outcome == Outcome::Delivered && hits == 1, "{what}"),
            false => ensure!(
                matches!(outcome, Outcome::Denied(_)) && hits == 0,
                "{what}, {hits} hits"
            ),
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_block_decides_as_the_reference_does() {
    let mesh = Mesh::start().await.unwrap();
    let mut rows = Rows::of("security");
    for (name, callee) in [("K100", "{}"), ("K100", "{trustDomain: public}")] {
        rows.row(name, "no block, or one that says nothing", async {
            for callee in mesh.callees("open", &BLOCKS, callee).await? {
                let all = [("GET a", true), ("DELETE %c0%ae/x", true)];
                decides(&mesh, &callee, UNKNOWN, &all[..1]).await?;
                if callee.app() == App::Grpc {
                    decides(&mesh, &callee, UNKNOWN, &all).await?;
                }
            }
            Ok(())
        })
        .await;
    }
    rows.row("K101", "policies without a default", async {
        let policy = format!("{{policies: [{}]}}", entry(", defaultAction: deny"));
        for callee in mesh.callees("omitted", &BLOCKS, &policy).await? {
            decides(&mesh, &callee, UNKNOWN, &[("GET x", true)]).await?;
            decides(&mesh, &callee, WEB, &[("GET x", false)]).await?;
            let warning =
                "spec.accessControl has policies and no defaultAction: callers without an entry are allowed";
            callee.sidecar.program.logged(warning).await?;
        }
        Ok(())
    })
    .await;
    for action in ["Deny", "DENY", "nope", "''"] {
        rows.row("K102", "words that deny", async {
            let policy = format!("{{defaultAction: {action}, policies: [{}]}}", entry(""));
            for callee in mesh.callees("words", &BLOCK, &policy).await? {
                decides(&mesh, &callee, UNKNOWN, &[("GET x", false)]).await?;
                decides(&mesh, &callee, WEB, &[("GET x", false)]).await?;
            }
            Ok(())
        })
        .await;
    }
    rows.row("K102", "the word that allows, in any case", async {
        let policy = format!("{{defaultAction: aLLow, policies: [{}]}}", entry(""));
        for callee in mesh.callees("word", &BLOCK, &policy).await? {
            decides(&mesh, &callee, UNKNOWN, &[("GET x", true)]).await?;
        }
        Ok(())
    })
    .await;
    rows.close();
}

/// One callee with an entry for every row.
#[tokio::test]
async fn entries_and_rules() {
    let mesh = Mesh::start().await.unwrap();
    let named = |app: &str, more: &str| entry(more).replace("appId: web", &format!("appId: {app}"));
    let policy = [
        // K104: two namespaces.
        named("twin", ", defaultAction: allow").replace("default,", "one,"),
        named("twin", ", defaultAction: deny").replace("default,", "two,"),
        // K105: the same caller twice.
        named(
            "twice",
            ", defaultAction: allow, operations: [{name: /a, httpVerb: ['*'], action: allow}]",
        ),
        named(
            "twice",
            ", defaultAction: deny, operations: [{name: /b, httpVerb: ['*'], action: allow}]",
        ),
        // K106, K107.
        named(
            "most",
            ", defaultAction: allow, operations: [{name: /op, httpVerb: ['*'], action: deny}]",
        ),
        named(
            "few",
            ", defaultAction: deny, operations: [{name: /op, httpVerb: [POST], action: allow}]",
        ),
        // K108, K109: rules that decide nothing.
        named(
            "lower",
            ", defaultAction: deny, operations: [{name: /op, httpVerb: [get], action: allow}]",
        ),
        named(
            "verbless",
            ", defaultAction: deny, operations: [{name: /op, action: allow}]",
        ),
        named(
            "verbless-deny",
            ", defaultAction: allow, operations: [{name: /op, action: deny}]",
        ),
        // K110.
        named("foreign", ", defaultAction: allow"),
        // K120, K121.
        named(
            "cased",
            ", operations: [{name: /Op, httpVerb: ['*'], action: allow}, {name: /pkg.S/M, httpVerb: ['*'], action: allow}]",
        ),
    ];
    let policy = format!("{{defaultAction: deny, policies: [{}]}}", policy.join(", "));
    let callees = mesh.callees("entries", &BLOCKS, &policy).await.unwrap();
    let [http, grpc] = callees.as_slice() else {
        panic!("two callees");
    };
    let id = |app: &str| format!("spiffe://public/ns/default/{app}");
    let mut rows = Rows::of("security");
    rows.row("K104", "entries of two namespaces", async {
        for callee in &callees {
            for (namespace, is_allowed) in [("one", true), ("two", false), ("three", false)] {
                let id = format!("spiffe://public/ns/{namespace}/twin");
                decides(&mesh, callee, &id, &[("GET x", is_allowed)]).await?;
            }
        }
        Ok(())
    })
    .await;
    rows.row("K105", "the last of two entries wins", async {
        let calls = [("GET a", false), ("GET b", true), ("GET c", false)];
        decides(&mesh, http, &id("twice"), &calls).await
    })
    .await;
    rows.row("K106", "all but one path", async {
        let calls = [
            ("GET op", false),
            ("DELETE op", false),
            ("POST op/x", false),
            ("GET other", true),
        ];
        decides(&mesh, http, &id("most"), &calls).await
    })
    .await;
    rows.row("K107", "one verb of one path", async {
        let calls = [
            ("POST op", true),
            ("PUT op", false),
            ("GET op", false),
            ("POST other", false),
        ];
        decides(&mesh, http, &id("few"), &calls).await
    })
    .await;
    rows.row(
        "K108 K109",
        "a rule in lower case, a rule without verb",
        async {
            decides(&mesh, http, &id("lower"), &[("GET op", false)]).await?;
            decides(&mesh, http, &id("verbless"), &[("GET op", false)]).await?;
            decides(&mesh, http, &id("verbless-deny"), &[("GET op", true)]).await
        },
    )
    .await;
    rows.row("K111", "a gRPC app's rule needs no verb", async {
        let calls = [("GET op", true), ("NONE op", true), ("GET other", false)];
        decides(&mesh, grpc, &id("verbless"), &calls).await?;
        decides(&mesh, grpc, &id("verbless-deny"), &[("GET op", false)]).await?;
        decides(&mesh, grpc, &id("lower"), &[("GET op", true)]).await
    })
    .await;
    rows.row("K110", "the same name in another trust domain", async {
        for callee in &callees {
            decides(&mesh, callee, &id("foreign"), &[("GET x", true)]).await?;
            let other = "spiffe://other/ns/default/foreign";
            decides(&mesh, callee, other, &[("GET x", false)]).await?;
        }
        Ok(())
    })
    .await;
    rows.row("K120 K121", "letter case", async {
        let calls = [("GET Op", true), ("GET oP", true), ("GET ops", false)];
        decides(&mesh, http, &id("cased"), &calls).await?;
        let calls = [("GET Op", true), ("GET oP", false), ("GET /pkg.S/M", true)];
        decides(&mesh, grpc, &id("cased"), &calls).await?;
        let peer = mesh.peer(&id("cased"), grpc).await?;
        let to = [("dapr-app-id", grpc.id())];
        let reply = peer.call("/pkg.S/M", &to, &[b""]).await?;
        same("proxied", Outcome::Delivered, judged(&reply))?;
        let reply = peer.call("/pkg.S/m", &to, &[b""]).await?;
        ensure!(matches!(judged(&reply), Outcome::Denied(_)), "{reply:?}");
        same("hits", 1, grpc.probe.hits().len())
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn refusals_of_a_closed_app() {
    let mesh = Mesh::start().await.unwrap();
    let kinds = [
        (App::Http, Form::Block),
        (App::Grpc, Form::Block),
        (App::Grpc, Form::Object),
    ];
    let callees = mesh
        .callees("closed", &kinds, "{defaultAction: deny}")
        .await
        .unwrap();
    let mut rows = Rows::of("security");
    rows.row("K116", "denial of a proxied call", async {
        let client = mesh.web.client().await?;
        for callee in &callees[1..] {
            let to = [("dapr-app-id", callee.id())];
            let reply = client.call("/pkg.S/M", &to, &[b"message"]).await?;
            let want = Callee::denial("/pkg.S/M", "NONE");
            same("status", (Some(7), want), (reply.code(), reply.message()))?;
            same("hits", 0, callee.probe.hits().len())?;
        }
        Ok(())
    })
    .await;
    rows.row(
        "K118",
        "a denied stream of 100 MiB",
        large(&mesh, &callees[0]),
    )
    .await;
    rows.row("K119", "a call to the own app", async {
        for callee in &callees {
            let own = Request::get(&format!("/v1.0/invoke/{}/method/x", callee.id()));
            let reply = callee.sidecar.send(&own).await?;
            same("HTTP", Outcome::Delivered, answered(&reply)?)?;
            let call = InvokeServiceRequest {
                id: callee.id().to_owned(),
                message: Some(message("x", Verb::Get)),
            };
            let client = callee.sidecar.client().await?;
            let reply = client
                .call(INVOKE_SERVICE, &[], &[&call.encode_to_vec()])
                .await?;
            same("InvokeService", Some(0), reply.code())?;
            same("hits", 2, callee.probe.hits().len())?;
        }
        Ok(())
    })
    .await;
    rows.close();
}

/// Policy is asked before the body is read: the answer comes while most of it is still to be sent, and neither
/// sidecar holds it.
async fn large(mesh: &Mesh, callee: &Callee) -> Result<()> {
    const PIECES: usize = 100;
    const GROWTH_KIB: u64 = 24 << 10;
    let sidecars = [&mesh.web, &callee.sidecar];
    let before = sidecars.map(|sidecar| sidecar.program.resident_kib());
    let mut connection = Connection::tcp(mesh.web.http()).await?;
    let line = format!("/v1.0/invoke/{}/method/x", callee.id());
    let head = Request::new("POST", &line).header("Transfer-Encoding", "chunked");
    connection.write(head.bytes()).await?;
    let piece = encode_chunk(&vec![b'x'; 1 << 20]);
    let mut sent = 0;
    // The sidecar answers and closes: the rest is not taken.
    while sent < PIECES && connection.write(&piece).await.is_ok() {
        sent += 1;
    }
    if sent == PIECES {
        // One that was taken to its end is answered after it.
        drop(connection.write(b"0\r\n\r\n").await);
    }
    if let Ok(reply) = connection.reply("POST").await {
        ensure!(
            matches!(answered(&reply)?, Outcome::Denied(_)),
            "{}",
            reply.text()
        );
    }
    for (sidecar, before) in sidecars.iter().zip(before) {
        let growth = sidecar.program.resident_kib().saturating_sub(before);
        ensure!(
            growth < GROWTH_KIB,
            "{} holds {growth} KiB more",
            sidecar.app_id()
        );
    }
    same("hits", 0, callee.probe.hits().len())
}

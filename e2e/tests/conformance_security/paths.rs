//! Paths that want to be read twice: K130 to K155, over every road, for both apps and both forms of policy.
//!
//! The caller may do `/public/**` and nothing else, or everything but `/admin`. Whatever the spelling, a call for
//! something else must not reach the app, and the answer must be policy's where the same call reaches the app of
//! a callee without policy: [`Road::delivers`] says where, and each such call is made there too.

use anyhow::{Result, ensure};
use ironside_e2e::Rows;
use ironside_testkit::http::Request;
use prost::Message as _;

use crate::{
    rig::{ALL, App, Callee, Form, Mesh, WEB, entry, same},
    roads::{
        INVOKE_SERVICE, LINES, METHODS, Outcome, ROADS, Road, Roads, STREAM, UNARY, message,
        request,
    },
};

/// Rows of a path that leaves `/public`: id and spellings.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("K130", &["public/../admin"]),
    ("K131", &["public%2F..%2Fadmin"]),
    ("K132", &["public/%2e%2e/admin", "public/%2E%2e/admin"]),
    ("K133", &["public/%252e%252e/admin"]),
    (
        "K134",
        &[
            "public/%25252e%25252e/admin",
            "public/%2525252e%2525252e/admin",
        ],
    ),
    (
        "K135",
        &["public%252F..%252Fadmin", "public%252f%252e%252e%252fadmin"],
    ),
    (
        "K136",
        &[
            "public/..%5Cadmin",
            "public\\..\\admin",
            "public/%255c..%255cadmin",
        ],
    ),
    (
        "K137",
        &[
            "public/..;/admin",
            "public;/../admin",
            "public/..;x=1/admin",
            "public/..%3b/admin",
            "public/%2e%2e%253b/admin",
        ],
    ),
    (
        "K138",
        &[
            "public%23/../admin",
            "public%3F/../admin",
            "public%2523/../admin",
            "admin%23",
            "admin%3F",
        ],
    ),
    (
        "K139",
        &[
            "public%00/../admin",
            "public%0d%0a/../admin",
            "public%09/../admin",
            "public%7f/../admin",
            "admin%00",
            "admin%0d%0a",
            "admin%2500",
        ],
    ),
    (
        "K140",
        &[
            "//admin",
            "public//..//admin",
            "./admin",
            "public/./../admin",
        ],
    ),
    ("K144", &["%2fadmin", "..%2f..%2f..%2fadmin", "%252fadmin"]),
    ("K145 K146", &["/public/../admin", "/public%2F..%2Fadmin"]),
    (
        "K148",
        &[
            "%c0%ae%c0%ae/admin",
            "public/%c0%ae%c0%ae/admin",
            "%e0%80%af",
            "public/%25c0%25ae%25c0%25ae/admin",
        ],
    ),
    (
        "K155",
        &[
            "http://x/admin",
            "//x/admin",
            "@admin",
            ":80/admin",
            "x@localhost:80/admin",
        ],
    ),
];

/// The same as methods of gRPC calls, where nothing is decoded.
const METHODS_OUTSIDE: &[(&str, &[&str])] = &[
    ("K151", &["public/../admin", "/public/../admin"]),
    (
        "K152",
        &[
            "public/%2e%2e/admin",
            "public/..%2fadmin",
            "/public/..%2fadmin",
            "/public/..;%2fadmin",
        ],
    ),
    ("K154", &["admin%2F..%2Fpublic"]),
];

/// Methods that no sidecar takes, policy or not.
const REFUSED: &[(&str, &[&str])] = &[(
    "K153",
    &[
        "public#/../admin",
        "public?/../admin",
        "public\r/../admin",
        "public\0admin",
        "public\n",
        "admin#",
    ],
)];

/// Spellings of `/admin`, where that alone is denied; the second list holds for HTTP apps only.
const SPELLINGS: &[(&str, &[&str], &[&str])] = &[
    ("K141", &["admin/", "/admin//", "admin/."], &[]),
    ("K142", &[], &["ADMIN", "aDmIn", "ADMIN/X"]),
    ("K143", &["adm%69n", "%61%64%6d%69%6e"], &["ADM%69N"]),
];

fn public() -> String {
    let rules = "{name: /public/**, httpVerb: ['*'], action: allow}";
    let entry = entry(&format!(", operations: [{rules}]"));
    format!("{{defaultAction: deny, policies: [{entry}]}}")
}

fn guarded() -> String {
    let rules = "{name: /admin, httpVerb: ['*'], action: deny}, {name: /key, httpVerb: ['*'], action: deny}";
    let entry = entry(&format!(", operations: [{rules}]"));
    format!("{{defaultAction: allow, policies: [{entry}]}}")
}

/// A callee under policy: the call does not reach its app, and policy says so wherever it could have.
async fn stopped(roads: &mut Roads<'_>, road: Road, callee: &Callee, path: &str) -> Result<()> {
    drop(callee.probe.hits());
    let outcome = roads.call(road, callee, path).await?;
    let hits = callee.probe.hits();
    let what = || format!("{road:?} to {} of {path:?}: {outcome}", callee.id());
    ensure!(hits.is_empty(), "{}; the app got {hits:?}", what());
    ensure!(outcome != Outcome::Delivered, "{}", what());
    let must_be_denied = road.delivers(path, callee.app());
    ensure!(
        !must_be_denied || matches!(outcome, Outcome::Denied(_)),
        "{}: not by policy",
        what()
    );
    Ok(())
}

/// A callee without policy: the same call reaches its app exactly where it is said to.
async fn control(roads: &mut Roads<'_>, road: Road, callee: &Callee, path: &str) -> Result<()> {
    drop(callee.probe.hits());
    let outcome = roads.call(road, callee, path).await?;
    let hits = callee.probe.hits();
    ensure!(
        (hits.len() == 1) == road.delivers(path, callee.app()),
        "control: {road:?} to {} of {path:?}: {outcome}; the app got {hits:?}",
        callee.id()
    );
    Ok(())
}

/// Runs a path over these roads; says how many of them could have reached an app.
async fn everywhere(
    roads: &mut Roads<'_>,
    callees: &[Callee],
    open: &[Callee],
    over: &[Road],
    path: &str,
) -> Result<usize> {
    let mut reaching = 0;
    for road in over.iter().copied() {
        for callee in callees {
            stopped(roads, road, callee, path).await?;
        }
        for callee in open {
            control(roads, road, callee, path).await?;
            reaching += usize::from(road.delivers(path, callee.app()));
        }
    }
    Ok(reaching)
}

/// K130 to K140, K144 to K146, K151 to K155 from the lists above; K114, K115, K117, K147, K148, K150.
#[tokio::test]
async fn no_spelling_leads_out_of_public() {
    let mesh = Mesh::start().await.unwrap();
    let closed = mesh.callees("closed", &ALL, &public()).await.unwrap();
    let open = mesh.open_callees().await.unwrap();
    let mut roads = Roads::open(&mesh).await.unwrap();
    let mut rows = Rows::of("security");
    rows.row("K117", "every road is open for what is allowed", async {
        for road in ROADS {
            for callee in closed.iter().chain(&open) {
                if road.is_proxied() && callee.app() == App::Http {
                    continue;
                }
                let outcome = roads.call(road, callee, "/public/a").await?;
                same("an allowed call", Outcome::Delivered, outcome)?;
                same("hits", 1, callee.probe.hits().len())?;
            }
            for callee in &closed {
                stopped(&mut roads, road, callee, "/admin/x").await?;
            }
        }
        Ok(())
    })
    .await;
    let lined = OUTSIDE.iter().map(|row| (row, &ROADS[..], true));
    let methods = METHODS_OUTSIDE.iter().map(|row| (row, &ROADS[3..], true));
    let refused = REFUSED.iter().map(|row| (row, &ROADS[3..], false));
    for ((id, paths), over, is_policy) in lined.chain(methods).chain(refused) {
        rows.row(id, "a path that leaves /public", async {
            let mut reaching = 0;
            for path in *paths {
                reaching += everywhere(&mut roads, &closed, &open, over, path).await?;
            }
            // A row that reaches nobody without policy either would test nothing of it.
            same("reaches an app without policy", is_policy, reaching > 0)
        })
        .await;
    }
    rows.row(
        "K114 K115 K151",
        "the texts of a refusal",
        texts(&mesh, &closed),
    )
    .await;
    rows.row("K147", "an app id that holds a path", async {
        for callee in &closed {
            for target in [
                format!("{}%2Fmethod%2Fpublic", callee.id()),
                format!("{}%2Fmethod%2Fpublic%2F..", callee.id()),
                format!("public%2F..%2F{}", callee.id()),
                format!("{}%252Fmethod%252Fpublic", callee.id()),
            ] {
                let line = format!("/v1.0/invoke/{target}/method/admin");
                mesh.web.send(&Request::get(&line)).await?;
                let hits = callee.probe.hits();
                ensure!(
                    hits.iter().all(|hit| hit.may_be("/public")),
                    "{line}: {hits:?}"
                );
            }
        }
        Ok(())
    })
    .await;
    rows.row("K148", "methods that are no text", async {
        for callee in &closed {
            let bytes = |message: Vec<u8>| {
                let at = message.windows(4).position(|four| four == b"@@@@");
                let mut message = message;
                message.splice(at.unwrap()..at.unwrap() + 4, *b"\xc0\xae\xc0\xae");
                message
            };
            let verb = ironside_proto::common::http_extension::Verb::Get;
            let call = request("public/@@@@/admin", verb);
            let stream = ironside_proto::internals::InternalInvokeRequestStream {
                request: Some(call.clone()),
                payload: None,
            };
            for (rpc, call) in [
                (UNARY, bytes(call.encode_to_vec())),
                (STREAM, bytes(stream.encode_to_vec())),
            ] {
                let outcome = roads.peer(callee, rpc, &call).await?;
                ensure!(matches!(outcome, Outcome::Refused(_)), "{rpc}: {outcome}");
            }
            let through = ironside_proto::runtime::InvokeServiceRequest {
                id: callee.id().to_owned(),
                message: Some(message("public/@@@@/admin", verb)),
            };
            let client = mesh.web.client().await?;
            let reply = client
                .call(INVOKE_SERVICE, &[], &[&bytes(through.encode_to_vec())])
                .await?;
            ensure!(reply.code() != Some(0), "{reply:?}");
            same("hits", 0, callee.probe.hits().len())?;
        }
        Ok(())
    })
    .await;
    rows.row("K150", "long paths, many segments", async {
        for path in [
            "a".repeat(64 << 10),
            "a/".repeat(10_000) + "x",
            "public/../".repeat(6_000) + "admin",
            "a;b\\c%20".repeat(1_500),
            "%25".repeat(20_000),
        ] {
            for road in METHODS {
                for callee in &closed {
                    stopped(&mut roads, road, callee, &path).await?;
                }
            }
        }
        for callee in &closed {
            // Nobody is the worse for it.
            let outcome = roads.call(Road::Path, callee, "public/a").await?;
            same("afterwards", Outcome::Delivered, outcome)?;
            drop(callee.probe.hits());
        }
        Ok(())
    })
    .await;
    rows.close();
}

/// Facts 3.10: the same core, framed as each API does; neither object nor rule is named.
async fn texts(mesh: &Mesh, callees: &[Callee]) -> Result<()> {
    let client = mesh.web.client().await?;
    for callee in callees {
        let id = callee.id();
        // Behind a gRPC app no verb is compared, but the one of the call is told.
        let core = Callee::denial("admin", "GET");
        let want = format!(
            r#"{{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: {id}, err: rpc error: code = PermissionDenied desc = {core}"}}"#
        );
        let line = format!("/v1.0/invoke/{id}/method/public%2F..%2Fadmin");
        let reply = mesh.web.send(&Request::get(&line)).await?;
        same("HTTP", (403, want), (reply.status(), reply.text()))?;
        let reply = mesh.web.send(&Request::new("HEAD", &line)).await?;
        same("HEAD", (403, String::new()), (reply.status(), reply.text()))?;
        for method in ["public/../admin", "/public/../admin"] {
            let request = ironside_proto::runtime::InvokeServiceRequest {
                id: id.to_owned(),
                message: Some(message(
                    method,
                    ironside_proto::common::http_extension::Verb::Post,
                )),
            };
            let reply = client
                .call(INVOKE_SERVICE, &[], &[&request.encode_to_vec()])
                .await?;
            let operation = if method.starts_with('/') {
                "/admin"
            } else {
                "admin"
            };
            let core = Callee::denial(operation, "POST");
            let want = format!(
                "failed to invoke, id: {id}, err: rpc error: code = PermissionDenied desc = {core}"
            );
            same(
                "InvokeService",
                (Some(13), want),
                (reply.code(), reply.message()),
            )?;
        }
        same("hits", 0, callee.probe.hits().len())?;
    }
    Ok(())
}

/// K141 to K143 from the list above; K149.
#[tokio::test]
async fn every_spelling_of_a_denied_path_is_denied() {
    let mesh = Mesh::start().await.unwrap();
    let guarded = mesh.callees("guarded", &ALL, &guarded()).await.unwrap();
    let open = mesh.open_callees().await.unwrap();
    let mut roads = Roads::open(&mesh).await.unwrap();
    let mut rows = Rows::of("security");
    for (id, paths, folded) in SPELLINGS {
        rows.row(id, "a spelling of /admin", async {
            for path in *paths {
                everywhere(&mut roads, &guarded, &open, &ROADS, path).await?;
            }
            for path in *folded {
                for callee in guarded.iter().filter(|callee| callee.app() == App::Http) {
                    for road in LINES.into_iter().chain(METHODS) {
                        stopped(&mut roads, road, callee, path).await?;
                        control(&mut roads, road, &open[0], path).await?;
                    }
                }
            }
            Ok(())
        })
        .await;
    }
    rows.row("K149", "letters beyond ASCII are other letters", async {
        for callee in &guarded {
            for (path, is_other) in [
                // Full width, a ligature, the dotless i.
                ("%EF%BC%A1%EF%BC%A4%EF%BC%AD%EF%BC%A9%EF%BC%AE", true),
                ("a%EF%AC%80", true),
                ("adm%C4%B1n", true),
                // The Kelvin sign, which the reference folds: under the block both readings count.
                ("%E2%84%AAey", !callee.id().ends_with("http-block")),
            ] {
                let outcome = roads.call(Road::Path, callee, path).await?;
                let hits = callee.probe.hits();
                same(path, is_other, outcome == Outcome::Delivered)?;
                same("hits", usize::from(is_other), hits.len())?;
                ensure!(
                    hits.iter()
                        .all(|hit| !hit.may_be("/admin") && !hit.may_be("/key")),
                    "{path}: {hits:?}"
                );
            }
        }
        Ok(())
    })
    .await;
    rows.close();
}

/// K149 the other way round: what folds to an allowed path is not allowed. K150: a pattern that would backtrack.
#[tokio::test]
async fn allowed_paths_have_no_doubles() {
    let mesh = Mesh::start().await.unwrap();
    let rules = "{name: /key, httpVerb: ['*'], action: allow}, {name: /a*a*a*a*a*b, httpVerb: ['*'], action: allow}";
    let policy = format!(
        "{{defaultAction: deny, policies: [{}]}}",
        entry(&format!(", operations: [{rules}]"))
    );
    let kinds = [(App::Http, Form::Block), (App::Http, Form::Object)];
    let callees = mesh.callees("doubles", &kinds, &policy).await.unwrap();
    let mut roads = Roads::open(&mesh).await.unwrap();
    let mut rows = Rows::of("security");
    rows.row(
        "K149 K150",
        "Kelvin sign; long text for a tricky pattern",
        async {
            for callee in &callees {
                stopped(&mut roads, Road::Path, callee, "%E2%84%AAey").await?;
                let outcome = roads.call(Road::Path, callee, "KEY").await?;
                same("ASCII folds", Outcome::Delivered, outcome)?;
                let outcome = roads.call(Road::Unary, callee, "aXaaaab").await?;
                same("the pattern", Outcome::Delivered, outcome)?;
                drop(callee.probe.hits());
                for road in METHODS {
                    stopped(&mut roads, road, callee, &"a".repeat(64 << 10)).await?;
                }
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}

/// K130 and the rest of 6.4 as an attacker with a certificate would: one that has no entry at all.
#[tokio::test]
async fn a_stranger_with_a_certificate_has_nothing() {
    let mesh = Mesh::start().await.unwrap();
    let closed = mesh.callees("closed", &ALL, &public()).await.unwrap();
    for callee in &closed {
        let stranger = mesh
            .peer("spiffe://public/ns/default/stranger", callee)
            .await
            .unwrap();
        for method in ["public/a", "admin", "public/%2e%2e/admin"] {
            let verb = ironside_proto::common::http_extension::Verb::Get;
            let call = request(method, verb).encode_to_vec();
            let reply = stranger.call(UNARY, &[], &[&call]).await.unwrap();
            assert_eq!(reply.code(), Some(7), "{method}");
            assert!(!reply.message().contains(WEB), "{}", reply.message());
        }
        let reply = stranger
            .call("/public/a", &[("dapr-app-id", callee.id())], &[b""])
            .await
            .unwrap();
        assert_eq!(reply.code(), Some(7));
        assert!(callee.probe.hits().is_empty());
    }
}

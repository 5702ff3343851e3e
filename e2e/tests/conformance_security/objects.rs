//! AccessControl objects at a real callee: what of chapter 6.5 the files of a sidecar show.
//!
//! Callers are crafted peers, so that one callee meets many. What needs an API server is the operator's.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Spec, World, wait};
use ironside_proto::common::http_extension::Verb;
use prost::Message as _;

use crate::{
    rig::{App, Callee, Mesh, WEB, entry, object},
    roads::{Outcome, UNARY, judged, request},
};

/// Another caller.
const TEAM: &str = "spiffe://public/ns/default/team";

/// Asks as `id` for each path, and whether it is allowed.
async fn decides(mesh: &Mesh, callee: &Callee, id: &str, calls: &[(&str, bool)]) -> Result<()> {
    let peer = mesh.peer(id, callee).await?;
    for (path, is_allowed) in calls {
        drop(callee.probe.hits());
        let message = request(path, Verb::Get).encode_to_vec();
        let outcome = judged(&peer.call(UNARY, &[], &[&message]).await?);
        let hits = callee.probe.hits().len();
        let as_told = match outcome {
            Outcome::Delivered => *is_allowed && hits == 1,
            Outcome::Denied(_) => !is_allowed && hits == 0,
            Outcome::Refused(_) => false,
        };
        ensure!(as_told, "{id}: {path}: {outcome}, {hits} hits");
    }
    Ok(())
}

fn rules(rules: &str) -> String {
    entry(&format!(", operations: [{rules}]"))
}

#[tokio::test]
async fn several_objects_decide_together() {
    let mesh = Mesh::start().await.unwrap();
    let mut rows = Rows::of("security");
    for app in [App::Http, App::Grpc] {
        rows.row("K182", "policies without a default", async {
            let policy = format!("{{policies: [{}]}}", entry(", defaultAction: allow"));
            let callee = mesh
                .callee("omitted", app, |spec| with(spec, &[&policy]))
                .await?;
            decides(&mesh, &callee, TEAM, &[("x", false)]).await?;
            decides(&mesh, &callee, WEB, &[("x", true)]).await
        })
        .await;
        rows.row("K188", "the order of rules means nothing", async {
            let (open, secret) = (
                "{name: /op1, action: allow}",
                "{name: /op1/secret, action: deny}",
            );
            for (name, order) in [("first", [open, secret]), ("second", [secret, open])] {
                let policy = format!("{{policies: [{}]}}", rules(&order.join(", ")));
                let callee = mesh
                    .callee(name, app, |spec| with(spec, &[&policy]))
                    .await?;
                let calls = [
                    ("op1/x", true),
                    ("op1/secret", false),
                    ("op1/secret/y", false),
                    ("op2", false),
                ];
                decides(&mesh, &callee, WEB, &calls).await?;
            }
            Ok(())
        })
        .await;
        rows.row("K189", "a guard rail that nobody overrides", async {
            let rail = "{defaultAction: allow, policies: [{appId: '*', namespace: '*', trustDomain: '*', operations: [{name: /admin, action: deny}]}]}";
            let grant = format!("{{policies: [{}]}}", rules("{name: /admin/x, action: allow}"));
            let callee = mesh.callee("rail", app, |spec| with(spec, &[rail, &grant])).await?;
            let calls = [("admin/x", false), ("admin", false)];
            decides(&mesh, &callee, WEB, &calls).await
        })
        .await;
        rows.row("K190", "a baseline and a team", async {
            let base = "{defaultAction: deny}";
            let grant = format!(
                "{{policies: [{}]}}",
                entry(", defaultAction: allow").replace("appId: web", "appId: team")
            );
            let callee = mesh
                .callee("base", app, |spec| with(spec, &[base, &grant]))
                .await?;
            decides(&mesh, &callee, TEAM, &[("x", true)]).await?;
            decides(&mesh, &callee, WEB, &[("x", false)]).await
        })
        .await;
        rows.row("K191", "an exact entry beside a wildcard", async {
            let policy = format!(
                "{{policies: [{}, {{appId: '*', namespace: '*', operations: [{{name: /healthz, action: allow}}]}}]}}",
                entry(", defaultAction: deny")
            );
            let callee = mesh.callee("exact", app, |spec| with(spec, &[&policy])).await?;
            decides(&mesh, &callee, WEB, &[("healthz", false)]).await?;
            decides(&mesh, &callee, TEAM, &[("healthz", true), ("x", false)]).await
        })
        .await;
        rows.row("K192", "an object under audit", async {
            let callee = mesh
                .callee("audit", app, |spec| {
                    with(spec, &["{mode: Audit, defaultAction: deny}"])
                })
                .await?;
            let calls = [("x", true), ("%c0%ae%c0%ae/x", true)];
            // The second path is no URL for an HTTP app's client, but policy lets it pass.
            decides(&mesh, &callee, WEB, &calls).await
        })
        .await;
        rows.row("K193", "an object and the block contradict", async {
            let block = format!(
                "  accessControl: {{defaultAction: allow, policies: [{}]}}\n",
                entry(", defaultAction: allow")
            );
            let policy = format!("{{policies: [{}]}}", rules("{name: /x, action: deny}"));
            let callee = mesh
                .callee("both", app, |spec| with(spec, &[&policy]).configure(&block))
                .await?;
            decides(&mesh, &callee, WEB, &[("x", false), ("y", true)]).await
        })
        .await;
        rows.row("K195", "an object for another app", async {
            let other = object("other", "{defaultAction: deny}") + "scopes: [somebody]\n";
            let callee = mesh
                .callee("scoped", app, |spec| spec.resource("p.yaml", &other))
                .await?;
            decides(&mesh, &callee, WEB, &[("x", true)]).await
        })
        .await;
        rows.row(
            "K196",
            "an object of another namespace that names the app",
            async {
                let foreign = object("foreign", "{defaultAction: deny}")
                    .replace("{name: foreign}", "{name: foreign, namespace: a}")
                    + "scopes: [foreign]\n";
                let open = foreign.replace("defaultAction: deny", "defaultAction: allow");
                let own = object("own", "{defaultAction: deny}")
                    .replace("{name: own}", "{name: own, namespace: b}");
                for (files, is_allowed) in [([&foreign, &foreign], true), ([&open, &own], false)] {
                    let callee = mesh
                        .callee("foreign", app, |spec| {
                            spec.env("NAMESPACE", "b")
                                .resource("1.yaml", files[0])
                                .resource("2.yaml", files[1])
                        })
                        .await?;
                    decides(&mesh, &callee, WEB, &[("x", is_allowed)]).await?;
                }
                Ok(())
            },
        )
        .await;
    }
    rows.close();
}

/// A file for each of these specs.
fn with(spec: Spec, policies: &[&str]) -> Spec {
    let numbered = policies.iter().enumerate();
    numbered.fold(spec, |spec, (at, policy)| {
        spec.resource(&format!("{at}.yaml"), &object(&format!("o{at}"), policy))
    })
}

/// K181, K183 to K187: what can be no rule keeps a sidecar from starting, and says where and why.
#[tokio::test]
async fn files_that_are_no_rules_are_refused_with_their_place() {
    // Building it is no part of a row.
    let _daprd = ironside_e2e::binaries::path("daprd");
    let world = World::new();
    let rule = |name: &str| {
        format!(
            "{{policies: [{}]}}",
            rules(&format!("{{name: {name}, action: allow}}"))
        )
    };
    let many = |count| {
        let entries: Vec<String> = (0..count)
            .map(|at| entry("").replace("appId: web", &format!("appId: a{at}")))
            .collect();
        format!("{{policies: [{}]}}", entries.join(", "))
    };
    let mut rows = Rows::of("security");
    for (id, policy, want) in [
        (
            "K181",
            "{}".to_owned(),
            "set defaultAction or at least one policy",
        ),
        (
            "K183",
            rule("/a/../b"),
            "dot segments never match a request",
        ),
        (
            "K183",
            rule("/a//b"),
            "empty segments and trailing slashes never match a request",
        ),
        (
            "K183",
            rule("/a/"),
            "empty segments and trailing slashes never match a request",
        ),
        (
            "K183",
            rule("'/a#b'"),
            "operation name contains a forbidden character",
        ),
        ("K183", rule("/a%2fb"), "write the decoded form"),
        (
            "K183",
            rule(r#""/a\tb""#),
            "operation name contains a forbidden character",
        ),
        (
            "K184",
            rule("/a/**/b"),
            "`**` is allowed only as the last whole segment",
        ),
        (
            "K185",
            format!(
                "{{policies: [{}]}}",
                rules("{name: /a, httpVerb: [get], action: allow}")
            ),
            "get",
        ),
        (
            "K185",
            format!(
                "{{policies: [{}]}}",
                rules("{name: /a, httpVerb: [GET, '*'], action: allow}")
            ),
            "must stand alone",
        ),
        (
            "K186",
            format!("{{policies: [{}, {}]}}", entry(""), entry("")),
            "policies",
        ),
        ("K187", many(129), "128"),
        ("K187", rule(&format!("/{}", "n".repeat(256))), "256"),
    ] {
        rows.row(id, want, async {
            let mut sidecar = Spec::new("refused")
                .resource("bad.yaml", &object("bad", &policy))
                .launch(&world);
            let status = sidecar.program.exit(wait::LONG).await?;
            let log = sidecar.program.log();
            sidecar.program.hush();
            ensure!(status.code() == Some(1), "it ended with {status}");
            let fatal = log.lines().find(|line| line.contains("Fatal error"));
            let fatal = fatal.context("no reason was given")?;
            ensure!(
                fatal.contains(want) && fatal.contains("bad.yaml"),
                "{fatal}"
            );
            Ok(())
        })
        .await;
    }
    rows.close();
}

/// Bad input at a running callee: the last good rules stay, whatever lies there, and memory does too.
/// Row K204.
#[tokio::test]
async fn no_file_opens_a_running_callee() {
    const GROWTH_KIB: u64 = 64 << 10;
    let mesh = Mesh::start().await.unwrap();
    let policy = format!(
        "{{policies: [{}]}}",
        rules("{name: /public/**, action: allow}")
    );
    let callee = mesh
        .callee("callee", App::Http, |spec| with(spec, &[&policy]))
        .await
        .unwrap();
    let folder = fs::read_dir(mesh.world.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("callee-resources-"))
        .unwrap();
    let file = folder.join("0.yaml");
    let good = fs::read(&file).unwrap();
    let bomb = (1..12).fold(
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
        |text, at| {
            let before = at - 1;
            let refer = format!("*a{before}, ").repeat(9);
            text + &format!("a{at}: &a{at} [{refer}]\n")
        },
    );
    let rules: String = (0..100_000)
        .map(|at| format!("    - {{name: /r{at}, action: allow}}\n"))
        .collect();
    let crowd = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: o0}}\nspec:\n  policies:\n  - appId: web\n    namespace: default\n    operations:\n{rules}"
    );
    let text = |spec: &str| object("o0", spec).into_bytes();
    let mut invalid = good.clone();
    invalid.extend_from_slice(b"# \xff\xfe\n");
    let before = callee.sidecar.program.resident_kib();
    let mut rows = Rows::of("security");
    for (what, bytes) in [
        (
            "an unknown field",
            text("{defaultAction: allow, notPaths: [/x]}"),
        ),
        ("a wrong word", text("{defaultAction: maybe}")),
        (
            "an unknown mode",
            text("{mode: Shadow, defaultAction: allow}"),
        ),
        (
            "a key twice",
            text("{defaultAction: allow, defaultAction: allow}"),
        ),
        ("invalid UTF-8", invalid),
        (
            "a YAML bomb",
            format!("{}{bomb}", String::from_utf8_lossy(&good)).into_bytes(),
        ),
        ("100,000 rules", crowd.into_bytes()),
        (
            "10 MiB",
            [good.as_slice(), &b"# AccessControl\n".repeat(640 << 10)].concat(),
        ),
        ("no YAML", b"kind: AccessControl\n\t- {".to_vec()),
    ] {
        rows.row("K204", what, async {
            let log = || callee.sidecar.program.log();
            let refusals = || log().matches("the last good state stays").count();
            let known = refusals();
            fs::write(folder.join("draft"), &bytes)?;
            fs::rename(folder.join("draft"), &file)?;
            let told = || async { (refusals() > known).then_some(()) };
            wait::until("a line about it", wait::LONG, told).await?;
            decides(&mesh, &callee, WEB, &[("admin", false), ("public/a", true)]).await?;
            fs::write(folder.join("draft"), &good)?;
            fs::rename(folder.join("draft"), &file)?;
            decides(&mesh, &callee, WEB, &[("admin", false), ("public/a", true)]).await
        })
        .await;
    }
    rows.row("K204", "memory afterwards", async {
        let growth = callee.sidecar.program.resident_kib().saturating_sub(before);
        ensure!(growth < GROWTH_KIB, "{growth} KiB more");
        Ok(())
    })
    .await;
    rows.close();
}

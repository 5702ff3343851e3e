//! Access control at a real callee: the legacy block and AccessControl files, refusals as callers see them,
//! and changes under a running process.
//!
//! A caller `web` and a callee `shop`, both with identities of a real Sentry. What policy decides is tested in
//! its crate; here it is whether the decision is asked for, obeyed and replaced.

#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ironside_e2e::{Sentry, Sidecar, Spec, World, wait};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest, http_extension},
    google::protobuf::Any,
    runtime::InvokeServiceRequest,
};
use ironside_testkit::http::{Answer, Connection, HttpApp, Request};
use prost::Message as _;

/// Well below the time after which a missing file counts as removed.
const GAP: Duration = Duration::from_millis(25);

const BLOCK: &str = "  accessControl:
    defaultAction: deny
    policies:
    - appId: web
      namespace: default
      trustDomain: public
      operations:
      - {name: '/public/**', httpVerb: ['*'], action: allow}
";

fn denied(operation: &str, verb: &str) -> String {
    format!(
        "access control policy has denied access to id: spiffe://public/ns/default/web operation: {operation} verb: {verb}"
    )
}

/// A policy for `web` with these rules; everything else is refused.
fn object(rules: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata:\n  name: shop\nspec:\n  policies:\n  - appId: web\n    namespace: default\n    operations:\n{rules}"
    )
}

struct Pair {
    world: World,
    app: HttpApp,
    web: Sidecar,
    shop: Sidecar,
    _sentry: Sentry,
}

impl Pair {
    async fn start(callee: impl FnOnce(Spec) -> Spec) -> Self {
        let world = World::new();
        let sentry = Sentry::start(&world).await.unwrap();
        let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
        let shop = callee(Spec::new("shop").app(app.port()).mtls(&sentry));
        let shop = shop.ready(&world).await.unwrap();
        let web = Spec::new("web").mtls(&sentry);
        let web = web.start(&world).await.unwrap();
        Self {
            world,
            app,
            web,
            shop,
            _sentry: sentry,
        }
    }

    /// Status and text of a call, and how many requests the app got.
    async fn call(&self, verb: &str, path: &str) -> (u16, String, usize) {
        drop(self.app.take());
        let request = Request::new(verb, &format!("/v1.0/invoke/shop/method/{path}"));
        let reply = self.web.send(&request).await.unwrap();
        (reply.status(), reply.text(), self.app.take().len())
    }

    async fn status(&self, path: &str) -> u16 {
        self.call("GET", path).await.0
    }

    /// Waits until a call is answered with `status`.
    async fn becomes(&self, path: &str, status: u16) {
        let what = format!("{path} answered with {status}");
        let look = || async { (self.status(path).await == status).then_some(()) };
        let waited = wait::until(&what, wait::LONG, look).await;
        waited.inspect_err(|_| self.shop.program.show()).unwrap();
    }

    /// A file or folder of the callee.
    fn find(&self, start: &str, end: &str) -> PathBuf {
        let entries = fs::read_dir(self.world.path()).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        let fits = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(start) && name.ends_with(end)
        };
        paths.find(fits).unwrap()
    }
}

/// Writes a file whole.
fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(&draft, path).unwrap();
}

/// Facts K114 to K117, K119, K130 to K147 over HTTP, K151 over gRPC.
#[tokio::test]
async fn refusals_are_the_reference_s_and_never_reach_the_app() {
    let pair = Pair::start(|spec| spec.configure(BLOCK)).await;
    assert_eq!(
        pair.call("GET", "public/a").await,
        (200, "ok".to_owned(), 1)
    );
    let (status, text, hits) = pair.call("GET", "admin/x").await;
    let want = format!(
        r#"{{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: shop, err: rpc error: code = PermissionDenied desc = {}"}}"#,
        denied("admin/x", "GET")
    );
    assert_eq!((status, text.as_str(), hits), (403, want.as_str(), 0));
    let (status, text, hits) = pair.call("HEAD", "admin").await;
    assert_eq!((status, text.as_str(), hits), (403, "", 0));
    for path in [
        "public/../admin",
        "public%2F..%2Fadmin",
        "public/%2e%2e/admin",
        "public/%252e%252e/admin",
        "public/%25252e%25252e/admin",
        "public%252F..%252Fadmin",
        "public/..%5Cadmin",
        "public\\..\\admin",
        "public/..;/admin",
        "public;/../admin",
        "public/..;x=1/admin",
        "public%23/../admin",
        "public%3F/../admin",
        "public%00/../admin",
        "public%0d%0a/../admin",
        "public%09/../admin",
        "/admin",
        "public//..//admin",
        "./admin",
        "public/./../admin",
        "%2fadmin",
        "..%2f..%2f..%2fadmin",
        "%c0%ae%c0%ae/admin",
        "http://x/admin",
        "@admin",
    ] {
        let (status, text, hits) = pair.call("GET", path).await;
        assert!(
            hits == 0 && matches!(status, 400 | 403 | 404 | 500),
            "{path}: {status} {text}, {hits} calls of the app"
        );
    }
    grpc(&pair).await;
    // A call to the own app is not subject to it.
    let own = Request::get("/v1.0/invoke/shop/method/admin");
    assert_eq!(pair.shop.send(&own).await.unwrap().status(), 200);
}

/// `InvokeService` hides the code, a proxied call does not (K115, K116, K164).
async fn grpc(pair: &Pair) {
    drop(pair.app.take());
    let client = pair.web.client().await.unwrap();
    let request = InvokeServiceRequest {
        id: "shop".to_owned(),
        message: Some(InvokeRequest {
            method: "public/../admin".to_owned(),
            data: Some(Any::default()),
            content_type: String::new(),
            http_extension: Some(HttpExtension {
                verb: http_extension::Verb::Post.into(),
                querystring: String::new(),
            }),
        }),
    };
    let path = "/dapr.proto.runtime.v1.Dapr/InvokeService";
    let reply = client
        .call(path, &[], &[&request.encode_to_vec()])
        .await
        .unwrap();
    assert_eq!(reply.code(), Some(13));
    let core = denied("admin", "POST");
    assert_eq!(
        reply.message(),
        format!(
            "failed to invoke, id: shop, err: rpc error: code = PermissionDenied desc = {core}"
        )
    );
    for path in ["/pkg.S/M", "/dapr.proto.runtime.v1.AppCallback/OnInvoke"] {
        let client = pair.web.client().await.unwrap();
        let reply = client
            .call(path, &[("dapr-app-id", "shop")], &[b""])
            .await
            .unwrap();
        assert_eq!(reply.code(), Some(7), "{path}: {}", reply.message());
        assert_eq!(reply.message(), denied(path, "NONE"));
    }
    assert_eq!(pair.app.take().len(), 0);
}

/// Fact K123: the block of a running sidecar is replaced; the process and its connections stay.
#[tokio::test]
async fn the_block_is_replaced_in_place() {
    let pair = Pair::start(|spec| spec.configure(BLOCK)).await;
    let mut kept = Connection::tcp(pair.web.http()).await.unwrap();
    let admin = Request::get("/v1.0/invoke/shop/method/admin");
    assert_eq!(kept.send(&admin).await.unwrap().status(), 403);
    let config = pair.find("shop-", ".yaml");
    let text = fs::read_to_string(&config).unwrap();
    replace(&config, &text.replace("/public/**", "/admin"));
    pair.becomes("admin", 200).await;
    assert_eq!(kept.send(&admin).await.unwrap().status(), 200);
    assert_eq!(pair.status("public/a").await, 403);
    // An edit that cannot be used changes nothing and is told.
    replace(&config, &text.replace("trustDomain: public\n", "\n"));
    pair.shop
        .program
        .logged("missing trustdomain for apps: [web]")
        .await
        .unwrap();
    assert_eq!(pair.status("admin").await, 200);
}

/// Facts K103 and F10: rules that cannot be used keep the sidecar from starting.
#[tokio::test]
async fn a_start_with_unusable_rules_fails() {
    let world = World::new();
    let bad = BLOCK.replace("      namespace: default\n", "");
    let open = object("    - {name: /a/, action: allow}\n");
    for (spec, want) in [
        (
            Spec::new("a").configure(&bad),
            "Fatal error from runtime: invalid access control spec. missing trustdomain for apps: [], missing namespace for apps: [web], missing app name on at least one of the app policies: false",
        ),
        (
            Spec::new("b").resource("p.yaml", &open),
            "line 10: /spec/policies/0/operations/0/name: empty segments and trailing slashes never match a request",
        ),
    ] {
        let mut sidecar = spec.launch(&world);
        sidecar.program.logged(want).await.unwrap();
        let status = sidecar.program.exit(wait::LONG).await.unwrap();
        assert_eq!(status.code(), Some(1));
    }
}

/// Facts K213, K199 and M8: files come, change, break, heal and go under one connection.
#[tokio::test]
async fn files_of_access_control_take_effect_in_place() {
    let first = object("    - {name: /a, action: allow}\n");
    let pair = Pair::start(|spec| spec.resource("shop.yaml", &first)).await;
    assert_eq!(pair.call("GET", "a/x").await, (200, "ok".to_owned(), 1));
    let (status, text, hits) = pair.call("GET", "b").await;
    assert_eq!((status, hits), (403, 0));
    // A refusal names neither object nor rule.
    assert!(
        text.contains(&denied("b", "GET")) && !text.contains("policies"),
        "{text}"
    );

    let folder = pair.find("shop-resources-", ".d");
    let file = folder.join("shop.yaml");
    replace(
        &file,
        &object("    - {name: /b, httpVerb: [GET], action: allow}\n"),
    );
    pair.becomes("b", 200).await;
    assert_eq!(pair.status("a").await, 403);
    assert_eq!(pair.call("POST", "b").await.0, 403);

    replace(
        &file,
        &object("    - {name: /a, action: allow, notPaths: [/b]}\n"),
    );
    pair.shop.program.logged("notPaths").await.unwrap();
    pair.shop
        .program
        .logged("the last good state stays in force until the file is corrected")
        .await
        .unwrap();
    assert_eq!((pair.status("b").await, pair.status("a").await), (200, 403));

    replace(&file, &object("    - {name: /c, action: allow}\n"));
    pair.becomes("c", 200).await;
    // A guard rail in a second file cannot be overridden.
    let guard = object("    - {name: /c, action: deny}\n").replace("name: shop", "name: guard");
    replace(&folder.join("guard.yaml"), &guard);
    pair.becomes("c", 403).await;
    fs::remove_file(folder.join("guard.yaml")).unwrap();
    pair.becomes("c", 200).await;

    fs::remove_file(&file).unwrap();
    pair.becomes("anything", 200).await;
    pair.shop
        .program
        .logged("the last AccessControl for this app is gone")
        .await
        .unwrap();
}

/// An editor that deletes and creates opens no gap.
#[tokio::test]
async fn a_file_that_is_deleted_and_made_again_opens_no_gap() {
    let text = object("    - {name: /a, action: allow}\n");
    let pair = Pair::start(|spec| spec.resource("shop.yaml", &text)).await;
    let file = pair.find("shop-resources-", ".d").join("shop.yaml");
    let mut quick = 0;
    for _ in 0..20 {
        let watch = wait::Stopwatch::start();
        fs::remove_file(&file).unwrap();
        replace(&file, &text);
        // A machine that sleeps in between removed the file for real.
        if watch.elapsed() < GAP {
            quick += 1;
            for _ in 0..5 {
                assert_eq!(pair.status("b").await, 403);
            }
        }
        pair.becomes("b", 403).await;
    }
    assert!(quick > 0, "the machine is too slow for this test");
}

/// Facts K113 and K194: without mutual TLS a caller is nobody.
#[tokio::test]
async fn without_identity_only_defaults_apply() {
    let world = World::new();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let allow = BLOCK.replace("defaultAction: deny", "defaultAction: allow");
    let object = object("    - {name: /a, action: allow}\n");
    let callees = [
        (Spec::new("denies").configure(BLOCK), 403),
        (Spec::new("allows").configure(&allow), 200),
        (Spec::new("object").resource("p.yaml", &object), 403),
    ];
    let web = Spec::new("web").start(&world).await.unwrap();
    for (spec, want) in callees {
        let callee = spec.app(app.port()).ready(&world).await.unwrap();
        let request = Request::get(&format!("/v1.0/invoke/{}/method/public/a", callee.app_id()));
        let reply = web.send(&request).await.unwrap();
        assert_eq!(reply.status(), want, "{}", reply.text());
        if want == 403 {
            assert!(
                reply
                    .text()
                    .contains("to id:  operation: public/a verb: GET"),
                "{}",
                reply.text()
            );
        }
    }
}

/// Facts 3.14 and recheck: what a pipeline makes of a path is judged again.
#[tokio::test]
async fn a_path_that_a_pipeline_rewrites_is_judged_again() {
    let routes = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: alias\nspec:\n  type: middleware.http.routeralias\n  version: v1\n  metadata:\n  - name: routes\n    value: '{\"/public/door\": \"/admin\"}'\n";
    let pipeline = "  appHttpPipeline:\n    handlers:\n    - {name: alias, type: middleware.http.routeralias}\n";
    let pair = Pair::start(|spec| {
        spec.configure(BLOCK)
            .configure(pipeline)
            .resource("alias.yaml", routes)
    })
    .await;
    assert_eq!(pair.call("GET", "public/window").await.0, 200);
    let (status, text, hits) = pair.call("GET", "public/door").await;
    assert_eq!((status, hits), (403, 0), "{text}");
    assert!(text.contains("has denied access"), "{text}");
}

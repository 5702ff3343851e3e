//! Self-hosted sidecars under load: calls that succeed, fail, are repeated, refused, and never arrive.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ironside_e2e::{Sentry, Sidecar, Spec, World, ports, wait};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest},
    runtime::InvokeServiceRequest,
};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, Running},
    http::{Answer, HttpApp, Request},
};
use prost::Message as _;

use crate::series::Page;

/// Only `/open` of `orders` may be called.
const RULES: &str = "  accessControl:
    defaultAction: allow
    trustDomain: public
    policies:
    - appId: shop
      trustDomain: public
      namespace: default
      defaultAction: allow
      operations:
      - {name: /secret, httpVerb: ['*'], action: deny}
";

/// Nobody but an app that there is none of may call.
const CLOSED: &str = "  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
    - {appId: friend, trustDomain: public, namespace: default, defaultAction: allow}
";

/// A component that is in service, and one of a kind that is not offered.
const COMPONENTS: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: upper}
spec: {type: middleware.http.uppercase, version: v1}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: filter}
spec: {type: middleware.http.wasm, version: v1}
";

/// A retry that gives up, and a breaker that opens.
const POLICIES: &str = "apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: shop}
spec:
  policies:
    timeouts: {quick: 30s}
    retries: {again: {duration: 1ms, maxRetries: 2}}
    circuitBreakers: {three: {trip: consecutiveFailures >= 3, timeout: 600s}}
  targets:
    apps:
      broken: {timeout: quick, retry: again, circuitBreaker: three}
      fragile: {retry: again}
      orders: {outlierDetection: {consecutiveFailures: 1, minEjection: 60s}}
";

/// Runs everything and returns the pages of all that has one.
pub(crate) async fn scrape() -> Result<Vec<Page>> {
    let world = World::new();
    let sentry = Sentry::start(&world).await?;
    let fine = HttpApp::start(|_| Answer::text("ok")).await?;
    let bad = HttpApp::start(|_| Answer::status(503).body("no")).await?;
    let greeter = GrpcApp::start(greet).await?;
    let app = |id: &str, port: u16| Spec::new(id).app(port).mtls(&sentry);
    let probed = |spec: Spec| {
        let spec = spec.argument("--enable-app-health-check");
        spec.flag("--app-health-probe-interval", "1")
    };
    let orders = app("orders", fine.port()).configure(RULES);
    let broken = app("broken", bad.port());
    let fragile = app("fragile", bad.port());
    let greeting = app("greeter", greeter.port()).protocol("grpc");
    let sick = probed(app("sick", bad.port())).configure(CLOSED);
    let mute = probed(app("mute", greeter.port()).protocol("grpc"));
    let shop = Spec::new("shop")
        .mtls(&sentry)
        .resource("r.yaml", POLICIES)
        .resource("c.yaml", COMPONENTS);
    // One exporter delivers, nobody listens where the other sends.
    let nobody = ports::free();
    let shop = shop.configure(&format!(
        "  metrics: {{recordErrorCodes: true}}
  tracing:
    samplingRate: \"1\"
    stdout: true
    zipkin: {{endpointAddress: \"http://127.0.0.1:{nobody}/api/v2/spans\"}}
"
    ));
    let (orders, broken, fragile, greeting, sick, mute, shop) = tokio::try_join!(
        orders.ready(&world),
        broken.ready(&world),
        fragile.ready(&world),
        greeting.ready(&world),
        sick.start(&world),
        mute.start(&world),
        shop.start(&world),
    )?;
    // One of two addresses is dead.
    lose(&world, "orders")?;
    load(&shop).await?;
    let denied = || async {
        let request = Request::get("/v1.0/invoke/sick/method/x");
        shop.send(&request).await.ok()?;
        let name = "dapr_runtime_acl_global_policy_action_blocked_total{";
        page(&sick).await.ok()?.says(&[name]).then_some(())
    };
    wait::until("a caller that nobody knows", wait::LONG, denied).await?;
    let all = [&orders, &broken, &fragile, &greeting, &sick, &mute, &shop];
    until(
        &sick,
        &["dapr_http_healthprobes_completed_count{", "status=\"503\""],
    )
    .await?;
    for outcome in ["exported_total{", "dropped_total{"] {
        let name = format!("dapr_runtime_trace_spans_{outcome}");
        until(&shop, &[name.as_str()]).await?;
    }
    until(&mute, &["dapr_grpc_io_healthprobes_completed_count{"]).await?;
    let mut pages = Vec::new();
    for sidecar in all {
        pages.push(page(sidecar).await?);
    }
    Ok(pages)
}

/// Calls everybody until every kind of trouble has been seen.
async fn load(shop: &Sidecar) -> Result<()> {
    let get = |app: &str, path: &str| Request::get(&format!("/v1.0/invoke/{app}/method/{path}"));
    for app in ["orders", "greeter", "broken", "fragile"] {
        let found = || async {
            let reply = shop.send(&get(app, "first")).await.ok()?;
            let text = reply.text();
            (!text.contains("couldn't find") && !text.contains("failed to resolve")).then_some(())
        };
        wait::until(app, wait::LONG, found).await?;
    }
    for path in ["open", "secret"] {
        for _ in 0..5 {
            shop.send(&get("orders", path)).await?;
            shop.send(&get("broken", path)).await?;
            shop.send(&get("fragile", path)).await?;
        }
    }
    let client = shop.client().await?;
    let invoke = InvokeServiceRequest {
        id: "greeter".to_owned(),
        message: Some(InvokeRequest {
            method: "hello".to_owned(),
            http_extension: Some(HttpExtension::default()),
            ..InvokeRequest::default()
        }),
    };
    let path = "/dapr.proto.runtime.v1.Dapr/InvokeService";
    client.call(path, &[], &[&invoke.encode_to_vec()]).await?;
    let to = [("dapr-app-id", "greeter")];
    client.call("/greet.G/Fail", &to, &[b"x"]).await?;
    let is_out = ["dapr_resiliency_endpoints{", "state=\"ejected\""];
    let lost = || async {
        shop.send(&get("orders", "open")).await.ok()?;
        let page = page(shop).await.ok()?;
        let is_told = page.says(&["dapr_resiliency_ejections_total{"]);
        (is_told && page.says(&is_out)).then_some(())
    };
    wait::until("an address is left out", wait::LONG, lost).await?;
    // Nobody knows this app.
    shop.send(&get("nobody", "x")).await?;
    Ok(())
}

/// An app that greets, and says what it cannot do.
fn greet(mut call: Exchange) -> Running {
    Box::pin(async move {
        drop(call.message().await);
        match call.path() {
            "/greet.G/Fail" => call.end(14, "no", &[]),
            _ => call.end(12, "unknown", &[]),
        }
    })
}

/// Puts an address at which nobody listens beside those of an app.
fn lose(world: &World, app: &str) -> Result<()> {
    let database = rusqlite::Connection::open(world.path().join("names.db"))?;
    database.busy_timeout(Duration::from_secs(20))?;
    let statement = "INSERT INTO hosts (registration_id, address, app_id, namespace, last_update) \
                     VALUES (?1, ?2, ?3, '', unixepoch() + 3600)";
    let row = (
        format!("lost-{app}"),
        format!("localhost:{}", ports::free()),
        app,
    );
    database
        .execute(statement, row)
        .context("the table of sidecars")?;
    Ok(())
}

async fn page(sidecar: &Sidecar) -> Result<Page> {
    let id = sidecar.app_id();
    let (service, pod) = (format!("{id}-dapr"), format!("{id}-0"));
    let target = [
        ("namespace", "shop"),
        ("service", &*service),
        ("pod", &*pod),
    ];
    Page::fetch(sidecar.metrics(), "ironside-sidecars", &target).await
}

async fn until(sidecar: &Sidecar, parts: &[&str]) -> Result<()> {
    let look = || async { page(sidecar).await.ok()?.says(parts).then_some(()) };
    let waited = wait::until(&parts.concat(), 2 * wait::LONG, look).await;
    waited.inspect_err(|_| sidecar.program.show())
}

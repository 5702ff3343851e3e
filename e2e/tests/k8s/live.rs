//! Objects of the reference's kinds, changed while calls run, as sidecars in pods see them. Rows KL and KG.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    binaries::root,
    k8s::{self, Helm, Machine, Place, Sample},
    wait::Stopwatch,
};
use serde_json::{Value, json};

use crate::{
    breaking::kubectl,
    shop::{ORDERS, Shop, call, put, start},
};

/// The block: `/open` to both callers, the rest as it says.
fn block(action: &str) -> Value {
    let to = |app: &str, place: &str| {
        json!({"appId": app, "namespace": place, "trustDomain": "public", "defaultAction": action,
               "operations": [{"name": "/open", "httpVerb": ["*"], "action": "allow"}]})
    };
    json!({"accessControl": {"defaultAction": action, "trustDomain": "public",
                             "policies": [to("web", "PLACE"), to("mail", "PLACE")]}})
}

fn configure(place: &Place, name: &str, spec: &Value) -> Result<()> {
    let text = spec.to_string().replace("PLACE", place.namespace());
    put(place, "Configuration", name, &serde_json::from_str(&text)?)
}

/// What a pod's sidecar says of itself under `key`.
async fn extended(place: &Place, pod: &str, key: &str) -> Result<Option<String>> {
    let answer = place.get(pod, 3500, "/v1.0/metadata").await?.json()?;
    Ok(answer["extended"][key].as_str().map(str::to_owned))
}

async fn knows(place: &Place, pod: &str, key: &str, value: &str) -> Result<()> {
    let look = async || {
        let said = extended(place, pod, key).await.ok()??;
        (said == value).then_some(())
    };
    place
        .until(&format!("{pod} says {key}={value}"), look)
        .await
}

async fn log_says(place: &Place, pod: &str, words: &str) -> Result<()> {
    let look = async || {
        let log = place.logs(pod, "daprd").await.ok()?;
        log.contains(words).then_some(())
    };
    place.until(&format!("{pod} logs {words}"), look).await
}

/// What a caller saw of an answer that goes on for longer than it may.
async fn endless(place: &Place, pod: &str) -> Result<Value> {
    let url = call(ORDERS, "/stream?count=2000&ms=10");
    place.call(pod, &url).await
}

async fn blocks(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    configure(place, ORDERS, &block("allow"))?;
    configure(place, "another", &block("allow"))?;
    let orders = Sample::with_sidecar(ORDERS).annotation("dapr.io/config", ORDERS);
    let shop = Shop::open(place, orders).await?;
    let mail = shop.mail();
    let pod = place.pod("app=orders").await?;
    shop.becomes(mail, ORDERS, "/door", 200).await?;
    shop.load().await?;
    // Calls are under way at every moment, those that are to be denied too.
    let slow = json!({"call": call(ORDERS, "/slow?ms=1000"), "workers": 4, "pause_ms": 20});
    place.start_load(mail, &slow).await?;
    count(place, &pod, "/slow").await?;
    // KL-05
    configure(place, "another", &block("deny"))?;
    let watch = Stopwatch::start();
    let changes = async {
        count(place, &pod, "/stream").await?;
        configure(place, ORDERS, &block("deny"))?;
        let start = watch.elapsed();
        shop.becomes(mail, ORDERS, "/door", 403).await?;
        anyhow::Ok((start, watch.elapsed()))
    };
    let stream = async { anyhow::Ok((endless(place, mail).await?, watch.elapsed())) };
    let ((start, denied), (cut, ended)) = tokio::try_join!(changes, stream)?;
    let since = |end: Duration| end.saturating_sub(start).as_millis();
    k8s::figure(&format!(
        "from kubectl apply of a Configuration to the first denial {} ms, to the end of a stream {} ms",
        since(denied),
        since(ended)
    ));
    // K198
    ensure!(!cut["error"].is_null(), "the stream was not cut: {cut}");
    knows(place, &pod, "generation.Configuration.orders", "2").await?;
    let other = extended(place, &pod, "generation.Configuration.another").await?;
    ensure!(
        other.is_none(),
        "the Configuration of another app: {other:?}"
    );
    // Whatever the app got, it answered.
    let account = place.end_load(mail).await?;
    let got = count(place, &pod, "/slow").await?;
    ensure!(
        account["ok"] == got,
        "{got} calls came to the app: {account}"
    );
    ensure!(account["failed"] != 0, "none was denied: {account}");
    // KL-03
    kubectl(place, &["delete", "configuration.dapr.io", ORDERS])?;
    log_says(place, &pod, "configuration orders is gone").await?;
    shop.always(mail, ORDERS, "/door", 403).await?;
    configure(place, ORDERS, &block("allow"))?;
    shop.becomes(mail, ORDERS, "/door", 200).await?;
    let made = shop.unhurt().await?;
    shop.same_processes().await?;
    k8s::figure(&format!(
        "a block that changed, went and came: {made} calls, 0 failed"
    ));
    Ok(())
}

/// How often an app's path was called, once it was.
async fn count(place: &Place, pod: &str, path: &str) -> Result<u64> {
    let look = async || place.counts(pod).await.ok()?[path].as_u64();
    place.until(&format!("a call of {path}"), look).await
}

/// KL-01, KL-03, KL-05, KL-08, K198, KG-16: the block of a Configuration, live; calls under way end as they began, a
/// stream that goes on is cut.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_block_changes_goes_and_comes_under_load() {
    k8s::test("live::a_block_changes_goes_and_comes_under_load", blocks).await;
}

/// Where the API server's rule about entries of the block is.
const RULE: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/accessControl/properties/policies/items/x-kubernetes-validations";

/// Lets the API server store a block that it refuses, as one without the rules does, or with the field bypassed.
async fn unusable(place: &Place, spec: &Value) -> Result<()> {
    let without = json!([{"op": "remove", "path": RULE}]).to_string();
    let patch = [
        "patch",
        "crd",
        "configurations.dapr.io",
        "--type=json",
        "--patch",
        &without,
    ];
    kubectl(place, &patch)?;
    let object = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": ORDERS}, "spec": spec,
    });
    // The API server takes a changed schema into use in its own time.
    let stored = async || {
        let said = place.try_apply(&object.to_string()).ok()?;
        said.ok.then_some(())
    };
    place.until("the block is stored", stored).await
}

async fn invalid(_machine: &Machine, place: &Place) -> Result<()> {
    configure(place, ORDERS, &block("deny"))?;
    let orders = Sample::with_sidecar(ORDERS).annotation("dapr.io/config", ORDERS);
    let shop = Shop::open_under(place, orders).await?;
    let (mail, pod) = (shop.mail(), place.pod("app=orders").await?);
    shop.becomes(mail, ORDERS, "/door", 403).await?;
    shop.load().await?;
    let nameless = json!({"accessControl": {"defaultAction": "allow", "policies": [{"appId": "mail", "defaultAction": "allow"}]}});
    let stored = unusable(place, &nameless).await;
    let definition = root().join("charts/ironside/crds/configurations.dapr.io.yaml");
    let definition = definition.to_str().context("a path")?;
    let back = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--filename",
        definition,
    ];
    kubectl(place, &back)?;
    stored?;
    log_says(
        place,
        &pod,
        "Configuration orders cannot be used in generation 2",
    )
    .await?;
    let metrics = place.get(&pod, 9090, "/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let refused = r#"dapr_runtime_resources_refused{app_id="orders",kind="Configuration"} 1"#;
    ensure!(metrics.contains(refused), "{metrics}");
    shop.always(mail, ORDERS, "/door", 403).await?;
    // The next good one counts.
    configure(place, ORDERS, &block("allow"))?;
    shop.becomes(mail, ORDERS, "/door", 200).await?;
    let made = shop.unhurt().await?;
    shop.same_processes().await?;
    k8s::figure(&format!(
        "a block that no sidecar can use: {made} calls, 0 failed"
    ));
    Ok(())
}

/// KL-02, KL-08: of a block that makes no sense the last good version stays, log and metric say so, nothing restarts.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn a_block_that_cannot_be_used_changes_nothing() {
    let name = "live::a_block_that_cannot_be_used_changes_nothing";
    k8s::test_on_own(name, &[], invalid).await;
}

async fn without_reload(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let off = |rate: &str| json!({"features": [{"name": "HotReload", "enabled": false}], "tracing": {"samplingRate": rate}});
    put(place, "Configuration", "off", &off("0"))?;
    put(
        place,
        "Configuration",
        "on",
        &json!({"tracing": {"samplingRate": "0"}}),
    )?;
    let [waits, follows] = [("waits", "off"), ("follows", "on")].map(|(name, config)| {
        (
            name,
            Sample::with_sidecar(name).annotation("dapr.io/config", config),
        )
    });
    start(place, &[waits, follows]).await?;
    let (old, other) = (
        place.pod("app=waits").await?,
        place.pod("app=follows").await?,
    );
    put(place, "Configuration", "off", &off("1"))?;
    put(
        place,
        "Configuration",
        "on",
        &json!({"tracing": {"samplingRate": "1"}}),
    )?;
    knows(place, &other, "generation.Configuration.on", "2").await?;
    let key = "generation.Configuration.off";
    let said = extended(place, &old, key).await?;
    ensure!(said.as_deref() == Some("1"), "{said:?}");
    kubectl(place, &["rollout", "restart", "deployment/waits"])?;
    place.rolled_out("waits").await?;
    let new = async || place.pod("app=waits").await.ok().filter(|pod| *pod != old);
    let new = place.until("the new pod alone", new).await?;
    knows(place, &new, key, "2").await
}

/// KL-06: with the feature off, edits wait for the next start.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn without_hot_reload_edits_wait_for_a_restart() {
    k8s::test(
        "live::without_hot_reload_edits_wait_for_a_restart",
        without_reload,
    )
    .await;
}

async fn timeouts(place: &Place) -> Result<()> {
    let shop = Shop::open(place, Sample::with_sidecar(ORDERS)).await?;
    let limited = |limit: &str| json!({"policies": {"timeouts": {"limit": limit}}, "targets": {"apps": {ORDERS: {"timeout": "limit"}}}});
    let slow = "/slow?ms=1500";
    shop.always(shop.web(), ORDERS, "/slow?ms=100", 200).await?;
    put(place, "Resiliency", "limits", &limited("300ms"))?;
    let late = async || {
        let outcome = place.call(shop.web(), &call(ORDERS, slow)).await.ok()?;
        (outcome["status"].as_u64()? >= 500).then_some(())
    };
    place.until("a timeout that counts", late).await?;
    put(place, "Resiliency", "limits", &limited("20s"))?;
    shop.becomes(shop.web(), ORDERS, slow, 200).await?;
    shop.same_processes().await
}

/// KL-07, KG-06: a Resiliency that is edited holds for the calls after.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_timeout_of_a_resiliency_is_live() {
    k8s::test("live::a_timeout_of_a_resiliency_is_live", timeouts).await;
}

/// What the server of the endpoint `remote` got, once the answer is as wanted.
pub(crate) async fn echo(place: &Place, pod: &str, look: impl Fn(&Value) -> bool) -> Result<Value> {
    let asked = async || {
        let outcome = place.call(pod, &call("remote", "/there")).await.ok()?;
        let body: Value = serde_json::from_str(outcome["body"].as_str()?).unwrap_or_default();
        let answer = json!({"status": outcome["status"], "echo": body});
        look(&answer).then_some(answer)
    };
    place.until("the answer of the endpoint", asked).await
}

async fn endpoints(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let server = Sample::new("server");
    start(
        place,
        &[("server", server), ("web", Sample::with_sidecar("web"))],
    )
    .await?;
    place.apply(
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"},
            "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}}"#,
    )?;
    let web = place.pod("app=web").await?;
    let base = format!("http://server.{}.svc.cluster.local", place.namespace());
    // KG-08: one whose secret is not there holds up no other.
    let missing = json!({"baseUrl": base, "headers": [{"name": "x", "secretKeyRef": {"name": "none", "key": "k"}}]});
    put(place, "HTTPEndpoint", "broken", &missing)?;
    let endpoint = |value: &str, scopes: &[&str]| {
        json!({"apiVersion": "dapr.io/v1alpha1", "kind": "HTTPEndpoint", "metadata": {"name": "remote"},
               "spec": {"baseUrl": base, "headers": [{"name": "x-key", "value": value}]}, "scopes": scopes})
            .to_string()
    };
    let has = |value: &'static str| {
        move |answer: &Value| {
            answer["status"] == 200
                && answer["echo"]["headers"]["x-key"]
                    .to_string()
                    .contains(value)
        }
    };
    // KG-12
    place.apply(&endpoint("one", &[]))?;
    let answer = echo(place, &web, has("one")).await?;
    ensure!(answer["echo"]["path"] == "/there", "{answer}");
    place.apply(&endpoint("two", &["web"]))?;
    echo(place, &web, has("two")).await?;
    // KG-13
    place.apply(&endpoint("three", &["another"]))?;
    echo(place, &web, |answer| answer["status"] != 200).await?;
    place.apply(&endpoint("four", &["another", "web"]))?;
    echo(place, &web, has("four")).await?;
    kubectl(place, &["delete", "httpendpoint", "remote"])?;
    echo(place, &web, |answer| answer["status"] != 200).await?;
    let log = place
        .logs(&web, "daprd")
        .await
        .context("the sidecar's log")?;
    ensure!(!log.contains("panic"), "{log}");
    Ok(())
}

/// KG-08, KG-12, KG-13: an endpoint that is made, edited, taken away and given back, as a sidecar's callers see it.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn endpoints_come_change_and_go() {
    k8s::test("live::endpoints_come_change_and_go", endpoints).await;
}

//! Calls between pods through their sidecars: every protocol, across namespaces, under mutual TLS, with rules of a
//! Configuration. Rows KO-08, KO-29.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, Place, Sample};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::{Value, json};

/// The sidecar's HTTP API.
const API: &str = "http://127.0.0.1:3500/v1.0/invoke";
/// The sidecar's gRPC API.
const GRPC: &str = "http://127.0.0.1:50001";

/// A GET of an app's method through the caller's sidecar.
fn http(app: &str, path: &str) -> Value {
    json!({"url": format!("{API}/{app}/method/{path}"), "timeout_ms": 20000})
}

/// A proxied gRPC stream.
fn stream(app: &str, messages: u32) -> Value {
    json!({
        "url": format!("{GRPC}/any.Service/Method"), "protocol": "grpc", "timeout_ms": 20000,
        "headers": {"dapr-app-id": app}, "body": "ab", "messages": messages,
    })
}

/// Runs `body` with a second namespace.
async fn with_other(place: &Place, body: impl AsyncFnOnce(&Place) -> Result<()>) -> Result<()> {
    let namespaces = Api::<Namespace>::all(place.cluster().client());
    let name = format!("{}-o", place.namespace());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    let outcome = body(&place.beside(&name)).await;
    namespaces.delete(&name, &DeleteParams::default()).await?;
    outcome
}

async fn across(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    with_other(place, async |other| {
        let grpc = Sample::with_sidecar("remote").protocol("grpc");
        let grpc = grpc.annotation("dapr.io/app-protocol", "grpc");
        other.start(&Sample::with_sidecar("web")).await?;
        other.start(&grpc).await?;
        place.start(&Sample::with_sidecar("caller")).await?;
        let caller = place.pod("app=caller").await?;
        let (web, remote) = (
            format!("web.{}", other.namespace()),
            format!("remote.{}", other.namespace()),
        );

        let outcome = place.call(&caller, &http(&web, "orders/42?now=1")).await?;
        ensure!(outcome["status"] == 200, "{outcome}");
        let echo: Value = serde_json::from_str(outcome["body"].as_str().unwrap_or_default())?;
        ensure!(
            echo["path"] == "/orders/42" && echo["query"] == "now=1",
            "{echo}"
        );
        ensure!(
            echo["pod"] == other.pod("app=web").await?.as_str(),
            "{echo}"
        );

        let outcome = place.call(&caller, &stream(&remote, 1)).await?;
        ensure!(
            outcome["grpc_status"] == 0 && outcome["body"] == "ab",
            "{outcome}"
        );
        let outcome = place.call(&caller, &stream(&remote, 5)).await?;
        ensure!(
            outcome["grpc_status"] == 0 && outcome["body"] == "ab".repeat(5),
            "{outcome}"
        );

        // Without its namespace the app is looked for in the caller's own, where it is not.
        let outcome = place.call(&caller, &http("web", "orders/42")).await?;
        ensure!(outcome["status"] == 500, "{outcome}");
        Ok(())
    })
    .await
}

/// HTTP, gRPC and a proxied stream to apps of another namespace.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn apps_of_another_namespace_are_called() {
    k8s::test("call::apps_of_another_namespace_are_called", across).await;
}

async fn address(place: &Place, labels: &str) -> Result<String> {
    let pods = place.pods(labels).await?;
    let status = pods.first().and_then(|pod| pod.status.clone());
    status
        .and_then(|status| status.pod_ip)
        .context("an address")
}

async fn verified(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    for name in ["caller", "callee"] {
        place
            .start(&Sample::with_sidecar(name).annotation("dapr.io/log-level", "debug"))
            .await?;
    }
    let (caller, callee) = (
        place.pod("app=caller").await?,
        place.pod("app=callee").await?,
    );
    let outcome = place.call(&caller, &http("callee", "hello")).await?;
    ensure!(outcome["status"] == 200, "{outcome}");
    // Each end names the other.
    for (pod, peer) in [(&callee, "caller"), (&caller, "callee")] {
        let id = format!("spiffe://public/ns/{}/{peer}", place.namespace());
        let log = place.logs(pod, "daprd").await?;
        let named = |line: &str| line.contains("peer verified") && line.contains(&id);
        ensure!(
            log.lines().any(named),
            "{id} is not in the log of {pod}:\n{log}"
        );
    }
    // From the same pod, without TLS, to the same port.
    let internal = format!("http://{}:50002", address(place, "app=callee").await?);
    let before = place.counts(&callee).await?;
    let method = "dapr.proto.internals.v1.ServiceInvocation/CallLocal";
    for call in [
        json!({"url": format!("{internal}/{method}"), "protocol": "grpc"}),
        json!({"url": format!("{internal}/hello"), "protocol": "http2"}),
        json!({"url": format!("{internal}/hello"), "protocol": "http1"}),
    ] {
        let outcome = place.call(&caller, &call).await?;
        ensure!(
            outcome["error"].is_string() && outcome["status"] == 0,
            "{outcome}"
        );
    }
    ensure!(
        before == place.counts(&callee).await?,
        "a call without TLS came through"
    );
    Ok(())
}

/// Mutual TLS: both ends log the other's SPIFFE ID, and who speaks without TLS to the internal port is cut off.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn sidecars_speak_mutual_tls_only() {
    k8s::test("call::sidecars_speak_mutual_tls_only", verified).await;
}

/// Name of the app, how it speaks, the annotation, and whether `app-ssl` says the rest.
const PROTOCOLS: [(&str, &str, &str, bool); 7] = [
    ("http", "http", "http", false),
    ("https", "https", "https", false),
    ("h2c", "h2c", "h2c", false),
    ("grpc", "grpc", "grpc", false),
    ("grpcs", "grpcs", "grpcs", false),
    ("http-ssl", "https", "http", true),
    ("grpc-ssl", "grpcs", "grpc", true),
];

async fn protocols(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let samples = PROTOCOLS.map(|(name, speech, annotation, ssl)| {
        let sample = Sample::with_sidecar(name).protocol(speech);
        let sample = sample.annotation("dapr.io/app-protocol", annotation);
        if ssl {
            sample.annotation("dapr.io/app-ssl", "true")
        } else {
            sample
        }
    });
    for sample in &samples {
        place.apply(&sample.manifest().to_string())?;
    }
    place.start(&Sample::with_sidecar("caller")).await?;
    let caller = place.pod("app=caller").await?;
    for (name, speech, _, _) in PROTOCOLS {
        place.rolled_out(name).await?;
        let outcome = place.call(&caller, &http(name, "hello")).await?;
        ensure!(outcome["status"] == 200, "{name}: {outcome}");
        if speech.starts_with("grpc") {
            let outcome = place.call(&caller, &stream(name, 3)).await?;
            ensure!(
                outcome["grpc_status"] == 0 && outcome["body"] == "ababab",
                "{name}: {outcome}"
            );
        }
    }
    Ok(())
}

/// `http https h2c grpc grpcs` and `app-ssl`.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn every_protocol_of_an_app_is_spoken() {
    k8s::test("call::every_protocol_of_an_app_is_spoken", protocols).await;
}

async fn legacy(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    let rules = |path: &str| {
        json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "rules"},
            "spec": {"accessControl": {
                "defaultAction": "deny", "trustDomain": "public",
                "policies": [{
                    "appId": "caller", "defaultAction": "deny", "trustDomain": "public",
                    "namespace": place.namespace(),
                    "operations": [{"name": path, "httpVerb": ["GET"], "action": "allow"}],
                }],
            }},
        })
        .to_string()
    };
    place.apply(&rules("/open"))?;
    place
        .start(&Sample::with_sidecar("callee").annotation("dapr.io/config", "rules"))
        .await?;
    for name in ["caller", "stranger"] {
        place.start(&Sample::with_sidecar(name)).await?;
    }
    let callee = place.pod("app=callee").await?;
    let (caller, stranger) = (
        place.pod("app=caller").await?,
        place.pod("app=stranger").await?,
    );
    let mut post = http("callee", "open");
    post["method"] = json!("POST");
    for (pod, call, status) in [
        (&caller, http("callee", "open"), 200),
        (&caller, http("callee", "closed"), 403),
        (&caller, post, 403),
        (&stranger, http("callee", "open"), 403),
    ] {
        let outcome = place.call(pod, &call).await?;
        ensure!(outcome["status"] == status, "{call} from {pod}: {outcome}");
        let text = outcome["body"].as_str().unwrap_or_default();
        let told = text.contains("access control policy has denied access");
        ensure!(told == (status == 403), "{outcome}");
    }
    let counts = place.counts(&callee).await?;
    let came = (&counts["/open"], &counts["/closed"]);
    ensure!(
        came == (&json!(1), &Value::Null),
        "denied calls came through: {counts}"
    );
    // Edited, it holds without a restart.
    place.apply(&rules("/closed"))?;
    let edited = async || {
        let outcome = place.call(&caller, &http("callee", "closed")).await.ok()?;
        (outcome["status"] == 200).then_some(())
    };
    place.until("the edited rules hold", edited).await?;
    let outcome = place.call(&caller, &http("callee", "open")).await?;
    ensure!(outcome["status"] == 403, "{outcome}");
    ensure!(
        place.pod("app=callee").await? == callee,
        "the callee was restarted"
    );
    Ok(())
}

/// `spec.accessControl` of a Configuration, as Dapr's users have it.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn rules_of_a_configuration_hold() {
    k8s::test("call::rules_of_a_configuration_hold", legacy).await;
}

async fn services(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    place
        .start(&Sample::with_sidecar("callee").replicas(2))
        .await?;
    place.start(&Sample::new("plain")).await?;
    let plain = place.pod("app=plain").await?;
    // A headless Service: its name is the pods' addresses, whatever the port.
    let name = format!("http://callee-dapr.{}.svc:8080/who", place.namespace());
    let mut pods: Vec<String> = Vec::new();
    for pod in place.pods("app=callee").await? {
        pods.push(pod.metadata.name.context("a name")?);
    }
    let led = async || {
        let outcome = place.call(&plain, &json!({"url": name})).await.ok()?;
        let echo: Value = serde_json::from_str(outcome["body"].as_str()?).ok()?;
        let pod = echo["pod"].as_str()?;
        pods.iter().any(|one| one == pod).then_some(())
    };
    place.until("the name leads to a pod", led).await?;
    let service: Service = place.api().get("callee-dapr").await?;
    let spec = service.spec.context("a spec")?;
    ensure!(spec.cluster_ip.as_deref() == Some("None"), "{spec:?}");
    let slices = place.kubectl(
        &[
            "get",
            "endpointslices",
            "--selector=kubernetes.io/service-name=callee-dapr",
            "--output=jsonpath={.items[*].endpoints[*].targetRef.name}",
        ],
        None,
    )?;
    let mut named: Vec<String> = slices
        .stdout
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    named.sort();
    ensure!(named == pods, "{named:?} and not {pods:?}");

    let said = place.kubectl(&["delete", "deployment", "callee"], None)?;
    ensure!(said.ok, "{}", said.stderr);
    let collected = async || {
        let found = place.api::<Service>().get_opt("callee-dapr").await.ok()?;
        found.is_none().then_some(())
    };
    place
        .until("the Service goes with its Deployment", collected)
        .await
}

/// KO-08, KO-29
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_service_of_an_app_names_its_pods_and_goes_with_them() {
    k8s::test(
        "call::the_service_of_an_app_names_its_pods_and_goes_with_them",
        services,
    )
    .await;
}

//! An app of the published Python SDK in a pod, and the sample app: each calls the other.

use anyhow::{Result, ensure};
use ironside_e2e::k8s::{self, Helm, Place, Sample};
use serde_json::{Value, json};

/// The app of the SDK: `e2e/sdk/python/relay_app.py`.
const RELAY: &str = "relay";

/// Its Deployment.
fn relay() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": RELAY},
        "spec": {
            "selector": {"matchLabels": {"app": RELAY}},
            "template": {
                "metadata": {"labels": {"app": RELAY}, "annotations": {
                    "dapr.io/enabled": "true", "dapr.io/app-id": RELAY,
                    "dapr.io/app-port": "50051", "dapr.io/app-protocol": "grpc",
                }},
                "spec": {"containers": [{
                    "name": "app", "image": "ironside.test/python:e2e", "imagePullPolicy": "Never",
                    "args": ["/app/relay_app.py"],
                    "env": [{"name": "APP_PORT", "value": "50051"}],
                    "securityContext": {
                        "runAsNonRoot": true, "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }]},
            },
        },
    })
}

/// A call of a method of the SDK's app through the own sidecar.
fn call(method: &str, body: &str) -> Value {
    json!({
        "url": format!("http://127.0.0.1:3500/v1.0/invoke/{RELAY}/method/{method}"),
        "method": "POST", "body": body, "timeout_ms": 20000,
    })
}

async fn pair(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    place.apply(&relay().to_string())?;
    place.start(&Sample::with_sidecar("shop")).await?;
    place.rolled_out(RELAY).await?;
    let shop = place.pod("app=shop").await?;
    let answered = async || {
        let outcome = place.call(&shop, &call("hello", "you")).await.ok()?;
        (outcome["status"] == 200).then_some(outcome)
    };
    let outcome = place.until("the SDK's app answers", answered).await?;
    ensure!(
        outcome["body"] == "hello you, says shop's callee",
        "{outcome}"
    );

    let wish = json!({"app": "shop", "method": "from-python", "data": "42"}).to_string();
    let outcome = place.call(&shop, &call("relay", &wish)).await?;
    ensure!(outcome["status"] == 200, "{outcome}");
    let said: Value = serde_json::from_str(outcome["body"].as_str().unwrap_or_default())?;
    ensure!(said["status"] == 200, "{said}");
    let echo: Value = serde_json::from_str(said["text"].as_str().unwrap_or_default())?;
    ensure!(echo["app"] == "shop" && echo["body"] == "42", "{echo}");
    ensure!(
        echo["path"] == "/from-python" && echo["method"] == "POST",
        "{echo}"
    );
    ensure!(
        echo["headers"]["dapr-caller-app-id"] == json!([RELAY])
            && echo["headers"]["dapr-callee-app-id"] == json!(["shop"]),
        "{echo}"
    );

    let wish = json!({"app": "shop", "method": "status/503", "data": ""}).to_string();
    let outcome = place.call(&shop, &call("relay", &wish)).await?;
    let said: Value = serde_json::from_str(outcome["body"].as_str().unwrap_or_default())?;
    ensure!(said["status"] == 503, "{outcome}");

    let wish = json!({"app": "nobody", "method": "x", "data": ""}).to_string();
    let outcome = place.call(&shop, &call("relay", &wish)).await?;
    let said: Value = serde_json::from_str(outcome["body"].as_str().unwrap_or_default())?;
    ensure!(
        said["status"] == 500 && said["code"] == "ERR_DIRECT_INVOKE",
        "{outcome}"
    );
    Ok(())
}

/// A real SDK app and its sidecar, as callee and as caller, over Kubernetes names and mutual TLS.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn an_app_of_the_python_sdk_is_called_and_calls() {
    k8s::test("sdk::an_app_of_the_python_sdk_is_called_and_calls", pair).await;
}

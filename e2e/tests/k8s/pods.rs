//! The rig itself: images are there, pods run, and tests reach into them.

use anyhow::{Result, ensure};
use ironside_e2e::k8s::{self, Place, Sample};
use serde_json::json;

async fn answers(place: &Place) -> Result<()> {
    place.start(&Sample::new("callee")).await?;
    let pod = place.pod("app=callee").await?;
    let answer = place.get(&pod, 8080, "/orders/42?now=1").await?.json()?;
    assert_eq!(answer["app"], "callee");
    assert_eq!(answer["pod"], pod.as_str());
    assert_eq!(answer["path"], "/orders/42");
    assert_eq!(place.counts(&pod).await?, json!({"/orders/42": 1}));
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_deployment_of_the_sample_app_becomes_ready_and_answers() {
    k8s::test(
        "pods::a_deployment_of_the_sample_app_becomes_ready_and_answers",
        answers,
    )
    .await;
}

/// A load from one pod to another over the Service's name: DNS, Service rules and the account in one.
async fn calls(place: &Place) -> Result<()> {
    place.start(&Sample::new("callee").replicas(2)).await?;
    place.apply(
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "callee"},
            "spec": {"selector": {"app": "callee"}, "ports": [{"port": 80, "targetPort": 8080}]}}"#,
    )?;
    place.start(&Sample::new("caller")).await?;
    let caller = place.pod("app=caller").await?;
    let call = json!({"url": "http://callee/hello", "timeout_ms": 20000});
    let outcome = place.call(&caller, &call).await?;
    assert_eq!(outcome["status"], 200, "{outcome}");
    let load = json!({"call": call, "workers": 4, "rounds": 25});
    place.start_load(&caller, &load).await?;
    let ended = async || {
        let account = place.load(&caller).await.ok()?;
        (account["running"] == false).then_some(account)
    };
    let account = place.until("the end of the load", ended).await?;
    assert_eq!(account["ok"], 100, "{account}");
    assert_eq!(account["failed"], 0, "{account}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_pod_calls_another_by_the_name_of_its_service() {
    k8s::test(
        "pods::a_pod_calls_another_by_the_name_of_its_service",
        calls,
    )
    .await;
}

/// The way each protocol of an app is spoken, before any sidecar stands between.
async fn speaks(place: &Place) -> Result<()> {
    for (name, protocol) in [("plain", "http"), ("prior", "h2c"), ("remote", "grpc")] {
        place.start(&Sample::new(name).protocol(protocol)).await?;
    }
    let caller = place.pod("app=plain").await?;
    let mut address = Vec::new();
    for pod in ["app=prior", "app=remote"] {
        let pods = place.pods(pod).await?;
        let status = pods.first().and_then(|pod| pod.status.clone());
        address.push(status.and_then(|status| status.pod_ip).unwrap_or_default());
    }
    let [prior, remote] = address.as_slice() else {
        anyhow::bail!("two addresses, not {address:?}");
    };
    let http2 = json!({"url": format!("http://{prior}:8080/a"), "protocol": "http2"});
    let outcome = place.call(&caller, &http2).await?;
    assert_eq!(outcome["status"], 200, "{outcome}");
    let stream = json!({"url": format!("http://{remote}:8080/any.Service/Method"), "protocol": "grpc",
                        "body": "ab", "messages": 3});
    let outcome = place.call(&caller, &stream).await?;
    assert_eq!(outcome["grpc_status"], 0, "{outcome}");
    assert_eq!(outcome["body"], "ababab", "{outcome}");
    let failing = json!({"url": format!("http://{remote}:8080/any.Service/Fail"), "protocol": "grpc",
                         "headers": {"sample-status": "7"}});
    let outcome = place.call(&caller, &failing).await?;
    assert_eq!(outcome["grpc_status"], 7, "{outcome}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_sample_app_speaks_and_calls_every_protocol() {
    k8s::test(
        "pods::the_sample_app_speaks_and_calls_every_protocol",
        speaks,
    )
    .await;
}

/// One image under five names, and each link is the program that its name says.
async fn loaded(place: &Place) -> Result<()> {
    for program in ["daprd", "injector", "operator", "sentry", "ironside"] {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": program},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "program",
                    "image": k8s::image(program),
                    "imagePullPolicy": k8s::pull_policy(),
                    "command": [format!("/{program}"), "--help"],
                    "securityContext": {"runAsNonRoot": true},
                }],
            },
        });
        place.apply(&manifest.to_string())?;
        let ended = place
            .object(
                program,
                "the program ends",
                k8s::PATIENCE,
                |pod: &k8s_openapi::api::core::v1::Pod| {
                    let phase = pod
                        .status
                        .as_ref()
                        .and_then(|status| status.phase.as_deref());
                    matches!(phase, Some("Succeeded" | "Failed"))
                },
            )
            .await?;
        let phase = ended
            .status
            .and_then(|status| status.phase)
            .unwrap_or_default();
        let log = place.logs(program, "program").await?;
        ensure!(phase == "Succeeded", "/{program} --help: {phase}: {log}");
        ensure!(
            log.contains(program),
            "/{program} is another program: {log}"
        );
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_image_is_every_program_by_the_name_it_is_called() {
    k8s::test(
        "pods::the_image_is_every_program_by_the_name_it_is_called",
        loaded,
    )
    .await;
}

//! Services of apps where two want the same name, and where none is wanted. Rows KO-12, KO-13, KO-16.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    k8s::{self, Helm, Machine, Place, Sample, is_full},
    wait::Stopwatch,
};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;

/// Waits for an Event, and returns its text.
async fn told(place: &Place, reason: &str, about: &str) -> Result<String> {
    let look = async || {
        let events = place.api::<Event>().list(&Default::default()).await.ok()?;
        let mut events = events.items.into_iter();
        let event = events.find(|event| {
            let of = event.regarding.as_ref().and_then(|of| of.name.as_deref());
            event.reason.as_deref() == Some(reason) && of == Some(about)
        })?;
        event.note
    };
    place
        .until(&format!("the event {reason} of {about}"), look)
        .await
}

async fn service(place: &Place, name: &str) -> Result<Service> {
    place
        .object(name, "a Service", k8s::PATIENCE, |_: &Service| true)
        .await
}

/// Looks at a Service for a while: nobody writes it. The only way to see that nothing happens is to go on looking.
async fn is_steady(place: &Place, name: &str) -> Result<()> {
    let before = service(place, name).await?.metadata.resource_version;
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(if is_full() { 30 } else { 5 }) {
        let now = service(place, name).await?.metadata.resource_version;
        ensure!(now == before, "{name} was written again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn foreign(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    place.apply(
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app1-dapr"},
            "spec": {"selector": {"app": "another"}, "ports": [{"port": 80}]}}"#,
    )?;
    let before = service(place, "app1-dapr").await?;
    place.apply(&Sample::with_sidecar("app1").manifest().to_string())?;
    let text = told(place, "ServiceNameTaken", "app1").await?;
    ensure!(text.contains("app1-dapr"), "{text}");
    is_steady(place, "app1-dapr").await?;
    let after = service(place, "app1-dapr").await?;
    ensure!(before == after, "{after:?}");
    Ok(())
}

/// KO-12
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_service_of_somebody_else_is_left_alone() {
    k8s::test(
        "services::a_service_of_somebody_else_is_left_alone",
        foreign,
    )
    .await;
}

async fn twice(place: &Place) -> Result<()> {
    Helm::new(place.cluster()).shared().await?;
    for name in ["one", "two"] {
        let sample = Sample::with_sidecar(name).annotation("dapr.io/app-id", "app1");
        place.apply(&sample.manifest().to_string())?;
        service(place, "app1-dapr").await?;
    }
    let text = told(place, "DuplicateAppID", "two").await?;
    ensure!(text.contains("Deployment one"), "{text}");
    let owned = |service: &Service| {
        service
            .metadata
            .owner_references
            .as_ref()
            .map_or(0, Vec::len)
            == 2
    };
    let made: Service = place
        .object("app1-dapr", "two owners", k8s::PATIENCE, owned)
        .await?;
    let selector = made
        .spec
        .and_then(|spec| spec.selector)
        .context("a selector")?;
    ensure!(
        selector
            .into_iter()
            .eq([("dapr.io/app-id".to_owned(), "app1".to_owned())]),
        "it selects the pods of both"
    );
    is_steady(place, "app1-dapr").await
}

/// KO-13
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn two_workloads_of_one_app_settle() {
    k8s::test("services::two_workloads_of_one_app_settle", twice).await;
}

async fn unwanted(_machine: &Machine, place: &Place) -> Result<()> {
    let app = Sample::with_sidecar("app1");
    place.start(&app).await?;
    let made = async || place.api::<Service>().list(&Default::default()).await;
    let services = made().await.context("Services")?.items;
    ensure!(services.is_empty(), "made all the same: {services:?}");
    // Whoever changes their mind gets it.
    Helm::new(place.cluster()).install(&["dapr_operator.serviceReconciler.enabled=true"])?;
    service(place, "app1-dapr").await.map(drop)
}

/// KO-16
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn services_may_be_left_to_others() {
    let name = "services::services_may_be_left_to_others";
    let settings = ["dapr_operator.serviceReconciler.enabled=false"];
    k8s::test_on_own(name, &settings, unwanted).await;
}

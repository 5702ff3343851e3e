//! AccessControl from `kubectl apply` to the last sidecar, under calls that must not notice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    k8s::{self, Helm, Machine, Place, Sample, is_full},
    wait::{self, Stopwatch},
};
use serde_json::{Value, json};

use crate::shop::{ORDERS, Shop, condition, objects};

/// Sums of denials are told by sidecars once a minute, summed twice a minute and written once a minute.
const SUMS: Duration = Duration::from_secs(240);

fn orders(replicas: u16) -> Sample {
    Sample::with_sidecar(ORDERS).replicas(replicas)
}

/// The metrics of the sidecars of `orders` in which all of `parts` stand, summed up.
async fn counted(place: &Place, parts: &[&str]) -> Result<f64> {
    let mut sum = 0.0;
    for pod in place.pods("app=orders").await? {
        let name = pod.metadata.name.context("a pod has a name")?;
        let page = place.get(&name, 9090, "/").await?;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        sum += lines
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>();
    }
    Ok(sum)
}

async fn turns(place: &Place) -> Result<()> {
    let shop = Shop::open(place, orders(2)).await?;
    let mail = shop.mail();
    shop.load().await?;
    shop.rule("Audit", "deny")?;
    shop.receipt()?;
    shop.always(mail, ORDERS, "/door", 200).await?;
    let decided = "dapr_runtime_accesscontrol_decisions_total";
    let audited = counted(place, &[decided, "would_deny", "src_app_id=\"mail\""]).await?;
    ensure!(audited > 0.0, "nothing was audited");
    for (door, status) in [("deny", 403), ("allow", 200), ("deny", 403)] {
        shop.rule("Enforce", door)?;
        shop.receipt()?;
        // A receipt: from now on every sidecar obeys, whichever is asked.
        shop.always(mail, ORDERS, "/door", status).await?;
    }
    let outcome = place
        .call(mail, &crate::shop::call(ORDERS, "/door"))
        .await?;
    let text = outcome["body"].as_str().unwrap_or_default();
    ensure!(
        text.contains(place.namespace()),
        "whose call it was: {outcome}"
    );
    ensure!(
        !text.contains("defaultAction"),
        "what the rules are: {outcome}"
    );
    let wide = [
        "get",
        "accesscontrol",
        ORDERS,
        "--output=wide",
        "--no-headers",
    ];
    let said = place.kubectl(&wide, None)?;
    let words: Vec<&str> = said.stdout.split_whitespace().collect();
    ensure!(
        words.get(..7) == Some(&[ORDERS, "Enforce", "deny", "2", "2/2", "True", "True"]),
        "{words:?}"
    );
    shop.always(mail, ORDERS, "/else", 403).await?;
    let said = place.kubectl(&["delete", "accesscontrol", ORDERS], None)?;
    ensure!(said.ok, "{}", said.stderr);
    shop.becomes(mail, ORDERS, "/else", 200).await?;
    let made = shop.unhurt().await?;
    shop.same_processes().await?;
    k8s::figure(&format!(
        "access control turned 5 times under load: {made} calls, 0 failed"
    ));
    Ok(())
}

/// K192, K197, K199 under load: audited, enforced, edited, deleted, and no call failed.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn rules_come_change_and_go_under_load() {
    k8s::test("access_control::rules_come_change_and_go_under_load", turns).await;
}

async fn propagates(place: &Place) -> Result<()> {
    let (pods, edits) = if is_full() { (20, 50) } else { (3, 5) };
    Helm::new(place.cluster()).shared().await?;
    let sample = orders(pods);
    place.apply(&sample.manifest().to_string())?;
    // So many pods of one node start one after the other.
    let mut ready = place.rolled_out(ORDERS).await;
    for _ in 0..3 {
        if ready.is_err() {
            ready = place.rolled_out(ORDERS).await;
        }
    }
    ready?;
    let rules = objects(place, "AccessControl", "accesscontrols");
    let mut since_start = Vec::new();
    let mut since_applied = Vec::new();
    for edit in 0..edits {
        let object = json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "AccessControl", "metadata": {"name": "edited"},
            "scopes": [ORDERS],
            "spec": {"defaultAction": "allow", "policies": [{
                "appId": "web", "namespace": "*",
                "operations": [{"name": format!("/edit-{edit}"), "action": "deny"}],
            }]},
        });
        let watch = Stopwatch::start();
        place.apply(&object.to_string())?;
        let applied = watch.elapsed();
        let everybody = async || {
            let found = rules.get("edited").await.ok()?;
            let mut status = found.data.get("status")?.clone();
            status["generation"] = json!(found.metadata.generation);
            let programmed = condition(&status, "Programmed")?;
            let is_done = programmed["status"] == "True" && status["sidecars"]["applied"] == pods;
            is_done.then(|| watch.elapsed())
        };
        let told = place
            .until("every sidecar has acknowledged", everybody)
            .await?;
        since_start.push(told);
        since_applied.push(told.saturating_sub(applied));
    }
    for (name, times) in [("start", &mut since_start), ("end", &mut since_applied)] {
        times.sort();
        let at = |percent: usize| {
            let last = times.len().saturating_sub(1);
            times
                .get((times.len() * percent / 100).min(last))
                .copied()
                .unwrap_or_default()
        };
        let (middle, most) = (at(50), at(99));
        k8s::figure(&format!(
            "propagation to {pods} sidecars, {edits} edits, from the {name} of kubectl apply to the status that all \
             acknowledged: p50 {} ms, p99 {} ms",
            middle.as_millis(),
            most.as_millis(),
        ));
    }
    Ok(())
}

/// Security 4.8: how long a rule takes to the last sidecar; a figure, not a bound.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn every_edit_reaches_every_sidecar() {
    k8s::test(
        "access_control::every_edit_reaches_every_sidecar",
        propagates,
    )
    .await;
}

/// Cuts a pod off from the operator's Service, or lets it through again.
fn route(machine: &Machine, place: &Place, pod: &str, what: &str) -> Result<()> {
    let control = place.beside(Helm::new(place.cluster()).namespace());
    let of_service = [
        "get",
        "service",
        "dapr-api",
        "--output=jsonpath={.spec.clusterIP}",
    ];
    let address = control.kubectl(&of_service, None)?.stdout;
    ensure!(
        address.parse::<std::net::IpAddr>().is_ok(),
        "dapr-api is at {address}"
    );
    let script = format!(
        "for at in /proc/[0-9]*; do \
           if grep -qsz '^POD_NAME={pod}$' $at/environ && grep -qs daprd $at/cmdline; then \
             exec nsenter --net=$at/ns/net ip route {what} blackhole {address}; \
           fi; \
         done; exit 9"
    );
    machine.run(&["sh", "-c", &script])
}

async fn cut_off(machine: &Machine, place: &Place) -> Result<()> {
    let shop = Shop::open(place, orders(2)).await?;
    shop.rule("Enforce", "allow")?;
    shop.receipt()?;
    shop.load().await?;
    let pods = place.pods("app=orders").await?;
    let lost = pods.first().and_then(|pod| pod.metadata.name.clone());
    let lost = lost.context("a pod of orders")?;
    route(machine, place, &lost, "add")?;
    shop.rule("Enforce", "deny")?;
    let outcome = named(&shop, place, &lost).await;
    // Whatever came of it, the pod is let through again.
    route(machine, place, &lost, "del")?;
    let message = outcome?;
    shop.receipt()?;
    shop.always(shop.mail(), ORDERS, "/door", 403).await?;
    let made = shop.unhurt().await?;
    shop.same_processes().await?;
    k8s::figure(&format!(
        "one sidecar cut off: {made} calls, 0 failed; told: {message}"
    ));
    Ok(())
}

/// Waits until the status says which pod has not got the rules.
async fn named(shop: &Shop<'_>, place: &Place, lost: &str) -> Result<String> {
    let look = async || {
        let status = shop.status().await.ok()?;
        let programmed = condition(&status, "Programmed")?;
        let message = programmed["message"].as_str()?.to_owned();
        let is_told = programmed["status"] == "False" && message.contains(lost);
        let is_one = status["sidecars"]["applied"] == 1;
        (is_told && is_one).then_some(message)
    };
    place.until("the pod that was cut off is named", look).await
}

/// Security 4.2: `Programmed` is false while one sidecar has not answered, and says which.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn a_sidecar_that_is_cut_off_is_named() {
    k8s::test_on_machine(
        "access_control::a_sidecar_that_is_cut_off_is_named",
        cut_off,
    )
    .await;
}

async fn sums(place: &Place) -> Result<()> {
    let shop = Shop::open(place, orders(2)).await?;
    shop.rule("Enforce", "deny")?;
    shop.receipt()?;
    shop.always(shop.mail(), ORDERS, "/door", 403).await?;
    let look = async || {
        let status: Value = shop.status().await.ok()?;
        status["denials"]["lastHour"]
            .as_i64()
            .filter(|sum| *sum >= 12)
    };
    let sum = wait::until("denials in the status", SUMS, look).await?;
    ensure!(sum == 12, "{sum} denials of 12");
    Ok(())
}

/// `status.denials` of 4.2: what was denied is summed up over all sidecars.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn denials_are_summed_up_in_the_status() {
    k8s::test("access_control::denials_are_summed_up_in_the_status", sums).await;
}

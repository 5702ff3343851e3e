//! Operators that go away: calls go on, nothing that was changed meanwhile is missed, another replica takes over.

use std::time::Duration;

use anyhow::Result;
use ironside_e2e::{
    k8s::{self, Machine, Place, Sample, is_full},
    wait::Stopwatch,
};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use crate::{
    breaking::{CONTROL, OPERATOR, kubectl, scale},
    shop::{ORDERS, Shop, put, start},
};

fn rules(action: &str) -> Value {
    json!({"accessControl": {"defaultAction": action}})
}

async fn outage(_machine: &Machine, place: &Place) -> Result<()> {
    put(place, "Configuration", "stock", &rules("allow"))?;
    let stock = Sample::with_sidecar("stock").annotation("dapr.io/config", "stock");
    start(place, &[("stock", stock)]).await?;
    let shop = Shop::open_under(place, Sample::with_sidecar(ORDERS).replicas(2)).await?;
    let mail = shop.mail();
    shop.rule("Enforce", "allow")?;
    shop.receipt()?;
    shop.becomes(mail, "stock", "/x", 200).await?;
    shop.load().await?;
    let outcome = away(place, &shop).await;
    // Whatever came of it, the operator is back.
    scale(place, OPERATOR, 1).await?;
    outcome?;
    shop.receipt()?;
    shop.always(mail, ORDERS, "/door", 403).await?;
    // KL-04
    shop.becomes(mail, "stock", "/x", 403).await?;
    let made = shop.unhurt().await?;
    shop.same_processes().await?;
    let seconds = absence().as_secs();
    k8s::figure(&format!(
        "operator away for {seconds} s: {made} calls, 0 failed, both edits in force after"
    ));
    Ok(())
}

fn absence() -> Duration {
    Duration::from_secs(if is_full() { 60 } else { 10 })
}

/// Without an operator, edits wait and everything else goes on.
async fn away(place: &Place, shop: &Shop<'_>) -> Result<()> {
    scale(place, OPERATOR, 0).await?;
    let watch = Stopwatch::start();
    shop.rule("Enforce", "deny")?;
    put(place, "Configuration", "stock", &rules("deny"))?;
    while watch.elapsed() < absence() {
        shop.always(shop.mail(), ORDERS, "/door", 200).await?;
    }
    Ok(())
}

/// K201, KL-04, KL-08: without an operator calls go on under the rules that were there; what changed meanwhile counts
/// once it is back.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn calls_go_on_without_an_operator() {
    let name = "operators::calls_go_on_without_an_operator";
    k8s::test_on_own(name, &[], outage).await;
}

/// The pod of the replica that acts, once it is another than `but`.
async fn holder(place: &Place, but: Option<&str>) -> Result<String> {
    let control = place.beside(CONTROL);
    let look = async || {
        let lease = control.api::<Lease>().get("operator.dapr.io").await.ok()?;
        let holder = lease.spec?.holder_identity?;
        // The pod, and what tells two lives of it apart.
        let (pod, _life) = holder.split_once('_')?;
        (but != Some(pod)).then(|| pod.to_owned())
    };
    place.until("a replica that acts", look).await
}

async fn takes_over(machine: &Machine, place: &Place) -> Result<()> {
    scale(place, OPERATOR, 2).await?;
    let outcome = replicas(machine, place).await;
    scale(place, OPERATOR, 1).await?;
    outcome
}

async fn replicas(machine: &Machine, place: &Place) -> Result<()> {
    let shop = Shop::open_under(place, Sample::with_sidecar(ORDERS).replicas(3)).await?;
    shop.rule("Enforce", "allow")?;
    shop.receipt()?;
    shop.load().await?;
    let control = place.beside(CONTROL);
    // A clean stop gives the Lease back; a loss of power lets it run out.
    for (way, door, status) in [("told to stop", "deny", 403), ("killed", "allow", 200)] {
        let first = holder(place, None).await?;
        if way == "killed" {
            cut_off(machine, &first)?;
        } else {
            kubectl(&control, &["delete", "pod", &first, "--wait=false"])?;
        }
        let watch = Stopwatch::start();
        holder(place, Some(&first)).await?;
        let taken = watch.elapsed();
        shop.rule("Enforce", door)?;
        shop.receipt()?;
        let told = watch.elapsed().saturating_sub(taken);
        shop.always(shop.mail(), ORDERS, "/door", status).await?;
        k8s::figure(&format!(
            "the acting operator was {way}: another one acts after {} ms, and a rule has its receipt {} ms later",
            taken.as_millis(),
            told.as_millis(),
        ));
        control.rolled_out(OPERATOR).await?;
    }
    let made = shop.unhurt().await?;
    shop.same_processes().await?;
    k8s::figure(&format!(
        "operators took over under load: {made} calls, 0 failed"
    ));
    Ok(())
}

/// Ends an operator as a loss of power does: it says nothing more to anybody, and its pod goes.
fn cut_off(machine: &Machine, pod: &str) -> Result<()> {
    let script = format!(
        "for at in /proc/[0-9]*; do \
           if grep -qsz '^HOSTNAME={pod}$' $at/environ && tr '\\0' ' ' < $at/cmdline | grep -qs operator; then \
             kill -KILL ${{at#/proc/}}; \
             kubectl --namespace {CONTROL} delete pod {pod} --grace-period=0 --force --wait=false; \
             exit 0; \
           fi; \
         done; echo no operator in {pod} >&2; exit 9"
    );
    machine.run(&["sh", "-c", &script])
}

/// KO-18, whoever acts may go; another replica writes the status, and it counts sidecars of
/// every replica.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn another_operator_takes_over() {
    let name = "operators::another_operator_takes_over";
    k8s::test_on_own(name, &[], takes_over).await;
}

//! Operators that go away: calls go on, nothing that was changed meanwhile is missed, another replica takes over.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
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
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
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

/// The label by which the operator's Service is led to one replica for a moment.
const STEERED: &str = "e2e.test/steered";
/// Pods that are started for a replica at most: the first may come before the Service's rules are in force.
const TRIES: usize = 5;

/// Leads the operator's Service to one replica, or to all again.
fn steer(control: &Place, only: Option<&str>) -> Result<()> {
    let selector = json!({"spec": {"selector": {STEERED: only}}}).to_string();
    let service = ["patch", "service", "dapr-api", "--type=merge"];
    kubectl(control, &[&service[..], &["--patch", &selector]].concat()).map(drop)
}

/// Sidecars that are connected to a replica of the operator.
async fn connected(control: &Place, pod: &str) -> Option<u64> {
    let page = control.get(pod, 9090, "/metrics").await.ok()?;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let gauge = r#"dapr_operator_accesscontrol_sidecars{state="connected"} "#;
    text.lines()
        .find_map(|line| line.strip_prefix(gauge)?.parse().ok())
}

/// Has a sidecar of `orders` connected to the replica that does not act; returns how many of them there are.
async fn shared_out(place: &Place, acting: &str) -> Result<usize> {
    let control = place.beside(CONTROL);
    let pods = control.pods(&format!("app={OPERATOR}")).await?;
    let mut names = pods.into_iter().filter_map(|pod| pod.metadata.name);
    let other = names.find(|name| name != acting);
    let other = other.context("a replica that does not act")?;
    let label = format!("{STEERED}={other}");
    kubectl(&control, &["label", "pod", &other, &label])?;
    steer(&control, Some(&other))?;
    let outcome = joined(place, acting, &other).await;
    // Whatever came of it, the Service is that of both.
    steer(&control, None)?;
    outcome
}

/// Starts pods of `orders`, until the sidecar of one is connected to the replica `other`.
async fn joined(place: &Place, acting: &str, other: &str) -> Result<usize> {
    let control = place.beside(CONTROL);
    let both = async || {
        let acting = connected(&control, acting).await?;
        Some((acting, connected(&control, other).await?))
    };
    let everybody = place.pods("").await?.len() as u64;
    let settled = async |count: u64| {
        let look = async || both().await.filter(|(one, two)| one + two == count);
        let what = format!("{count} sidecars are connected");
        place.until(&what, look).await
    };
    let (_, before) = settled(everybody).await?;
    let orders = place.pods("app=orders").await?.len();
    for more in 1..=TRIES {
        let replicas = format!("--replicas={}", orders + more);
        kubectl(place, &["scale", &replicas, "deploy/orders"])?;
        place.rolled_out(ORDERS).await?;
        let (_, now) = settled(everybody + more as u64).await?;
        if now > before {
            return Ok(orders + more);
        }
    }
    anyhow::bail!("{TRIES} new sidecars, and none came to {other}")
}

async fn replicas(machine: &Machine, place: &Place) -> Result<()> {
    let shop = Shop::open_under(place, Sample::with_sidecar(ORDERS).replicas(2)).await?;
    shop.rule("Enforce", "allow")?;
    shop.receipt()?;
    shop.load().await?;
    let control = place.beside(CONTROL);
    // A clean stop gives the Lease back; a loss of power lets it run out.
    for (way, door, status) in [("told to stop", "deny", 403), ("killed", "allow", 200)] {
        let first = holder(place, None).await?;
        let orders = shared_out(place, &first).await?;
        shop.rule("Audit", door)?;
        shop.receipt()?;
        let applied = shop.status().await?["sidecars"]["applied"].clone();
        ensure!(applied == orders, "{applied} of {orders} sidecars");
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
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn another_operator_takes_over() {
    let name = "operators::another_operator_takes_over";
    k8s::test_on_own(name, &[], takes_over).await;
}

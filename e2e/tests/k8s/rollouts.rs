//! Rolling restarts of callee and caller under load: no call fails, whatever it is made of.
//!
//! A native pair and a classic one side by side, each under three loads at once: requests over HTTP/1.1 and HTTP/2
//! that may not be made twice, and streams of gRPC that are open while their callee is told to go. A stream under way
//! ends well where it fits into the grace period; one that begins finds a replica that stays. The callers' accounts
//! are read from their logs, to the last call of pods that are gone. One round by default, ten with `--full`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    k8s::{self, Helm, Place, Sample},
    wait::{self, Stopwatch},
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

/// Calls of each load between two steps.
const MORE: u64 = 20;

/// The deadline of these calls: pods of two rollouts start meanwhile, on one node.
const LONG: Duration = Duration::from_secs(300);

/// How long an app that speaks HTTP/1.1 serves on, in milliseconds: a request that reaches it in the moment in which it
/// closes the connection cannot be told from one that it has carried out.
const SERVES_ON: u64 = 2_000;

/// What calls are made of, in the order of the load.
const SPEECHES: [&str; 3] = ["HTTP/1.1", "HTTP/2", "gRPC stream"];

/// A caller and its callee.
#[derive(Clone, Copy, Debug)]
struct Pair {
    is_native: bool,
    caller: &'static str,
    callee: &'static str,
}

const PAIRS: [Pair; 2] = [
    Pair {
        is_native: true,
        caller: "native-web",
        callee: "native-orders",
    },
    Pair {
        is_native: false,
        caller: "classic-web",
        callee: "classic-orders",
    },
];

// === impl Pair ===

impl Pair {
    fn style(self) -> &'static str {
        if self.is_native { "native" } else { "classic" }
    }

    fn callee(self, protocol: &'static str) -> Sample {
        let sample = Sample::with_sidecar(self.callee)
            .replicas(2)
            .native(self.is_native)
            .protocol(protocol)
            .annotation("dapr.io/app-protocol", protocol);
        let sample = if protocol == "http" {
            sample.argument(&format!("--linger={SERVES_ON}"))
        } else {
            sample
        };
        self.patient(sample)
    }

    fn caller(self) -> Sample {
        let callee = self.callee;
        let request = |protocol: &str| {
            json!({
                "url": format!("http://localhost:3500/v1.0/invoke/{callee}/method/orders"),
                "protocol": protocol, "method": "POST", "body": "order", "timeout_ms": 60_000,
            })
        };
        let stream = json!({
            "url": "http://localhost:50001/e2e.Orders/Talk", "protocol": "grpc",
            "headers": {"dapr-app-id": callee}, "body": "message",
            "messages": 8, "message_pause_ms": 100, "timeout_ms": 60_000,
        });
        let mut load = json!({
            "call": request("http1"), "more": [request("http2"), stream],
            "workers": 6, "pause_ms": 20,
        });
        if !self.is_native {
            // Beside a classic sidecar an app has to wait for it; beside a native one its first call is served.
            load["after"] = json!({"url": "http://localhost:3500/v1.0/healthz/outbound"});
        }
        let sample = Sample::with_sidecar(self.caller)
            .native(self.is_native)
            .argument(&format!("--load={load}"));
        self.patient(sample)
    }

    /// A stream may take several times as long on a machine that is busy, and a classic sidecar does not wait for ever.
    fn patient(self, sample: Sample) -> Sample {
        if self.is_native {
            sample
        } else {
            sample.annotation("dapr.io/graceful-shutdown-seconds", "20")
        }
    }

    /// Lets the caller of today make some more calls of each kind.
    async fn go_on(self, place: &Place) -> Result<()> {
        let pod = place.pod(&format!("app={}", self.caller)).await?;
        let made = async || {
            let account = place.load(&pod).await.ok()?;
            let each = account["each_ok"].as_array()?.iter();
            each.map(Value::as_u64).min()?
        };
        let before = wait::until("a load", LONG, made).await?;
        let more = async || (made().await? >= before + MORE).then_some(());
        wait::until("more calls", LONG, more).await
    }

    /// Restarts the callee, then the caller, under load.
    async fn round(self, place: &Place, tally: &mut Tally) -> Result<()> {
        self.go_on(place).await?;
        restart(place, self.callee, 2).await?;
        self.go_on(place).await?;
        let old = place.pod(&format!("app={}", self.caller)).await?;
        let old = place.follow(&old, "app")?;
        restart(place, self.caller, 1).await?;
        let log = old.to_the_end().await?;
        let account = log.lines().rfind(|line| line.starts_with(r#"{"running""#));
        let account = account.with_context(|| format!("no account in the log: {log}"))?;
        tally.add(&serde_json::from_str(account)?)?;
        self.go_on(place).await
    }

    async fn rounds(self, place: &Place, rounds: u32) -> Result<Tally> {
        let mut tally = Tally::default();
        for _ in 0..rounds {
            self.round(place, &mut tally).await?;
        }
        let caller = place.pod(&format!("app={}", self.caller)).await?;
        tally.add(&place.end_load(&caller).await?)?;
        Ok(tally)
    }
}

/// What callers that are gone counted.
#[derive(Debug, Default)]
struct Tally {
    each_ok: [u64; SPEECHES.len()],
    failed: u64,
    failures: Vec<Value>,
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, account: &Value) -> Result<()> {
        let each = account["each_ok"].as_array().context("counts")?;
        for (sum, count) in self.each_ok.iter_mut().zip(each) {
            *sum += count.as_u64().context("a count")?;
        }
        self.failed += account["failed"].as_u64().context("a count")?;
        let failures = account["failures"].as_array().into_iter().flatten();
        self.failures.extend(failures.cloned());
        Ok(())
    }

    fn failures_of(&self, speech: usize) -> usize {
        let of = |failure: &&Value| failure["call"] == speech;
        self.failures.iter().filter(of).count()
    }
}

/// Restarts a Deployment, and waits until the last pod of before is gone.
async fn restart(place: &Place, name: &str, replicas: usize) -> Result<()> {
    let deployment = format!("deployment/{name}");
    let said = place.kubectl(&["rollout", "restart", &deployment], None)?;
    ensure!(said.ok, "{}", said.stderr);
    place.rolled_out(name).await?;
    let pods = ListParams::default().labels(&format!("app={name}"));
    let gone = async || {
        let pods = place.api::<Pod>().list(&pods).await.ok()?.items;
        (pods.len() == replicas).then_some(())
    };
    place.until("pods of before are gone", gone).await
}

async fn roll(place: &Place, protocol: &'static str) -> Result<()> {
    let watch = Stopwatch::start();
    Helm::new(place.cluster()).shared().await?;
    let started = async |pair: Pair| {
        place.start(&pair.callee(protocol)).await?;
        place.start(&pair.caller()).await
    };
    let [native, classic] = PAIRS;
    tokio::try_join!(started(native), started(classic))?;
    let rounds = if k8s::is_full() { 10 } else { 1 };
    let tallies = tokio::try_join!(native.rounds(place, rounds), classic.rounds(place, rounds))?;
    let (mut failed, mut shown) = (0, Vec::new());
    for (pair, tally) in PAIRS.iter().zip([&tallies.0, &tallies.1]) {
        for (number, (speech, ok)) in SPEECHES.iter().zip(tally.each_ok).enumerate() {
            k8s::figure(&format!(
                "rollout of {} pods, apps that speak {protocol}, {speech}: {rounds} rounds, {ok} calls, {} failed",
                pair.style(),
                tally.failures_of(number),
            ));
        }
        failed += tally.failed;
        shown.extend(
            tally
                .failures
                .iter()
                .take(3)
                .map(|failure| (pair.style(), failure)),
        );
    }
    let took = watch.elapsed().as_secs_f64();
    k8s::figure(&format!(
        "rollouts of apps that speak {protocol}: {took:.0} s"
    ));
    ensure!(failed == 0, "{failed} failed: {shown:#?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn http_apps_lose_no_call() {
    k8s::test("rollouts::http_apps_lose_no_call", async |place: &Place| {
        roll(place, "http").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn grpc_apps_lose_no_call() {
    k8s::test("rollouts::grpc_apps_lose_no_call", async |place: &Place| {
        roll(place, "grpc").await
    })
    .await;
}

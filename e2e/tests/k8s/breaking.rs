//! What tests that break something share: a pair of apps, a load between them, the control plane's programs, and pods
//! that are asked for without being made.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, PATIENCE, Place, Sample};
use ironside_e2e::wait::Stopwatch;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

/// The namespace of the control plane.
pub(crate) const CONTROL: &str = "dapr-system";
/// Its programs.
pub(crate) const SENTRY: &str = "dapr-sentry";
pub(crate) const INJECTOR: &str = "dapr-sidecar-injector";
pub(crate) const OPERATOR: &str = "dapr-operator";

/// Calls `kubectl`, which must succeed.
pub(crate) fn kubectl(place: &Place, arguments: &[&str]) -> Result<String> {
    let said = place.kubectl(arguments, None)?;
    ensure!(said.ok, "kubectl {arguments:?}: {}", said.stderr);
    Ok(said.stdout)
}

/// Brings a program of the control plane to so many replicas, and waits until it is so.
pub(crate) async fn scale(place: &Place, program: &str, replicas: u16) -> Result<()> {
    let control = place.beside(CONTROL);
    let (number, deployment) = (
        format!("--replicas={replicas}"),
        format!("deploy/{program}"),
    );
    kubectl(&control, &["scale", &number, &deployment])?;
    if replicas > 0 {
        return control.rolled_out(program).await.map(drop);
    }
    let of = ListParams::default().labels(&format!("app={program}"));
    let pods = control.api::<Pod>();
    let gone = async || {
        let left = pods.list(&of).await.ok()?;
        left.items.is_empty().then_some(())
    };
    control.until(&format!("the end of {program}"), gone).await
}

/// A call of an app through the own sidecar.
pub(crate) fn invocation(app: &str) -> Value {
    json!({"url": format!("http://127.0.0.1:3500/v1.0/invoke/{app}/method/hello"), "timeout_ms": 20000})
}

/// Waits until a call of an app, through the sidecar of `pod`, succeeds: names of new apps spread by DNS.
pub(crate) async fn reaches(place: &Place, pod: &str, app: &str) -> Result<()> {
    let call = invocation(app);
    let mut last = String::new();
    let watch = Stopwatch::start();
    while watch.elapsed() < PATIENCE {
        match place.call(pod, &call).await {
            Ok(outcome) if outcome["status"] == 200 => return Ok(()),
            Ok(outcome) => last = outcome.to_string(),
            Err(error) => last = format!("{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("{pod} does not reach {app}: {last}")
}

/// An app `callee` of two pods and an app `caller` that calls it all the time.
pub(crate) struct Load<'a> {
    place: &'a Place,
    pod: String,
}

impl<'a> Load<'a> {
    /// Starts both apps, and the load once a call succeeds.
    pub(crate) async fn start(place: &'a Place) -> Result<Self> {
        place
            .start(&Sample::with_sidecar("callee").replicas(2))
            .await?;
        place.start(&Sample::with_sidecar("caller")).await?;
        let pod = place.pod("app=caller").await?;
        reaches(place, &pod, "callee").await?;
        let load = json!({"call": invocation("callee"), "workers": 4, "pause_ms": 10});
        place.start_load(&pod, &load).await?;
        let load = Self { place, pod };
        load.goes_on().await?;
        Ok(load)
    }

    /// The pod that calls.
    pub(crate) fn pod(&self) -> &str {
        &self.pod
    }

    /// Waits until fifty more calls succeeded.
    pub(crate) async fn goes_on(&self) -> Result<()> {
        let count = async || {
            let account = self.place.load(&self.pod).await.ok()?;
            account["ok"].as_u64()
        };
        let before = self.place.until("the account of the load", count).await?;
        let more = async || {
            let now = count().await?;
            (now >= before.saturating_add(50)).then_some(())
        };
        self.place.until("fifty more calls", more).await
    }

    /// No call may have failed yet.
    pub(crate) async fn so_far(&self, what: &str) -> Result<()> {
        told(what, &self.place.load(&self.pod).await?)
    }

    /// Ends it: no call may have failed.
    pub(crate) async fn end(self, what: &str) -> Result<()> {
        told(what, &self.place.end_load(&self.pod).await?)
    }
}

/// Prints the account of a load without a failed call.
fn told(what: &str, account: &Value) -> Result<()> {
    k8s::figure(&format!(
        "{what}: {} calls, {} failed, longest {} ms",
        account["ok"], account["failed"], account["longest_ms"]
    ));
    ensure!(account["failed"] == 0, "{what}: {account}");
    Ok(())
}

/// Asks for a pod that is not made: the API server admits it, and shows what it would be.
pub(crate) async fn ask(place: &Place, annotations: &Value) -> Result<Pod, kube::Error> {
    let pod = json!({
        "metadata": {"generateName": "asked-", "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "ironside.test/sample:e2e"}]},
    });
    let pod: Pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    place.api::<Pod>().create(&dry, &pod).await
}

/// The annotations of a pod that wants a sidecar.
pub(crate) fn wanting() -> Value {
    json!({"dapr.io/enabled": "true", "dapr.io/app-id": "asked"})
}

/// Whether a pod has a sidecar, of either kind.
pub(crate) fn is_injected(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.any(|container| container.name == "daprd")
}

/// Pods asked for one after the other, until told to stop.
pub(crate) struct Churn {
    pub(crate) admitted: u64,
    pub(crate) refused: Vec<String>,
}

/// Asks for pods until `work` ends; returns its value and what was answered.
pub(crate) async fn churning<T>(
    place: &Place,
    pause: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Churn)> {
    let mut churn = Churn {
        admitted: 0,
        refused: Vec::new(),
    };
    let mut work = Box::pin(work);
    loop {
        let asking = async {
            let answer = ask(place, &wanting()).await;
            tokio::time::sleep(pause).await;
            answer
        };
        tokio::select! {
            done = &mut work => return Ok((done?, churn)),
            answer = asking => match answer {
                Ok(pod) if is_injected(&pod) => churn.admitted = churn.admitted.saturating_add(1),
                Ok(_bare) => churn.refused.push("admitted without a sidecar".to_owned()),
                Err(error) => churn.refused.push(error.to_string()),
            },
        }
    }
}

/// A field of the one webhook.
pub(crate) async fn webhook(place: &Place) -> Result<Value> {
    let text = kubectl(
        place,
        &[
            "get",
            "mutatingwebhookconfiguration",
            INJECTOR,
            "--output=json",
        ],
    )?;
    serde_json::from_str(&text).context("what kubectl prints")
}

/// How often containers of a pod were started again.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let of = |list: Option<&Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        list.into_iter()
            .flatten()
            .map(|one| one.restart_count)
            .sum::<i32>()
    };
    of(status.and_then(|status| status.container_statuses.as_ref())).saturating_add(of(
        status.and_then(|status| status.init_container_statuses.as_ref())
    ))
}

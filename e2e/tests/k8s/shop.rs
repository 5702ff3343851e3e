//! An app and its callers under sidecars, and what tests of live rules ask of them.
//!
//! The app `orders` is called by `web` and by `mail`; `/open` is what no test ever closes to `web`, so a load of it
//! has no excuse for a failed call, and `/door` is what tests open and close to `mail`.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{Helm, PATIENCE, Place, Sample};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, core::DynamicObject, discovery::ApiResource};
use serde_json::{Value, json};

/// The called app.
pub(crate) const ORDERS: &str = "orders";
/// Calls after a receipt: more than there are sidecars and connections.
const CALLS: usize = 12;

/// The app and its callers.
#[derive(Clone, Debug)]
pub(crate) struct Shop<'a> {
    place: &'a Place,
    web: String,
    mail: String,
}

/// A call of a path of an app by the sidecar beside the caller.
pub(crate) fn call(app: &str, path: &str) -> Value {
    json!({"url": format!("http://127.0.0.1:3500/v1.0/invoke/{app}/method{path}"), "timeout_ms": 20000})
}

/// Objects of one of the product's kinds.
pub(crate) fn objects(place: &Place, kind: &str, plural: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "dapr.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "dapr.io/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    Api::namespaced_with(place.cluster().client(), place.namespace(), &resource)
}

/// Applies an object of one of the product's kinds.
pub(crate) fn put(place: &Place, kind: &str, name: &str, spec: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    place.apply(&object.to_string()).map(drop)
}

/// Starts apps side by side.
pub(crate) async fn start(place: &Place, samples: &[(&str, Sample)]) -> Result<()> {
    for (_, sample) in samples {
        place.apply(&sample.manifest().to_string())?;
    }
    for (name, _) in samples {
        place.rolled_out(name).await?;
    }
    Ok(())
}

impl<'a> Shop<'a> {
    /// Starts all three, the called one in so many pods, and waits until it is reached.
    pub(crate) async fn open(place: &'a Place, orders: Sample) -> Result<Self> {
        Helm::new(place.cluster()).shared().await?;
        Self::open_under(place, orders).await
    }

    /// The same under a control plane that is there already.
    pub(crate) async fn open_under(place: &'a Place, orders: Sample) -> Result<Self> {
        let callers = ["web", "mail"].map(|name| (name, Sample::with_sidecar(name)));
        let [web, mail] = callers;
        start(place, &[(ORDERS, orders), web, mail]).await?;
        let shop = Self {
            place,
            web: place.pod("app=web").await?,
            mail: place.pod("app=mail").await?,
        };
        for caller in [&shop.web, &shop.mail] {
            shop.becomes(caller, ORDERS, "/open", 200).await?;
        }
        Ok(shop)
    }

    /// The pod of `web`.
    pub(crate) fn web(&self) -> &str {
        &self.web
    }

    /// The pod of `mail`.
    pub(crate) fn mail(&self) -> &str {
        &self.mail
    }

    /// Asks again until the answer is this one.
    pub(crate) async fn becomes(
        &self,
        caller: &str,
        app: &str,
        path: &str,
        status: u16,
    ) -> Result<()> {
        let what = format!("{caller} gets {status} for {path} of {app}");
        let look = async || {
            let outcome = self.place.call(caller, &call(app, path)).await.ok()?;
            (outcome["status"] == status).then_some(())
        };
        self.place.until(&what, look).await
    }

    /// Each of a row of calls has this answer.
    pub(crate) async fn always(
        &self,
        caller: &str,
        app: &str,
        path: &str,
        status: u16,
    ) -> Result<()> {
        for _ in 0..CALLS {
            let outcome = self.place.call(caller, &call(app, path)).await?;
            ensure!(
                outcome["status"] == status,
                "{path}: not {status}: {outcome}"
            );
        }
        Ok(())
    }

    /// Starts the load that no change may hurt.
    pub(crate) async fn load(&self) -> Result<()> {
        let load = json!({"call": call(ORDERS, "/open"), "workers": 4, "pause_ms": 10});
        self.place.start_load(&self.web, &load).await
    }

    /// Ends it: no call failed. Returns how many were made.
    pub(crate) async fn unhurt(&self) -> Result<u64> {
        let account = self.place.end_load(&self.web).await?;
        ensure!(account["failed"] == 0, "failed calls: {account}");
        let made = account["ok"].as_u64().unwrap_or_default();
        ensure!(made > 0, "no call was made: {account}");
        Ok(made)
    }

    /// Applies the rules: `/open` to both callers, `/door` as it says to `mail`, nothing else to anybody.
    pub(crate) fn rule(&self, mode: &str, door: &str) -> Result<()> {
        let rules = self.rules(mode, door);
        self.place.apply(&rules.to_string()).map(drop)
    }

    /// The rules of [`Self::rule`].
    pub(crate) fn rules(&self, mode: &str, door: &str) -> Value {
        let namespace = self.place.namespace();
        json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "AccessControl", "metadata": {"name": ORDERS},
            "scopes": [ORDERS],
            "spec": {"mode": mode, "defaultAction": "deny", "policies": [
                {"appId": "web", "namespace": namespace, "operations": [{"name": "/open", "action": "allow"}]},
                {"appId": "mail", "namespace": namespace, "operations": [
                    {"name": "/open", "action": "allow"}, {"name": "/door", "action": door}]},
            ]},
        })
    }

    /// `kubectl wait` for the rules of [`Self::rule`].
    pub(crate) fn receipt(&self) -> Result<()> {
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        let object = format!("accesscontrol/{ORDERS}");
        let wait = ["wait", "--for=condition=Programmed", &object, &limit];
        let said = self.place.kubectl(&wait, None)?;
        ensure!(said.ok, "no receipt: {}", said.stderr);
        Ok(())
    }

    /// The status of the rules.
    pub(crate) async fn status(&self) -> Result<Value> {
        let rules = objects(self.place, "AccessControl", "accesscontrols");
        let object = rules.get(ORDERS).await.context("the rules")?;
        let mut status = object
            .data
            .get("status")
            .cloned()
            .unwrap_or_else(|| json!({}));
        status["generation"] = json!(object.metadata.generation);
        Ok(status)
    }

    /// No container of the namespace was started again (KL-08).
    pub(crate) async fn same_processes(&self) -> Result<()> {
        for pod in self.place.pods("").await? {
            let restarts = restarts(&pod);
            let name = pod.metadata.name.unwrap_or_default();
            ensure!(restarts == 0, "{name} was started again {restarts} times");
        }
        Ok(())
    }
}

/// How often containers of a pod were started again.
fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let of_init = status.and_then(|status| status.init_container_statuses.as_ref());
    let of_main = status.and_then(|status| status.container_statuses.as_ref());
    let all = of_init.into_iter().chain(of_main).flatten();
    all.map(|container| container.restart_count).sum()
}

/// A condition of a status that is about the present generation.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    let condition = conditions.iter().find(|one| one["type"] == kind)?;
    (condition["observedGeneration"] == status["generation"]).then_some(condition)
}

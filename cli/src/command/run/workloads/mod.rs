//! `run -k -f` and `stop -k -f`: all apps of a template, in a cluster.
//!
//! Each app becomes a Deployment, and a Service where it asks for one; both are also written below the app's folder.
//! Logs of all of its containers go where the template says. What was applied is deleted in the end, and nothing
//! else: an object of that name that this command has not made is refused. Facts: cli-and-clients 1.11.

mod logs;
mod manifest;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ironside_chassis::tasks::Tasks;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::template::resolve::TemplateApp;
use crate::cluster::{CONFIGURATIONS, Cluster, failed, is_missing};
use crate::command::Session;
use crate::process::Interrupts;
use manifest::{MANAGED_BY, MANAGER};

/// How long the first pod of an app may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long pods may take to end.
const END: Duration = Duration::from_secs(60);
/// How often the cluster is asked.
const STEP: Duration = Duration::from_millis(500);
/// How long the last lines of a log may take.
const DRAIN: Duration = Duration::from_secs(2);
/// The Configuration that sidecars get if it is there, as the reference names it.
const CONFIG: &str = "appconfig";
/// The label of a pod with a sidecar: whose it is.
const APP_ID: &str = "dapr.io/app-id";

/// The apps of a template in a namespace.
struct Fleet<'a> {
    session: &'a Session,
    cluster: Cluster,
    namespace: String,
    tasks: Tasks,
    /// Ids of apps of which something was applied.
    applied: Vec<String>,
}

/// How the start of all apps went.
enum Started {
    All,
    /// A signal came first.
    Interrupted,
    /// One could not be started.
    Failed,
}

/// Runs the apps until all of their pods are gone, or a signal comes.
pub(crate) async fn run(session: &Session, apps: Vec<TemplateApp>) -> anyhow::Result<ExitCode> {
    if let Some(app) = apps.iter().find(|app| app.container.image.is_empty()) {
        bail!(
            "required field 'containerImage' not found for app {:?}: with -k it says what runs",
            app.spec.app_id
        );
    }
    let mut interrupts = Interrupts::install()?;
    let mut fleet = Fleet::of(session).await?;
    let started = fleet.start(&apps, &mut interrupts).await;
    let code = match started {
        Started::All => fleet.watch(&apps, &mut interrupts).await,
        Started::Interrupted => ExitCode::SUCCESS,
        Started::Failed => ExitCode::FAILURE,
    };
    if matches!(started, Started::Interrupted) {
        fleet.say_stop();
    }
    Ok(fleet.end(code).await)
}

/// Deletes the apps of a template.
pub(crate) async fn stop(session: &Session, apps: Vec<TemplateApp>) -> anyhow::Result<ExitCode> {
    let mut fleet = Fleet::of(session).await?;
    for app in &apps {
        let id = &app.spec.app_id;
        if fleet.holds(id).await? {
            fleet.applied.push(id.clone());
        }
    }
    if fleet.applied.is_empty() {
        let text = format!(
            "Failed to stop Dapr and app processes: couldn't find apps of the run file in namespace {}",
            fleet.namespace
        );
        session.status.failure(&text);
        return Ok(ExitCode::SUCCESS);
    }
    Ok(fleet.end(ExitCode::SUCCESS).await)
}

// === impl Fleet ===

impl<'a> Fleet<'a> {
    async fn of(session: &'a Session) -> anyhow::Result<Self> {
        let namespace = session.values.text("namespace");
        Ok(Self {
            session,
            cluster: Cluster::of(session).await?,
            namespace: namespace.unwrap_or("default").to_owned(),
            tasks: Tasks::new(),
            applied: Vec::new(),
        })
    }

    /// Starts one app after the other.
    async fn start(&mut self, apps: &[TemplateApp], interrupts: &mut Interrupts) -> Started {
        let status = &self.session.status;
        for app in apps {
            let id = &app.spec.app_id;
            let one = self.start_one(app);
            let result = tokio::select! {
                biased;
                () = interrupts.next() => return Started::Interrupted,
                result = one => result,
            };
            if let Err(error) = result {
                let text = format!("Error deploying app {id:?}: {error:#}");
                status.failure(&text);
                return Started::Failed;
            }
        }
        Started::All
    }

    async fn start_one(&mut self, app: &TemplateApp) -> anyhow::Result<()> {
        let id = &app.spec.app_id;
        let status = self.session.status.clone();
        status.info(&format!(
            "Deploying app {id:?} to namespace {}",
            self.namespace
        ));
        let config = self.configuration().await?;
        let deployment = manifest::deployment(app, &self.namespace, config.as_deref());
        let service = manifest::service(app, &self.namespace);
        let folder = app.folder.join(".dapr").join("deploy");
        for (object, file) in [
            (Some(&deployment), "deployment.yaml"),
            (service.as_ref(), "service.yaml"),
        ] {
            if let Some(object) = object {
                write(&folder, file, object)?;
            }
        }
        refuse_foreign(&self.api::<Deployment>(), id).await?;
        if service.is_some() {
            refuse_foreign(&self.api::<Service>(), id).await?;
        }
        // From here on something may be there.
        self.applied.push(id.clone());
        apply(&self.api::<Deployment>(), id, &deployment).await?;
        if let Some(service) = &service {
            apply(&self.api::<Service>(), id, service).await?;
        }
        self.wait_for_pod(id).await?;
        logs::follow(
            self.session,
            &self.cluster,
            &self.namespace,
            app,
            &self.tasks,
        )
        .await?;
        status.success(&format!("Deployed app {id:?}"));
        Ok(())
    }

    /// The Configuration for all sidecars, if it is there.
    async fn configuration(&self) -> anyhow::Result<Option<String>> {
        let all = self
            .cluster
            .objects(CONFIGURATIONS, Some(&self.namespace))
            .await?;
        let is_it = |one: &DynamicObject| one.metadata.name.as_deref() == Some(CONFIG);
        let found = all.iter().flatten().any(is_it);
        Ok(found.then(|| CONFIG.to_owned()))
    }

    async fn wait_for_pod(&self, id: &str) -> anyhow::Result<()> {
        let wait = async {
            while self.pods(id).await?.is_empty() {
                tokio::time::sleep(STEP).await;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(done) => done,
            Err(_elapsed) => bail!(
                "no pod of it within {} s: kubectl -n {} describe deployment {id}",
                PATIENCE.as_secs(),
                self.namespace
            ),
        }
    }

    /// Waits until all pods are gone or a signal comes.
    async fn watch(&self, apps: &[TemplateApp], interrupts: &mut Interrupts) -> ExitCode {
        let gone = async {
            for app in apps {
                self.wait_for_end(&app.spec.app_id).await;
            }
        };
        tokio::select! {
            () = interrupts.next() => self.say_stop(),
            () = gone => self.session.status.info("All pods of the run file are gone"),
        }
        ExitCode::SUCCESS
    }

    fn say_stop(&self) {
        self.session.status.info(
            "Received signal to stop Dapr and app processes. Shutting down Dapr and app processes.",
        );
    }

    /// Waits until an app has no pods. A cluster that cannot be asked has not said that they are gone.
    async fn wait_for_end(&self, id: &str) {
        while self.pods(id).await.map_or(true, |pods| !pods.is_empty()) {
            tokio::time::sleep(STEP).await;
        }
    }

    async fn pods(&self, id: &str) -> anyhow::Result<Vec<Pod>> {
        let label = format!("{APP_ID}={id}");
        self.cluster.pods(Some(&self.namespace), &label).await
    }

    /// Whether something of an app is there that this command has made.
    async fn holds(&self, id: &str) -> anyhow::Result<bool> {
        let deployment = is_own(&self.api::<Deployment>(), id).await?;
        Ok(deployment || is_own(&self.api::<Service>(), id).await?)
    }

    /// Deletes what was applied and waits for the end of its pods; `code` unless that fails.
    async fn end(self, code: ExitCode) -> ExitCode {
        let mut code = code;
        for id in &self.applied {
            if let Err(error) = self.delete(id).await {
                let text = format!("Error deleting app {id:?}: {error:#}");
                self.session.status.failure(&text);
                code = ExitCode::FAILURE;
            }
        }
        let gone = async {
            for id in &self.applied {
                self.wait_for_end(id).await;
            }
        };
        if tokio::time::timeout(END, gone).await.is_err() {
            let text = format!(
                "There are pods {} s after their Deployments were deleted",
                END.as_secs()
            );
            self.session.status.warning(&text);
        }
        let _still_open = self.tasks.wait(DRAIN).await;
        if code == ExitCode::SUCCESS {
            self.session
                .status
                .success("Dapr and app processes stopped successfully");
        }
        code
    }

    async fn delete(&self, id: &str) -> anyhow::Result<()> {
        delete(&self.api::<Deployment>(), id).await?;
        delete(&self.api::<Service>(), id).await
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client(), &self.namespace)
    }
}

fn write(folder: &Path, file: &str, object: &Value) -> anyhow::Result<()> {
    let path = folder.join(file);
    let text = serde_yaml::to_string(object).context("writing YAML")?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, text))
        .with_context(|| format!("writing {}", path.display()))
}

async fn apply<K>(api: &Api<K>, name: &str, object: &Value) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams::apply(MANAGER).force();
    let done = api.patch(name, &params, &Patch::Apply(object)).await;
    done.map(drop).map_err(|error| failed(&error))
}

/// Deletes an object that this command has made; another one, or none, is left as it is.
async fn delete<K>(api: &Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    if !is_own(api, name).await? {
        return Ok(());
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Err(error) if !is_missing(&error) => Err(failed(&error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether there is such an object and this command has made it.
async fn is_own<K>(api: &Api<K>, name: &str) -> anyhow::Result<bool>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    Ok(maker(api, name).await?.is_some_and(|by| by == MANAGER))
}

async fn refuse_foreign<K>(api: &Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    match maker(api, name).await? {
        Some(by) if by != MANAGER => bail!(
            "there is an object {name} that `run -k` has not made (it lacks the label {MANAGED_BY}={MANAGER}): it is \
             not taken over"
        ),
        Some(_) | None => Ok(()),
    }
}

/// Who made an object, as its label says; empty without one, none without an object.
async fn maker<K>(api: &Api<K>, name: &str) -> anyhow::Result<Option<String>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let held = api.get_opt(name).await.map_err(|error| failed(&error))?;
    Ok(held.map(|held| {
        let labels = held.meta().labels.as_ref();
        let by = labels.and_then(|labels| labels.get(MANAGED_BY));
        by.cloned().unwrap_or_default()
    }))
}

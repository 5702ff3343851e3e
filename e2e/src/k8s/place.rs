//! A namespace of one test: what is applied there, and waiting for what comes of it.

use std::{fmt::Debug, future::Future, io::Write as _, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::Deployment, core::v1::Namespace},
};
use kube::{
    Api, Resource,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde::de::DeserializeOwned;

use super::{Cluster, PATIENCE};
use crate::wait::Stopwatch;

/// How often the API is asked.
const STEP: Duration = Duration::from_millis(100);

/// A namespace that lives as long as its test.
#[derive(Clone, Debug)]
pub struct Place {
    cluster: Cluster,
    namespace: String,
}

/// What a program said, word for word.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether it ended with success.
    pub ok: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr: warnings and refusals.
    pub stderr: String,
}

impl Place {
    /// Makes a namespace for the test `name`.
    ///
    /// # Errors
    /// If the API server refuses.
    pub(super) async fn make(cluster: &Cluster, name: &str) -> Result<Self> {
        let stem: String = name
            .rsplit("::")
            .next()
            .unwrap_or(name)
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .take(40)
            .collect();
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("t-{}-", stem.to_lowercase())),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let made = Api::<Namespace>::all(cluster.client())
            .create(&PostParams::default(), &namespace)
            .await
            .context("a namespace for the test")?;
        let namespace = made.metadata.name.context("the namespace has a name")?;
        Ok(Self {
            cluster: cluster.clone(),
            namespace,
        })
    }

    /// Deletes the namespace; the cluster clears it in its own time.
    pub(super) async fn leave(self) {
        let namespaces = Api::<Namespace>::all(self.cluster.client());
        let gone = namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await;
        if let Err(error) = gone {
            eprintln!("namespace {} stays: {error}", self.namespace);
        }
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The same cluster seen from another namespace, which stays when this test ends.
    #[must_use]
    pub fn beside(&self, namespace: &str) -> Self {
        Self {
            cluster: self.cluster.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// Objects of one kind in this namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client(), &self.namespace)
    }

    /// Applies manifests, as a user does.
    ///
    /// # Errors
    /// With the API server's refusal.
    pub fn apply(&self, yaml: &str) -> Result<Said> {
        let said = self.try_apply(yaml)?;
        if !said.ok {
            bail!("kubectl apply: {}\n{yaml}", said.stderr);
        }
        Ok(said)
    }

    /// The same, for those who expect a refusal.
    ///
    /// # Errors
    /// If there is no `kubectl`.
    pub fn try_apply(&self, yaml: &str) -> Result<Said> {
        self.kubectl(&["apply", "--filename", "-"], Some(yaml))
    }

    /// Calls `kubectl` in this namespace.
    ///
    /// # Errors
    /// If there is none.
    pub fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<Said> {
        let mut command = self.cluster.kubectl();
        command.args(["--namespace", &self.namespace, "--request-timeout=60s"]);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting kubectl")?;
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), input) {
            stdin.write_all(text.as_bytes()).context("kubectl reads")?;
        }
        let output = child.wait_with_output().context("kubectl ends")?;
        Ok(Said {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Waits until the object `name` looks as wanted, and returns it.
    ///
    /// # Errors
    /// With its last state when `limit` passes.
    pub async fn object<K>(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&K) -> bool,
    ) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = self.api();
        let mut last = None;
        let watch = Stopwatch::start();
        loop {
            match api.get_opt(name).await {
                Ok(Some(object)) if wanted(&object) => return Ok(object),
                Ok(other) => last = other,
                // An API server that restarts is one of the things tests look at.
                Err(error) if watch.elapsed() > limit => {
                    return Err(error).context(what.to_owned());
                }
                Err(_) => {}
            }
            if watch.elapsed() > limit {
                bail!("{what}: not within {limit:?}; last seen: {last:#?}");
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Waits until every replica of a Deployment is ready and of its last revision.
    ///
    /// # Errors
    /// If they are not in time.
    pub async fn rolled_out(&self, deployment: &str) -> Result<Deployment> {
        let what = format!("deployment {deployment} is rolled out");
        self.object(deployment, &what, PATIENCE, |found: &Deployment| {
            let wanted = found
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1);
            found.status.as_ref().is_some_and(|status| {
                status.observed_generation == found.metadata.generation
                    && status.updated_replicas.unwrap_or(0) == wanted
                    && status.replicas.unwrap_or(0) == wanted
                    && status.available_replicas.unwrap_or(0) == wanted
            })
        })
        .await
    }

    /// Waits until `look` brings a value.
    ///
    /// # Errors
    /// Names `what` when [`PATIENCE`] ends.
    pub async fn until<T, F>(&self, what: &str, look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        crate::wait::until(what, PATIENCE, look).await
    }
}

//! A Kubernetes cluster, as the command line looks at it and changes it.
//!
//! Owns the connection (`--kubeconfig`, `--context`, else what the environment says), plain reads that tell a kind that
//! is not served from an empty list, and the words of their failures. What is in a pod is read by [`sidecars`], the
//! control plane's own objects by [`control_plane`].

pub(crate) mod control_plane;
pub(crate) mod sidecars;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ironside_cluster::{connect_person, explain};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::command::Session;

/// How long an answer may pause.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the API server sees of this program.
const USER_AGENT: &str = concat!("ironside/", env!("CARGO_PKG_VERSION"));
/// An answer that the object, or the whole kind, is not there.
const NOT_FOUND: u16 = 404;

/// A cluster that can be asked.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
}

/// A kind of `dapr.io`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    name: &'static str,
    plural: &'static str,
}

/// `AccessControl`.
pub(crate) const ACCESS_CONTROLS: Kind = Kind::new("AccessControl", "accesscontrols");
/// `Component`.
pub(crate) const COMPONENTS: Kind = Kind::new("Component", "components");
/// `Configuration`.
pub(crate) const CONFIGURATIONS: Kind = Kind::new("Configuration", "configurations");

// === impl Kind ===

impl Kind {
    const fn new(name: &'static str, plural: &'static str) -> Self {
        Self { name, plural }
    }

    /// Whether it is this kind.
    pub(crate) fn is(self, other: Self) -> bool {
        self.name == other.name
    }

    /// How the API spells it.
    pub(crate) fn plural(self) -> &'static str {
        self.plural
    }

    fn resource(self) -> ApiResource {
        let kind = GroupVersionKind::gvk("dapr.io", "v1alpha1", self.name);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

// === impl Cluster ===

impl Cluster {
    /// Prepares the connection that the flags ask for; nothing is sent yet.
    pub(crate) async fn of(session: &Session) -> anyhow::Result<Self> {
        Self::with_patience(session, Some(PATIENCE)).await
    }

    /// As [`Cluster::of`], with another limit of the pause in an answer; none for one that goes on for ever.
    pub(crate) async fn with_patience(
        session: &Session,
        patience: Option<Duration>,
    ) -> anyhow::Result<Self> {
        ironside_transport::install_provider();
        let kubeconfig = session.values.text("kubeconfig").map(Path::new);
        let context = session.values.text("context");
        let client = connect_person(kubeconfig, context, patience, USER_AGENT);
        Ok(Self {
            client: client.await?,
        })
    }

    /// The connection itself.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The pods of a namespace, or of all, that a selector of labels picks.
    pub(crate) async fn pods(
        &self,
        namespace: Option<&str>,
        labels: &str,
    ) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = match namespace {
            Some(namespace) => Api::namespaced(self.client(), namespace),
            None => Api::all(self.client()),
        };
        let found = list(&api, &ListParams::default().labels(labels)).await;
        Ok(found.context("cannot list pods")?.unwrap_or_default())
    }

    /// The objects of a kind in a namespace, or in all; none if the cluster does not know the kind.
    pub(crate) async fn objects(
        &self,
        kind: Kind,
        namespace: Option<&str>,
    ) -> anyhow::Result<Option<Vec<DynamicObject>>> {
        let resource = kind.resource();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, &resource),
            None => Api::all_with(self.client(), &resource),
        };
        let found = list(&api, &ListParams::default()).await;
        found.with_context(|| format!("cannot list {}", kind.plural))
    }
}

/// Lists in pages; none if the cluster does not know the kind.
async fn list<K>(api: &Api<K>, params: &ListParams) -> anyhow::Result<Option<Vec<K>>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = params.clone().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(Some(all)),
        }
    }
}

/// Objects of one page.
const PAGE: u32 = 500;

/// Whether the answer is that there is no such object, or no such kind.
pub(crate) fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == NOT_FOUND)
}

/// What went wrong, in the API server's own words or in those of the innermost cause.
pub(crate) fn failed(error: &kube::Error) -> anyhow::Error {
    anyhow!(explain(error))
}

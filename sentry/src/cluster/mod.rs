//! The cluster that Sentry runs in: how it is reached, and what is known of it.
//!
//! Owns the connection ([`Cluster::connect`]: the pod's own service account, else a kubeconfig), calls with a deadline
//! that never log what they carry (`calls`), what is kept of watched objects (`cache`, `views`), watches that never end
//! (`watching`), and the name of the cluster's domain (`domain`). What follows from all this for a workload is
//! `validator`'s matter, for the authority `store`'s.

mod cache;
mod calls;
pub(crate) mod domain;
pub(crate) mod views;
mod watching;

pub(crate) use cache::{Cache, View};
pub(crate) use calls::CallError;
pub(crate) use watching::{Watched, watch};

use ironside_identity::Namespace;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use std::path::PathBuf;
use std::time::Duration;

/// Time to open a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What flags and environment say of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterOptions {
    /// Used where the pod has no service account; none without a home.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The keys of root, issuer certificate and issuer key in the Secret.
    pub(crate) keys: [String; 3],
    /// Whether tokens for the audience of sidecars before 1.13 are good.
    pub(crate) legacy_audience: bool,
    /// Who reports Events: the pod's name.
    pub(crate) instance: String,
}

/// A connection, and the namespace of the control plane.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    namespace: Namespace,
}

/// Why there is no connection to a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no cluster: not in a pod ({0}), and no kubeconfig: set --kubeconfig")]
    Nowhere(InClusterError),
    #[error("no cluster: not in a pod ({pod}), and kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        pod: InClusterError,
        path: PathBuf,
        cause: KubeconfigError,
    },
    #[error("no client for the cluster: {0}")]
    Client(kube::Error),
}

// === impl Cluster ===

impl Cluster {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError`] if neither the pod nor a kubeconfig says where the cluster is.
    pub(crate) async fn connect(
        options: &ClusterOptions,
        namespace: Namespace,
    ) -> Result<Self, ConnectError> {
        let mut config = match Config::incluster() {
            Ok(config) => config,
            Err(pod) => from_kubeconfig(options.kubeconfig.as_ref(), pod).await?,
        };
        config.connect_timeout = Some(CONNECT_LIMIT);
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self { client, namespace })
    }

    /// Returns the namespace of the control plane.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

async fn from_kubeconfig(
    path: Option<&PathBuf>,
    pod: InClusterError,
) -> Result<Config, ConnectError> {
    let Some(path) = path else {
        return Err(ConnectError::Nowhere(pod));
    };
    let read = match Kubeconfig::read_from(path) {
        Ok(kubeconfig) => {
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
        }
        Err(cause) => Err(cause),
    };
    read.map_err(|cause| ConnectError::Kubeconfig {
        pod,
        path: path.clone(),
        cause,
    })
}

//! How the API server is reached.
//!
//! Owns the choice between the pod's own service account and a kubeconfig, the user agent, and the time that a
//! connection may take to open. There is no limit of the rate on this side: a throttled client delays admissions
//! (kubernetes 2.1).

use http::HeaderValue;
use http::header::{InvalidHeaderValue, USER_AGENT};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time to open a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no connection to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a pod nor a kubeconfig.
    #[error("no cluster: not in a pod ({0}), and no kubeconfig: set --kubeconfig")]
    Nowhere(InClusterError),
    /// The kubeconfig leads nowhere.
    #[error("no cluster: not in a pod ({pod}), and kubeconfig {}: {cause}", path.display())]
    Kubeconfig {
        /// Why the pod's own account does not do.
        pod: InClusterError,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: KubeconfigError,
    },
    /// The name of the program can't be sent.
    #[error("the user agent cannot be sent: {0}")]
    UserAgent(#[from] InvalidHeaderValue),
    /// Certificates or keys that can't be used.
    #[error("no client for the cluster: {0}")]
    Client(kube::Error),
}

/// Prepares the connection of the program `user_agent`; nothing is sent yet. The pod's own account comes first, the
/// kubeconfig second.
///
/// # Errors
/// [`ConnectError`] if neither says where the cluster is.
pub async fn connect(kubeconfig: Option<&Path>, user_agent: &str) -> Result<Client, ConnectError> {
    let mut config = match Config::incluster() {
        Ok(config) => config,
        Err(pod) => from_kubeconfig(kubeconfig, pod).await?,
    };
    config.connect_timeout = Some(CONNECT_LIMIT);
    let agent = HeaderValue::from_str(user_agent)?;
    config.headers.push((USER_AGENT, agent));
    Client::try_from(config).map_err(ConnectError::Client)
}

async fn from_kubeconfig(path: Option<&Path>, pod: InClusterError) -> Result<Config, ConnectError> {
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
        path: path.to_owned(),
        cause,
    })
}

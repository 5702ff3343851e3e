//! How the API server is reached.
//!
//! Owns the choice between the pod's own service account and a kubeconfig, for programs and for people, the user agent,
//! and the time that a connection may take to open. There is no limit of the rate on this side: a throttled client
//! delays admissions (kubernetes 2.1).

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
    /// A person's kubeconfig leads nowhere.
    #[error("no cluster: kubeconfig{}: {cause}", path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Person {
        /// The file that was asked for, if one was.
        path: Option<PathBuf>,
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
    let config = match Config::incluster() {
        Ok(config) => config,
        Err(pod) => from_kubeconfig(kubeconfig, pod).await?,
    };
    finish(config, user_agent)
}

/// Prepares the connection of a person: the kubeconfig that was asked for, else that of `KUBECONFIG` or of the home
/// folder, else the pod's own account. An answer that pauses longer than `patience` is given up.
///
/// # Errors
/// [`ConnectError`] if none of them says where the cluster is.
pub async fn connect_person(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    patience: Option<Duration>,
    user_agent: &str,
) -> Result<Client, ConnectError> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let read = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let is_missing = |cause: &KubeconfigError| {
        if let KubeconfigError::ReadConfig(cause, _) = cause {
            return cause.kind() == std::io::ErrorKind::NotFound;
        }
        matches!(cause, KubeconfigError::FindPath)
    };
    let config = match read {
        Ok(read) => Config::from_custom_kubeconfig(read, &options).await,
        Err(cause) if kubeconfig.is_none() && context.is_none() && is_missing(&cause) => {
            // In a pod there is no kubeconfig, and what it lacks is no news.
            Config::incluster().map_err(|_outside| cause)
        }
        Err(cause) => Err(cause),
    };
    let mut config = config.map_err(|cause| ConnectError::Person {
        path: kubeconfig.map(Path::to_owned),
        cause,
    })?;
    config.read_timeout = patience;
    // A person tries again, and rather reads at once what is wrong.
    config.default_retry = false;
    finish(config, user_agent)
}

fn finish(mut config: Config, user_agent: &str) -> Result<Client, ConnectError> {
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

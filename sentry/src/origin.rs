//! Self-hosted, or in a cluster: where everything comes from that Sentry reads.
//!
//! Owns the one choice that the mode is: files of a folder or objects of the API server for settings and authority,
//! anyone's word or the cluster's for names. Nothing else knows the mode.

use crate::cluster::{Cluster, ClusterOptions, ConnectError, domain};
use crate::config::ConfigFile;
use crate::settings::{self, Loaded, SettingsError};
use crate::store::jwt::JwtStore;
use crate::store::{FileStore, JwtFiles, JwtSecret, SecretStore, Store};
use crate::validator::kubernetes::Workloads;
use crate::validator::{Insecure, Jwks, Kubernetes, Validators};
use ironside_identity::SpiffeId;
use std::sync::Arc;
use tracing::error;

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";

/// Where things come from.
pub(crate) struct Origin {
    /// None when self-hosted.
    cluster: Option<InCluster>,
}

struct InCluster {
    cluster: Cluster,
    options: ClusterOptions,
}

// === impl Origin ===

impl Origin {
    /// Prepares the connection to the cluster, if there is to be one.
    ///
    /// # Errors
    /// [`ConnectError`] if nothing says where the cluster is.
    pub(crate) async fn open(
        options: Option<ClusterOptions>,
        own: &SpiffeId,
    ) -> Result<Self, ConnectError> {
        let Some(options) = options else {
            return Ok(Self { cluster: None });
        };
        let cluster = Cluster::connect(&options, own.namespace().clone()).await?;
        Ok(Self {
            cluster: Some(InCluster { cluster, options }),
        })
    }

    /// Reads the configuration: a file, or the Configuration of that name.
    ///
    /// # Errors
    /// [`SettingsError`] if it can't be used, or was asked for and is not there.
    pub(crate) async fn settings(&self, file: &ConfigFile) -> Result<Loaded, SettingsError> {
        match &self.cluster {
            Some(InCluster { cluster, .. }) => settings::load_from(cluster, file).await,
            None => settings::load(file),
        }
    }

    /// The store of the authority.
    pub(crate) fn store(&self, files: FileStore) -> Arc<dyn Store> {
        let Some(InCluster { cluster, options }) = &self.cluster else {
            return Arc::new(files);
        };
        let ClusterOptions { keys, instance, .. } = options.clone();
        Arc::new(SecretStore::new(cluster.clone(), keys, instance))
    }

    /// The store of the key of JWTs.
    pub(crate) fn jwt_store(&self, files: JwtFiles) -> Arc<dyn JwtStore> {
        match &self.cluster {
            Some(InCluster { cluster, .. }) => {
                Arc::new(JwtSecret::new(cluster.clone(), files.base_names()))
            }
            None => Arc::new(files),
        }
    }

    /// The names of the validators; the first one is the log's.
    pub(crate) fn validators(&self, with_jwks: bool) -> Vec<&'static str> {
        match (&self.cluster, with_jwks) {
            (Some(_), true) => vec!["kubernetes", "jwks"],
            (Some(_), false) => vec!["kubernetes"],
            (None, true) => vec!["jwks"],
            (None, false) => vec!["insecure"],
        }
    }

    /// What is to be known of the cluster's workloads; none when self-hosted.
    pub(crate) fn workloads(&self) -> Option<Workloads> {
        let InCluster { cluster, .. } = self.cluster.as_ref()?;
        Some(Workloads::new(cluster))
    }

    /// Who may have which name.
    pub(crate) fn judges(
        &self,
        workloads: Option<Workloads>,
        own: &SpiffeId,
        insecure: Insecure,
        jwks: Option<Jwks>,
    ) -> Validators {
        let (Some(InCluster { cluster, options }), Some(workloads)) = (&self.cluster, workloads)
        else {
            return Validators::self_hosted(insecure, jwks);
        };
        let (cluster, legacy) = (cluster.clone(), options.legacy_audience);
        let kubernetes = Kubernetes::new(cluster, workloads, own.clone(), legacy);
        Validators::cluster(kubernetes, jwks)
    }

    /// The domain of DNS names in certificates; the trust domain stands in for one that is not known (security 1.5).
    pub(crate) fn dns_domain(&self, own: &SpiffeId) -> String {
        let instead = own.trust_domain();
        if self.cluster.is_none() {
            return instead.to_string();
        }
        domain::read().unwrap_or_else(|why| {
            error!(target: SCOPE, "The domain of the cluster is not known, using {instead}: {why}");
            instead.to_string()
        })
    }
}

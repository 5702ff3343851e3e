//! Name resolution: what this sidecar tells the others, and where it finds them.
//!
//! Owns the start of the resolver that the Configuration names. One that cannot be started answers every call
//! with the reason, as in the reference; the process serves on.

use std::sync::Arc;

use ironside_chassis::{Clock, Tasks};
use ironside_resolution::Authority;
use tokio::sync::mpsc;
use tracing::{error, info};

use super::{LOG, start::StartError};
use crate::{
    config::{Config, env::Environment},
    resolve::{self, Folders, Instance, Resolve, Started, Surroundings},
    sources::disk::Snapshot,
};

/// What name resolution is started with.
pub(super) struct Announcing<'a> {
    /// Who is announced, and where.
    pub(super) config: &'a Config,
    /// Where folders lie.
    pub(super) env: &'a Environment,
    /// The internal port.
    pub(super) port: u16,
    /// Time.
    pub(super) clock: &'a Clock,
}

impl Announcing<'_> {
    /// Starts name resolution. A resolver that cannot be started answers every call with the reason, as in
    /// the reference.
    pub(super) async fn start(
        &self,
        snapshot: &Snapshot,
        tasks: &Tasks,
        fatal: &mpsc::Sender<String>,
    ) -> Result<Arc<dyn Resolve>, StartError> {
        let spec = snapshot.configuration.spec.name_resolution.as_ref();
        let folders = Folders {
            runtime_dir: self.env.non_empty("XDG_RUNTIME_DIR").map(Into::into),
            temp_dir: self.env.non_empty("TMPDIR").unwrap_or("/tmp").into(),
        };
        match resolve::start(spec, self.instance()?, &folders, tasks, self.clock).await {
            Ok(Started {
                resolver,
                name,
                loss,
            }) => {
                info!(target: LOG, "Initialized name resolution to {name}");
                let (stop, fatal) = (tasks.token(), fatal.clone());
                tasks.spawn("registration", async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        lost = loss.lost() => { let _ending = fatal.send(lost.to_string()).await; }
                    }
                });
                Ok(resolver)
            }
            Err(cause) => {
                error!(target: LOG, "failed to init name resolution: {cause}");
                Ok(resolve::unavailable(&cause))
            }
        }
    }

    /// The control plane's address holds the domain of the cluster: `dapr-api.<namespace>.svc.<domain>:443`.
    fn surroundings(&self) -> Surroundings {
        let Some(kubernetes) = &self.config.kubernetes else {
            return Surroundings::Standalone;
        };
        let address = &kubernetes.operator_address;
        let host = address
            .rsplit_once(':')
            .map_or(&**address, |(host, _)| host);
        let domain = host.split_once(".svc.").map(|(_, domain)| domain.into());
        let is_mtls = self.config.is_mtls;
        Surroundings::Cluster { domain, is_mtls }
    }

    fn instance(&self) -> Result<Instance, StartError> {
        let Config {
            app_id,
            namespace,
            announced_host,
            hostname,
            ..
        } = self.config;
        let authority =
            Authority::new(announced_host, self.port).map_err(|cause| StartError::Announce {
                host: announced_host.clone(),
                cause: cause.to_string(),
            })?;
        Ok(Instance {
            app_id: app_id.clone(),
            namespace: namespace.clone(),
            authority,
            host_name: hostname.clone(),
            pid: std::process::id(),
            surroundings: self.surroundings(),
        })
    }
}

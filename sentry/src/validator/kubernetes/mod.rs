//! The validator that asks the cluster: whose token is this, in which pod, and what may that pod be called?
//!
//! Owns the order of security 1.7 and the bound on what one flood can ask of the API server (fact O-S12): so many
//! claims are judged at once, so many wait in `turns`, and each has three seconds. `review` asks for the owner of a
//! token, `token` reads the claim of a token that the server says too little of, `workload` decides on names, purely.

mod review;
mod token;
mod turns;
mod workload;

use super::{Claim, Granted, Refused, common};
use crate::cluster::views::{AccountView, ConfigurationView, PodView};
use crate::cluster::{Cache, CallError, Cluster};
use ironside_chassis::health::Target;
use ironside_identity::{Namespace, SpiffeId, TrustDomain};
use review::{Owner, Reviewer};
use std::sync::Arc;
use std::time::Duration;
use turns::Turns;
use workload::{Expected, Role};

/// Time that a judgement may take, waiting included (fact O-S12).
const LIMIT: Duration = Duration::from_secs(3);
/// Time that a claim waits for the cluster to be known: longer than a sidecar's patience of three seconds, for a
/// sidecar asks again after silence and ends after a refusal (security 2.2).
const SYNC_LIMIT: Duration = Duration::from_secs(5);
/// Claims that are judged at once: so many calls to the API server are under way at most.
const MAX_JUDGED: usize = 16;
/// Claims that wait for that; more are sent away.
const MAX_WAITING: usize = 256;

/// The text for a request that comes before the cluster is known.
const NOT_READY: &str = "validator not ready";
const NO_POD: &str = "failed to get pod of identity";
const NO_CONFIGURATION: &str = "failed to get configuration";
const OTHER_POD: &str = "pod UID mismatch: the token belongs to another pod of this name";
const OTHER_ACCOUNT: &str = "pod service account mismatch";

/// Believes the cluster.
pub(crate) struct Kubernetes {
    workloads: Workloads,
    reviewer: Reviewer,
    own: SpiffeId,
    turns: Turns,
}

/// What is known of the cluster's workloads. Clones are the same knowledge.
#[derive(Clone)]
pub(crate) struct Workloads {
    pods: Arc<Cache<PodView>>,
    configurations: Arc<Cache<ConfigurationView>>,
    accounts: Arc<Cache<AccountView>>,
}

// === impl Workloads ===

impl Workloads {
    /// Knows nothing yet.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            pods: Cache::new(cluster.clone()),
            configurations: Cache::new(cluster.clone()),
            accounts: Cache::new(cluster.clone()),
        }
    }

    /// Keeps the knowledge fresh; for ever.
    pub(crate) async fn follow(self, health: Target) {
        let ready = async {
            self.synced().await;
            health.ready();
        };
        tokio::join!(
            Arc::clone(&self.pods).follow(),
            Arc::clone(&self.configurations).follow(),
            Arc::clone(&self.accounts).follow(),
            ready,
        );
    }

    async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.configurations.synced(),
            self.accounts.synced()
        );
    }
}

// === impl Kubernetes ===

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Makes the validator of the Sentry `own`. Tokens must be for it, or for the audience of sidecars before 1.13
    /// where that is allowed.
    pub(crate) fn new(
        cluster: Cluster,
        workloads: Workloads,
        own: SpiffeId,
        legacy_audience: bool,
    ) -> Self {
        let reviewer = Reviewer::new(cluster, &own, legacy_audience);
        Self {
            workloads,
            reviewer,
            own,
            turns: Turns::new(MAX_JUDGED, MAX_WAITING),
        }
    }

    /// Judges a claim by its token and the pod that the token belongs to.
    pub(super) async fn validate(&self, claim: &Claim<'_>) -> Result<Granted, Refused> {
        let synced = tokio::time::timeout(SYNC_LIMIT, self.workloads.synced()).await;
        synced.map_err(|_elapsed| Refused::with_text(NOT_READY))?;
        // What a pod says of its trust domain does not count; what its configuration says does.
        let asked = common::check(&Claim {
            trust_domain: "",
            ..*claim
        })?;
        let judged = async {
            let turn = self.turns.take(claim.source).await;
            let _turn = turn.ok_or(Refused::Busy)?;
            self.judge(claim.token, &asked).await
        };
        let judged = tokio::time::timeout(LIMIT, judged).await;
        judged.map_err(|_elapsed| Refused::Busy)?
    }

    async fn judge(&self, token: &str, asked: &SpiffeId) -> Result<Granted, Refused> {
        let owner = self.reviewer.review(token).await?;
        let pod = self.pod(&owner).await?;
        let (namespace, app_id) = (asked.namespace().as_str(), asked.app_id().as_str());
        if owner.namespace != namespace {
            let text = format!("namespace mismatch; received namespace: {namespace}");
            return Err(Refused::with_text(&text));
        }
        if *pod.service_account != *owner.account {
            return Err(Refused::with_text(OTHER_ACCOUNT));
        }
        let control_plane = self.own.namespace().as_str();
        let Expected { id, role } = workload::expected(&owner, &pod, control_plane)?;
        if id != app_id {
            let text = format!("app-id mismatch. expected: {id}, received: {app_id}");
            return Err(Refused::with_text(&text));
        }
        self.check_account(&owner, app_id).await?;
        let trust_domain = match role {
            Role::ControlPlane => self.own.trust_domain().clone(),
            Role::App if asked.app_id().is_control_plane() => {
                return Err(common::reserved(asked));
            }
            Role::App => self.trust_domain(asked.namespace(), &pod).await?,
        };
        let app_id = asked.app_id().clone();
        let id = SpiffeId::new(trust_domain, asked.namespace().clone(), app_id);
        Ok(Granted {
            id: id.map_err(|why| Refused::new(&why.to_string()))?,
            images: pod.images.clone(),
        })
    }

    async fn pod(&self, owner: &Owner) -> Result<Arc<PodView>, Refused> {
        let is_owner = |pod: &PodView| *pod.uid == *owner.pod_uid;
        let pods = &self.workloads.pods;
        let pod = found(
            pods.find(&owner.namespace, &owner.pod_name, is_owner).await,
            NO_POD,
        )?;
        match is_owner(&pod) {
            true => Ok(pod),
            false => Err(Refused::with_text(OTHER_POD)),
        }
    }

    /// An account may name the app IDs that its pods may have (fact O-S6).
    async fn check_account(&self, owner: &Owner, app_id: &str) -> Result<(), Refused> {
        let Owner {
            namespace, account, ..
        } = owner;
        let accounts = &self.workloads.accounts;
        let view = found(
            accounts.find(namespace, account, |_any| true).await,
            "failed to get service account of identity",
        )?;
        match view.allowed_app_ids.as_deref() {
            Some(list) if !workload::is_listed(list, app_id) => {
                let text = format!(
                    "service account '{namespace}/{account}' is not allowed to have the app-id '{app_id}' \
                     (annotation dapr.io/allowed-app-ids)"
                );
                Err(Refused::with_text(&text))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The trust domain of an app (security 1.6), which is never the control plane's (fact O-S5).
    async fn trust_domain(
        &self,
        namespace: &Namespace,
        pod: &PodView,
    ) -> Result<TrustDomain, Refused> {
        let Some(name) = &pod.config else {
            return Ok(TrustDomain::default());
        };
        let configurations = &self.workloads.configurations;
        let view = found(
            configurations
                .find(namespace.as_str(), name, |_any| true)
                .await,
            NO_CONFIGURATION,
        )?;
        let text = match &*view {
            ConfigurationView::Domain(None) => return Ok(TrustDomain::default()),
            ConfigurationView::Domain(Some(text)) => text,
            ConfigurationView::Odd => {
                return Err(Refused::with_text(
                    "failed to get configuration: trustDomain is no text",
                ));
            }
        };
        let domain = TrustDomain::parse(text).map_err(|why| {
            Refused::with_text(&format!("failed to parse trust domain {text:?}: {why}"))
        })?;
        if domain == *self.own.trust_domain() {
            return Err(Refused::with_text(&format!(
                "trust domain {text:?} is reserved for the control plane"
            )));
        }
        Ok(domain)
    }
}

fn found<V>(answer: Result<Option<Arc<V>>, CallError>, text: &str) -> Result<Arc<V>, Refused> {
    match answer {
        Ok(Some(view)) => Ok(view),
        Ok(None) => Err(Refused::with_text(text)),
        Err(cause) => Err(Refused::unanswered(&format!("{text}: {cause}"), &cause)),
    }
}

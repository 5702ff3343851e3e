//! The CA bundle by which the API server trusts the webhook.
//!
//! Owns that the webhook of our name carries the trust anchors in effect, whoever changes either: the configuration is
//! watched, and drift is repaired (kubernetes 2.2). The patch tests that it hits the webhook of that name, and names
//! nothing else, so that every other field stays its owner's. A configuration that is not there is waited for.

use crate::metrics::Metrics;
use ironside_chassis::health::Target;
use ironside_cluster::{explain, follow_one};
use ironside_identity::TrustBundle;
use ironside_transport::AnchorsRx;
use json_patch::Patch as JsonPatch;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

const SCOPE: &str = "dapr.injector.service";
/// The configuration, and the webhook in it (kubernetes 0.1).
pub(crate) const CONFIGURATION: &str = "dapr-sidecar-injector";
pub(crate) const WEBHOOK: &str = "sidecar-injector.dapr.io";
/// Who owns the field.
const MANAGER: &str = "dapr-injector";
/// Between two patches: two writers who disagree must not keep the API server busy.
const PAUSE: Duration = Duration::from_millis(500);
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);
/// One patch takes no longer.
const LIMIT: Duration = Duration::from_secs(10);

/// The webhook as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Its place in the list.
    index: usize,
    bundle: Option<ByteString>,
}

/// Keeps the bundle right.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) anchors: AnchorsRx,
    pub(crate) ready: Target,
    pub(crate) metrics: Metrics,
}

// === impl Keeper ===

impl Keeper {
    /// Follows configuration and anchors, for ever.
    pub(crate) async fn follow(self) {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let (publish, seen) = watch::channel(None);
        let watching = follow_one(
            api.clone(),
            CONFIGURATION,
            |object: Option<&MutatingWebhookConfiguration>| {
                publish.send_replace(Some(object.and_then(find)));
            },
        );
        tokio::join!(watching, self.repair(api, seen));
    }

    async fn repair(
        mut self,
        api: Api<MutatingWebhookConfiguration>,
        mut seen: watch::Receiver<Option<Option<Seen>>>,
    ) {
        let mut told = None;
        loop {
            let state = seen.borrow_and_update().clone();
            let anchors = self.anchors.borrow_and_update().clone();
            let pause = match (state, anchors) {
                (Some(Some(webhook)), Some(anchors)) => self.compare(&api, webhook, &anchors).await,
                (Some(None), _) => {
                    self.ready.not_ready();
                    if told != Some(CONFIGURATION) {
                        warn!(
                            target: SCOPE,
                            "There is no webhook {WEBHOOK} in MutatingWebhookConfiguration {CONFIGURATION}; waiting for it"
                        );
                    }
                    told = Some(CONFIGURATION);
                    None
                }
                (None, _) | (_, None) => None,
            };
            tokio::select! {
                () = until(pause) => {}
                Ok(()) = seen.changed(), if pause.is_none() => {}
                Ok(()) = self.anchors.changed(), if pause.is_none() => {}
            }
        }
    }

    /// Patches where it is needed; says when to look again, if nothing changes.
    async fn compare(
        &self,
        api: &Api<MutatingWebhookConfiguration>,
        webhook: Seen,
        anchors: &Arc<TrustBundle>,
    ) -> Option<Duration> {
        let wanted = ByteString(anchors.to_pem().into_bytes());
        if webhook.bundle.as_ref() == Some(&wanted) {
            self.ready.ready();
            return None;
        }
        let patch = patch(webhook.index, &wanted);
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let call = api.patch_metadata(CONFIGURATION, &params, &patch);
        let cause = match tokio::time::timeout(LIMIT, call).await {
            Ok(Ok(_patched)) => {
                self.metrics.count_bundle_patch("patched");
                let count = anchors.anchors().len();
                info!(target: SCOPE, "CA bundle of webhook {WEBHOOK} set: {count} trust anchors");
                self.ready.ready();
                return Some(PAUSE);
            }
            Ok(Err(cause)) => explain(&cause),
            Err(_elapsed) => format!("the API server did not answer within {LIMIT:?}"),
        };
        self.metrics.count_bundle_patch("failed");
        self.ready.not_ready();
        warn!(target: SCOPE, "Cannot set the CA bundle of webhook {WEBHOOK}, trying again in {RETRY:?}: {cause}");
        Some(RETRY)
    }
}

async fn until(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

fn find(configuration: &MutatingWebhookConfiguration) -> Option<Seen> {
    let mut webhooks = configuration.webhooks.iter().flatten().enumerate();
    let (index, webhook) = webhooks.find(|(_, webhook)| webhook.name == WEBHOOK)?;
    Some(Seen {
        index,
        bundle: webhook.client_config.ca_bundle.clone(),
    })
}

/// One field, of the webhook of our name or of none.
fn patch(index: usize, bundle: &ByteString) -> Patch<()> {
    let webhook = format!("/webhooks/{index}");
    let operations = json!([
        {"op": "test", "path": format!("{webhook}/name"), "value": WEBHOOK},
        {"op": "add", "path": format!("{webhook}/clientConfig/caBundle"), "value": bundle},
    ]);
    // What is written here is a patch.
    let operations: JsonPatch = serde_json::from_value(operations).unwrap_or_default();
    Patch::Json(operations)
}

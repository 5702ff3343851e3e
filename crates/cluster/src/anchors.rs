//! The trust anchors of the control plane, as they are now.
//!
//! Owns their two sources: a ConfigMap, watched through the API, so that nobody waits for a kubelet to refresh a
//! mounted volume, or a file. A text that can't be read is reported and the old roots stay in effect; so do they when
//! the object is taken away. What roots are for is not known here.

use crate::SCOPE;
use crate::watching::states;
use futures_util::StreamExt as _;
use ironside_identity::TrustBundle;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// The key of the ConfigMap that holds the roots as PEM (kubernetes 0.1).
pub const BUNDLE_KEY: &str = "ca.crt";
/// How often a file is read. It is small, and a mounted one is a link to a link that is replaced.
const LOOK: Duration = Duration::from_secs(1);

/// Where the trust anchors come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorsSource {
    /// A file of PEM, which need not exist yet.
    File(PathBuf),
    /// The key [`BUNDLE_KEY`] of a ConfigMap, which need not exist yet.
    ConfigMap {
        /// The namespace of the control plane.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// The newest roots, and what was said of them.
struct Newest {
    publish: watch::Sender<Option<Arc<TrustBundle>>>,
    trouble: Option<String>,
}

// === impl AnchorsSource ===

impl AnchorsSource {
    /// Chooses the source: a file that was asked for, else the ConfigMap that the environment names, else the file
    /// where the chart of the reference mounts it.
    #[must_use]
    pub fn choose(
        asked: Option<PathBuf>,
        config_map: Option<String>,
        namespace: &str,
        fallback: &Path,
    ) -> Self {
        match (asked, config_map) {
            (Some(path), _) => Self::File(path),
            (None, Some(name)) => Self::ConfigMap {
                namespace: namespace.to_owned(),
                name,
            },
            (None, None) => Self::File(fallback.to_owned()),
        }
    }

    /// Publishes the roots whenever they are others, for ever. To stop, drop the future.
    pub async fn follow(self, client: Client, publish: watch::Sender<Option<Arc<TrustBundle>>>) {
        let mut newest = Newest {
            publish,
            trouble: None,
        };
        match self {
            Self::File(path) => newest.follow_file(&path).await,
            Self::ConfigMap { namespace, name } => {
                let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
                let what = format!("ConfigMap {namespace}/{name}");
                let mut states = pin!(states(api, &name));
                while let Some(map) = states.next().await {
                    newest.take(&what, read(map.as_ref()));
                }
            }
        }
    }
}

fn read(map: Option<&ConfigMap>) -> Result<&[u8], String> {
    let map = map.ok_or("it is not there yet")?;
    let text = map.data.as_ref().and_then(|data| data.get(BUNDLE_KEY));
    match text.map(String::as_bytes) {
        None | Some(b"") => Err(format!("it has no {BUNDLE_KEY} yet")),
        Some(text) => Ok(text),
    }
}

// === impl Newest ===

impl Newest {
    async fn follow_file(&mut self, path: &Path) {
        let what = format!("file {}", path.display());
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let text = std::fs::read(path).map_err(|cause| cause.to_string());
            self.take(&what, text.as_deref().map_err(Clone::clone));
        }
    }

    fn take(&mut self, what: &str, text: Result<&[u8], String>) {
        let read = text.and_then(|text| {
            TrustBundle::from_pem(text).map_err(|cause| format!("it cannot be read: {cause}"))
        });
        match read {
            Ok(bundle) => {
                self.trouble = None;
                self.publish(what, bundle);
            }
            Err(trouble) => self.tell(what, trouble),
        }
    }

    fn publish(&self, what: &str, bundle: TrustBundle) {
        let count = bundle.anchors().len();
        let news = self.publish.send_if_modified(|held| {
            if held.as_deref() == Some(&bundle) {
                return false;
            }
            *held = Some(Arc::new(bundle));
            true
        });
        if news {
            info!(target: SCOPE, "Trust anchors taken from {what}: {count}");
        }
    }

    /// Says once what is wrong.
    fn tell(&mut self, what: &str, trouble: String) {
        if self.trouble.as_ref() == Some(&trouble) {
            return;
        }
        let held = self.publish.borrow().is_some();
        if held {
            warn!(target: SCOPE, "Trust anchors in {what}: {trouble}; the old ones stay in effect");
        } else {
            info!(target: SCOPE, "Waiting for trust anchors in {what}: {trouble}");
        }
        self.trouble = Some(trouble);
    }
}

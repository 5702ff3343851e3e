//! The keys `jwt.key` and `jwks.json` of the Secret, and the copy of the set in the ConfigMap.
//!
//! Owns that they are written where there is nothing, from the revision that was read: of two Sentries that start at
//! once one makes the key, and the other one finds it. The ConfigMap is read by many who may not read the Secret, so
//! it gets nothing by being read: only what the guard found to be public.

use super::changes::SecretChanges;
use super::{NAME, SecretStore, set, value};
use crate::cluster::Cluster;
use crate::store::jwt::{JwtStore, JwtTexts};
use crate::store::{Changes, Later, StoreError};

/// The set in the ConfigMap (security 1.8).
const SET: &str = "jwks.json";

/// The key of JWTs in the Secret.
pub(crate) struct JwtSecret {
    store: SecretStore,
    key: String,
    set: String,
}

// === impl JwtSecret ===

impl JwtSecret {
    /// Names the keys of the Secret: private key, and set.
    pub(crate) fn new(cluster: Cluster, [key, set]: [String; 2]) -> Self {
        Self {
            store: SecretStore::new(cluster, Default::default(), String::new()),
            key,
            set,
        }
    }

    async fn find(&self) -> Result<JwtTexts, StoreError> {
        let secret = self.store.secret().await?;
        let text = |key| value(&secret, key).map(<[u8]>::to_vec);
        Ok(JwtTexts {
            key: text(&self.key),
            set: text(&self.set),
        })
    }

    async fn fill_in(&self, parts: &JwtTexts) -> Result<(), StoreError> {
        let mut secret = self.store.secret().await?;
        for (name, text) in [(&self.key, &parts.key), (&self.set, &parts.set)] {
            let Some(text) = text else { continue };
            if value(&secret, name).is_some() {
                return Err(StoreError::Conflict);
            }
            set(&mut secret, name, text.clone());
        }
        self.store.write(&secret).await
    }
}

impl JwtStore for JwtSecret {
    fn read(&self) -> Later<'_, Result<JwtTexts, StoreError>> {
        Box::pin(self.find())
    }

    fn fill<'a>(&'a self, parts: &'a JwtTexts) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.fill_in(parts))
    }

    fn show<'a>(&'a self, set: &'a [u8]) -> Later<'a, Result<(), StoreError>> {
        Box::pin(async { self.store.publish(SET, set).await.map(|_wrote| ()) })
    }

    fn watch(&self) -> Box<dyn Changes> {
        Box::new(SecretChanges::of_secret(&self.store.cluster, NAME))
    }

    fn names(&self) -> [String; 2] {
        let what = self.store.what("Secret");
        [&self.key, &self.set].map(|key| format!("{what}: {key}"))
    }
}

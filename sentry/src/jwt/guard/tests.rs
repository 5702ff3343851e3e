//! The guard over a folder: beginnings, changes, and what it must leave alone.

mod cluster;
mod look;

use super::*;
use crate::store::JwtFiles;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

struct Rig {
    folder: TempDir,
    metrics: Metrics,
    terms: Terms,
}

impl Rig {
    fn new(algorithm: &str) -> Self {
        let terms = Terms {
            algorithm: algorithm.parse().unwrap(),
            key_id: None,
            issuer: None,
            ttl: Duration::from_secs(60),
            skew: Duration::ZERO,
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            metrics: Metrics::default(),
            terms,
        }
    }

    fn guard(&self) -> JwtGuard {
        let store = JwtFiles::new(self.folder.path(), "jwt.key", "jwks.json");
        JwtGuard::new(Arc::new(store), self.terms.clone(), self.metrics.clone())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Another key and its set.
    fn other(&self) -> (String, String) {
        let key = JwtIssuer::generate(&self.terms).unwrap();
        let set = JwtIssuer::set_of(&self.terms, key.as_bytes()).unwrap();
        (key, set)
    }

    async fn refused(&self, text: &str) {
        let error = self.guard().start().await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

/// Fact: security.md 1.8: an RSA key of 2048 bits, its thumbprint as ID, RS256 for signatures; mode 0600.
#[tokio::test]
async fn an_empty_store_gets_a_key_and_keeps_it() {
    let rig = Rig::new("RS256");
    let first = rig.guard().start().await.unwrap();
    for file in ["jwt.key", "jwks.json"] {
        assert_eq!(fs::metadata(rig.path(file)).unwrap().mode() & 0o777, 0o600);
    }
    let (key, set) = (rig.read("jwt.key"), rig.read("jwks.json"));
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
    let value: serde_json::Value = serde_json::from_str(&set).unwrap();
    let entry = &value["keys"][0];
    assert_eq!(
        (&entry["kty"], &entry["alg"], &entry["use"]),
        (&"RSA".into(), &"RS256".into(), &"sig".into())
    );
    assert_eq!(
        entry["n"].as_str().unwrap().len(),
        342,
        "2048 bits in base64"
    );
    assert_eq!(entry["kid"], first.key_id());
    assert_eq!(first.key_id().len(), 44, "SHA-256 in base64");
    let again = rig.guard().start().await.unwrap();
    assert_eq!((rig.read("jwt.key"), rig.read("jwks.json")), (key, set));
    assert_eq!(again.key_id(), first.key_id());
}

#[tokio::test]
async fn a_key_alone_gets_its_set() {
    let rig = Rig::new("ES384");
    let (key, set) = rig.other();
    rig.write("jwt.key", &key);
    let issuer = rig.guard().start().await.unwrap();
    assert_eq!((rig.read("jwt.key"), rig.read("jwks.json")), (key, set));
    assert_eq!(issuer.algorithm().as_str(), "ES384");
}

/// Fact: security.md O-S9: nothing is overwritten, whatever is wrong with it.
#[tokio::test]
async fn what_cannot_be_used_is_left_alone() {
    let rig = Rig::new("RS256");
    rig.write("jwt.key", "garbage");
    rig.refused("JWT signing key: ").await;
    assert!(!rig.path("jwks.json").exists());
    let (key, set) = Rig::new("ES256").other();
    rig.write("jwt.key", &key);
    rig.refused("RS256 needs a key of the kind RSA").await;
    rig.write("jwks.json", &set);
    rig.refused("RS256 needs a key of the kind RSA").await;
    fs::remove_file(rig.path("jwt.key")).unwrap();
    rig.refused("restore the key, or move the set away").await;
    assert_eq!(rig.read("jwks.json"), set);
    let (key, _) = rig.other();
    rig.write("jwt.key", &key);
    rig.refused("the signing key is not in the set").await;
    assert_eq!((rig.read("jwt.key"), rig.read("jwks.json")), (key, set));
}

#[tokio::test]
async fn two_that_start_together_share_one_key() {
    let rig = Rig::new("EdDSA");
    let (mut one, mut two) = (rig.guard(), rig.guard());
    let (one, two) = tokio::join!(one.start(), two.start());
    assert_eq!(one.unwrap().key_id(), two.unwrap().key_id());
}

/// Fact: security.md 1.9, O-S8: swapped in place; a bad change is reported and changes nothing.
#[tokio::test]
async fn a_changed_key_is_swapped_and_a_bad_one_is_not() {
    let rig = Rig::new("EdDSA");
    let mut guard = rig.guard();
    let (publish, issuer) = watch::channel(guard.start().await.unwrap());
    let first = issuer.borrow().key_id().to_owned();

    let (key, set) = rig.other();
    rig.write("jwt.key", &key);
    guard.refresh(&publish, Woken::Change).await;
    assert_eq!(
        issuer.borrow().key_id(),
        first,
        "a key without its set is not taken"
    );
    assert_eq!(
        (
            rig.metrics.issuer_changed(),
            rig.metrics.reload_failed.get()
        ),
        (1, 1)
    );

    // As a person rotates: the old public key stays in the set.
    let old = rig.read("jwks.json");
    let old: serde_json::Value = serde_json::from_str(&old).unwrap();
    let mut both: serde_json::Value = serde_json::from_str(&set).unwrap();
    both["keys"]
        .as_array_mut()
        .unwrap()
        .push(old["keys"][0].clone());
    rig.write("jwks.json", &both.to_string());
    guard.refresh(&publish, Woken::Change).await;
    let second = issuer.borrow().key_id().to_owned();
    assert_ne!(second, first);
    assert!(issuer.borrow().set().to_json().contains(&first));
    assert_eq!(
        (
            rig.metrics.issuer_changed(),
            rig.metrics.reload_failed.get()
        ),
        (2, 1)
    );

    guard.refresh(&publish, Woken::Change).await;
    assert_eq!(rig.metrics.issuer_changed(), 2, "the same is no news");

    for file in ["jwt.key", "jwks.json"] {
        fs::remove_file(rig.path(file)).unwrap();
    }
    guard.refresh(&publish, Woken::Change).await;
    assert_eq!(issuer.borrow().key_id(), second);
    assert!(
        !rig.path("jwt.key").exists(),
        "a loss is not taken for a beginning"
    );
    assert_eq!(rig.metrics.reload_failed.get(), 2);
}

//! The guard over a store that is away for a while, and says nothing of changes.

use super::*;
use crate::cluster::CallError;
use crate::store::{Changes, Later};
use std::sync::Mutex;

/// What the store holds, what it shows, and how many reads fail.
#[derive(Default)]
struct Memory {
    texts: Mutex<JwtTexts>,
    shown: Mutex<Option<Vec<u8>>>,
    away: Mutex<usize>,
}

/// A watch that is dead without a word.
struct Dead;

fn away() -> StoreError {
    StoreError::Cluster {
        verb: "read",
        what: "Secret".into(),
        cause: CallError::Slow(Duration::from_secs(10)),
    }
}

impl Memory {
    fn put(&self, key: &str, set: &str) {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        *self.texts.lock().unwrap() = JwtTexts {
            key: text(key),
            set: text(set),
        };
    }

    fn shown(&self) -> Option<String> {
        let shown = self.shown.lock().unwrap().clone();
        shown.map(|text| String::from_utf8(text).unwrap())
    }
}

impl JwtStore for Memory {
    fn read(&self) -> Later<'_, Result<JwtTexts, StoreError>> {
        let mut left = self.away.lock().unwrap();
        let read = match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                Err(away())
            }
            None => Ok(self.texts.lock().unwrap().clone()),
        };
        Box::pin(std::future::ready(read))
    }

    fn fill<'a>(&'a self, _parts: &'a JwtTexts) -> Later<'a, Result<(), StoreError>> {
        Box::pin(async { Err(away()) })
    }

    fn show<'a>(&'a self, set: &'a [u8]) -> Later<'a, Result<(), StoreError>> {
        *self.shown.lock().unwrap() = Some(set.to_vec());
        Box::pin(async { Ok(()) })
    }

    fn watch(&self) -> Box<dyn Changes> {
        Box::new(Dead)
    }

    fn names(&self) -> [String; 2] {
        ["key".into(), "set".into()]
    }
}

impl Changes for Dead {
    fn changed(&mut self) -> Later<'_, Change> {
        Box::pin(std::future::pending())
    }
}

/// The read that a change asks for fails: nobody says again that something changed, and the key is loaded. What
/// somebody else made of the published set is put right.
#[tokio::test(start_paused = true)]
async fn what_was_missed_is_found_within_two_minutes() {
    let rig = Rig::new("EdDSA");
    let (key, set) = rig.other();
    let store = Arc::new(Memory::default());
    store.put(&key, &set);
    let shared = Arc::clone(&store);
    let mut guard = JwtGuard::new(shared, rig.terms.clone(), rig.metrics.clone());
    let (publish, mut issuer) = watch::channel(guard.start().await.unwrap());
    let first = issuer.borrow_and_update().key_id().to_owned();

    let (key, set) = rig.other();
    store.put(&key, &set);
    *store.away.lock().unwrap() = 2;
    guard.refresh(&publish, Woken::Change).await;
    guard.refresh(&publish, Woken::Hint).await;
    assert_eq!(issuer.borrow().key_id(), first);
    let counted = || {
        let metrics = &rig.metrics;
        (metrics.issuer_changed(), metrics.reload_failed.get())
    };
    assert_eq!(counted(), (0, 0), "a store that is away holds no bad key");

    *store.away.lock().unwrap() = 2;
    let followed = guard.follow(publish);
    let checks = async {
        let limit = 2 * LOOK;
        let changed = tokio::time::timeout(limit, issuer.changed()).await;
        changed.expect("the new key is loaded").unwrap();
        assert_ne!(issuer.borrow_and_update().key_id(), first);
        assert_eq!((counted(), store.shown()), ((1, 0), Some(set.clone())));

        *store.shown.lock().unwrap() = None;
        tokio::time::sleep(limit).await;
        assert_eq!((counted(), store.shown()), ((1, 0), Some(set)));

        // A bad key is told of once, however often it is looked at.
        store.put("garbage", "garbage");
        tokio::time::sleep(5 * limit).await;
        assert_eq!(counted(), (2, 1));
    };
    tokio::select! {
        () = followed => panic!("nobody follows any more"),
        () = checks => {}
    }
}

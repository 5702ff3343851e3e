//! Rotation in the real program, killed in each phase and in the middle of each change.
//!
//! A phase lasts for a life of a leaf, which is more than a test can wait for: the instant at which it began is moved
//! into the past in the stored state, while the program is dead.
#![cfg(test)]

#[expect(dead_code, reason = "the other tests of the program use the rest")]
mod support;

use ironside_identity::{TrustBundle, pem, verify};
use ironside_testkit::certs::now;
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::{Sentry, command};

const STATE: &str = "ca-state.json";
const REQUEST: &str = "rotate.request";
const DISTRIBUTE: &str = "New root and issuer made";
const SIGN: &str = "The new issuer signs from now on";
const WITHDRAW: &str = "The old root is withdrawn";

/// Lets the phase have begun long ago.
fn age(folder: &Path) {
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let since = state.pointer_mut("/phase/since").unwrap();
    *since = "2020-01-01T00:00:00Z".into();
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
}

fn wish(folder: &Path) {
    fs::write(folder.join(REQUEST), "").unwrap();
}

/// Ends it at once, as a crash does.
fn kill(sentry: &mut Sentry) {
    sentry.signal("KILL");
    assert_eq!(sentry.exit_code(), None);
}

fn bundle(folder: &Path) -> TrustBundle {
    TrustBundle::from_pem(&fs::read(folder.join("ca.crt")).unwrap()).unwrap()
}

/// Root, chain and key belong together, and a leaf below them is believed by the roots that were there before.
async fn check(sentry: &Sentry, before: &TrustBundle, roots: usize, what: &str) {
    let identity = sentry.identity("appa").await;
    let (chain, now) = (identity.svid.chain(), now());
    assert_eq!(identity.bundle.anchors().len(), roots, "{what}");
    assert!(verify(chain, &identity.bundle, now).is_ok(), "{what}");
    assert!(verify(chain, before, now).is_ok(), "{what}");
}

/// Who only knows the first root, as a sidecar of the reference does, is served through all phases; who holds a
/// certificate of the first issuer is believed until that one is withdrawn.
#[tokio::test]
async fn a_rotation_that_is_killed_in_each_phase_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut sentry = Sentry::start(folder.path(), &[]);
    let pinned = sentry.root_pem();
    let first = sentry.bundle();
    let old = sentry.identity("old").await;
    wish(folder.path());
    sentry.line(DISTRIBUTE);
    check(&sentry, &first, 2, "distribute").await;
    kill(&mut sentry);

    let mut sentry = Sentry::start(folder.path(), &[]);
    check(&sentry, &first, 2, "distribute, again").await;
    let both = sentry.bundle();
    kill(&mut sentry);
    age(folder.path());

    let mut sentry = Sentry::start(folder.path(), &[]);
    sentry.line(SIGN);
    check(&sentry, &first, 2, "sign").await;
    let new = sentry.identity_trusting("new", pinned.clone()).await;
    for bundle in [&first, &both, &new.bundle] {
        assert!(verify(new.svid.chain(), bundle, now()).is_ok());
    }
    assert!(verify(old.svid.chain(), &new.bundle, now()).is_ok());
    kill(&mut sentry);
    age(folder.path());

    let sentry = Sentry::start(folder.path(), &[]);
    sentry.line(WITHDRAW);
    check(&sentry, &first, 1, "steady").await;
    let last = sentry.bundle();
    assert!(verify(old.svid.chain(), &last, now()).is_err());
    let pinned = sentry.identity_trusting("pinned", pinned).await;
    assert!(verify(pinned.svid.chain(), &first, now()).is_ok());
    assert_eq!(first.merge(&last), both);
}

/// The program dies at some moment of a change; whichever it was, the next start finds a whole authority.
#[tokio::test]
async fn a_change_that_is_killed_is_whole_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    drop(Sentry::start(folder.path(), &[]));
    for (text, roots) in [(DISTRIBUTE, 2), (SIGN, 2), (WITHDRAW, 1)] {
        if text == DISTRIBUTE {
            wish(folder.path());
        } else {
            age(folder.path());
        }
        let before = bundle(folder.path());
        for moment in 0..8 {
            let mut child = command(folder.path(), &[]).spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(moment * 6)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut sentry = Sentry::start(folder.path(), &[]);
        check(&sentry, &before, roots, text).await;
        let issuer = fs::read(folder.path().join("issuer.crt")).unwrap();
        assert!(!pem::certificates(&issuer).unwrap().is_empty());
        kill(&mut sentry);
    }
}

/// The key of the root is kept where that is asked for, and dropped where it is not any more.
#[tokio::test]
async fn a_kept_root_signs_the_next_issuer() {
    let folder = tempfile::tempdir().unwrap();
    let keep = ["--keep-root-key", "--ca-ttl=720h", "--root-ttl=7200h"];
    let mut sentry = Sentry::start(folder.path(), &keep);
    let root = sentry.bundle();
    let issuer = fs::read(folder.path().join("issuer.crt")).unwrap();
    wish(folder.path());
    sentry.line("New issuer made below the same root");
    check(&sentry, &root, 1, "reissue").await;
    assert_eq!(sentry.bundle(), root);
    assert_ne!(fs::read(folder.path().join("issuer.crt")).unwrap(), issuer);
    let state = || fs::read_to_string(folder.path().join(STATE)).unwrap();
    assert!(state().contains("rootKey"));
    kill(&mut sentry);
    let sentry = Sentry::start(folder.path(), &keep[1..]);
    sentry.line("The root key is not kept any more");
    assert!(!state().contains("rootKey"));
    assert_eq!(sentry.bundle(), root);
}

/// Bad lives are named.
#[test]
fn lives_have_bounds() {
    for flag in ["--ca-ttl=1s", "--ca-ttl=-1h", "--root-ttl=900000h"] {
        let folder = tempfile::tempdir().unwrap();
        let output = command(folder.path(), &[flag]).output().unwrap();
        let log = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("is not between 1m and 876000h"), "{log}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

//! The guard over a real folder whose writer dies at any point, and over folders of others.

mod cluster;

use super::*;
use crate::rotation::Plan;
use crate::rotation::plan::RootKey;
use crate::store::{Disk, FileStore, Write};
use ironside_chassis::clock::ManualClock;
use ironside_chassis::health::Health;
use ironside_identity::{SpiffeId, TrustBundle, pem};
use ironside_testkit::certs::{Ca, now};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const FILES: [&str; 3] = ["ca.crt", "issuer.crt", "issuer.key"];
const REQUEST: &str = "rotate.request";

fn plan() -> Plan {
    Plan {
        leaf_ttl: DAY,
        skew: HOUR,
        ca_ttl: 100 * DAY,
        root_ttl: 1000 * DAY,
        root_key: RootKey::Discard,
    }
}

fn guard_of(store: Arc<dyn Store>, clock: &Clock) -> Guard {
    Guard {
        store,
        maker: Maker {
            own: SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap(),
            plan: plan(),
        },
        metrics: Metrics::default(),
        clock: clock.clone(),
        held: None,
        trouble: None,
    }
}

fn guard(folder: &Path, clock: &Clock) -> Guard {
    let [root, issuer, key] = FILES;
    guard_of(Arc::new(FileStore::new(folder, root, issuer, key)), clock)
}

fn clock() -> (Clock, ManualClock) {
    Clock::manual(now())
}

fn contents(folder: &Path) -> [Vec<u8>; 3] {
    FILES.map(|name| fs::read(folder.join(name)).unwrap())
}

fn roots(authority: &Authority) -> usize {
    authority.bundle().anchors().len()
}

/// The step that is done next, and how long that is from now.
fn due(guard: &Guard) -> Duration {
    let due = guard.held.as_ref().unwrap().due.unwrap();
    due.duration_since(guard.clock.now()).unwrap_or_default()
}

fn metric(guard: &Guard, line: &str) -> bool {
    let text = guard.metrics.exposition()();
    text.lines().any(|have| have == line)
}

/// A rotation, restarted after each step, over the real files.
#[tokio::test]
async fn each_phase_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let mut bundles = Vec::new();
    for phase in ["steady", "distribute", "sign", "steady"] {
        let mut guard = guard(folder.path(), &clock);
        let authority = guard.start().await.unwrap();
        let line = format!("dapr_sentry_rotation_phase{{phase=\"{phase}\"}} 1");
        assert!(metric(&guard, &line), "{line}");
        let files = contents(folder.path());
        bundles.push(TrustBundle::from_pem(&files[0]).unwrap());
        assert_eq!(&bundles[bundles.len() - 1], authority.bundle());
        assert_eq!(
            pem::certificates(&files[1]).unwrap(),
            authority.chain(clock.now()).cloned().collect::<Vec<_>>()
        );
        // Nothing is due yet, whoever asks.
        let again = self::guard(folder.path(), &clock).start().await.unwrap();
        assert_eq!(again.bundle(), authority.bundle());
        assert_eq!(contents(folder.path()), files);
        hand.advance(due(&guard));
    }
    let counts: Vec<_> = bundles.iter().map(|b| b.anchors().len()).collect();
    assert_eq!(counts, [1, 2, 2, 1]);
    assert_eq!(bundles[0].merge(&bundles[3]), bundles[1]);
    assert_eq!(bundles[3].merge(&bundles[0]), bundles[2]);
}

/// A writer that dies at its nth point: before a write, or after it.
#[derive(Clone)]
struct Fuse(Arc<AtomicUsize>);

impl Fuse {
    fn burn(&self) -> std::io::Result<()> {
        let burn = |left: usize| left.checked_sub(1);
        match self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, burn)
        {
            Ok(_left) => Ok(()),
            Err(_burnt) => Err(std::io::Error::other("the process has died")),
        }
    }
}

impl Write for Fuse {
    fn create(&self, path: &Path, text: &[u8]) -> std::io::Result<()> {
        self.burn()?;
        Disk.create(path, text)?;
        self.burn()
    }

    fn replace(&self, path: &Path, text: &[u8]) -> std::io::Result<()> {
        self.burn()?;
        Disk.replace(path, text)?;
        self.burn()
    }
}

/// The process dies between any two writes of the first start and of each step, and is started again: nothing is
/// lost, nothing is made twice, and who trusted the roots of the last answer trusts the next one's signatures.
#[tokio::test]
async fn a_death_between_any_two_writes_is_made_good_by_the_next_start() {
    let (clock, hand) = clock();
    let whole = tempfile::tempdir().unwrap();
    let mut deaths = 0;
    for phase in ["", "steady", "distribute", "sign"] {
        let mut done = false;
        for writes in 0..40 {
            let folder = tempfile::tempdir().unwrap();
            copy(whole.path(), folder.path());
            let fuse = Fuse(Arc::new(AtomicUsize::new(writes)));
            let inner = FileStore::with_disk(folder.path(), FILES, fuse.clone());
            let mut dies = guard_of(Arc::new(inner), &clock);
            let outcome = dies.start().await;
            let died = outcome.is_err() || dies.trouble.is_some();
            // The survivors: what a restart finds is one of the two generations, whole.
            let mut survivor = guard(folder.path(), &clock);
            let authority = survivor.start().await.unwrap();
            assert!(survivor.trouble.is_none(), "{phase} {writes}");
            let files = contents(folder.path());
            assert_eq!(
                TrustBundle::from_pem(&files[0]).unwrap(),
                *authority.bundle(),
                "{phase} {writes}"
            );
            assert!(survivor.is_in_effect(&Texts {
                root: files[0].clone(),
                issuer: files[1].clone(),
                key: files[2].clone()
            }));
            let expected = match phase {
                "" | "sign" => 1,
                _ => 2,
            };
            assert_eq!(roots(&authority), expected, "{phase} {writes}");
            if !phase.is_empty() {
                let before = fs::read(whole.path().join("ca.crt")).unwrap();
                let pinned = Texts {
                    root: before,
                    issuer: files[1].clone(),
                    key: files[2].clone(),
                };
                assert!(Authority::from_texts(&pinned, clock.now()).is_ok());
            }
            deaths += usize::from(died);
            if !died {
                done = true;
                break;
            }
        }
        assert!(done, "the change of phase {phase:?} never ends");
        let mut alive = guard(whole.path(), &clock);
        alive.start().await.unwrap();
        hand.advance(due(&alive));
    }
    // Each change of all four files has eight points to die at, a change of two or three has fewer.
    assert!(deaths >= 20, "{deaths}");
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn fill(folder: &Path, ca: &Ca) {
    let texts = [ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem()];
    for (file, text) in FILES.into_iter().zip(texts) {
        fs::write(folder.join(file), text).unwrap();
    }
}

/// A supplied authority is used to its end, and never changed, whatever is asked for.
#[tokio::test]
async fn a_supplied_authority_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let start = clock.now();
    let ca = Ca::builder()
        .issuer_valid(start - HOUR, start + 10 * DAY)
        .root_valid(start - HOUR, start + 10 * DAY)
        .build();
    fill(folder.path(), &ca);
    let before = contents(folder.path());
    for _ in 0..9 {
        fs::write(folder.path().join(REQUEST), "").unwrap();
        let mut guard = guard(folder.path(), &clock);
        let authority = guard.start().await.unwrap();
        assert_eq!(authority.bundle(), &ca.bundle());
        assert!(metric(
            &guard,
            "dapr_sentry_rotation_phase{phase=\"supplied\"} 1"
        ));
        assert!(metric(&guard, "dapr_sentry_rotation_next_step_timestamp 0"));
        assert_eq!(contents(folder.path()), before);
        let count = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, 3, "no state, and no wish that was not answered");
        hand.advance(DAY);
    }
}

/// The guard at work: a wish, a refused write, an end of our own making that others made theirs.
#[tokio::test]
async fn a_wish_begins_a_rotation_once() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, _hand) = clock();
    let mut guard = guard(folder.path(), &clock);
    let first = guard.start().await.unwrap();
    let (publish, published) = watch::channel(first);
    fs::write(folder.path().join(REQUEST), "").unwrap();
    guard.refresh(&publish, Woken::Clock).await;
    assert_eq!(roots(&published.borrow()), 2);
    assert!(!folder.path().join(REQUEST).exists());
    assert!(metric(
        &guard,
        "dapr_sentry_rotation_steps_total{step=\"distribute\"} 1"
    ));
    // Another wish meanwhile changes nothing.
    fs::write(folder.path().join(REQUEST), "").unwrap();
    let before = contents(folder.path());
    guard.refresh(&publish, Woken::Clock).await;
    assert_eq!(contents(folder.path()), before);
    assert!(!folder.path().join(REQUEST).exists());
    // Made, and rotated once.
    assert!(metric(&guard, "dapr_sentry_issuercert_changed_total 2"));
}

#[tokio::test]
async fn what_others_put_in_the_place_of_our_own_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let mut guard = guard(folder.path(), &clock);
    let first = guard.start().await.unwrap();
    let (publish, published) = watch::channel(first);
    let theirs = Ca::new();
    fill(folder.path(), &theirs);
    let before = contents(folder.path());
    hand.advance(99 * DAY);
    guard.refresh(&publish, Woken::Change).await;
    assert_eq!(published.borrow().bundle(), &theirs.bundle());
    assert_eq!(contents(folder.path()), before);
    assert!(metric(
        &guard,
        "dapr_sentry_rotation_phase{phase=\"supplied\"} 1"
    ));
}

/// Two Sentries over one folder: one makes each change, both follow.
#[tokio::test]
async fn two_sentries_over_one_store_agree() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let (mut one, mut two) = (guard(folder.path(), &clock), guard(folder.path(), &clock));
    let (first, second) = tokio::join!(one.start(), two.start());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.bundle(), second.bundle());
    let (publish_one, published_one) = watch::channel(first);
    let (publish_two, published_two) = watch::channel(second);
    for expected in [2, 2, 1] {
        hand.advance(due(&one));
        tokio::join!(
            one.refresh(&publish_one, Woken::Change),
            two.refresh(&publish_two, Woken::Change)
        );
        assert_eq!(roots(&published_one.borrow()), expected);
        assert_eq!(
            published_one.borrow().bundle(),
            published_two.borrow().bundle()
        );
    }
    let steps = |guard: &Guard| metric(guard, "dapr_sentry_rotation_steps_total{step=\"sign\"} 1");
    assert!(steps(&one) ^ steps(&two), "one of them signs first");
}

/// A store that cannot be written serves what it holds, and says so.
#[tokio::test]
async fn a_step_that_cannot_be_stored_is_not_in_effect() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let fuse = Fuse(Arc::new(AtomicUsize::new(usize::MAX)));
    let inner = FileStore::with_disk(folder.path(), FILES, fuse.clone());
    let mut guard = guard_of(Arc::new(inner), &clock);
    let first = guard.start().await.unwrap();
    let (publish, published) = watch::channel(first);
    fuse.0.store(0, Ordering::SeqCst);
    hand.advance(due(&guard));
    for _ in 0..3 {
        guard.refresh(&publish, Woken::Clock).await;
        assert_eq!(roots(&published.borrow()), 1);
        assert_eq!(guard.pause(), LOOK);
    }
    assert!(metric(&guard, "dapr_sentry_rotation_failed_total 1"));
    fuse.0.store(usize::MAX, Ordering::SeqCst);
    guard.refresh(&publish, Woken::Clock).await;
    assert_eq!(roots(&published.borrow()), 2);
    assert!(guard.trouble.is_none());
}

/// Fact: security.md O-S11: the end of an authority of one's own shows in health.
#[tokio::test]
async fn a_rotated_authority_stays_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = clock();
    let health = Health::new();
    let mut herald = Herald {
        health: health.register("security-provider"),
        again: None,
    };
    let mut guard = guard(folder.path(), &clock);
    let first = guard.start().await.unwrap();
    let (publish, published) = watch::channel(first);
    for _ in 0..12 {
        let authority = Arc::clone(&published.borrow());
        herald.look(&authority, guard.tender(), clock.now());
        assert!(health.is_ready());
        hand.advance(due(&guard));
        guard.refresh(&publish, Woken::Clock).await;
    }
    // And without rotation it would not.
    let authority = Arc::clone(&published.borrow());
    hand.advance(100 * DAY);
    herald.look(&authority, Tender::User, clock.now());
    assert!(!health.is_ready());
}

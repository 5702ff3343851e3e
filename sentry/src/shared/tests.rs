//! Both files by hand: claims, crashes, clients that come and go.

use super::*;
use std::cell::Cell;
use std::rc::Rc;

fn sharing(folder: &Path, linger: Duration) -> Sharing {
    let clients = folder.join("clients");
    fs::write(&clients, "").unwrap();
    Sharing {
        port_file: Some(folder.join("port")),
        clients_file: Some(clients),
        linger,
    }
}

async fn claim(sharing: &Sharing) -> Claim {
    sharing.claim().await.unwrap().unwrap()
}

fn found(sharing: &Sharing) -> Found {
    look(sharing.port_file.as_ref().unwrap()).unwrap()
}

fn nobody(last_port: Option<u16>) -> Found {
    Found::Nobody { last_port }
}

#[tokio::test]
async fn the_lock_says_whether_somebody_serves_and_the_file_where() {
    let folder = tempfile::tempdir().unwrap();
    let sharing = sharing(folder.path(), Duration::ZERO);
    assert_eq!(found(&sharing), nobody(None));
    let mut first = claim(&sharing).await;
    assert_eq!(found(&sharing), Found::Starting);
    first.announce(4711).unwrap();
    let serving = Serving {
        port: 4711,
        pid: std::process::id(),
        version: own_version(),
    };
    assert_eq!(found(&sharing), Found::Serving(serving));
    drop(first);
    assert_eq!(found(&sharing), nobody(Some(4711)));
}

/// One that starts holds the lock before it has written anything.
#[tokio::test]
async fn words_of_one_that_was_killed_are_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let sharing = sharing(folder.path(), Duration::ZERO);
    let mut first = claim(&sharing).await;
    let mut killed = std::process::Command::new("true").spawn().unwrap();
    killed.wait().unwrap();
    first.announce(4711).unwrap();
    let path = folder.path().join("port");
    let said = fs::read_to_string(&path).unwrap();
    let (own, other) = (std::process::id(), killed.id());
    let said = said.replace(&format!("\"pid\":{own}"), &format!("\"pid\":{other}"));
    fs::write(&path, said).unwrap();
    assert_eq!(found(&sharing), Found::Starting);
}

/// A Sentry that was killed leaves a file that says it serves.
#[tokio::test]
async fn a_file_without_a_lock_is_stale_whatever_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let sharing = sharing(folder.path(), Duration::ZERO);
    let path = folder.path().join("port");
    for (text, last_port) in [
        (
            r#"{"port":4711,"pid":1,"version":"x","ready":true}"#,
            Some(4711),
        ),
        ("", None),
        ("{\"port\":47", None),
        ("no json at all", None),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(found(&sharing), nobody(last_port), "{text}");
        // The port before is kept for who starts the next one.
        drop(claim(&sharing).await);
        assert_eq!(found(&sharing), nobody(last_port));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_claim_is_refused_and_a_look_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let sharing = sharing(folder.path(), Duration::ZERO);
    let first = claim(&sharing).await;
    let refused = sharing.claim().await.unwrap_err().to_string();
    assert!(refused.starts_with("another sentry serves"), "{refused}");
    drop(first);
    // Somebody looks for a while.
    let looking = File::open(folder.path().join("port")).unwrap();
    flock(&looking, FlockOperation::LockShared).unwrap();
    let (claimed, ()) = tokio::join!(sharing.claim(), async {
        tokio::time::sleep(CLAIM_PAUSE * 3).await;
        drop(looking);
    });
    assert!(claimed.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_port_file_that_is_taken_away_dismisses() {
    let folder = tempfile::tempdir().unwrap();
    let sharing = sharing(folder.path(), Duration::from_secs(600));
    let (clock, claim) = (Clock::system(), claim(&sharing).await);
    let waiting = sharing.until_unneeded(Some(&claim), || 0, &clock);
    let removed = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        fs::remove_file(folder.path().join("port")).unwrap();
    };
    let (why, ()) = tokio::join!(waiting, removed);
    assert!(matches!(why, Unneeded::Dismissed), "{why:?}");
    // Another one may start, and the first does not write over what that one says.
    let mut next = self::claim(&sharing).await;
    next.announce(1).unwrap();
    drop(claim);
    assert!(matches!(found(&sharing), Found::Serving(_)));
}

#[tokio::test(start_paused = true)]
async fn it_lingers_after_the_last_lock_and_the_last_request() {
    let folder = tempfile::tempdir().unwrap();
    let linger = Duration::from_secs(600);
    let sharing = sharing(folder.path(), linger);
    let (clock, start) = (Clock::system(), Clock::system().monotonic());
    let minute = Duration::from_secs(60);
    let requests = Rc::new(Cell::new(0));
    let waiting = sharing.until_unneeded(None, || requests.get(), &clock);
    let clients = async {
        let client = File::open(folder.path().join("clients")).unwrap();
        flock(&client, FlockOperation::LockShared).unwrap();
        let another = client.try_clone().unwrap();
        tokio::time::sleep(15 * minute).await;
        drop((client, another));
        tokio::time::sleep(5 * minute).await;
        requests.set(1);
    };
    let (why, ()) = tokio::join!(waiting, clients);
    let lasted = clock.monotonic().since(start);
    let expected = 20 * minute + linger;
    assert!(
        lasted >= expected && lasted <= expected + 2 * LOOK,
        "{lasted:?}"
    );
    // As long as the end is under way nobody becomes a client of what ends.
    let late = File::open(folder.path().join("clients")).unwrap();
    let refused = flock(&late, FlockOperation::NonBlockingLockShared);
    assert_eq!(refused, Err(Errno::WOULDBLOCK));
    drop(why);
    assert!(flock(&late, FlockOperation::NonBlockingLockShared).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_sentry_that_is_not_shared_stays() {
    let alone = Sharing {
        port_file: None,
        clients_file: None,
        linger: Duration::ZERO,
    };
    assert!(alone.claim().await.unwrap().is_none());
    let clock = Clock::system();
    let waiting = alone.until_unneeded(None, || 0, &clock);
    let year = Duration::from_secs(365 * 86_400);
    assert!(tokio::time::timeout(year, waiting).await.is_err());
}

/// `--linger=0` is no reason to look all the time while there is a client.
#[tokio::test(start_paused = true)]
async fn without_a_linger_it_still_rests_between_two_looks() {
    let folder = tempfile::tempdir().unwrap();
    let sharing = sharing(folder.path(), Duration::ZERO);
    let (clock, looks) = (Clock::system(), Cell::new(0));
    let client = File::open(folder.path().join("clients")).unwrap();
    flock(&client, FlockOperation::LockShared).unwrap();
    let counted = || {
        looks.set(looks.get() + 1);
        0
    };
    let waiting = sharing.until_unneeded(None, counted, &clock);
    let minute = Duration::from_secs(60);
    let leaving = async {
        tokio::time::sleep(minute).await;
        drop(client);
    };
    let (why, ()) = tokio::join!(waiting, leaving);
    assert!(matches!(why, Unneeded::NoClients { .. }), "{why:?}");
    assert!(looks.get() <= 1 + 2 + 60 * 20, "{} looks", looks.get());
}

/// Nothing outside of its folder has a say: a lock on `/dev/null` is anybody's.
#[tokio::test(start_paused = true)]
async fn a_clients_file_that_is_gone_is_made_anew_or_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let others = File::open("/dev/null").unwrap();
    flock(&others, FlockOperation::LockShared).unwrap();
    let clock = Clock::system();
    let mut sharing = sharing(folder.path(), Duration::ZERO);
    let gone = folder.path().join("no such folder/clients");
    for path in [folder.path().join("clients"), gone] {
        let _gone = fs::remove_file(&path);
        sharing.clients_file = Some(path.clone());
        let waiting = sharing.until_unneeded(None, || 0, &clock);
        let why = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        let why = why.expect("nobody needs it");
        if let Ok(late) = File::open(&path) {
            let refused = flock(&late, FlockOperation::NonBlockingLockShared);
            assert_eq!(refused, Err(Errno::WOULDBLOCK), "held while it ends");
        }
        drop(why);
    }
    assert!(folder.path().join("clients").exists());
}

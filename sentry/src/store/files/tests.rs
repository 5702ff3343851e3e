//! What is filled, what is used, what is left alone, and what a crash leaves behind.

use super::*;
use crate::rotation::plan::RootKey;
use crate::rotation::{Maker, Plan};
use ironside_identity::SpiffeId;
use ironside_testkit::certs::now;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

const HOUR: Duration = Duration::from_secs(3600);
const NAMES: [&str; 3] = ["ca.crt", "issuer.crt", "issuer.key"];

fn maker() -> Maker {
    Maker {
        own: SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap(),
        plan: Plan {
            leaf_ttl: HOUR,
            skew: Duration::ZERO,
            ca_ttl: 100 * HOUR,
            root_ttl: 1000 * HOUR,
            root_key: RootKey::Discard,
        },
    }
}

fn store(folder: &Path) -> FileStore {
    FileStore::new(folder, "ca.crt", "issuer.crt", "issuer.key")
}

fn first() -> State {
    maker().first(now()).unwrap()
}

/// The state after the next step.
fn second(state: &State) -> State {
    maker().advance(state, true, now()).unwrap().state
}

fn own(store: &FileStore) -> Box<State> {
    match store.find().unwrap().stored {
        Stored::Own(state) => state,
        Stored::Nothing | Stored::Supplied(_) => panic!("not our own"),
    }
}

fn supplied(store: &FileStore) -> Texts {
    match store.find().unwrap().stored {
        Stored::Supplied(texts) => texts,
        Stored::Nothing | Stored::Own(_) => panic!("not supplied"),
    }
}

fn texts(folder: &Path) -> [Vec<u8>; 3] {
    NAMES.map(|name| fs::read(folder.join(name)).unwrap())
}

fn in_files(state: &State) -> [Vec<u8>; 3] {
    let Texts { root, issuer, key } = state.texts();
    [root, issuer, key]
}

/// Fact: security.md 1.8, O-S9.
#[tokio::test]
async fn an_empty_folder_is_filled_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert!(matches!(store.find().unwrap().stored, Stored::Nothing));
    let state = first();
    store.write_state(None, &state).await.unwrap();
    store.tidy_up(&state).await.unwrap();
    assert_eq!(texts(folder.path()), in_files(&state));
    assert_eq!(*own(&store), state);
    for file in fs::read_dir(folder.path()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = store.write_state(None, &first()).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
    assert_eq!(texts(folder.path()), in_files(&state));
    let count = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(count, 4, "no temporary files stay");
}

/// Fact: security.md O-S9, K055.
#[tokio::test]
async fn a_partial_folder_is_an_error_that_names_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    fs::write(folder.path().join("ca.crt"), "root").unwrap();
    fs::write(folder.path().join("issuer.crt"), "issuer").unwrap();
    let text = store.find().map(|_| ()).unwrap_err().to_string();
    assert!(
        text.starts_with("issuer credentials are incomplete: missing: "),
        "{text}"
    );
    assert!(text.contains("/issuer.key; present: "), "{text}");
    assert!(
        text.contains("/ca.crt, ") && text.contains("/issuer.crt; "),
        "{text}"
    );
    let written = store.write_state(None, &first()).await;
    assert!(matches!(written, Err(StoreError::Conflict)), "{written:?}");
}

#[test]
fn a_missing_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = store(&folder.path().join("none"));
    assert!(matches!(missing.find(), Err(StoreError::Folder { .. })));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(
        store(&file).find(),
        Err(StoreError::Folder { .. })
    ));
}

#[test]
fn absolute_names_leave_the_folder() {
    let store = FileStore::new(Path::new("/folder"), "/elsewhere/ca.crt", "a", "b");
    let expected = ["/elsewhere/ca.crt", "/folder/a", "/folder/b"];
    assert_eq!(store.files(), expected.map(Path::new));
}

#[tokio::test]
async fn the_files_follow_the_state_wherever_a_change_was_cut_off() {
    let (one, folder) = (first(), tempfile::tempdir().unwrap());
    let two = second(&one);
    let store = store(folder.path());
    // Each file by itself may be old, new or, in the first change, not there yet.
    for pattern in 0..27_usize {
        for entry in fs::read_dir(folder.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::write(folder.path().join(STATE), two.to_json().unwrap()).unwrap();
        for (place, name) in NAMES.iter().enumerate() {
            let choice = (pattern / 3_usize.pow(u32::try_from(place).unwrap())) % 3;
            match choice {
                0 => fs::write(folder.path().join(name), &in_files(&one)[place]).unwrap(),
                1 => fs::write(folder.path().join(name), &in_files(&two)[place]).unwrap(),
                _ => {}
            }
        }
        assert_eq!(*own(&store), two, "pattern {pattern}");
        store.tidy_up(&two).await.unwrap();
        assert_eq!(texts(folder.path()), in_files(&two), "pattern {pattern}");
    }
}

#[tokio::test]
async fn no_change_is_made_from_a_generation_that_is_past() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let one = first();
    let (two, other) = (second(&one), second(&one));
    store.write_state(None, &one).await.unwrap();
    // The files are one change behind, and must not become two.
    store.write_state(Some(1), &two).await.unwrap();
    assert_eq!(texts(folder.path()), in_files(&one));
    let late = store.write_state(Some(1), &other).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    assert_eq!(*own(&store), two);
    store.tidy_up(&two).await.unwrap();
    assert_eq!(texts(folder.path()), in_files(&two));
    assert!(matches!(
        store.tidy_up(&one).await,
        Err(StoreError::Conflict)
    ));
}

/// Fact: security.md O-S9.
#[tokio::test]
async fn what_somebody_put_there_is_theirs() {
    for name in NAMES {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let one = first();
        store.write_state(None, &one).await.unwrap();
        store.tidy_up(&one).await.unwrap();
        let state = fs::read(folder.path().join(STATE)).unwrap();
        fs::write(folder.path().join(name), "mine").unwrap();
        let before = texts(folder.path());
        let Texts { root, issuer, key } = supplied(&store);
        assert_eq!([root, issuer, key], before);
        let written = store.write_state(Some(1), &second(&one)).await;
        assert!(matches!(written, Err(StoreError::Conflict)), "{written:?}");
        assert!(matches!(
            store.tidy_up(&one).await,
            Err(StoreError::Conflict)
        ));
        assert_eq!(texts(folder.path()), before);
        assert_eq!(fs::read(folder.path().join(STATE)).unwrap(), state);
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let later = first().to_json().unwrap();
    let later = String::from_utf8(later).unwrap();
    let later = later.replace("\"version\": 1", "\"version\": 2");
    let cut = &later[..later.len() / 2];
    let unknown = later.replace("\"version\"", "\"other\": 1, \"version\"");
    for (text, why) in [
        (later.as_str(), "version 2 is not known to this build"),
        (cut, "not readable"),
        (&unknown, "unknown field `other`"),
        ("", "not readable"),
    ] {
        fs::write(folder.path().join(STATE), text).unwrap();
        let error = store.find().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(store.write_state(None, &first()).await.is_err());
        assert_eq!(fs::read_to_string(folder.path().join(STATE)).unwrap(), text);
    }
}

#[tokio::test]
async fn a_replaced_file_keeps_its_rights_and_leftovers_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let one = first();
    store.write_state(None, &one).await.unwrap();
    store.tidy_up(&one).await.unwrap();
    let root = folder.path().join("ca.crt");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).unwrap();
    for name in [".ca.crt.tmp", ".ca-state.json.tmp"] {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    let two = second(&one);
    store.write_state(Some(1), &two).await.unwrap();
    store.tidy_up(&two).await.unwrap();
    assert_eq!(texts(folder.path()), in_files(&two));
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("ca.crt"), mode(STATE)), (0o644, 0o600));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn keys_are_not_printed() {
    let state = first();
    let text = format!("{state:?}");
    assert!(!text.contains("PRIVATE"), "{text}");
    assert_eq!(State::from_json(&state.to_json().unwrap()).unwrap(), state);
}

/// Somebody who holds the folder and hangs stops a change, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_folder_that_is_held_for_too_long_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (store, state) = (store(folder.path()), first());
    let held = File::open(folder.path()).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let mut beats = 0;
    let others = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            beats += 1;
        }
    };
    let refused = tokio::select! {
        written = store.write_state(None, &state) => written.unwrap_err().to_string(),
        () = others => String::new(),
    };
    assert!(
        refused.ends_with("another process holds its lock"),
        "{refused}"
    );
    assert!(beats >= 5, "{beats}");
    assert!(!folder.path().join(STATE).exists());

    let (written, ()) = tokio::join!(store.write_state(None, &state), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(held);
    });
    written.unwrap();
    assert_eq!(*own(&store), state);
}

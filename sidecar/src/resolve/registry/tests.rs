//! The registry folder in temporary places: strangers, dead processes, many writers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Barrier;
use std::time::Duration;

use ironside_resolution::registry::Place;
use tempfile::TempDir;

use super::*;

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn temp() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("ironside").join("peers");
    (dir, path)
}

fn open(path: &Path) -> Registry {
    Registry::open(path, uid(), Clock::system()).expect("opens")
}

fn app(id: &str) -> AppId {
    AppId::parse(id).expect("valid id")
}

fn announce(registry: &Registry, id: &str, port: u16) -> Announcement {
    let authority = Authority::new("127.0.0.1", port).expect("valid");
    let namespace = Namespace::parse("default").expect("valid");
    registry
        .announce(namespace, app(id), authority)
        .expect("announces")
}

fn known(registry: &Registry) -> Vec<String> {
    let entries = registry.entries();
    entries
        .iter()
        .map(|entry| format!("{} {}", entry.app_id, entry.authority))
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

#[test]
fn sidecars_find_each_other_and_leave_nothing_behind() {
    let (_dir, path) = temp();
    let (one, two) = (open(&path), open(&path));
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(path.parent().expect("parent")), 0o700);
    let entry = announce(&one, "appA", 50001);
    assert!(two.refresh());
    assert_eq!(known(&two), ["appA 127.0.0.1:50001"]);
    let _other = announce(&two, "appB", 50002);
    assert!(one.refresh());
    assert_eq!(known(&one).len(), 2);
    drop(entry);
    assert!(one.refresh());
    assert_eq!(known(&one), ["appB 127.0.0.1:50002"]);
    let files = fs::read_dir(&path).expect("reads").count();
    assert_eq!(files, 1);
}

#[test]
fn changes_within_one_tick_of_the_file_system_are_not_missed() {
    let (_dir, path) = temp();
    let (one, two) = (open(&path), open(&path));
    let mut entries = Vec::new();
    for port in 1..200 {
        two.refresh();
        entries.push(announce(&one, "appA", port));
        two.refresh();
        assert_eq!(known(&two).len(), usize::from(port));
    }
}

#[test]
fn unchanged_folder_is_not_read_again() {
    let (_dir, path) = temp();
    let later = Clock::system().now() + Duration::from_secs(60);
    let (clock, hand) = Clock::manual(later);
    let registry = Registry::open(&path, uid(), clock).expect("opens");
    let _entry = announce(&registry, "appA", 1);
    assert!(registry.refresh());
    let stamp = registry.memory().stamp;
    assert_ne!(stamp, Stamp::Unsure);
    hand.advance(Duration::from_secs(60));
    assert!(!registry.refresh());
    let _entry = announce(&registry, "appA", 2);
    assert!(registry.refresh());
}

#[test]
fn folders_of_strangers_are_refused() {
    let (_dir, path) = temp();
    let stranger = uid() + 1;
    let error = Registry::open(&path, stranger, Clock::system()).expect_err("refused");
    assert!(matches!(error, FolderError::Owner { .. }), "{error}");
    assert!(error.to_string().contains(&format!("not to {stranger}")));
}

#[test]
fn folders_that_others_may_write_to_are_refused() {
    for (level, bits) in [(0, 0o770), (0, 0o702), (1, 0o720), (1, 0o1777)] {
        let (_dir, path) = temp();
        open(&path);
        let folders = [path.as_path(), path.parent().expect("parent")];
        set_mode(folders[level], bits);
        let error = Registry::open(&path, uid(), Clock::system()).expect_err("refused");
        assert!(matches!(error, FolderError::Mode { .. }), "{error}");
        set_mode(folders[level], 0o755);
        open(&path);
    }
}

#[test]
fn links_and_files_in_place_of_folders_are_refused() {
    let (dir, path) = temp();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("makes");
    symlink(&elsewhere, dir.path().join("ironside")).expect("links");
    let error = Registry::open(&path, uid(), Clock::system()).expect_err("refused");
    assert!(matches!(error, FolderError::NoFolder(_)), "{error}");
    let (dir, path) = temp();
    fs::write(dir.path().join("ironside"), "x").expect("writes");
    let error = Registry::open(&path, uid(), Clock::system()).expect_err("refused");
    assert!(matches!(error, FolderError::NoFolder(_)), "{error}");
    let deep = path.join("a").join("b");
    let error = Registry::open(&deep, uid(), Clock::system()).expect_err("refused");
    assert!(matches!(error, FolderError::Unusable { .. }), "{error}");
}

/// Writes an entry of a process that is not this one.
fn plant(registry: &Registry, pid: u32, start_time: u64, place: Place) -> String {
    let entry = Entry {
        namespace: Namespace::default(),
        app_id: app("ghost"),
        authority: Authority::new("127.0.0.1", 9).expect("valid"),
        process: Process {
            pid,
            start_time,
            place,
        },
    };
    registry.folder.write(&entry).expect("writes");
    entry.file_name()
}

#[test]
fn entries_of_dead_and_recycled_processes_are_ignored_and_removed() {
    let (_dir, path) = temp();
    let registry = open(&path);
    let here = registry.here.clone();
    let dead = plant(&registry, u32::MAX, 1, here.place.clone());
    let recycled = plant(&registry, here.pid, here.start_time + 1, here.place.clone());
    let elsewhere = Place {
        processes: "pid:[0]".into(),
        ..here.place.clone()
    };
    let unknown = plant(&registry, u32::MAX - 1, 1, elsewhere);
    registry.refresh();
    assert!(known(&registry).is_empty());
    assert!(!path.join(dead).exists());
    assert!(!path.join(recycled).exists());
    assert!(path.join(unknown).exists());
}

#[test]
fn process_that_dies_later_is_buried() {
    let (_dir, path) = temp();
    let registry = open(&path);
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("starts");
    let name = plant(&registry, child.id(), 0, registry.here.place.clone());
    registry.refresh();
    assert_eq!(known(&registry), ["ghost 127.0.0.1:9"]);
    assert!(registry.bury().is_empty());
    child.kill().expect("kills");
    child.wait().expect("ends");
    let buried: Vec<_> = registry.bury().iter().map(Authority::port).collect();
    assert_eq!(buried, [9]);
    assert!(known(&registry).is_empty());
    assert!(!path.join(name).exists());
}

#[test]
fn files_that_are_no_entries_do_no_harm() {
    let (_dir, path) = temp();
    let registry = open(&path);
    let valid = announce(&registry, "appA", 1);
    let text = valid.entry.to_json().expect("writes");
    fs::write(path.join("1-1.json"), "{").expect("writes");
    fs::write(path.join("2-2.json"), vec![b' '; 100_000]).expect("writes");
    // Right content, wrong name: nobody may speak for another process.
    fs::write(path.join("3-3.json"), &text).expect("writes");
    fs::write(path.join(".4-4.json"), &text).expect("writes");
    fs::write(path.join("notes.txt"), &text).expect("writes");
    fs::create_dir(path.join("5-5.json")).expect("makes");
    symlink(path.join(valid.entry.file_name()), path.join("6-6.json")).expect("links");
    registry.refresh();
    assert_eq!(known(&registry), ["appA 127.0.0.1:1"]);
}

#[test]
fn swept_entry_is_written_again() {
    let (dir, path) = temp();
    let registry = open(&path);
    let entry = announce(&registry, "appA", 1);
    fs::remove_dir_all(dir.path().join("ironside")).expect("removes");
    registry.refresh();
    assert!(known(&registry).is_empty());
    entry.keep();
    assert!(registry.refresh());
    assert_eq!(known(&registry), ["appA 127.0.0.1:1"]);
}

#[test]
fn many_writers_and_readers_never_see_half_an_entry() {
    const WRITERS: u16 = 8;
    let (_dir, path) = temp();
    let start = Barrier::new(usize::from(WRITERS) + 1);
    std::thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                let registry = open(path);
                start.wait();
                for round in 0..50 {
                    let entry = announce(&registry, "appA", writer);
                    if round < 49 {
                        drop(entry);
                    } else {
                        std::mem::forget(entry);
                    }
                }
            });
        }
        let reader = open(&path);
        start.wait();
        for _ in 0..200 {
            reader.refresh();
            assert!(known(&reader).len() <= usize::from(WRITERS));
        }
    });
    let reader = open(&path);
    reader.refresh();
    assert_eq!(known(&reader).len(), usize::from(WRITERS));
    let drafts = fs::read_dir(&path).expect("reads").flatten();
    let drafts = drafts.filter(|file| file.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(drafts.count(), 0);
}

#[test]
fn runtime_folder_is_used_only_if_it_is_the_users_own() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let temp = Path::new("/tmp");
    let own = place(Some(dir.path()), temp, uid());
    assert_eq!(own, dir.path().join("ironside").join("peers"));
    let fallback = format!("/tmp/ironside-{}/peers", uid());
    let missing = dir.path().join("missing");
    for unusable in [Some(missing.as_path()), Some(Path::new("relative")), None] {
        assert_eq!(place(unusable, temp, uid()), Path::new(&fallback));
    }
    let stranger = uid() + 1;
    let strange = place(Some(dir.path()), temp, stranger);
    assert_eq!(
        strange,
        PathBuf::from(format!("/tmp/ironside-{stranger}/peers"))
    );
}

//! Files in a temporary folder: sizes, names, and what happens around them.

use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self, max_size: u64, max_files: u32) -> AccessLogFile {
        AccessLogFile {
            path: self.path("calls.jsonl"),
            max_size,
            max_files,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn batch(lines: &str) -> Batch {
    let mut batch = Batch::default();
    batch.refilled().push_str(lines);
    batch
}

fn write(file: &mut Rotated, lines: &str) {
    let mut batch = batch(lines);
    file.append(&mut batch).unwrap();
    assert!(batch.is_written());
}

#[test]
fn a_file_is_replaced_before_it_grows_too_large() {
    let folder = Folder::new();
    let mut file = Rotated::open(folder.settings(10, 3)).unwrap();
    write(&mut file, "1aaa\n2aaa\n3aaa\n");
    assert_eq!(folder.read("calls.jsonl.1"), "1aaa\n2aaa\n");
    assert_eq!(folder.read("calls.jsonl"), "3aaa\n");
    write(&mut file, "4aaa\n");
    write(&mut file, "5aaa\n6aaa\n7aaa\n");
    assert_eq!(
        folder.names(),
        ["calls.jsonl", "calls.jsonl.1", "calls.jsonl.2"]
    );
    assert_eq!(folder.read("calls.jsonl.2"), "3aaa\n4aaa\n");
    assert_eq!(folder.read("calls.jsonl.1"), "5aaa\n6aaa\n");
    assert_eq!(folder.read("calls.jsonl"), "7aaa\n");
    // A line longer than a file stands alone.
    write(&mut file, "a line of some length\n");
    assert_eq!(folder.read("calls.jsonl"), "a line of some length\n");
}

#[test]
fn one_file_alone_starts_anew() {
    let folder = Folder::new();
    let mut file = Rotated::open(folder.settings(10, 1)).unwrap();
    write(&mut file, "1aaa\n2aaa\n3aaa\n");
    assert_eq!(folder.names(), ["calls.jsonl"]);
    assert_eq!(folder.read("calls.jsonl"), "3aaa\n");
}

/// What lies there is kept, and a line that was never ended stays alone.
#[test]
fn an_old_file_is_continued() {
    let folder = Folder::new();
    fs::write(folder.path("calls.jsonl"), "old\nhal").unwrap();
    let mut file = Rotated::open(folder.settings(100, 3)).unwrap();
    write(&mut file, "new\n");
    assert_eq!(folder.read("calls.jsonl"), "old\nhal\nnew\n");
}

/// As `logrotate` does, with and without a new file, and a person who tidies up.
#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let folder = Folder::new();
    let mut file = Rotated::open(folder.settings(100, 3)).unwrap();
    write(&mut file, "1\n");
    fs::rename(folder.path("calls.jsonl"), folder.path("kept")).unwrap();
    write(&mut file, "2\n");
    assert_eq!(
        (folder.read("kept"), folder.read("calls.jsonl")),
        ("1\n".into(), "2\n".into())
    );
    fs::remove_file(folder.path("calls.jsonl")).unwrap();
    fs::write(folder.path("calls.jsonl"), "").unwrap();
    write(&mut file, "3\n");
    assert_eq!(folder.read("calls.jsonl"), "3\n");
    fs::remove_file(folder.path("calls.jsonl")).unwrap();
    write(&mut file, "4\n");
    assert_eq!(folder.read("calls.jsonl"), "4\n");
}

#[test]
fn a_folder_that_is_gone_loses_nothing_once_it_is_back() {
    let folder = Folder::new();
    let sub = folder.path("sub");
    fs::create_dir(&sub).unwrap();
    let settings = AccessLogFile {
        path: sub.join("f"),
        ..folder.settings(100, 3)
    };
    let mut file = Rotated::open(settings).unwrap();
    fs::remove_dir_all(&sub).unwrap();
    let mut waiting = batch("1\n2\n");
    for _ in 0..2 {
        let error = file.append(&mut waiting).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
    fs::create_dir(&sub).unwrap();
    file.append(&mut waiting).unwrap();
    assert_eq!(fs::read_to_string(sub.join("f")).unwrap(), "1\n2\n");
}

/// A disk without room takes nothing; a line that was begun elsewhere begins again.
#[test]
fn a_full_disk_loses_nothing_and_splits_no_line() {
    let folder = Folder::new();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut file = Rotated {
        settings: AccessLogFile {
            path: "/dev/full".into(),
            ..folder.settings(100, 3)
        },
        open: Some(Open {
            identity: identity(&full.metadata().unwrap()),
            file: full,
            size: 0,
        }),
    };
    let mut waiting = batch("first\nsecond\n");
    let error = file.append(&mut waiting).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(waiting.rest(), "first\nsecond\n");
    // As if there had been room for so much of it.
    waiting.written = 9;
    file.settings.path = folder.path("calls.jsonl");
    file.append(&mut waiting).unwrap();
    assert_eq!(folder.read("calls.jsonl"), "second\n");
}

#[test]
fn only_regular_files_are_written() {
    let folder = Folder::new();
    for path in [folder.0.path().to_owned(), "/dev/null".into()] {
        let settings = AccessLogFile {
            path,
            ..folder.settings(100, 3)
        };
        let error = Rotated::open(settings).unwrap_err();
        assert_eq!(error.to_string(), "it is no regular file");
    }
}

#[test]
fn lines_are_cut_where_they_end() {
    for (text, room, want) in [
        ("ab\ncd\n", 6, "ab\ncd\n"),
        ("ab\ncd\n", 5, "ab\n"),
        ("ab\ncd\n", 2, ""),
        ("é\né\n", 4, "é\n"),
        ("é\n", 1, ""),
        ("", 9, ""),
    ] {
        assert_eq!(whole_lines(text, room), want, "{text:?} {room}");
    }
}

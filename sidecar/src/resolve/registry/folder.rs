//! The registry folder on disk: made, checked, written to and read.
//!
//! Owns the guarantee that only this user can write there: both levels belong to the user, are real
//! folders and give nobody else the right to write; otherwise the folder is refused, because a
//! stranger could send this user's calls anywhere. Entries appear whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use ironside_resolution::registry::{Entry, MAX_ENTRY};
use rustix::fs::OFlags;

/// Mode of both folders: this user only.
const FOLDER_MODE: u32 = 0o700;
/// Mode of an entry.
const ENTRY_MODE: u32 = 0o600;
/// The right of others to write.
const OTHERS_WRITE: u32 = 0o022;
/// Entries read at most; more sidecars of one user on one machine are not expected.
const MAX_ENTRIES: usize = 4096;
const ENTRY_SUFFIX: &str = ".json";
/// Of files that are being written; readers pass over them.
const DRAFT_PREFIX: &str = ".";

/// A folder that only this user can write to.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It cannot be made or looked at.
    #[error("{} cannot be used: {cause}", .path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the kernel says.
        cause: io::Error,
    },
    /// A file, or a link to somewhere else.
    #[error("{} is not a folder", .0.display())]
    NoFolder(PathBuf),
    /// Somebody else made it.
    #[error("{} belongs to user {owner}, not to {uid}", .path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        uid: u32,
    },
    /// Somebody else may write there.
    #[error("{} may be written to by others (mode {mode:o}, should be 700)", .path.display())]
    Mode {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

// === impl Folder ===

impl Folder {
    /// Makes the folder and the one above it if need be, and checks both.
    ///
    /// # Errors
    /// [`FolderError`]; then nothing in it may be believed.
    pub(super) fn open(path: &Path, uid: u32) -> Result<Self, FolderError> {
        for level in path.parent().into_iter().chain([path]) {
            make(level).map_err(|cause| FolderError::Unusable {
                path: level.to_owned(),
                cause,
            })?;
            check(level, uid)?;
        }
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// When files last came or went; `None` if the folder is gone.
    pub(super) fn changed_at(&self) -> Option<SystemTime> {
        fs::metadata(&self.0).ok()?.modified().ok()
    }

    /// All entries with their file names; what is no entry is passed over.
    pub(super) fn read(&self) -> Vec<(String, Entry)> {
        let Ok(files) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        names
            .filter(|name| name.ends_with(ENTRY_SUFFIX) && !name.starts_with(DRAFT_PREFIX))
            .take(MAX_ENTRIES)
            .filter_map(|name| {
                let entry = self.read_entry(&name)?;
                Some((name, entry))
            })
            .collect()
    }

    /// Writes an entry under its name, replacing an older one at once.
    ///
    /// # Errors
    /// What the kernel says; no half entry is left under the name.
    pub(super) fn write(&self, entry: &Entry) -> io::Result<()> {
        static DRAFTS: AtomicU32 = AtomicU32::new(0);
        let name = entry.file_name();
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = self.0.join(format!("{DRAFT_PREFIX}{name}.{number}"));
        let written = write_new(&draft, &entry.to_json()?)
            .and_then(|()| fs::rename(&draft, self.0.join(name)));
        if written.is_err() {
            // The draft may not even exist; readers pass over it in any case.
            drop(fs::remove_file(&draft));
        }
        written
    }

    /// Whether the file is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.join(name).symlink_metadata().is_ok()
    }

    /// Removes a file; one that is gone already is no matter.
    pub(super) fn remove(&self, name: &str) {
        drop(fs::remove_file(self.0.join(name)));
    }

    fn read_entry(&self, name: &str) -> Option<Entry> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).ok()?)
            .open(self.0.join(name))
            .ok()?;
        let plain = file.metadata().ok()?;
        if !plain.is_file() || plain.len() > MAX_ENTRY {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MAX_ENTRY).read_to_end(&mut bytes).ok()?;
        let entry = Entry::parse(&bytes).ok()?;
        (entry.file_name() == name).then_some(entry)
    }
}

fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn check(path: &Path, uid: u32) -> Result<(), FolderError> {
    let path = path.to_owned();
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(cause) => return Err(FolderError::Unusable { path, cause }),
    };
    if !found.is_dir() {
        return Err(FolderError::NoFolder(path));
    }
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != uid {
        return Err(FolderError::Owner { path, owner, uid });
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(FolderError::Mode { path, mode });
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(ENTRY_MODE)
        .open(path)?;
    file.write_all(bytes)
}

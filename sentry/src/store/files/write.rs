//! How a file gets its content: whole, and only where it may.
//!
//! Owns that a reader, and a process that dies at any point, finds either the old file or the new one. A file that
//! must not be there yet takes no other's place, not even in a race. New files are readable by their owner only
//! (security 1.8); a replaced file keeps the rights that it had.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Only the owner may read (security 1.8).
const MODE: u32 = 0o600;

/// The two ways to write; a seam, so that tests can stop between any two of them.
pub(crate) trait Write: Clone + Send + Sync + 'static {
    /// Writes a file that is not there; one that is there by now is left alone, and the call fails.
    fn create(&self, path: &Path, text: &[u8]) -> io::Result<()>;

    /// Writes a file in the place of another.
    fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()>;
}

/// The file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk;

// === impl Disk ===

impl Write for Disk {
    fn create(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let temporary = write_temporary(path, text, MODE)?;
        let renamed = renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE);
        let outcome = match renamed {
            Ok(()) => return sync_folder(path),
            // Some file systems can't rename without replacing; then the file is written in its place.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => write_new(path, text),
            Err(cause) => Err(cause.into()),
        };
        fs::remove_file(&temporary)?;
        outcome
    }

    fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let mode = fs::metadata(path)?.permissions().mode();
        let temporary = write_temporary(path, text, mode)?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Writes the content beside the file. The name is always the same, so that what a crash leaves is used up by the
/// next writer; writers hold the folder's lock.
fn write_temporary(path: &Path, text: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    remove(&temporary)?;
    write_new(&temporary, text)?;
    fs::set_permissions(&temporary, Permissions::from_mode(mode & 0o777))?;
    Ok(temporary)
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Makes a rename last.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

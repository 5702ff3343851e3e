//! The folder that holds the CA: three files, read whole or not at all.
//!
//! Owns fact O-S9: a complete set is used, nothing at all is filled, a partial set is an error that names what is
//! missing, and no file is ever overwritten, not even in a race. New files are readable by their owner only and
//! appear whole. What the files say is the authority's matter.

use crate::issue::root::Generated;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where the three files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    folder: PathBuf,
    root: PathBuf,
    issuer: PathBuf,
    key: PathBuf,
}

/// The content of a complete store.
pub(crate) struct Texts {
    pub(crate) root: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// There is no such folder.
    #[error("issuer credentials folder {}: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Some files are there and some are not.
    #[error("issuer credentials are incomplete: {}", partial(missing, found))]
    Partial {
        /// What is not there.
        missing: Vec<PathBuf>,
        /// What is.
        found: Vec<PathBuf>,
    },
    /// A file can't be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file can't be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// Only the owner may read (security 1.8).
const MODE: u32 = 0o600;

// === impl Store ===

impl Store {
    /// Names the files; relative names lie in the folder.
    pub(crate) fn new(folder: &Path, root: &str, issuer: &str, key: &str) -> Self {
        let folder = folder.to_owned();
        let (root, issuer, key) = (folder.join(root), folder.join(issuer), folder.join(key));
        Self {
            folder,
            root,
            issuer,
            key,
        }
    }

    /// Returns the three files, to be watched.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        vec![self.root.clone(), self.issuer.clone(), self.key.clone()]
    }

    /// Reads the three files; `None` if there is none of them.
    ///
    /// # Errors
    /// [`StoreError`] if the folder is missing, some files are, or one can't be read.
    pub(crate) fn read(&self) -> Result<Option<Texts>, StoreError> {
        fs::read_dir(&self.folder).map_err(|cause| StoreError::Folder {
            path: self.folder.clone(),
            cause,
        })?;
        let (root, issuer, key) = (read(&self.root)?, read(&self.issuer)?, read(&self.key)?);
        match (root, issuer, key) {
            (Some(root), Some(issuer), Some(key)) => Ok(Some(Texts { root, issuer, key })),
            (None, None, None) => Ok(None),
            (root, issuer, key) => {
                let there = [root.is_some(), issuer.is_some(), key.is_some()];
                let files = self.files().into_iter().zip(there);
                let (found, missing): (Vec<_>, Vec<_>) = files.partition(|(_, there)| *there);
                let paths =
                    |files: Vec<(PathBuf, bool)>| files.into_iter().map(|(path, _)| path).collect();
                Err(StoreError::Partial {
                    missing: paths(missing),
                    found: paths(found),
                })
            }
        }
    }

    /// Writes a new CA. The root comes last: whoever waits for it finds the others.
    ///
    /// # Errors
    /// [`StoreError::Write`]; a file that is there by now is left alone.
    pub(crate) fn create(&self, generated: &Generated) -> Result<(), StoreError> {
        let files = [
            (&self.key, &generated.key),
            (&self.issuer, &generated.issuer),
            (&self.root, &generated.root),
        ];
        for (path, text) in files {
            let failed = |cause| StoreError::Write {
                path: path.clone(),
                cause,
            };
            create_whole(path, text.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(StoreError::Read {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// Creates a file that appears whole and takes no other's place.
fn create_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    write_new(&temporary, text)?;
    let renamed = renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE);
    let outcome = match renamed {
        Ok(()) => return Ok(()),
        // Some file systems can't rename without replacing; then the file is written in its place.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => write_new(path, text),
        Err(cause) => Err(cause.into()),
    };
    fs::remove_file(&temporary)?;
    outcome
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

fn partial(missing: &[PathBuf], found: &[PathBuf]) -> String {
    let list = |paths: &[PathBuf]| {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(", ")
    };
    format!(
        "missing: {}; present: {}; restore what is missing, or move the rest away to have a new CA \
         generated",
        list(missing),
        list(found)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn generated() -> Generated {
        Generated {
            root: "root".into(),
            issuer: "issuer".into(),
            key: "key".into(),
        }
    }

    fn store(folder: &Path) -> Store {
        Store::new(folder, "ca.crt", "issuer.crt", "issuer.key")
    }

    /// Fact: security.md 1.8, O-S9.
    #[test]
    fn an_empty_folder_is_filled_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        assert!(store.read().unwrap().is_none());
        store.create(&generated()).unwrap();
        let texts = store.read().unwrap().unwrap();
        assert_eq!(
            (&texts.root[..], &texts.issuer[..], &texts.key[..]),
            (&b"root"[..], &b"issuer"[..], &b"key"[..])
        );
        for file in store.files() {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        }
        let again = Generated {
            key: "other".into(),
            ..generated()
        };
        assert!(matches!(
            store.create(&again),
            Err(StoreError::Write { .. })
        ));
        assert_eq!(store.read().unwrap().unwrap().key, b"key");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            3,
            "no temporary files stay"
        );
    }

    /// Fact: security.md O-S9, K055.
    #[test]
    fn a_partial_folder_is_an_error_that_names_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        fs::write(folder.path().join("ca.crt"), "root").unwrap();
        fs::write(folder.path().join("issuer.crt"), "issuer").unwrap();
        let text = store.read().map(|_| ()).unwrap_err().to_string();
        assert!(
            text.starts_with("issuer credentials are incomplete: missing: "),
            "{text}"
        );
        assert!(text.contains("/issuer.key; present: "), "{text}");
        assert!(
            text.contains("/ca.crt, ") && text.contains("/issuer.crt; "),
            "{text}"
        );
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let missing = store(&folder.path().join("none"));
        assert!(matches!(missing.read(), Err(StoreError::Folder { .. })));
    }

    #[test]
    fn absolute_names_leave_the_folder() {
        let store = Store::new(Path::new("/folder"), "/elsewhere/ca.crt", "a", "b");
        let expected = ["/elsewhere/ca.crt", "/folder/a", "/folder/b"];
        assert_eq!(store.files(), expected.map(PathBuf::from));
    }
}

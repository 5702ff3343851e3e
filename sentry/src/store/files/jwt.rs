//! The two files of JWTs: `jwt.key` and `jwks.json`.
//!
//! Owns their places (beside the authority's files, unless a path is absolute) and the lock under which they are
//! made, so that two Sentries that start at once share one key.

use super::write::{Disk, Write as _};
use super::{lock, read};
use crate::guard::SETTLE;
use crate::store::jwt::{JwtStore, JwtTexts};
use crate::store::{Changes, Later, StoreError};
use ironside_transport::FileWatch;
use std::io;
use std::path::{Path, PathBuf};

/// A folder with the files of a JWT key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JwtFiles {
    folder: PathBuf,
    key: PathBuf,
    set: PathBuf,
}

// === impl JwtFiles ===

impl JwtFiles {
    /// Names the files; relative names lie in the folder.
    pub(crate) fn new(folder: &Path, key: &str, set: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            key: folder.join(key),
            set: folder.join(set),
        }
    }

    /// The names of the two files without their folders.
    pub(crate) fn base_names(&self) -> [String; 2] {
        [&self.key, &self.set].map(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        })
    }

    async fn fill_in(&self, parts: &JwtTexts) -> Result<(), StoreError> {
        let _lock = lock(&self.folder).await?;
        for (path, text) in [(&self.key, &parts.key), (&self.set, &parts.set)] {
            let Some(text) = text else { continue };
            match Disk.create(path, text) {
                Ok(()) => {}
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::Conflict);
                }
                Err(cause) => {
                    let path = path.clone();
                    return Err(StoreError::Write { path, cause });
                }
            }
        }
        Ok(())
    }
}

impl JwtStore for JwtFiles {
    fn read(&self) -> Later<'_, Result<JwtTexts, StoreError>> {
        Box::pin(async {
            Ok(JwtTexts {
                key: read(&self.key)?,
                set: read(&self.set)?,
            })
        })
    }

    fn fill<'a>(&'a self, parts: &'a JwtTexts) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.fill_in(parts))
    }

    /// The file is what others read.
    fn show<'a>(&'a self, _set: &'a [u8]) -> Later<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn watch(&self) -> Box<dyn Changes> {
        let files = vec![self.key.clone(), self.set.clone()];
        Box::new(FileWatch::new(files, SETTLE))
    }

    fn names(&self) -> [String; 2] {
        [&self.key, &self.set].map(|path| path.display().to_string())
    }
}

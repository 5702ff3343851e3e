//! The folder that holds the authority: three files, and the state of an authority of our own.
//!
//! Owns fact O-S9 for files: a complete set is used, nothing at all is filled, a partial set is an error that names
//! what is missing. Files of our own authority are its state's image: whoever finds each of them as the state says,
//! or as it was one change ago, has found a crash and finishes the change; any other content is somebody's own, and
//! is never overwritten. How a file is written is `write`'s matter.

mod jwt;
mod write;

pub(crate) use jwt::JwtFiles;

use super::image::Image;
use super::{Change, Changes, Found, Later, Store, StoreError, Stored, Texts, Wrote};
use crate::guard::SETTLE;
use crate::rotation::State;
use ironside_transport::FileWatch;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use write::remove;
pub(crate) use write::{Disk, Write};

/// The state of an authority of our own, private keys included.
const STATE: &str = "ca-state.json";
/// Its presence asks for a rotation now.
const REQUEST: &str = "rotate.request";
/// The lock of the folder is asked for so often, 10 s in all: a change takes a moment.
const LOCK_TRIES: u32 = 400;
/// The pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// A folder with the files of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileStore<W = Disk> {
    folder: PathBuf,
    root: PathBuf,
    issuer: PathBuf,
    key: PathBuf,
    disk: W,
}

// === impl FileStore ===

impl FileStore {
    /// Names the files; relative names lie in the folder.
    pub(crate) fn new(folder: &Path, root: &str, issuer: &str, key: &str) -> Self {
        Self::with_disk(folder, [root, issuer, key], Disk)
    }
}

impl<W: Write> FileStore<W> {
    /// As [`FileStore::new`], with another writer.
    pub(crate) fn with_disk(folder: &Path, [root, issuer, key]: [&str; 3], disk: W) -> Self {
        let folder = folder.to_owned();
        let (root, issuer, key) = (folder.join(root), folder.join(issuer), folder.join(key));
        Self {
            folder,
            root,
            issuer,
            key,
            disk,
        }
    }

    /// Returns the three files of the reference.
    pub(crate) fn files(&self) -> [&Path; 3] {
        [&self.root, &self.issuer, &self.key]
    }

    /// Asks for a rotation; a wish that is there already is as good.
    pub(crate) fn wish(&self) -> Result<(), StoreError> {
        let path = self.folder.join(REQUEST);
        match File::create_new(&path) {
            Ok(_) => Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(cause) => Err(StoreError::Write { path, cause }),
        }
    }

    fn state_file(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    fn find(&self) -> Result<Found, StoreError> {
        open(&self.folder)?;
        let requested = self.folder.join(REQUEST).exists();
        let stored = match self.read_state()? {
            Some(state) if self.is_image(&state)? => Stored::Own(Box::new(state)),
            // Files that are not the state's are somebody's own.
            Some(_) | None => match self.read_supplied()? {
                Some(texts) => Stored::Supplied(texts),
                None => Stored::Nothing,
            },
        };
        Ok(Found { stored, requested })
    }

    fn read_state(&self) -> Result<Option<State>, StoreError> {
        let path = self.state_file();
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let state = State::from_json(&text);
        state
            .map(Some)
            .map_err(|cause| StoreError::State { path, cause })
    }

    fn read_supplied(&self) -> Result<Option<Texts>, StoreError> {
        let (root, issuer, key) = (read(&self.root)?, read(&self.issuer)?, read(&self.key)?);
        match (root, issuer, key) {
            (Some(root), Some(issuer), Some(key)) => Ok(Some(Texts { root, issuer, key })),
            (None, None, None) => Ok(None),
            (root, issuer, key) => {
                let there = [root.is_some(), issuer.is_some(), key.is_some()];
                let files = self.files().into_iter().zip(there);
                let (found, missing): (Vec<_>, Vec<_>) = files.partition(|(_, there)| *there);
                let paths = |files: Vec<(&Path, bool)>| {
                    files.into_iter().map(|(path, _)| path.to_owned()).collect()
                };
                Err(StoreError::Partial {
                    missing: paths(missing),
                    found: paths(found),
                })
            }
        }
    }

    fn is_image(&self, state: &State) -> Result<bool, StoreError> {
        let images = self.images(state)?;
        Ok(!images.contains(&Image::Foreign))
    }

    /// What the three files are to a state.
    fn images(&self, state: &State) -> Result<[Image; 3], StoreError> {
        let [root, issuer, key] = self.files();
        let found = [read(root)?, read(issuer)?, read(key)?];
        Ok(Image::all(found.each_ref().map(Option::as_deref), state))
    }

    async fn write_state(&self, from: Option<u64>, state: &State) -> Result<(), StoreError> {
        let _lock = lock(&self.folder).await?;
        let found = self.read_state()?;
        if found.as_ref().map(|state| state.generation) != from {
            return Err(StoreError::Conflict);
        }
        match &found {
            // The files are brought up to date first, so that they are never two changes behind.
            Some(found) => self.write_files(found)?,
            None if self.files().iter().any(|path| path.exists()) => {
                return Err(StoreError::Conflict);
            }
            None => {}
        }
        let path = self.state_file();
        let text = state.to_json().map_err(|cause| StoreError::State {
            path: path.clone(),
            cause,
        })?;
        let written = match found {
            Some(_) => self.disk.replace(&path, &text),
            None => self.disk.create(&path, &text),
        };
        written.map_err(|cause| StoreError::Write { path, cause })
    }

    /// Writes what is not as the state says. The root comes last: whoever waits for it finds the others.
    fn write_files(&self, state: &State) -> Result<(), StoreError> {
        let images = self.images(state)?;
        if images.contains(&Image::Foreign) {
            return Err(StoreError::Conflict);
        }
        let Texts { root, issuer, key } = state.texts();
        let files = self.files().into_iter().zip([root, issuer, key]);
        let mut work: Vec<_> = files.zip(images).collect();
        work.reverse();
        for ((path, text), image) in work {
            let written = match image {
                Image::Current => continue,
                Image::Missing => self.disk.create(path, &text),
                Image::Previous | Image::Foreign => self.disk.replace(path, &text),
            };
            written.map_err(|cause| StoreError::Write {
                path: path.to_owned(),
                cause,
            })?;
        }
        Ok(())
    }

    async fn tidy_up(&self, state: &State) -> Result<Wrote, StoreError> {
        if self.images(state)? == [Image::Current; 3] {
            return Ok(Wrote::No);
        }
        let _lock = lock(&self.folder).await?;
        match self.read_state()? {
            Some(found) if found.generation == state.generation => {
                self.write_files(&found)?;
                Ok(Wrote::Yes)
            }
            _ => Err(StoreError::Conflict),
        }
    }
}

impl<W: Write> Store for FileStore<W> {
    fn place(&self) -> &'static str {
        "local file system"
    }

    fn read(&self) -> Later<'_, Result<Found, StoreError>> {
        Box::pin(async { self.find() })
    }

    fn commit<'a>(
        &'a self,
        from: Option<u64>,
        state: &'a State,
    ) -> Later<'a, Result<(), StoreError>> {
        Box::pin(self.write_state(from, state))
    }

    fn tidy<'a>(
        &'a self,
        _texts: &'a Texts,
        state: Option<&'a State>,
    ) -> Later<'a, Result<Wrote, StoreError>> {
        // What somebody supplied is as they want it.
        Box::pin(async move {
            match state {
                Some(state) => self.tidy_up(state).await,
                None => Ok(Wrote::No),
            }
        })
    }

    fn answer(&self) -> Later<'_, Result<(), StoreError>> {
        Box::pin(async {
            let path = self.folder.join(REQUEST);
            remove(&path).map_err(|cause| StoreError::Write { path, cause })
        })
    }

    fn report<'a>(
        &'a self,
        _now: SystemTime,
        _reason: &'static str,
        _note: &'a str,
    ) -> Later<'a, ()> {
        // A folder has nobody who is told of it.
        Box::pin(std::future::ready(()))
    }

    fn watch(&self) -> Box<dyn Changes> {
        let mut files: Vec<PathBuf> = self.files().map(Path::to_owned).into();
        files.extend([self.state_file(), self.folder.join(REQUEST)]);
        Box::new(FileWatch::new(files, SETTLE))
    }
}

impl Changes for FileWatch {
    fn changed(&mut self) -> Later<'_, Change> {
        Box::pin(async {
            Self::changed(self).await;
            Change::Written
        })
    }
}

/// Opens the folder, to be locked for a change.
fn open(folder: &Path) -> Result<File, StoreError> {
    let opened = File::open(folder).and_then(|opened| match opened.metadata()?.is_dir() {
        true => Ok(opened),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    opened.map_err(|cause| StoreError::Folder {
        path: folder.to_owned(),
        cause,
    })
}

/// Holds off other writers as long as the answer lives. Whoever holds the folder for longer than a change can take
/// must not stop everything else that this process does: the lock is asked for, never awaited by the system.
async fn lock(path: &Path) -> Result<File, StoreError> {
    let folder = open(path)?;
    let mut left = LOCK_TRIES;
    loop {
        let cause = match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(Errno::WOULDBLOCK) if left == 0 => {
                io::Error::new(io::ErrorKind::TimedOut, "another process holds its lock")
            }
            Err(Errno::WOULDBLOCK) => {
                left -= 1;
                tokio::time::sleep(LOCK_PAUSE).await;
                continue;
            }
            Err(cause) => cause.into(),
        };
        let path = path.to_owned();
        return Err(StoreError::Write { path, cause });
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

#[cfg(test)]
mod tests;

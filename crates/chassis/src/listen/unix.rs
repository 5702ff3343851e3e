//! Socket files: taken, and taken away again.
//!
//! A file left by a process that died is replaced; one that answers is left
//! alone. Refused: choosing the path.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A bound socket file; dropping it removes the file.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why a socket file cannot be bound.
#[derive(Debug, Error)]
#[error("cannot listen on the socket {}", .path.display())]
pub struct UnixBindError {
    /// The file.
    pub path: PathBuf,
    /// The system's reason.
    #[source]
    pub cause: io::Error,
}

impl UnixSocket {
    /// Binds `path`, replacing a dead socket file.
    ///
    /// # Errors
    /// [`UnixBindError`] when the file answers, is no socket, or cannot be made.
    pub fn bind(path: &Path) -> Result<Self, UnixBindError> {
        let bound = replace_dead(path).and_then(|()| UnixListener::bind(path));
        let bound = bound.and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Self {
                listener,
                path: path.to_owned(),
            }),
            Err(cause) => Err(UnixBindError {
                path: path.to_owned(),
                cause,
            }),
        }
    }

    /// Returns a non-blocking listener for one more worker.
    ///
    /// # Errors
    /// The system's, when descriptors are exhausted.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // A file that is gone already needs no removal.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// Removes `path` when it is a socket nobody listens on.
fn replace_dead(path: &Path) -> io::Result<()> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

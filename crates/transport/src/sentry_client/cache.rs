//! Roots that outlive the process: what Sentry delivered, in a file for the next start in the same pod.
//!
//! A pod's environment holds the roots of the day it was made. When they are rotated and the old one is withdrawn,
//! a container that is started again would know nobody; with this file it knows what the process before it had
//! been told. Owns the file and what of it counts; only answers of a Sentry that proved itself are written.

use ironside_identity::TrustBundle;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tracing::{debug, warn};

use super::SCOPE;

/// The file, and the roots of it that count.
pub(super) struct Cache {
    path: PathBuf,
    bundle: TrustBundle,
    /// What the file is known to hold.
    written: Option<TrustBundle>,
}

// === impl Cache ===

impl Cache {
    /// Reads the file; one that isn't there or can't be read holds nothing.
    pub(super) fn read(path: PathBuf) -> Self {
        let bundle = match std::fs::read(&path) {
            Ok(text) => TrustBundle::from_pem(&text).map_err(|cause| cause.to_string()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(TrustBundle::default()),
            Err(cause) => Err(cause.to_string()),
        };
        let bundle = bundle.unwrap_or_else(|cause| {
            warn!(target: SCOPE, "cached trust anchors {} are ignored: {cause}", path.display());
            TrustBundle::default()
        });
        Self {
            path,
            bundle,
            written: None,
        }
    }

    /// True if no root is known from the file.
    pub(super) fn is_empty(&self) -> bool {
        self.bundle.anchors().is_empty()
    }

    /// The roots that count besides all others: those of the file until newer ones are delivered.
    pub(super) fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Keeps what Sentry delivered, in place of what it delivered to an earlier process.
    pub(super) fn keep(&mut self, delivered: &TrustBundle) {
        // A Sentry of the reference may deliver none.
        if delivered.anchors().is_empty() || self.written.as_ref() == Some(delivered) {
            return;
        }
        self.bundle = TrustBundle::default();
        match replace(&self.path, delivered.to_pem().as_bytes()) {
            Ok(()) => {
                debug!(target: SCOPE, "trust anchors are kept in {}", self.path.display());
                self.written = Some(delivered.clone());
            }
            Err(cause) => warn!(
                target: SCOPE,
                "cannot keep trust anchors in {}: {cause}; after a restart only those of the environment count",
                self.path.display()
            ),
        }
    }
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironside_testkit::certs::Ca;

    fn roots(ca: &Ca) -> TrustBundle {
        TrustBundle::from_pem(ca.root_pem().as_bytes()).unwrap()
    }

    /// Decision: anchors survive a restart of the container.
    #[test]
    fn what_was_delivered_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchors.pem");
        let (old, new) = (Ca::new(), Ca::new());
        let mut first = Cache::read(path.clone());
        assert!(first.is_empty());
        first.keep(&roots(&old));
        let mut second = Cache::read(path.clone());
        assert_eq!(second.bundle(), &roots(&old));
        // Newer ones take their place, in the process and in the file.
        second.keep(&roots(&new));
        assert!(second.is_empty());
        assert_eq!(Cache::read(path.clone()).bundle(), &roots(&new));
        // None delivered is no reason to forget.
        second.keep(&TrustBundle::default());
        assert_eq!(Cache::read(path).bundle(), &roots(&new));
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside the file");
    }

    #[test]
    fn a_file_that_holds_no_roots_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchors.pem");
        for text in [
            &b"-----BEGIN CERTIFICATE-----\nAAAA"[..],
            b"\xff\xfe",
            b"words",
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(Cache::read(path.clone()).is_empty());
        }
        assert!(Cache::read(folder.path().to_owned()).is_empty(), "a folder");
    }
}

//! A Sentry that short-lived programs of one user share: where it serves, and until when somebody needs it.
//!
//! Owns two files. Whoever holds the exclusive lock on the port file serves, and the file says where; the kernel lets
//! go of the lock however the process ends, so a crash is never taken for a running Sentry. Whoever holds a shared
//! lock on the clients file needs a Sentry; a request for a certificate counts as need too. Taking the port file away
//! asks Sentry to end. Refuses to own who starts one: the command line does.

use ironside_chassis::{Clock, build_info};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the two files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Not more often than this, however short the time after the last client.
const LEAST_LOOK: Duration = Duration::from_millis(50);
/// A look at the port file holds its lock for an instant, which must not keep a Sentry from starting.
const CLAIM_TRIES: u32 = 40;
/// The pause between two tries.
const CLAIM_PAUSE: Duration = Duration::from_millis(25);
/// More than this is no port file.
const LONGEST: u64 = 4096;

/// A Sentry that serves, as its port file tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The port of its certificate service, on loopback.
    pub port: u16,
    /// Its process id, for people.
    pub pid: u32,
    /// Which build it is.
    pub version: String,
}

/// What a port file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No Sentry runs.
    Nobody {
        /// The port of the last one, if it is known.
        last_port: Option<u16>,
    },
    /// One runs and does not serve yet.
    Starting,
    /// One serves.
    Serving(Serving),
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    serving: Serving,
    /// False from the start of a Sentry until it serves; the port is then the one before.
    ready: bool,
}

/// The build of this program, as port files tell it.
#[must_use]
pub fn own_version() -> String {
    format!("{} {}", build_info::VERSION, build_info::COMMIT)
}

/// Looks whether a Sentry serves.
///
/// # Errors
/// If the file is there and can't be read.
pub fn look(port_file: &Path) -> io::Result<Found> {
    let mut file = match File::open(port_file) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Ok(Found::Nobody { last_port: None });
        }
        Err(cause) => return Err(cause),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Found::Nobody {
            last_port: read(&mut file)?
                .map(|record| record.serving.port)
                .filter(|port| *port > 0),
        }),
        Err(Errno::WOULDBLOCK) => Ok(match read(&mut file)? {
            // Between its lock and its first word one that starts shows the words of one that was killed.
            Some(Record {
                serving,
                ready: true,
            }) if lives(serving.pid) => Found::Serving(serving),
            Some(_) | None => Found::Starting,
        }),
        Err(cause) => Err(cause.into()),
    }
}

/// Whom this Sentry serves, if it is one that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// Tells where it serves.
    pub(crate) port_file: Option<PathBuf>,
    /// Tells who needs it.
    pub(crate) clients_file: Option<PathBuf>,
    /// So long it stays after the last client.
    pub(crate) linger: Duration,
}

/// Why a port file is not ours to write.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("another sentry serves with the port file {}", path.display())]
    Taken { path: PathBuf },
    #[error("port file {}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// The port file while it is ours.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
    path: PathBuf,
    last_port: u16,
}

/// Whether somebody needs a Sentry, as the clients file tells.
enum Clients {
    Present,
    /// Nobody, nor will there be while the lock is held. A file that can't be had tells nothing.
    Absent(Option<File>),
}

/// Why a shared Sentry is needed no more.
#[derive(Debug)]
pub(crate) enum Unneeded {
    /// Somebody took the port file away.
    Dismissed,
    /// There was no client for so long. No new one comes while this value lives.
    NoClients {
        linger: Duration,
        _held: Option<File>,
    },
}

// === impl Unneeded ===

impl Unneeded {
    /// One line for the log.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Dismissed => "The port file is gone; beginning shutdown".to_owned(),
            Self::NoClients { linger, .. } => {
                format!("No client for {linger:?}; beginning shutdown")
            }
        }
    }
}

// === impl Sharing ===

impl Sharing {
    /// Makes the port file ours, before anything else is done.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] while another Sentry holds it.
    pub(crate) async fn claim(&self) -> Result<Option<Claim>, ClaimError> {
        let Some(path) = &self.port_file else {
            return Ok(None);
        };
        let failed = |cause: io::Error| ClaimError::Io {
            path: path.clone(),
            cause,
        };
        for _ in 0..CLAIM_TRIES {
            if let Some(claim) = Claim::attempt(path).map_err(failed)? {
                return Ok(Some(claim));
            }
            tokio::time::sleep(CLAIM_PAUSE).await;
        }
        Err(ClaimError::Taken { path: path.clone() })
    }

    /// Waits until nobody needs this Sentry; for ever if it is not a shared one. `requests` counts those for a
    /// certificate.
    pub(crate) async fn until_unneeded(
        &self,
        claim: Option<&Claim>,
        requests: impl Fn() -> u64,
        clock: &Clock,
    ) -> Unneeded {
        if claim.is_none() && self.clients_file.is_none() {
            return std::future::pending().await;
        }
        let mut needed = clock.monotonic();
        let mut seen = requests();
        loop {
            tokio::time::sleep(LOOK.min(self.linger.max(LEAST_LOOK))).await;
            if claim.is_some_and(|claim| !claim.is_in_place()) {
                return Unneeded::Dismissed;
            }
            let now = clock.monotonic();
            let (clients, requested) = (self.clients(), requests());
            let is_needed = matches!(clients, Clients::Present);
            if is_needed || requested != seen {
                (needed, seen) = (now, requested);
            }
            if let Clients::Absent(held) = clients
                && now.since(needed) >= self.linger
            {
                return Unneeded::NoClients {
                    linger: self.linger,
                    _held: held,
                };
            }
        }
    }

    /// Tries to lock the clients file. One that is gone is made anew, so that there is something to hold off clients
    /// with; where that fails the certificates alone count.
    fn clients(&self) -> Clients {
        // Without a file there is only one way to tell it that it is not needed: to take the port file away.
        let Some(path) = &self.clients_file else {
            return Clients::Present;
        };
        let make = || {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600).open(path)
        };
        let Ok(file) = File::open(path).or_else(|_gone| make()) else {
            return Clients::Absent(None);
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Clients::Present,
            Ok(()) => Clients::Absent(Some(file)),
            Err(_) => Clients::Absent(None),
        }
    }
}

// === impl Claim ===

impl Claim {
    /// Takes the file; none while somebody else has it.
    fn attempt(path: &Path) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(cause) => return Err(cause.into()),
        }
        let last_port = read(&mut file)?.map_or(0, |record| record.serving.port);
        let mut claim = Self {
            file,
            path: path.to_owned(),
            last_port,
        };
        // Taken away between opening and locking.
        if !claim.is_in_place() {
            return Ok(None);
        }
        claim.write(last_port, false)?;
        Ok(Some(claim))
    }

    /// Tells that this Sentry serves, and where.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn announce(&mut self, port: u16) -> Result<(), ClaimError> {
        self.last_port = port;
        self.write(port, true).map_err(|cause| ClaimError::Io {
            path: self.path.clone(),
            cause,
        })
    }

    fn write(&mut self, port: u16, ready: bool) -> io::Result<()> {
        let record = Record {
            serving: Serving {
                port,
                pid: std::process::id(),
                version: own_version(),
            },
            ready,
        };
        let mut text = serde_json::to_vec(&record)?;
        text.push(b'\n');
        // In place: the lock is the file's, and a reader that finds it half written finds a Sentry that starts.
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }

    /// Whether the path still names this file.
    fn is_in_place(&self) -> bool {
        let own = self.file.metadata();
        let named = fs::metadata(&self.path);
        match (own, named) {
            (Ok(own), Ok(named)) => (own.dev(), own.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }
}

impl Drop for Claim {
    /// Who reads it later learns which port to take again.
    fn drop(&mut self) {
        let _nobody_to_tell = self.write(self.last_port, false).is_err();
    }
}

/// Whether there is such a process, whoever's it is.
fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

fn read(file: &mut File) -> io::Result<Option<Record>> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

#[cfg(test)]
mod tests;

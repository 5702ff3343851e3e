//! This user's Sentry: found or started by `run --mtls`, shared by all runs, ended by `uninstall` or by itself.
//!
//! Owns the folder `<root>/.dapr/sentry` and the order in which runs that start at the same moment go about it. Who
//! serves and who needs a Sentry is told by locks, which the kernel lets go of however a process ends; the format of
//! the two files is Sentry's own library's. Certificates and their rotation are Sentry's matter.

mod words;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ironside_sentry::shared::{self, Found, Serving};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::net::TcpStream;

use crate::env::Environment;
use crate::folders::{self, Home};
use crate::output::{self, Level, Status};

/// Says how long a Sentry stays after its last client, for those who want it shorter or longer.
const LINGER: &str = "IRONSIDE_SENTRY_LINGER";
/// How long that is otherwise.
const DEFAULT_LINGER: &str = "10m";
/// How long another run may take to start a Sentry, or a Sentry to end.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often is looked whether that has happened.
const STEP: Duration = Duration::from_millis(20);
/// How long a running Sentry may take to accept a connection.
const ACCEPT_LIMIT: Duration = Duration::from_secs(5);
/// How often a run looks whether its Sentry is still there.
const LOOK: Duration = Duration::from_secs(5);
/// A log that is longer is put aside before a start, in bytes.
const LONG_LOG: u64 = 1 << 20;

/// What a fresh Sentry is told; its user may change the file.
const CONFIGURATION: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: daprsystem
spec:
  mtls:
    enabled: true
";

/// Where this user's Sentry lives.
#[derive(Debug, Clone)]
pub(crate) struct OwnSentry {
    folder: PathBuf,
    linger: String,
}

/// A Sentry that serves, and goes on serving while this value lives.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Where it serves.
    pub address: String,
    /// The file of its roots.
    pub anchors: PathBuf,
    sentry: OwnSentry,
    _client: File,
}

// === impl Joined ===

impl Joined {
    /// Starts Sentry again whenever it has ended though it is needed; for ever.
    pub(crate) fn keep(&self, status: &Status) -> impl Future<Output = ()> + Send + 'static {
        self.sentry.clone().keep(status.clone())
    }
}

// === impl OwnSentry ===

impl OwnSentry {
    /// Its place below `.dapr`, or in this user's private folder when there is no home.
    pub(crate) fn find(home: Option<&Home>, environment: &Environment) -> anyhow::Result<Self> {
        let base = match home {
            Some(home) => home.path().to_path_buf(),
            None => folders::private(environment)?,
        };
        let linger = environment.text(LINGER).unwrap_or(DEFAULT_LINGER);
        Ok(Self {
            folder: std::path::absolute(base.join("sentry"))?,
            linger: linger.to_owned(),
        })
    }

    /// Where root, issuer and keys lie.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    fn port_file(&self) -> PathBuf {
        self.folder.join("port")
    }

    fn clients_file(&self) -> PathBuf {
        self.folder.join("clients")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("sentry.log")
    }

    /// Finds the Sentry that runs, or starts one, and becomes its client.
    ///
    /// # Errors
    /// If none can be started; the text says why and what to do.
    pub(crate) async fn join(&self, status: &Status) -> anyhow::Result<Joined> {
        self.prepare()?;
        let clients = open_lock(&self.clients_file())?;
        // One that is ending holds this lock to its end.
        lock(&clients, FlockOperation::NonBlockingLockShared)
            .await
            .context("waiting for a sentry to end")?;
        let _turn = self.turn().await?;
        let port = self.port(status).await?;
        let anchors = self.credentials().join("ca.crt");
        File::open(&anchors).with_context(|| {
            format!(
                "sentry serves on port {port}, but its root {} cannot be read",
                anchors.display()
            )
        })?;
        Ok(Joined {
            address: format!("127.0.0.1:{port}"),
            anchors,
            sentry: self.clone(),
            _client: clients,
        })
    }

    /// The port of the Sentry that serves, started if there is none. The turn is ours.
    async fn port(&self, status: &Status) -> anyhow::Result<u16> {
        match self.settled().await? {
            Found::Serving(serving) if is_older(&serving.version, &shared::own_version()) => {
                let text = format!(
                    "Sentry of version {} is replaced by version {}",
                    serving.version,
                    shared::own_version()
                );
                tell(status, Level::Info, &text);
                self.dismiss().await?;
                self.start(Some(serving.port), status).await
            }
            Found::Serving(serving) => {
                self.check_accepts(&serving).await?;
                Ok(serving.port)
            }
            Found::Nobody { last_port } => self.start(last_port, status).await,
            Found::Starting => bail!(
                "a sentry has been starting for {PATIENCE:?}; its log is {}",
                self.log().display()
            ),
        }
    }

    /// Makes the folders that only this user may enter, and the files that the first run needs.
    fn prepare(&self) -> anyhow::Result<()> {
        if let Some(parent) = self.folder.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        for folder in [self.folder.clone(), self.credentials()] {
            folders::own(&folder).with_context(|| {
                format!(
                    "the folder of this user's sentry, {}, cannot be used (--runtime-path names another place)",
                    folder.display()
                )
            })?;
        }
        let config = self.folder.join("config.yaml");
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&config)
            .and_then(|mut file| file.write_all(CONFIGURATION.as_bytes()));
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("writing {}", config.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits for our turn to start or end a Sentry.
    async fn turn(&self) -> anyhow::Result<File> {
        let turn = open_lock(&self.folder.join("turn"))?;
        lock(&turn, FlockOperation::NonBlockingLockExclusive)
            .await
            .context("waiting for another run that starts or ends sentry")?;
        Ok(turn)
    }

    /// What the port file tells, once no Sentry is about to start: one may be that was started by a run since killed.
    async fn settled(&self) -> anyhow::Result<Found> {
        let mut found = self.look()?;
        for _ in 0..steps(PATIENCE) {
            if found != Found::Starting {
                break;
            }
            tokio::time::sleep(STEP).await;
            found = self.look()?;
        }
        Ok(found)
    }

    fn look(&self) -> anyhow::Result<Found> {
        let file = self.port_file();
        shared::look(&file).with_context(|| format!("reading {}", file.display()))
    }

    async fn check_accepts(&self, serving: &Serving) -> anyhow::Result<()> {
        let Serving { port, pid, .. } = serving;
        let dialled = TcpStream::connect((Ipv4Addr::LOCALHOST, *port));
        match tokio::time::timeout(ACCEPT_LIMIT, dialled).await {
            Ok(Ok(_accepted)) => Ok(()),
            Ok(Err(error)) => Err(error).with_context(|| {
                format!(
                    "sentry (process {pid}) does not answer on port {port}; end it with: kill {pid}"
                )
            }),
            Err(_elapsed) => bail!(
                "sentry (process {pid}) accepts no connection on port {port}; end it with: kill {pid}"
            ),
        }
    }

    /// Starts a Sentry, where the last one served if that is possible: sidecars that run know no other place.
    async fn start(&self, last_port: Option<u16>, status: &Status) -> anyhow::Result<u16> {
        let port = match last_port {
            Some(port) if !is_free(port) => {
                let text = format!(
                    "Port {port}, where sentry served before, is in use by another program: apps that run with --mtls \
                     since then cannot renew their certificates, restart them"
                );
                tell(status, Level::Warning, &text);
                0
            }
            Some(port) => port,
            None => 0,
        };
        self.put_log_aside()?;
        let log = self.log();
        let from = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let mut helper = Command::new(std::env::current_exe()?)
            .arg("detach")
            .arg(&log)
            .arg(self.port_file())
            .args(self.arguments(port))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting sentry")?;
        while helper.try_wait()?.is_none() {
            tokio::time::sleep(STEP).await;
        }
        match self.look()? {
            Found::Serving(serving) => {
                let text = format!(
                    "Sentry serves this user's certificates on port {}",
                    serving.port
                );
                tell(status, Level::Info, &text);
                Ok(serving.port)
            }
            Found::Nobody { .. } | Found::Starting => bail!(
                "sentry could not be started: {}; its log is {}, and its certificates lie in {}",
                words::last_words(&log, from),
                log.display(),
                self.credentials().display()
            ),
        }
    }

    fn arguments(&self, port: u16) -> Vec<OsString> {
        let flag = |name: &str, value: &Path| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            word
        };
        let mut words = vec![
            flag("config", &self.folder.join("config.yaml")),
            flag("issuer-credentials", &self.credentials()),
            flag("port-file", &self.port_file()),
            flag("clients-file", &self.clients_file()),
        ];
        let rest = [
            format!("--linger={}", self.linger),
            format!("--port={port}"),
            "--listen-address=127.0.0.1".to_owned(),
            "--healthz-port=0".to_owned(),
            "--healthz-listen-address=127.0.0.1".to_owned(),
            "--enable-metrics=false".to_owned(),
        ];
        words.extend(rest.map(OsString::from));
        words
    }

    /// Keeps the log of years from filling the disk: this one and the one before are there.
    fn put_log_aside(&self) -> anyhow::Result<()> {
        let log = self.log();
        match fs::metadata(&log) {
            Ok(metadata) if metadata.len() > LONG_LOG => {
                fs::rename(&log, self.folder.join("sentry.log.1")).context("putting the log aside")
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Ends the Sentry that runs, by taking its port file away, and waits until it is gone.
    async fn dismiss(&self) -> anyhow::Result<()> {
        let path = self.port_file();
        let running = match OpenOptions::new().read(true).open(&path) {
            Ok(running) => running,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", path.display()));
            }
        };
        let pid = match self.look()? {
            Found::Serving(serving) => serving.pid.to_string(),
            Found::Starting | Found::Nobody { .. } => "unknown".to_owned(),
        };
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        lock(&running, FlockOperation::NonBlockingLockExclusive)
            .await
            .with_context(|| format!("waiting for sentry (process {pid}) to end"))
    }

    /// Ends this user's Sentry if one runs; says whether apps are left that need one.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn end(&self) -> anyhow::Result<Left> {
        if !self.folder.is_dir() {
            return Ok(Left::Nobody);
        }
        let _turn = self.turn().await?;
        let ran = self.look()? != Found::Nobody { last_port: None };
        self.dismiss().await?;
        let clients = open_lock(&self.clients_file())?;
        match flock(&clients, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if ran => Ok(Left::Clients),
            Ok(()) | Err(_) => Ok(Left::Nobody),
        }
    }

    /// Starts Sentry again whenever it has ended though it is needed: it was killed, or it crashed. For ever.
    async fn keep(self, status: Status) {
        let mut told = false;
        loop {
            tokio::time::sleep(LOOK).await;
            // One that was ended by `uninstall` or for another version has left no port file.
            if !matches!(self.look(), Ok(Found::Nobody { last_port: Some(_) })) {
                continue;
            }
            match self.restart(&status).await {
                Ok(()) => told = false,
                Err(error) if !told => {
                    told = true;
                    let text = format!("Sentry has ended: {error:#}; trying again");
                    tell(&status, Level::Warning, &text);
                }
                Err(_) => {}
            }
        }
    }

    async fn restart(&self, status: &Status) -> anyhow::Result<()> {
        let _turn = self.turn().await?;
        match self.look()? {
            Found::Nobody {
                last_port: Some(port),
            } => {
                let text = "Sentry has ended though apps need it: it is started again";
                tell(status, Level::Warning, text);
                self.start(Some(port), status).await.map(drop)
            }
            Found::Nobody { last_port: None } | Found::Starting | Found::Serving(_) => Ok(()),
        }
    }
}

/// Who is left when a Sentry has been ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nobody.
    Nobody,
    /// Apps that run with its certificates.
    Clients,
}

/// On the standard error: the first lines of the standard output belong to the apps.
fn tell(status: &Status, level: Level, text: &str) {
    output::err(status.line(level, text).as_bytes());
}

fn steps(limit: Duration) -> u128 {
    limit.as_millis() / STEP.as_millis()
}

fn open_lock(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// Takes a lock as soon as nobody else has it.
async fn lock(file: &File, operation: FlockOperation) -> anyhow::Result<()> {
    for _ in 0..steps(PATIENCE) {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(STEP).await,
            Err(error) => return Err(error.into()),
        }
    }
    bail!("it took longer than {PATIENCE:?}")
}

/// Whether Sentry can serve on a port of loopback.
fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// Whether one build has to give way to another: not to an older one, or two versions would replace each other in turn.
fn is_older(running: &str, own: &str) -> bool {
    match (release(running), release(own)) {
        (Some(running), Some(own)) => running < own,
        // Builds without a number: the one that was made last is the one that is used now.
        _ => running != own,
    }
}

fn release(version: &str) -> Option<[u64; 3]> {
    let number = version.split(' ').next()?;
    let number = number.strip_prefix('v').unwrap_or(number);
    let mut parts = number.split(['.', '-', '+']);
    let mut part = || parts.next()?.parse().ok();
    Some([part()?, part()?, part()?])
}

#[cfg(test)]
mod tests;

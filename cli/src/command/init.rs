//! `init` and `uninstall`: the folder `.dapr` and what is in it.
//!
//! Always offline and without containers; repeating either is no error. On a cluster they are `install`'s. Facts:
//! cli-and-clients 1.17.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::Session;
use crate::folders::{Home, link};
use crate::own_sentry::{Left, OwnSentry};

/// Flags of `init` that stand for containers or downloads.
const WITHOUT_EFFECT: [&str; 10] = [
    "container-runtime",
    "from-dir",
    "image-registry",
    "image-variant",
    "network",
    "redis-stack",
    "runtime-version",
    "scheduler-override-broadcast-host-port",
    "scheduler-volume",
    "dev",
];

/// The configuration that a fresh machine gets: nothing that changes a default.
const CONFIGURATION: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: daprConfig
spec: {}
";

/// Runs `init`.
pub(crate) fn init(session: &Session) -> anyhow::Result<ExitCode> {
    let home = home(session)?;
    session.status.pending("Making the jump to hyperspace...");
    let ignored: Vec<String> = session
        .values
        .names()
        .filter(|name| WITHOUT_EFFECT.contains(name))
        .map(|name| format!("--{name}"))
        .collect();
    if !ignored.is_empty() {
        let text = format!(
            "ignored, because nothing is downloaded and no containers are started: {}",
            ignored.join(", ")
        );
        session.status.warning(&text);
    }
    prepare(&home)?;
    session
        .status
        .success(&format!("daprd is linked in {}", home.programs().display()));
    session
        .status
        .success("Success! Dapr is up and running. To get started, try: ironside demo");
    Ok(ExitCode::SUCCESS)
}

fn prepare(home: &Home) -> anyhow::Result<()> {
    for folder in [home.programs(), home.resources()] {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    }
    link(&home.programs())?;
    let path = home.configuration();
    match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
    {
        Ok(mut file) => file.write_all(CONFIGURATION.as_bytes()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("writing {}", path.display()))
}

/// Runs `uninstall`.
pub(crate) async fn uninstall(session: &Session) -> anyhow::Result<ExitCode> {
    if session.values.switch("kubernetes") {
        return super::install::uninstall(session).await;
    }
    let home = home(session)?;
    session.status.info("Removing Dapr from your machine...");
    match take_away(session, &home).await {
        Ok(()) => {
            session.status.success("Dapr has been removed successfully");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            session
                .status
                .failure(&format!("Error removing Dapr: {error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Ends this user's Sentry, so that nothing runs in what is removed.
async fn take_away(session: &Session, home: &Home) -> anyhow::Result<()> {
    let sentry = OwnSentry::find(Some(home), &session.environment)?;
    if sentry.end().await? == Left::Clients {
        session.status.warning(
            "Apps run with certificates of the Sentry that has been ended; they cannot renew them until the next \
             run --mtls",
        );
    }
    if session.values.switch("all") {
        remove(home.path())
    } else {
        remove(&home.programs())
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn home(session: &Session) -> anyhow::Result<Home> {
    session
        .home()
        .context("there is no home folder: give --runtime-path or set DAPR_RUNTIME_PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preparing_twice_keeps_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        prepare(&home).unwrap();
        fs::write(home.configuration(), "mine").unwrap();
        prepare(&home).unwrap();
        assert_eq!(fs::read(home.configuration()).unwrap(), b"mine");
        assert!(home.programs().join("daprd").is_symlink());
        remove(home.path()).unwrap();
        remove(home.path()).unwrap();
        assert!(!home.path().exists());
    }
}

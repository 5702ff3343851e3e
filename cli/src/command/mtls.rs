//! `mtls`: what a Sentry on this machine, or that of a cluster, holds, and the wish that it be replaced.
//!
//! Owns the words and the forms; what lies in the folder is read by Sentry's own library, and a rotation is done by
//! the running Sentry. Facts: cli-and-clients 1.14, security 1.8.

mod cluster;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ironside_sentry::inspect::{self, Overview};
use jiff::Timestamp;

use super::Session;
use crate::cluster::Cluster;
use crate::output::{self, table};
use crate::own_sentry::OwnSentry;

/// How long Sentry may take to answer; it waits two seconds for a folder to be quiet.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the wish is looked at.
const STEP: Duration = Duration::from_millis(200);

/// Runs the command, or the one `below` it.
pub(crate) fn run(session: &Session, below: &str) -> anyhow::Result<ExitCode> {
    let name = match below {
        "" => "mtls".to_owned(),
        below => format!("mtls {below}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if session.values.switch("kubernetes") {
        return runtime.block_on(async {
            let cluster = Cluster::of(session).await?;
            match below {
                "expiry" => cluster::expiry(session, &cluster).await,
                "export" => cluster::export(session, &cluster).await,
                "renew-certificate" => cluster::renew(session, &cluster).await,
                _ => cluster::show(session, &cluster).await,
            }
        });
    }
    let given = session.values.text("issuer-credentials").map(PathBuf::from);
    let Some(folder) = given.or_else(|| own_credentials(session)) else {
        let text = format!(
            "{name}: name the folder of Sentry with --issuer-credentials (run --mtls has not made one here yet), or a \
             cluster with -k"
        );
        session.status.failure(&text);
        return Ok(ExitCode::FAILURE);
    };
    runtime.block_on(async {
        match below {
            "expiry" => expiry(session, &folder).await,
            "export" => export(session, &folder).await,
            "renew-certificate" => renew(session, &folder).await,
            _ => show(session, &folder).await,
        }
    })
}

/// The folder of this user's Sentry, if there is one.
fn own_credentials(session: &Session) -> Option<PathBuf> {
    let sentry = OwnSentry::find(session.home().as_ref(), &session.environment).ok()?;
    Some(sentry.credentials()).filter(|folder| folder.is_dir())
}

async fn show(session: &Session, folder: &Path) -> anyhow::Result<ExitCode> {
    let overview = inspect::inspect(folder).await?;
    match session.values.text("output") {
        Some("json") => {
            let text = serde_json::to_string_pretty(&as_json(&overview)).context("writing JSON")?;
            output::line(&text);
        }
        Some("table") | None => {
            output::line(&summary(&overview));
            output::out(as_table(&overview).as_bytes());
        }
        Some(_) => {
            session
                .status
                .failure("An invalid output format was specified.");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn expiry(session: &Session, folder: &Path) -> anyhow::Result<ExitCode> {
    let overview = inspect::inspect(folder).await?;
    let ends = overview.roots_end().context("there is no root")?;
    told_expiry(session, ends);
    Ok(ExitCode::SUCCESS)
}

fn told_expiry(session: &Session, ends: SystemTime) {
    let left = ends.duration_since(session.clock.now()).unwrap_or_default();
    let hours = left.as_secs() / 3600;
    output::line(&format!(
        "Root certificate expires in {hours} hours. Expiry date: {}",
        instant(ends)
    ));
}

async fn export(session: &Session, folder: &Path) -> anyhow::Result<ExitCode> {
    let overview = inspect::inspect(folder).await?;
    exported(session, &overview.texts())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the files to the folder that was asked for.
fn exported(session: &Session, files: &[(&str, &[u8])]) -> anyhow::Result<()> {
    let out = PathBuf::from(session.values.text("out").unwrap_or("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&out)
        .with_context(|| format!("making {}", out.display()))?;
    for (name, text) in files {
        let path = out.join(name);
        write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let place = fs::canonicalize(&out).unwrap_or(out);
    session.status.success(&format!(
        "Trust certs successfully exported to {}",
        place.display()
    ));
    Ok(())
}

/// Writes a file that only its owner may read, keys among them; none is overwritten.
fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}

async fn renew(session: &Session, folder: &Path) -> anyhow::Result<ExitCode> {
    inspect::request_rotation(folder).await?;
    let seconds = session.values.number("timeout");
    let limit = seconds.map_or(PATIENCE, |seconds| {
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    });
    match tokio::time::timeout(limit, answered(folder)).await {
        Ok(answered) => {
            answered?;
            let overview = inspect::inspect(folder).await?;
            session.status.success("Sentry has taken the wish up.");
            output::line(&summary(&overview));
        }
        Err(_elapsed) => session.status.warning(
            "No Sentry has answered yet: the rotation begins as soon as one runs over this folder.",
        ),
    }
    Ok(ExitCode::SUCCESS)
}

async fn answered(folder: &Path) -> anyhow::Result<()> {
    while inspect::is_rotation_requested(folder).await? {
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}

fn summary(overview: &Overview) -> String {
    let Some(phase) = &overview.phase else {
        return "Supplied: Sentry uses this certificate authority and does not replace it."
            .to_owned();
    };
    let since = phase.since.map(instant).unwrap_or_default();
    match phase.name {
        "distribute" => format!(
            "Phase distribute since {since}: the next root is in every answer, the old issuer signs."
        ),
        "sign" => format!(
            "Phase sign since {since}: the new issuer signs, the old root is still in every answer."
        ),
        _ => "Phase steady: Sentry replaces root and issuer before they end.".to_owned(),
    }
}

fn as_table(overview: &Overview) -> String {
    let rows: Vec<Vec<String>> = overview
        .certificates
        .iter()
        .map(|one| {
            let sha256 = one.sha256.chars().take(16).collect();
            vec![
                one.role.to_owned(),
                one.subject.clone(),
                instant(one.not_after),
                sha256,
            ]
        })
        .collect();
    table::plain(&["certificate", "subject", "expires", "sha256"], &rows)
}

fn as_json(overview: &Overview) -> serde_json::Value {
    let certificates: Vec<_> = overview
        .certificates
        .iter()
        .map(|one| {
            serde_json::json!({
                "certificate": one.role,
                "subject": one.subject,
                "expires": instant(one.not_after),
                "sha256": one.sha256,
            })
        })
        .collect();
    let phase = overview.phase.as_ref();
    serde_json::json!({
        "managed": overview.own,
        "phase": phase.map(|phase| phase.name),
        "since": phase.and_then(|phase| phase.since).map(instant),
        "certificates": certificates,
    })
}

fn instant(at: SystemTime) -> String {
    match Timestamp::try_from(at) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_beyond_year_9999) => "never".to_owned(),
    }
}

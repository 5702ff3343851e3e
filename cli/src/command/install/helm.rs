//! Helm, where it is on the PATH.
//!
//! Owns its arguments. It gets the chart of this binary in a folder that lives as long as it runs; its own words are
//! passed on when it fails.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Plan, RELEASE, Session};

/// A kubeconfig and a context, where they were asked for.
type Place<'a> = (Option<&'a str>, Option<&'a str>);

/// The program, if it is on the PATH.
pub(super) fn find(session: &Session) -> Option<PathBuf> {
    let path = session.environment.path("PATH")?;
    which::which_in("helm", Some(path), ".").ok()
}

/// How far Helm is to go.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The API server says what it would do; nothing is written.
    Rehearse,
    /// It is done, and waited for if there is a limit.
    Do(Option<Duration>),
}

/// Installs or upgrades, and waits if there is a limit.
pub(super) fn install(
    helm: &Path,
    plan: &Plan,
    place: Place<'_>,
    wait: Option<Duration>,
) -> anyhow::Result<()> {
    put(helm, plan, place, Way::Do(wait))
}

/// Fails if an install or upgrade would before it writes anything: bad values, a refusal of the chart or of the API
/// server.
pub(super) fn rehearse(helm: &Path, plan: &Plan, place: Place<'_>) -> anyhow::Result<()> {
    put(helm, plan, place, Way::Rehearse)
}

fn put(helm: &Path, plan: &Plan, place: Place<'_>, way: Way) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a folder for the chart")?;
    let chart = folder.path().join("chart");
    for (name, text) in crate::chart::files() {
        let path = chart.join(name);
        let parent = path.parent().unwrap_or(&chart);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let mut values = None;
    if let Some([root, issuer, key]) = &plan.authority {
        // A key has no place among the arguments of a process.
        let path = folder.path().join("authority.json");
        let text = serde_json::json!({"dapr_sentry": {"tls": {
            "root": {"certPEM": root}, "issuer": {"certPEM": issuer, "keyPEM": key},
        }}});
        std::fs::write(&path, text.to_string()).context("writing values for helm")?;
        values = Some(path);
    }
    run(helm, arguments(plan, &chart, values.as_deref(), place, way))
}

/// Removes the release.
pub(super) fn uninstall(
    helm: &Path,
    namespace: &str,
    place: Place<'_>,
    limit: Duration,
) -> anyhow::Result<()> {
    let limit = format!("{}s", limit.as_secs());
    let mut words: Vec<OsString> = [
        "uninstall",
        RELEASE,
        "--namespace",
        namespace,
        "--timeout",
        &limit,
    ]
    .map(OsString::from)
    .into();
    words.extend(of_place(place));
    run(helm, words)
}

fn arguments(
    plan: &Plan,
    chart: &Path,
    values: Option<&Path>,
    place: Place<'_>,
    way: Way,
) -> Vec<OsString> {
    let Plan {
        namespace,
        registry,
        tag,
        is_replicated,
        is_mutual,
        authority: _,
        values: given,
    } = plan;
    let mut words: Vec<OsString> = vec!["upgrade".into(), "--install".into(), RELEASE.into()];
    words.push(chart.into());
    let mut add = |flag: &str, value: OsString| words.extend([OsString::from(flag), value]);
    add("--namespace", namespace.into());
    // What is not said keeps the value that the release has.
    for (name, value) in [
        ("global.ha.enabled", is_replicated),
        ("global.mtls.enabled", is_mutual),
    ] {
        if let Some(value) = value {
            add("--set", format!("{name}={value}").into());
        }
    }
    // A tag of digits is no number: kept as one, the next upgrade would write it with an exponent.
    for (name, value) in [("global.registry", registry), ("global.tag", tag)] {
        if let Some(value) = value {
            add("--set-string", format!("{name}={value}").into());
        }
    }
    if let Some(path) = values {
        add("--values", path.into());
    }
    for value in given {
        add("--set", value.into());
    }
    match way {
        Way::Rehearse => words.push("--dry-run=server".into()),
        Way::Do(None) => {}
        Way::Do(Some(limit)) => {
            add("--timeout", format!("{}s", limit.as_secs()).into());
            words.push("--wait".into());
        }
    }
    words.extend([
        "--create-namespace".into(),
        "--reset-then-reuse-values".into(),
    ]);
    words.extend(of_place(place));
    words
}

fn of_place((kubeconfig, context): Place<'_>) -> Vec<OsString> {
    let pairs = [("--kubeconfig", kubeconfig), ("--kube-context", context)];
    let given = pairs
        .into_iter()
        .filter_map(|(flag, value)| Some([flag, value?]));
    given.flatten().map(OsString::from).collect()
}

fn run(helm: &Path, words: Vec<OsString>) -> anyhow::Result<()> {
    let done = Command::new(helm).args(words).output();
    let done = done.with_context(|| format!("starting {}", helm.display()))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    bail!("helm failed: {}", said.trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_is_told_what_was_asked_for_and_nothing_else() {
        let plan = Plan {
            registry: None,
            ..Plan::bare("ns")
        };
        let words = |plan: &Plan, place, way| {
            let words = arguments(plan, Path::new("/c"), None, place, way);
            let words: Vec<String> = words
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect();
            words.join(" ")
        };
        let base = "upgrade --install ironside /c --namespace ns";
        let end = "--create-namespace --reset-then-reuse-values";
        assert_eq!(
            words(&plan, (None, None), Way::Do(None)),
            format!("{base} {end}")
        );
        assert_eq!(
            words(&plan, (None, None), Way::Rehearse),
            format!("{base} --dry-run=server {end}")
        );
        let plan = Plan {
            registry: Some("r".to_owned()),
            tag: Some("20261121".to_owned()),
            is_replicated: Some(true),
            is_mutual: Some(false),
            values: vec!["a=b".to_owned()],
            ..plan
        };
        assert_eq!(
            words(
                &plan,
                (Some("k"), Some("x")),
                Way::Do(Some(Duration::from_secs(7)))
            ),
            format!(
                "{base} --set global.ha.enabled=true --set global.mtls.enabled=false --set-string global.registry=r \
                 --set-string global.tag=20261121 --set a=b --timeout 7s --wait {end} --kubeconfig k --kube-context x"
            )
        );
    }
}

//! `e2e k8s`: brings a cluster up, loads what is tested, runs the tests that need a cluster, tells how they went.
//!
//! A cluster that already runs is used and left alone, so a developer brings one up once and repeats; one that
//! somebody else brought (`IRONSIDE_E2E_KUBECONFIG`) must already have the images, and tests that need a cluster of the
//! tool's own are left out there. What is not run is said last, and written down.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cluster,
    images::{self, previous::Previous},
    sdk,
    steps::Steps,
    surroundings::Surroundings,
};

/// How the suite is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Wish {
    /// The long counts: restarts, rollouts, edits.
    #[arg(long)]
    full: bool,
    /// Only tests whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// How the images' programs are compiled.
    #[arg(long, value_enum, default_value = "release")]
    profile: images::Profile,
}

impl Wish {
    /// Whether this test is one of those that are asked for.
    fn names(&self, test: &str) -> bool {
        let only = self.only.as_deref();
        only.is_none_or(|only| test.contains(only))
    }

    /// Whether a test of this module may run: a filter may be any part of its path.
    fn wants(&self, module: &str) -> bool {
        let named = self.only.as_deref().and_then(|only| only.split_once("::"));
        named.is_none_or(|(named, _)| module.trim_end_matches("::").ends_with(named))
    }
}

/// The module of the tests that need the version before this one.
const UPGRADE: &str = "upgrade::";
/// The module of the tests that need the Python SDK in an image.
const SDK: &str = "sdk::";
/// The cluster of the newest Kubernetes.
const NEWEST: &str = "newest";
/// The tests that run on it as well: whether API server, kubelet and our definitions and pods go together.
const ON_NEWEST: [&str; 3] = ["crds::", "inject::", "manifests::"];
/// What a test says that somebody else's cluster is not enough for, as the test harness prints it.
const OWN: &str = "ignored, needs a cluster of the tool's own";

/// Whose cluster the tests run on.
enum Host {
    /// Somebody brought it: nothing is loaded, nothing ended.
    Brought(PathBuf),
    /// It ran before: it goes on after.
    Running(&'static str, PathBuf),
    /// It was started for this run.
    Started(&'static str, PathBuf),
}

impl Host {
    /// The cluster of this name: the one that runs, or one that is started.
    fn own(
        around: &Surroundings,
        steps: &mut Steps,
        name: &'static str,
        version: Option<cluster::Version>,
    ) -> Result<Self> {
        if cluster::is_up(around, name)? {
            return Ok(Self::Running(name, cluster::up(around, name, version)?));
        }
        let mut kubeconfig = PathBuf::new();
        let number = version.unwrap_or_default().number();
        steps.step(&format!("cluster up, Kubernetes {number}"), || {
            kubeconfig = cluster::up(around, name, version)?;
            Ok(true)
        })?;
        Ok(Self::Started(name, kubeconfig))
    }

    fn kubeconfig(&self) -> &Path {
        match self {
            Self::Brought(path) | Self::Running(_, path) | Self::Started(_, path) => path,
        }
    }

    /// Its name, where the tool knows it.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Brought(_) => None,
            Self::Running(name, _) | Self::Started(name, _) => Some(name),
        }
    }

    /// Ends what was started.
    fn end(&self, around: &Surroundings, steps: &mut Steps) -> Result<()> {
        match self {
            Self::Brought(_) | Self::Running(..) => Ok(()),
            Self::Started(name, _) => steps.step("cluster down", || {
                cluster::down(around, name).map(|()| true)
            }),
        }
    }
}

/// Runs the suite.
///
/// # Errors
/// If there is no cluster or no image; failing tests are collected in `steps`.
pub(crate) fn run(around: &Surroundings, steps: &mut Steps, wish: &Wish) -> Result<()> {
    // What an earlier run left out is no news of this one.
    drop(fs::remove_file(left_out(around)));
    let host = match around.kubeconfig() {
        Some(given) => Host::Brought(given.to_path_buf()),
        None => Host::own(around, steps, cluster::MAIN, None)?,
    };
    let outcome = on(around, steps, wish, &host);
    let outcome = outcome.and_then(|()| {
        if wish.full && host.name().is_some() {
            on_newest(around, steps, wish)?;
        }
        Ok(())
    });
    host.end(around, steps)?;
    outcome
}

/// The folder of the images.
fn archives(around: &Surroundings) -> PathBuf {
    around.target().join("images")
}

/// A file with a line for each test, or module of tests, that was not run, and why: whoever started this run may have
/// to say so at the end of a longer one.
fn left_out(around: &Surroundings) -> PathBuf {
    around.target().join("k8s-not-run")
}

/// The tests, to be run on this cluster.
fn tests(around: &Surroundings, wish: &Wish, host: &Host) -> Result<Command> {
    let mut tests = around.cargo();
    tests
        .env("IRONSIDE_CACHE", around.shared())
        .env("IRONSIDE_E2E_KUBECONFIG", host.kubeconfig())
        .env("IRONSIDE_E2E_IMAGES", archives(around))
        .env("IRONSIDE_E2E_PROGRAMS", cluster::programs(around)?)
        .args(["test", "--package", "ironside-e2e", "--test", "k8s", "--"])
        .args(["--ignored", "--test-threads", "6"]);
    if wish.full {
        tests.env("IRONSIDE_E2E_FULL", "1");
    }
    if let Some(name) = host.name() {
        tests
            .env("IRONSIDE_E2E_CLUSTER", name)
            // The command of the images; else a test would build it, and hold cargo's lock before the others.
            .env("IRONSIDE_BIN_DIR", images::programs(around, wish.profile))
            // The images are those that this tool loads.
            .env_remove("IRONSIDE_E2E_REGISTRY")
            .env_remove("IRONSIDE_E2E_PULL_POLICY");
    }
    Ok(tests)
}

/// The names of all tests that need a cluster, and what each says of it.
fn known(around: &Surroundings) -> Result<BTreeMap<String, String>> {
    let mut list = around.cargo();
    list.args(["test", "--package", "ironside-e2e", "--test", "k8s"]);
    let output = list
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("the names of the tests cannot be listed, see above");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let tests = text.lines().filter_map(result);
    let ignored = tests.filter(|(_, said)| said.starts_with("ignored"));
    Ok(ignored
        .map(|(name, said)| (name.to_owned(), said.to_owned()))
        .collect())
}

fn on(around: &Surroundings, steps: &mut Steps, wish: &Wish, host: &Host) -> Result<()> {
    let mut not_run = BTreeMap::new();
    if let Some(name) = host.name() {
        let folder = archives(around);
        let images = images::Wish::of(wish.profile);
        steps.step("images", || {
            let written = images::make(around, &images, &folder)?;
            cluster::load(around, name, &written).map(|()| true)
        })?;
        if wish.wants(SDK) {
            let python = sdk::python(around, steps)?;
            steps.step("image of the Python SDK", || {
                let written = images::python::make(around, &python, &folder)?;
                cluster::load(around, name, &[written]).map(|()| true)
            })?;
        }
    } else {
        let why = "it needs a cluster of `cargo xtask cluster up`, not a brought one";
        let wanted = known(around)?.into_iter();
        let (own, rest): (Vec<_>, Vec<_>) = wanted
            .filter(|(name, _)| wish.names(name))
            .partition(|(_, said)| said.starts_with(OWN));
        if rest.is_empty() {
            bail!("no test is left to run: {why}");
        }
        not_run.extend(own.into_iter().map(|(name, _)| (name, why.to_owned())));
    }
    let mut tests = tests(around, wish, host)?;
    tests.args(&wish.only);
    if host.name().is_some() && wish.wants(UPGRADE) {
        match images::previous::make(around, steps)? {
            Previous::Made(folder) => {
                tests.env("IRONSIDE_E2E_PREVIOUS", folder);
            }
            Previous::OutOfReach(why) => {
                not_run.insert(UPGRADE.to_owned(), why);
            }
        }
    }
    for name in not_run.keys() {
        tests.args(["--skip", name]);
    }
    let lines: Vec<String> = not_run
        .iter()
        .map(|(name, why)| match name.strip_suffix("::") {
            Some(module) => format!("{module}::*: {why}\n"),
            None => format!("{name}: {why}\n"),
        })
        .collect();
    let note = left_out(around);
    fs::write(&note, lines.concat()).with_context(|| format!("{}", note.display()))?;
    let times = around.target().join("k8s-times");
    drop(fs::remove_file(&times));
    tests.env("IRONSIDE_E2E_TIMES", &times);
    steps.step("tests on the cluster", || {
        let (passed, results) = listen(&mut tests)?;
        tell(&results, &times);
        for line in &lines {
            eprint!(" not run         - s  {line}");
        }
        Ok(passed)
    })
}

/// Some of the tests on the newest Kubernetes, with the images that the others had.
fn on_newest(around: &Surroundings, steps: &mut Steps, wish: &Wish) -> Result<()> {
    let number = cluster::Version::Newest.number();
    let known = known(around)?;
    let names: Vec<&String> = known
        .keys()
        .filter(|name| ON_NEWEST.iter().any(|module| name.starts_with(module)))
        .filter(|name| wish.names(name))
        .collect();
    if names.is_empty() {
        steps.note(&format!(
            "Kubernetes {number} is not brought up: none of the tests that run on it is wanted"
        ));
        return Ok(());
    }
    let host = Host::own(around, steps, NEWEST, Some(cluster::Version::Newest))?;
    let outcome = steps.step(&format!("tests on Kubernetes {number}"), || {
        let mut tests = tests(around, wish, &host)?;
        tests.arg("--exact").args(names);
        let images = ["ironside.tar", "sample.tar"].map(|name| archives(around).join(name));
        cluster::load(around, NEWEST, &images)?;
        Ok(listen(&mut tests)?.0)
    });
    host.end(around, steps)?;
    outcome
}

/// Runs the tests, shows what they say, and takes the result of each from its line.
fn listen(tests: &mut Command) -> Result<(bool, BTreeMap<String, String>)> {
    let mut child = tests
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo")?;
    let mut results = BTreeMap::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("reading the tests' output")?;
            if let Some((name, result)) = result(&line) {
                results.insert(name.to_owned(), result.to_owned());
            }
            eprintln!("{line}");
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    Ok((status.success(), results))
}

/// The name and the result in a line such as `test pods::a_pod_answers ... ok`.
fn result(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

/// Prints the table of results; the times are those that the tests wrote down.
fn tell(results: &BTreeMap<String, String>, times: &Path) {
    let text = fs::read_to_string(times).unwrap_or_default();
    let times: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    eprintln!();
    for (name, result) in results {
        let seconds = times.get(name.as_str()).copied().unwrap_or("-");
        eprintln!("{result:>8}  {seconds:>8} s  {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::{OWN, SDK, UPGRADE, Wish, images::Profile, result};
    use crate::surroundings::Surroundings;
    use std::{fs, path::Path};

    #[test]
    fn what_is_made_is_what_the_wanted_tests_need() {
        let wish = |only: Option<&str>| Wish {
            full: false,
            only: only.map(str::to_owned),
            profile: Profile::Dev,
        };
        assert!(wish(None).wants(UPGRADE));
        assert!(wish(Some("rolled_back")).wants(UPGRADE));
        assert!(wish(Some("upgrade::the_version")).wants(UPGRADE));
        assert!(!wish(Some("upgrade::the_version")).wants(SDK));
        assert!(wish(None).names("crds::a") && wish(Some("ds::a")).names("crds::a"));
        assert!(!wish(Some("upgrade::")).names("crds::a"));
    }

    /// What cannot do without the tool says so where it is left out by.
    #[test]
    fn tests_that_need_the_tool_say_so() {
        let around = Surroundings::read().unwrap();
        let mut all = Vec::new();
        read(&around.sources("e2e/tests/k8s"), &mut all);
        let text = all.concat();
        let tests = text.split("#[ignore = \"").skip(1);
        let own = OWN.strip_prefix("ignored, ").unwrap();
        let mut count = 0;
        for test in tests {
            let body = test.split("\n}\n").next().unwrap();
            if ["k8s::test_on_", "Machine::own", "Machine::shared"]
                .iter()
                .any(|word| body.contains(word))
            {
                count += 1;
                assert!(test.starts_with(own), "{body}");
            }
        }
        assert!(count > 20, "{count}");
    }

    fn read(folder: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, all);
            } else {
                all.push(fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn results_are_read_from_the_lines_of_tests() {
        assert_eq!(result("test a::b ... ok"), Some(("a::b", "ok")));
        assert_eq!(result("test a::b ... FAILED"), Some(("a::b", "FAILED")));
        let left_out = "test a::b ... ignored, needs a cluster of the tool's own: c";
        let (name, said) = result(left_out).unwrap();
        assert!(name == "a::b" && said.starts_with(OWN));
        assert_eq!(result("test result: ok. 2 passed; 0 failed"), None);
        assert_eq!(result("running 2 tests"), None);
    }
}

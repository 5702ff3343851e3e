//! `e2e sdk`: puts the published clients into the cache folder and runs the tests that use them.
//!
//! Each set is installed once and again when its list of packages changes; the list lies beside the programs
//! that need it, under `e2e/sdk`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{steps::Steps, surroundings::Surroundings};

/// Installs what is missing and runs the tests.
///
/// # Errors
/// If Python or Node is missing, or a set of packages cannot be installed.
pub(crate) fn run(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    need("node", "Node 18 or newer (Debian: apt-get install nodejs)")?;
    need("npm", "npm (Debian: apt-get install npm)")?;
    python(around, steps)?;
    javascript(around, steps)?;
    rust(around, steps)?;
    let mut tests = around.cargo();
    tests.args([
        "test",
        "--package",
        "ironside-e2e",
        "--test",
        "sdk",
        "--",
        "--ignored",
        "--nocapture",
    ]);
    steps.run("published clients against real sidecars", &mut tests)
}

fn need(program: &str, what: &str) -> Result<()> {
    let answer = Command::new(program).arg("--version").output();
    match answer {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) | Err(_) => bail!("tests with published clients need {program} in PATH: {what}"),
    }
}

/// The folder of one set, and whether its list of packages is the one it was installed from.
struct Set {
    folder: PathBuf,
    list: PathBuf,
}

impl Set {
    fn of(around: &Surroundings, name: &str, list: &str) -> Result<Self> {
        let folder = around.cache().join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cache folder {}", folder.display()))?;
        Ok(Self {
            folder,
            list: around.sources("e2e/sdk").join(list),
        })
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("installed-from")
    }

    fn is_current(&self) -> Result<bool> {
        let wanted =
            fs::read(&self.list).with_context(|| format!("list {}", self.list.display()))?;
        Ok(fs::read(self.stamp()).is_ok_and(|found| found == wanted))
    }

    fn done(&self) -> Result<()> {
        fs::copy(&self.list, self.stamp()).context("remembering what was installed")?;
        Ok(())
    }
}

/// Installs the Python SDK unless it is there; returns the folder of its virtual environment.
///
/// # Errors
/// If Python is missing, or the packages cannot be installed.
pub(crate) fn python(around: &Surroundings, steps: &mut Steps) -> Result<PathBuf> {
    need(
        "python3",
        "Python 3.10 or newer with venv (Debian: apt-get install python3 python3-venv)",
    )?;
    let set = Set::of(around, "python", "python/requirements.txt")?;
    if set.is_current()? {
        return Ok(set.folder);
    }
    steps.must(
        "virtual environment",
        around
            .program("python3")
            .args(["-m", "venv"])
            .arg(&set.folder),
    )?;
    let mut install = around.program(set.folder.join("bin").join("pip"));
    install
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&set.list);
    steps.must("Python packages", &mut install)?;
    set.done()?;
    Ok(set.folder)
}

fn javascript(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    let set = Set::of(around, "javascript", "javascript/package.json")?;
    if set.is_current()? {
        return Ok(());
    }
    fs::copy(&set.list, set.folder.join("package.json"))
        .context("package.json in the cache folder")?;
    let mut install = around.program("npm");
    install
        .args(["install", "--no-audit", "--no-fund", "--loglevel", "error"])
        .current_dir(&set.folder);
    steps.must("Node packages", &mut install)?;
    set.done()
}

fn rust(around: &Surroundings, steps: &mut Steps) -> Result<()> {
    // A project of its own: the SDK's crates stay out of the workspace's tree.
    let manifest: &Path = &around.sources("e2e/sdk/rust").join("Cargo.toml");
    let mut build = around.cargo();
    build
        .args(["build", "--locked", "--manifest-path"])
        .arg(manifest);
    steps.must(
        "Rust client",
        build.arg("--target-dir").arg(around.cache().join("rust")),
    )
}

//! The version before this one, for tests of the upgrade: its image under the tag `e2e-prev`, and its chart.
//!
//! Until there is a release it is the commit that finished the chart. Its sources come out of the repository, so a
//! checkout that does not have the commit and cannot fetch it says so and goes without. It is built once, in the dev
//! profile: what is compared is behaviour, and cargo has the dependencies of that profile from the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tar::Archive;

use super::{product, strip, written_as};
use crate::{steps::Steps, surroundings::Surroundings};

/// The commit.
const COMMIT: &str = "efbdb1ee82cc48da28fa37f7ed4000d0599e36bc";
/// The tag of its image.
const TAG: &str = "e2e-prev";
/// Its chart, in its sources.
const CHART: &str = "charts/ironside";

/// What there is of it.
pub(crate) enum Previous {
    /// A folder with `ironside.tar` and the chart `ironside`.
    Made(PathBuf),
    /// Nothing, because of this.
    OutOfReach(String),
}

/// Makes it unless it is there.
///
/// # Errors
/// None of its own: that it does not build is a failed step.
pub(crate) fn make(around: &Surroundings, steps: &mut Steps) -> Result<Previous> {
    let done = around.shared().join("previous").join(COMMIT);
    if done.is_dir() {
        return Ok(Previous::Made(done));
    }
    if !reached(around) {
        let why = format!(
            "this repository does not have the commit {COMMIT}, and origin does not give it: fetch the whole history \
             (git fetch --unshallow)"
        );
        steps.note(&why);
        return Ok(Previous::OutOfReach(why));
    }
    let mut built = false;
    // The other tests can do without it.
    steps.step("the version before this one", || {
        let outcome = build(around, &done);
        built = outcome.is_ok();
        if let Err(error) = outcome {
            eprintln!("{error:#}");
        }
        Ok(built)
    })?;
    Ok(if built {
        Previous::Made(done)
    } else {
        Previous::OutOfReach(format!("commit {COMMIT} does not build, see above"))
    })
}

/// Whether the commit is here, or can be brought.
fn reached(around: &Surroundings) -> bool {
    let succeeds = |arguments: &[&str]| {
        let mut git = around.program("git");
        git.env("GIT_TERMINAL_PROMPT", "0")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        git.status().is_ok_and(|status| status.success())
    };
    let object = format!("{COMMIT}^{{commit}}");
    let here = ["cat-file", "-e", object.as_str()];
    // A shallow clone: most servers give a commit by its name.
    let fetch = ["fetch", "--quiet", "--depth=1", "origin", COMMIT];
    succeeds(&here) || (succeeds(&fetch) && succeeds(&here))
}

fn build(around: &Surroundings, done: &Path) -> Result<()> {
    let sources = sources(around)?;
    let target = around.target();
    let program = target.join("debug").join("ironside");
    // Both versions' programs have one name in cargo's folder: this version's goes back to its place.
    let kept = target.join("debug").join("ironside.kept");
    let is_there = program.is_file();
    if is_there {
        fs::rename(&program, &kept).context("keeping the present program")?;
    }
    let built = compile(around, &sources);
    let unfinished = done.with_extension("unfinished");
    let packed = built.and_then(|()| pack(&program, &sources, &unfinished));
    if is_there {
        fs::rename(&kept, &program).context("putting the present program back")?;
    } else {
        drop(fs::remove_file(&program));
    }
    packed?;
    fs::rename(&unfinished, done).context("putting the version before into place")
}

fn compile(around: &Surroundings, sources: &Path) -> Result<()> {
    let mut build = around.cargo();
    build
        .current_dir(sources)
        .args(["build", "--quiet", "--locked", "--package", "ironside"])
        .args(["--bin", "ironside", "--target-dir"])
        .arg(around.target());
    if !build.status().context("starting cargo")?.success() {
        bail!("its program does not build");
    }
    Ok(())
}

fn pack(program: &Path, sources: &Path, out: &Path) -> Result<()> {
    drop(fs::remove_dir_all(out));
    let scratch = out.join(".stripped");
    fs::create_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let image = product(&strip(program, &scratch)?, TAG);
    written_as(out.join("ironside.tar"), &image)?;
    fs::remove_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let mut copy = Command::new("cp");
    copy.arg("--recursive").arg(sources.join(CHART)).arg(out);
    if !copy.status().context("starting cp")?.success() {
        bail!("the chart of {COMMIT} cannot be copied");
    }
    Ok(())
}

/// The commit's sources, in a folder of their own.
fn sources(around: &Surroundings) -> Result<PathBuf> {
    let folder = around.target().join("previous").join(COMMIT);
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = folder.with_extension("unfinished");
    drop(fs::remove_dir_all(&unfinished));
    let mut git = around
        .program("git")
        .args(["archive", "--format=tar", COMMIT])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting git")?;
    let content = git.stdout.take().context("what git writes")?;
    let unpacked = Archive::new(content).unpack(&unfinished);
    let status = git.wait().context("waiting for git")?;
    unpacked.with_context(|| format!("unpacking {COMMIT}"))?;
    if !status.success() {
        bail!("git archive {COMMIT} failed");
    }
    fs::rename(&unfinished, &folder).context("putting the sources into place")?;
    Ok(folder)
}

//! `images`: the product's image and the sample app's as docker-archives, without a container engine.
//!
//! The image is built from `list`, which the `Dockerfile` at the root repeats for people with an engine. It has many
//! names and no entry point: which program it is, is said by the link that a pod calls.

pub(crate) mod archive;
pub(crate) mod list;
pub(crate) mod previous;
pub(crate) mod python;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use self::{
    archive::{Image, write},
    list::{Entry, Source},
};
use crate::{deadline::Stopwatch, surroundings::Surroundings};

/// The registry that test images pretend to come from.
const REGISTRY: &str = "ironside.test";

/// How the programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// As they are shipped.
    Release,
    /// Quickly: for those who change something every minute.
    Dev,
}

/// Which images, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Wish {
    /// How the programs are compiled.
    #[arg(long, value_enum, default_value = "release")]
    pub(crate) profile: Profile,
    /// The tag of the images.
    #[arg(long, default_value = "e2e")]
    pub(crate) tag: String,
}

impl Wish {
    /// The images that tests name.
    pub(crate) fn of(profile: Profile) -> Self {
        Self {
            profile,
            tag: "e2e".to_owned(),
        }
    }
}

/// Builds the programs and writes `ironside.tar` and `sample.tar` into `out`; returns their paths.
///
/// # Errors
/// If a program does not build, or the disk is full.
pub(crate) fn make(around: &Surroundings, wish: &Wish, out: &Path) -> Result<Vec<PathBuf>> {
    let watch = Stopwatch::start();
    let programs = compile(around, wish.profile)?;
    fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
    let scratch = out.join(".stripped");
    fs::create_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let product = product(&strip(&programs.join("ironside"), &scratch)?, &wish.tag);
    let mut entries = list::surroundings();
    entries.push(Entry {
        at: "/sample".to_owned(),
        source: Source::File(strip(&programs.join("sample"), &scratch)?),
    });
    let sample = Image {
        arguments: vec!["serve".to_owned()],
        ..image(&["sample"], &["/sample"], &wish.tag, entries)
    };
    let mut written = Vec::new();
    for (name, image) in [("ironside.tar", product), ("sample.tar", sample)] {
        written.push(written_as(out.join(name), &image)?);
    }
    drop(fs::remove_dir_all(&scratch));
    eprintln!("-- images are ready ({})", watch.seconds());
    Ok(written)
}

/// An image of ours.
fn image(names: &[&str], entrypoint: &[&str], tag: &str, entries: Vec<Entry>) -> Image {
    Image {
        names: names
            .iter()
            .map(|name| format!("{REGISTRY}/{name}:{tag}"))
            .collect(),
        entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
        arguments: Vec::new(),
        environment: Vec::new(),
        user: Some(list::USER.to_owned()),
        entries,
    }
}

/// The product's image around the binary `program`.
fn product(program: &Path, tag: &str) -> Image {
    let names = ["daprd", "injector", "operator", "sentry", "ironside"];
    image(&names, &[], tag, list::product(program))
}

/// Writes one image, and says so.
fn written_as(path: PathBuf, image: &Image) -> Result<PathBuf> {
    write(&path, std::slice::from_ref(image))?;
    let size = fs::metadata(&path).map(|found| found.len()).unwrap_or(0);
    let mebibytes = size.checked_div(1 << 20).unwrap_or(0);
    eprintln!("-- {} ({mebibytes} MiB)", path.display());
    Ok(path)
}

/// Where cargo puts the programs.
pub(crate) fn programs(around: &Surroundings, profile: Profile) -> PathBuf {
    around.target().join(match profile {
        Profile::Release => "release",
        Profile::Dev => "debug",
    })
}

/// Builds both programs; returns their folder.
fn compile(around: &Surroundings, profile: Profile) -> Result<PathBuf> {
    let name = match profile {
        Profile::Release => "release",
        Profile::Dev => "dev",
    };
    let mut build = around.cargo();
    build
        .args(["build", "--quiet", "--locked", "--profile", name])
        .args([
            "--package",
            "ironside",
            "--package",
            "ironside-sample",
            "--bins",
        ]);
    let status = build.status().context("starting cargo")?;
    if !status.success() {
        bail!("the programs do not build");
    }
    Ok(programs(around, profile))
}

/// A copy without the lines of source: they are several times as large as the program.
///
/// Names of functions stay, so a backtrace is still readable.
fn strip(program: &Path, scratch: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?;
    let stripped = scratch.join(name);
    let status = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&stripped)
        .arg(program)
        .status()
        .context("starting strip (Debian: binutils)")?;
    if !status.success() {
        bail!("strip of {} failed", program.display());
    }
    Ok(stripped)
}

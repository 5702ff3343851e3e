//! An image with this machine's Python and the SDK's packages, made of their files where they lie.
//!
//! Every file keeps its path, so that the interpreter finds its library and the loader finds the interpreter's. What
//! an app in a pod does not import (tests, installers, the compiler of protocols) stays behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    image,
    list::{self, Entry, Source},
    written_as,
};
use crate::surroundings::Surroundings;

/// Where the interpreter and the packages are, told by themselves.
const WHERE: &str = "import json, os, sys, sysconfig; print(json.dumps([os.path.realpath(sys.executable), \
                     sysconfig.get_path('stdlib'), sysconfig.get_path('purelib')]))";

/// Folders that no app imports.
const LEFT_OUT: [&str; 9] = [
    "__pycache__",
    "ensurepip",
    "grpc_tools",
    "idlelib",
    "pip",
    "setuptools",
    "site-packages",
    "test",
    "tests",
];

/// The apps, in the sources and in the image.
const APPS: &str = "e2e/sdk/python";
const AT: &str = "/app";

/// Writes `python.tar`, from the virtual environment `python`, into `out`; returns its path.
///
/// # Errors
/// If the interpreter does not say where it lies, or the disk is full.
pub(crate) fn make(around: &Surroundings, python: &Path, out: &Path) -> Result<PathBuf> {
    let interpreter = python.join("bin").join("python");
    let text = said(Command::new(&interpreter).args(["-c", WHERE]))?;
    let found: Value = serde_json::from_str(&text).context("what Python says")?;
    let place = |index: usize| -> Result<PathBuf> {
        let path = found.get(index).and_then(Value::as_str);
        Ok(PathBuf::from(path.context("what Python says")?))
    };
    let (program, library, packages) = (place(0)?, place(1)?, place(2)?);
    let mut files = BTreeSet::from([program.clone()]);
    walk(&library, &mut files)?;
    walk(&packages, &mut files)?;
    libraries(&mut files)?;
    let mut entries = list::surroundings();
    let known: BTreeSet<String> = entries.iter().map(|entry| entry.at.clone()).collect();
    for path in files {
        let at = path
            .to_str()
            .context("a path that is not UTF-8")?
            .to_owned();
        if !known.contains(&at) {
            entries.push(Entry {
                at,
                source: Source::File(path),
            });
        }
    }
    let apps = around.sources(APPS);
    for found in fs::read_dir(&apps).with_context(|| format!("{}", apps.display()))? {
        let path = found.context("an app")?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| name.ends_with(".py")) {
            entries.push(Entry {
                at: format!("{AT}/{name}"),
                source: Source::File(path.clone()),
            });
        }
    }
    let program = program.to_str().context("a path that is not UTF-8")?;
    let mut image = image(&["python"], &[program], "e2e", entries);
    image.environment = vec![
        format!("PYTHONPATH={}", packages.display()),
        "PYTHONDONTWRITEBYTECODE=1".to_owned(),
        "PYTHONUNBUFFERED=1".to_owned(),
    ];
    fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
    written_as(out.join("python.tar"), &image)
}

/// Adds the files below `folder`; links are followed, for a layer's content is files.
fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for found in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = found
            .with_context(|| format!("{}", folder.display()))?
            .path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_file() {
            files.insert(path);
        } else if path.is_dir() && !LEFT_OUT.contains(&name) && !name.starts_with("config-") {
            walk(&path, files)?;
        }
    }
    Ok(())
}

/// Adds the libraries that the interpreter and the extensions are linked with.
fn libraries(files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let linked = files.iter().filter(|path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.contains(".so") || name.starts_with("python")
    });
    let mut ldd = Command::new("ldd");
    ldd.args(linked);
    // It ends without success when one of many is linked with nothing.
    let output = ldd.output().context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines() {
        if let Some(path) = library(line) {
            files.insert(PathBuf::from(path));
        }
    }
    Ok(())
}

/// The path in a line such as `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f)`.
fn library(line: &str) -> Option<&str> {
    let (_, found) = line.split_once("=> ")?;
    let path = found.split(" (").next()?;
    path.starts_with('/').then_some(path)
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().context("starting Python")?;
    if !output.status.success() {
        bail!("Python: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("what Python says")
}

#[cfg(test)]
mod tests {
    use super::library;

    #[test]
    fn libraries_are_read_from_the_lines_of_ldd() {
        let line = "\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007fb352800000)";
        assert_eq!(library(line), Some("/lib/x86_64-linux-gnu/libz.so.1"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007fb352e60000)"), None);
        assert_eq!(library("\tlibx.so => not found"), None);
        assert_eq!(library("/usr/bin/python3.11:"), None);
    }
}

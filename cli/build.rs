//! Puts the chart into the binary: a list of its files, in the order of their names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error, fs, io};

fn main() -> Result<(), Box<dyn error::Error>> {
    // Where this package lies now: what was compiled into this script may lie elsewhere, or no more.
    let chart = told("CARGO_MANIFEST_DIR")?.join("../charts/ironside");
    let mut files = Vec::new();
    collect(&chart, &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&chart)?;
        writeln!(list, "    ({name:?}, include_bytes!({file:?})),")?;
    }
    list.push_str("]\n");
    fs::write(told("OUT_DIR")?.join("chart.rs"), list)?;
    println!("cargo::rerun-if-changed={}", chart.display());
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script in its environment"
)]
fn told(name: &str) -> Result<PathBuf, String> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo does not tell {name}"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

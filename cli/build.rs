//! Puts the chart into the binary: a list of its files, in the order of their names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error, fs, io};

fn main() -> Result<(), Box<dyn error::Error>> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/ironside");
    let mut files = Vec::new();
    collect(&chart, &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&chart)?;
        writeln!(list, "    ({name:?}, include_bytes!({file:?})),")?;
    }
    list.push_str("]\n");
    fs::write(out()?.join("chart.rs"), list)?;
    println!("cargo::rerun-if-changed={}", chart.display());
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script in its environment"
)]
fn out() -> Result<PathBuf, &'static str> {
    env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or("no folder to write to")
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

//! Where the product's programs are, built if need be.
//!
//! `IRONSIDE_BIN_DIR` names a folder of ready ones (a release build, an installed set). Otherwise they are
//! built once per test process, into the folder the test itself runs from, in the same profile; cargo's own
//! lock orders test processes that do so at the same time.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The path of `daprd`, `sentry` or `ironside`.
///
/// # Panics
/// If the programs cannot be built.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(folder).join(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this crate that reads the environment"
)]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A variable of the test's environment, for the rigs that need one.
#[must_use]
pub fn setting(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// The workspace root.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
}

/// A call of cargo.
#[must_use]
pub fn cargo() -> Command {
    Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The target folder that this test was built into.
///
/// # Panics
/// If the test does not lie where cargo puts tests.
#[must_use]
pub fn target() -> PathBuf {
    let profile = profile();
    profile
        .parent()
        .expect("a profile folder has a parent")
        .to_path_buf()
}

fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors()
        .nth(2)
        .expect("a test lies in <target>/<profile>/deps")
        .to_path_buf()
}

fn folder() -> PathBuf {
    if let Some(given) = setting("IRONSIDE_BIN_DIR") {
        return given;
    }
    let profile = profile();
    let target = profile.parent().expect("a profile folder has a parent");
    let mut build = cargo();
    build
        .current_dir(root())
        .args(["build", "--quiet", "--workspace", "--bins", "--target-dir"])
        .arg(target);
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo starts");
    assert!(status.success(), "the programs do not build: {status}");
    profile
}

//! Images of what the cluster itself runs in pods: the sandbox's process and the cluster's DNS.
//!
//! Both are one static program; the archive lies beside the programs and is written once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{settings, toolchain::Toolchain};
use crate::images::{
    archive::{Image, write},
    list::{Entry, Source},
};

/// Where the archive is.
pub(crate) fn path(tools: &Toolchain) -> PathBuf {
    tools.bin().join("system-images.tar")
}

/// Writes the archive unless it is there.
///
/// # Errors
/// If a program is missing or the disk is full.
pub(crate) fn ensure(tools: &Toolchain) -> Result<()> {
    let path = path(tools);
    if path.is_file() {
        return Ok(());
    }
    let one = |name: &str, image: &str, program: &str| Image {
        names: vec![image.to_owned()],
        entrypoint: vec![format!("/{name}")],
        arguments: Vec::new(),
        environment: Vec::new(),
        user: None,
        entries: vec![Entry {
            at: format!("/{name}"),
            source: Source::File(tools.bin().join(program)),
        }],
    };
    let images = [
        one("pause", settings::PAUSE_IMAGE, "pause"),
        one("coredns", settings::DNS_IMAGE, "coredns"),
    ];
    let unfinished = Path::new(&path).with_extension("unfinished");
    write(&unfinished, &images)?;
    fs::rename(&unfinished, &path).context("putting the cluster's own images into place")
}

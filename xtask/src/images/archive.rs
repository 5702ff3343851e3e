//! docker-archives without an engine: layers, configurations and a manifest in one tar file.
//!
//! Every image has one layer. Times, owners and order are fixed, so the same files make the same bytes, and the
//! digest of an image changes only with its content.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::list::{Entry, Source};

/// One image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Names with tags.
    pub(crate) names: Vec<String>,
    /// What a container runs unless it says otherwise; may be empty.
    pub(crate) entrypoint: Vec<String>,
    /// What follows it unless the container says otherwise; may be empty.
    pub(crate) arguments: Vec<String>,
    /// Environment beside `PATH`, as `NAME=value`.
    pub(crate) environment: Vec<String>,
    /// User and group as numbers; none is root.
    pub(crate) user: Option<String>,
    /// What is in it.
    pub(crate) entries: Vec<Entry>,
}

/// Writes `images` into the archive `path`.
///
/// # Errors
/// If a file of an image cannot be read, or the disk is full.
pub(crate) fn write(path: &Path, images: &[Image]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("{}", path.display()))?;
    let mut archive = Builder::new(BufWriter::new(file));
    let mut manifest = Vec::new();
    for image in images {
        let layer = layer(&image.entries)?;
        let digest = hex(&layer);
        let config = serde_json::to_vec(&config(image, &digest)).context("configuration")?;
        let config_name = format!("{}.json", hex(&config));
        let layer_name = format!("{digest}/layer.tar");
        append(&mut archive, &layer_name, 0o644, &layer)?;
        append(&mut archive, &config_name, 0o644, &config)?;
        manifest.push(json!({
            "Config": config_name,
            "RepoTags": image.names,
            "Layers": [layer_name],
        }));
    }
    let manifest = serde_json::to_vec(&manifest).context("manifest")?;
    append(&mut archive, "manifest.json", 0o644, &manifest)?;
    let out = archive.into_inner().context("end of the archive")?;
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .context("end of the archive")?;
    Ok(())
}

/// The image's own description, as the image specification has it.
fn config(image: &Image, layer: &str) -> Value {
    let path = "PATH=/".to_owned();
    let environment: Vec<&String> = [&path].into_iter().chain(&image.environment).collect();
    let mut run = json!({"WorkingDir": "/", "Env": environment});
    if let Some(fields) = run.as_object_mut() {
        if !image.entrypoint.is_empty() {
            fields.insert("Entrypoint".to_owned(), json!(image.entrypoint));
        }
        if !image.arguments.is_empty() {
            fields.insert("Cmd".to_owned(), json!(image.arguments));
        }
        if let Some(user) = &image.user {
            fields.insert("User".to_owned(), json!(user));
        }
    }
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    })
}

/// The machine as images spell it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn layer(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|one, other| one.at.cmp(&other.at));
    let mut layer = Builder::new(Vec::new());
    for entry in sorted {
        let name = entry.at.trim_start_matches('/');
        match &entry.source {
            Source::File(from) => {
                let content = fs::read(from)
                    .with_context(|| format!("{} for {}", from.display(), entry.at))?;
                let mode = std::os::unix::fs::PermissionsExt::mode(
                    &fs::metadata(from)
                        .with_context(|| format!("{}", from.display()))?
                        .permissions(),
                );
                let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                append(&mut layer, name, mode, &content)?;
            }
            Source::Link(to) => {
                let mut header = header(0, 0o777);
                header.set_entry_type(EntryType::Symlink);
                layer
                    .append_link(&mut header, name, to)
                    .with_context(|| format!("link {}", entry.at))?;
            }
        }
    }
    layer.into_inner().context("end of a layer")
}

fn append(
    archive: &mut Builder<impl std::io::Write>,
    name: &str,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let size = u64::try_from(content.len()).context("size")?;
    let mut header = header(size, mode);
    archive
        .append_data(&mut header, name, content)
        .with_context(|| format!("writing {name}"))
}

fn header(size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

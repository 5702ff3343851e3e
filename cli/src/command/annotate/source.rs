//! Where manifests come from: a file, a folder, a URL, or the standard input.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// The largest manifest that is fetched.
const LARGEST: usize = 16 << 20;

/// The texts behind one word of the command line.
pub(super) async fn read(word: &OsStr) -> anyhow::Result<Vec<String>> {
    if word == "-" {
        let mut text = String::new();
        let mut input = std::io::stdin().lock();
        input
            .read_to_string(&mut text)
            .context("reading the standard input")?;
        return Ok(vec![text]);
    }
    if let Some(url) = word.to_str().filter(|text| is_url(text)) {
        let text = fetch(url).await;
        return Ok(vec![text.with_context(|| format!("fetching {url}"))?]);
    }
    let path = Path::new(word);
    if !path.is_dir() {
        return Ok(vec![file(path)?]);
    }
    let reading = || format!("reading the folder {}", path.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).with_context(reading)? {
        paths.push(entry.with_context(reading)?.path());
    }
    paths.retain(|path| {
        let extension = path.extension().and_then(OsStr::to_str);
        matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file()
    });
    paths.sort_unstable();
    paths.iter().map(|path| file(path)).collect()
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn file(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

async fn fetch(url: &str) -> anyhow::Result<String> {
    ironside_transport::install_provider();
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<bytes::Bytes>>(connector);
    let answer = client.get(url.parse()?).await?;
    if !answer.status().is_success() {
        bail!("the server answers {}", answer.status());
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let Ok(body) = body else {
        bail!("the answer breaks off, or is larger than {LARGEST} bytes");
    };
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}

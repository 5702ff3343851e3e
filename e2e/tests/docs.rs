//! The documents tell the truth where a test can see it.
//!
//! Refused: a relative link to a file or heading that is not there, an `errorCode` of the sidecar that
//! docs/errors.md does not explain, and one that it explains but nobody sends. What the prose says is not
//! judged here.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Documents beside the folder `docs`.
const AT_ROOT: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// Where error codes are explained.
const ERRORS: &str = "docs/errors.md";

/// How error codes begin; the second is the scheduler's, which breaks the pattern in the reference too.
const CODES: [&str; 2] = ["ERR_", "DAPR_SCHEDULER_SCHEDULE"];

/// A Markdown document: its links and what can be linked to.
struct Document {
    path: PathBuf,
    links: Vec<(usize, String)>,
    anchors: BTreeSet<String>,
}

// === impl Document ===

impl Document {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let mut document = Self {
            path,
            links: Vec::new(),
            anchors: BTreeSet::new(),
        };
        let mut headings = BTreeMap::new();
        let mut fenced = false;
        for (line, number) in text.lines().zip(1..) {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            if !fenced {
                document.line(line, number, &mut headings);
            }
        }
        document
    }

    fn line(&mut self, line: &str, number: usize, headings: &mut BTreeMap<String, usize>) {
        if let Some(heading) = heading(line) {
            let slug = slug(heading);
            let seen = headings.entry(slug.clone()).or_insert(0_usize);
            self.anchors.insert(match *seen {
                0 => slug,
                n => format!("{slug}-{n}"),
            });
            *seen += 1;
        }
        for (at, _) in line.match_indices("<a id=\"") {
            let id = line[at + "<a id=\"".len()..].split('"').next().unwrap();
            assert!(
                self.anchors.insert(id.to_owned()),
                "{}:{number}: the anchor {id} is there twice",
                self.path.display()
            );
        }
        let prose = without_code(line);
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split(')').next().unwrap();
            self.links.push((number, target.to_owned()));
        }
    }
}

/// The text of a heading.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6).contains(&level).then(|| text.strip_prefix(' '))?
}

/// The anchor that readers of Markdown give a heading: lower case, punctuation gone, spaces as dashes.
fn slug(heading: &str) -> String {
    let text = link_texts(heading).trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// A heading with its links replaced by their texts.
fn link_texts(heading: &str) -> String {
    let mut out = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        out.push_str(&before.replacen('[', "", 1));
        rest = after.split_once(')').map_or("", |(_, tail)| tail);
    }
    out + rest
}

/// A line with its code spans emptied: what stands in them is no link.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// All files below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|end| end == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn documents() -> BTreeMap<PathBuf, Document> {
    let root = root();
    let mut paths: Vec<PathBuf> = AT_ROOT.iter().map(|name| root.join(name)).collect();
    paths.extend(files(&root.join("docs"), "md"));
    paths
        .into_iter()
        .map(|path| (path.clone(), Document::read(path)))
        .collect()
}

/// What is wrong with a link, if anything.
fn broken(link: &str, from: &Document, all: &BTreeMap<PathBuf, Document>) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = if file.is_empty() {
        from.path.clone()
    } else {
        match from.path.parent().unwrap().join(file).canonicalize() {
            Ok(path) => path,
            Err(_) => return Some(format!("there is no {file}")),
        }
    };
    match all.get(&path) {
        Some(target) if !anchor.is_empty() && !target.anchors.contains(anchor) => {
            Some(format!("{} has no anchor {anchor}", path.display()))
        }
        Some(_) | None => None,
    }
}

/// Words of a text that are error codes.
fn codes(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| {
            CODES
                .iter()
                .any(|start| word.len() > start.len() && word.starts_with(start))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let root = root().canonicalize().unwrap();
    let all: BTreeMap<PathBuf, Document> = documents()
        .into_iter()
        .map(|(path, document)| (path.canonicalize().unwrap(), document))
        .collect();
    let mut wrong = Vec::new();
    for (path, document) in &all {
        let name = path.strip_prefix(&root).unwrap().display();
        for (line, link) in &document.links {
            if let Some(why) = broken(link, document, &all) {
                wrong.push(format!("{name}:{line}: {link}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "broken links:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_error_code_is_explained_and_every_explained_one_is_sent() {
    let root = root();
    let mut sent = BTreeSet::new();
    for path in files(&root.join("sidecar/src"), "rs") {
        sent.extend(codes(&fs::read_to_string(path).unwrap()));
    }
    let explained = codes(&fs::read_to_string(root.join(ERRORS)).unwrap());
    let silent: Vec<_> = sent.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&sent).collect();
    assert!(silent.is_empty(), "{ERRORS} does not explain {silent:?}");
    assert!(
        stale.is_empty(),
        "{ERRORS} explains what nobody sends: {stale:?}"
    );
}

#[test]
fn headings_get_the_anchors_that_readers_give_them() {
    for (heading, anchor) in [
        ("`ERR_DIRECT_INVOKE`", "err_direct_invoke"),
        ("gRPC codes as HTTP status", "grpc-codes-as-http-status"),
        (
            "What Python's client says, and why",
            "what-pythons-client-says-and-why",
        ),
        ("1. A [link](x.md) in it", "1-a-link-in-it"),
    ] {
        assert_eq!(slug(heading), anchor, "{heading}");
    }
    assert_eq!(heading("## Two words"), Some("Two words"));
    assert_eq!(heading("#no"), None);
    assert_eq!(without_code("a `[b](c)` d"), "a `` d");
}

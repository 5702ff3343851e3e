//! The Cargo.toml files are the layering of house style 2; this test reads them.
//!
//! Refused: an edge to a crate of the same or a higher layer, a runtime library under a layer that must
//! stay pure, a package name without the project's prefix, a source file without a module doc.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// A row of the table in house style 2, from the pure end upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Vocabulary,
    Decisions,
    Shells,
    Programs,
    Front,
    Rigs,
}

/// Folder of each crate and its layer; `crates/testkit` is a rig that may see L0 to L2 only.
const LAYERS: [(&str, Layer); 21] = [
    ("proto", Layer::Vocabulary),
    ("crates/identity", Layer::Vocabulary),
    ("crates/resources", Layer::Vocabulary),
    ("crates/telemetry", Layer::Vocabulary),
    ("crates/policy", Layer::Decisions),
    ("crates/resiliency", Layer::Decisions),
    ("crates/resolution", Layer::Decisions),
    ("crates/transport", Layer::Shells),
    ("crates/discovery", Layer::Shells),
    ("crates/cluster", Layer::Shells),
    ("crates/chassis", Layer::Shells),
    ("sidecar", Layer::Programs),
    ("injector", Layer::Programs),
    ("sentry", Layer::Programs),
    ("operator", Layer::Programs),
    ("cli", Layer::Front),
    ("e2e", Layer::Rigs),
    ("e2e/sample", Layer::Rigs),
    ("bench", Layer::Rigs),
    ("xtask", Layer::Rigs),
    (TESTKIT, Layer::Rigs),
];

const TESTKIT: &str = "crates/testkit";

/// Libraries that move bytes, time or tasks: not for L0 and L1.
const RUNTIMES: [&str; 6] = ["tokio", "hyper", "rustls", "kube", "mio", "socket2"];

/// `proto` alone is excused: tonic's generated code names its channel types.
const EXCUSED: &str = "proto";

struct Workspace {
    metadata: Metadata,
    root: PathBuf,
}

impl Workspace {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_path_buf();
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .exec()
            .unwrap();
        Self { metadata, root }
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.metadata.workspace_packages().into_iter()
    }

    fn folder<'a>(&self, package: &'a Package) -> &'a str {
        let dir = package.manifest_path.parent().unwrap().as_std_path();
        dir.strip_prefix(&self.root).unwrap().to_str().unwrap()
    }

    fn member(&self, name: &str) -> Option<&Package> {
        self.members().find(|package| package.name.as_str() == name)
    }

    /// Names of all crates that `package` links in a normal build.
    fn linked(&self, package: &Package) -> BTreeSet<&str> {
        let resolve = self.metadata.resolve.as_ref().unwrap();
        let nodes: BTreeMap<&PackageId, _> =
            resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut seen = BTreeSet::new();
        let mut open = vec![&package.id];
        while let Some(id) = open.pop() {
            let normal = nodes[id].deps.iter().filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal)
            });
            for dep in normal {
                if seen.insert(&dep.pkg) {
                    open.push(&dep.pkg);
                }
            }
        }
        seen.into_iter()
            .map(|id| self.metadata[id].name.as_str())
            .collect()
    }
}

fn layer(folder: &str) -> Layer {
    let row = LAYERS.iter().find(|(path, _)| *path == folder);
    row.unwrap_or_else(|| panic!("{folder} has no layer: add it to LAYERS"))
        .1
}

/// Whether the layering allows `from` to depend on `to`; test-only edges may reach the testkit.
fn allowed(from: &str, to: &str, kind: DependencyKind) -> bool {
    if kind == DependencyKind::Development && to == TESTKIT {
        return true;
    }
    if from == TESTKIT {
        return layer(to) <= Layer::Shells;
    }
    match (layer(from), layer(to)) {
        (Layer::Rigs, _) => true,
        (above, below) => below < above,
    }
}

#[test]
fn every_edge_leads_downwards() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for package in workspace.members() {
        let from = workspace.folder(package);
        for dependency in &package.dependencies {
            let Some(target) = workspace.member(&dependency.name) else {
                continue;
            };
            let to = workspace.folder(target);
            if !allowed(from, to, dependency.kind) {
                wrong.push(format!("{from} -> {to} ({})", dependency.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "edges against the layering: {wrong:#?}");
}

#[test]
fn upward_and_sideways_edges_are_refused() {
    let normal = DependencyKind::Normal;
    assert!(allowed("sidecar", "crates/policy", normal));
    assert!(allowed("crates/transport", "crates/identity", normal));
    assert!(
        !allowed("crates/policy", "crates/resolution", normal),
        "sideways in L1"
    );
    assert!(
        !allowed("crates/transport", "crates/chassis", normal),
        "sideways in L2"
    );
    assert!(
        !allowed("sidecar", "sentry", normal),
        "programs never see each other"
    );
    assert!(
        !allowed("proto", "crates/identity", normal),
        "L0 knows outside crates only"
    );
    assert!(
        !allowed("sidecar", TESTKIT, normal),
        "nothing of the testkit in a release build"
    );
    assert!(allowed("sidecar", TESTKIT, DependencyKind::Development));
    assert!(!allowed(TESTKIT, "sidecar", normal));
    assert!(!allowed("cli", "xtask", normal));
}

#[test]
fn pure_layers_link_no_runtime() {
    let workspace = Workspace::read();
    for package in workspace.members() {
        let folder = workspace.folder(package);
        if layer(folder) > Layer::Decisions || folder == EXCUSED {
            continue;
        }
        let linked = workspace.linked(package);
        let found: Vec<_> = RUNTIMES
            .iter()
            .filter(|name| linked.contains(*name))
            .collect();
        assert!(found.is_empty(), "{folder} links {found:?}");
    }
}

/// A sidecar runs beside every app: what only the control plane needs is not in it.
#[test]
fn the_sidecar_knows_no_client_of_kubernetes() {
    let workspace = Workspace::read();
    let sidecar = workspace.member("ironside-sidecar").unwrap();
    let linked = workspace.linked(sidecar);
    for name in ["kube", "kube-client", "k8s-openapi"] {
        assert!(!linked.contains(name), "the sidecar links {name}");
    }
    let sentry = workspace.member("ironside-sentry").unwrap();
    assert!(
        workspace.linked(sentry).contains("kube-client"),
        "or this proves nothing"
    );
}

#[test]
fn packages_carry_the_prefix_and_folders_do_not() {
    let workspace = Workspace::read();
    for package in workspace.members() {
        let folder = workspace.folder(package);
        let last = folder.rsplit('/').next().unwrap();
        let expected = if last == "cli" {
            "ironside".to_owned()
        } else {
            format!("ironside-{last}")
        };
        assert_eq!(package.name.as_str(), expected, "package in {folder}");
    }
}

#[test]
fn default_members_leave_out_the_rigs() {
    let workspace = Workspace::read();
    for package in workspace.metadata.workspace_default_packages() {
        assert!(
            layer(workspace.folder(package)) < Layer::Rigs,
            "{} is built by default",
            package.name
        );
    }
}

#[test]
fn every_source_file_has_a_module_doc() {
    let workspace = Workspace::read();
    let mut without = Vec::new();
    for package in workspace.members() {
        let dir = package.manifest_path.parent().unwrap().as_std_path();
        for file in rust_files(dir) {
            let text = fs::read_to_string(&file).unwrap();
            if !starts_with_module_doc(&text) {
                without.push(file);
            }
        }
    }
    assert!(without.is_empty(), "no module doc in {without:#?}");
}

/// A `//!` line before any item; other comments and inner attributes may precede it.
fn starts_with_module_doc(text: &str) -> bool {
    let before = |line: &&str| {
        line.is_empty()
            || line.starts_with("#![")
            || (line.starts_with("//") && !line.starts_with("//!"))
    };
    let first = text.lines().map(str::trim).find(|line| !before(line));
    first.is_some_and(|line| line.starts_with("//!"))
}

#[test]
fn a_doc_of_the_first_item_is_no_module_doc() {
    assert!(starts_with_module_doc("//! Owns this.\nfn x() {}"));
    assert!(starts_with_module_doc(
        "// @generated\n#![allow(x)]\n//! Owns this."
    ));
    assert!(!starts_with_module_doc("/// Item.\nfn x() {}"));
    assert!(!starts_with_module_doc("use std::fs;\n//! Late."));
    assert!(!starts_with_module_doc(""));
}

/// The `.rs` files of a crate; generated code and nested projects are not ours to document.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "gen", "node_modules"].contains(&name.as_str())
            {
                found.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

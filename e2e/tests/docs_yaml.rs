//! The YAML in the documents is what it claims to be.
//!
//! Every resource and Configuration is read as a sidecar reads it, without an error and without a warning. The
//! tables below the files of docs/access-control.md are asked of the policy that those files make.

#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_policy::{
    AppKind, Callee, Caller, Input, Method, Namespaces, Operation, PolicySet, Verb, clean,
};

use ironside_resources::{
    configuration::{self, ConfigFile},
    loader::{Loaded, Loader, ResourceFile},
};

/// The guide with recipes.
const GUIDE: &str = "docs/access-control.md";

/// A fenced block, and the rows of the first table after it.
#[derive(Debug)]
struct Block {
    /// Where it begins, for messages.
    place: String,
    text: String,
    rows: Vec<[String; 3]>,
}

/// Whether a line has begun a table already.
#[derive(Clone, Copy, PartialEq)]
enum Table {
    None,
    Header,
    Rows,
}

/// The YAML blocks of a document.
fn blocks(path: &Path) -> Vec<Block> {
    let text = fs::read_to_string(path).unwrap();
    let mut found: Vec<Block> = Vec::new();
    let mut fence: Option<bool> = None;
    let mut table = Table::None;
    for (line, number) in text.lines().zip(1..) {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = match fence {
                Some(_) => None,
                None => Some(language == "yaml"),
            };
            table = Table::None;
            if fence == Some(true) {
                found.push(Block {
                    place: format!("{}:{number}", path.display()),
                    text: String::new(),
                    rows: Vec::new(),
                });
            }
            continue;
        }
        match fence {
            Some(true) => {
                let block = found.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            Some(false) => {}
            None => table = row(line, table, found.last_mut()),
        }
    }
    found
}

/// Takes a row of a table of three columns whose first is the caller.
fn row(line: &str, table: Table, block: Option<&mut Block>) -> Table {
    if line == "| Caller | Calls | Answer |" {
        return Table::Header;
    }
    match table {
        Table::None => Table::None,
        Table::Header => Table::Rows,
        Table::Rows if line.starts_with('|') => {
            let cells: Vec<String> = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect();
            block.unwrap().rows.push(cells.try_into().unwrap());
            Table::Rows
        }
        Table::Rows => Table::None,
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The documents of people: README and everything below docs.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The namespace that the recipes speak of, or that of a laptop.
fn namespace(text: &str) -> &'static str {
    if text.contains("namespace: shop}") {
        "shop"
    } else {
        "default"
    }
}

/// The app that an example is for.
fn app_id(text: &str) -> &'static str {
    if text.contains("scopes: [server]") {
        "server"
    } else {
        "orders"
    }
}

fn load(text: &str) -> Loaded {
    let loader = Loader {
        namespace: namespace(text),
        app_id: app_id(text),
        deny: &[],
    };
    loader.load([ResourceFile {
        name: "example.yaml",
        bytes: text.as_bytes(),
    }])
}

/// Why a block is not what it claims to be.
fn flaws(block: &Block) -> Vec<String> {
    let is_configuration =
        block.text.contains("kind: Configuration") || !block.text.contains("kind:");
    if is_configuration {
        let file = ConfigFile {
            path: "example.yaml",
            bytes: block.text.as_bytes(),
        };
        let read = configuration::load([file], |_| None);
        return read
            .err()
            .map(|error| error.to_string())
            .into_iter()
            .collect();
    }
    let loaded = load(&block.text);
    let documents = block.text.split("---\n").count();
    let resources = loaded.components.len()
        + loaded.http_endpoints.len()
        + loaded.resiliencies.len()
        + loaded.access_controls.len();
    let mut found: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    found.extend(loaded.errors.iter().map(ToString::to_string));
    found.extend(loaded.policy_failures.iter().map(ToString::to_string));
    found.extend(loaded.resiliency_failures.iter().map(ToString::to_string));
    found.extend(remarks(&loaded));
    if found.is_empty() && resources != documents {
        found.push(format!(
            "{documents} documents, {resources} resources for the app {}",
            app_id(&block.text)
        ));
    }
    found
}

/// What a sidecar would remark on the policies for its calls.
fn remarks(loaded: &Loaded) -> Vec<String> {
    let compiled = ironside_resiliency::Table::compile(&ironside_resiliency::Input {
        app_id: "orders",
        namespace: "default",
        resources: &loaded.resiliencies,
        previous: None,
    });
    compiled.notes.iter().map(ToString::to_string).collect()
}

/// The policy that an app `orders` makes of a block.
fn policy(block: &Block, app: AppKind) -> PolicySet {
    let loaded = load(&block.text);
    PolicySet::compile(&Input {
        callee: &Callee {
            app_id: AppId::parse("orders").unwrap(),
            namespace: Namespace::parse(namespace(&block.text)).unwrap(),
            trust_domain: TrustDomain::default(),
            app,
        },
        block: None,
        objects: &loaded.access_controls,
        refused: &[],
        namespaces: Namespaces::Own,
        deny_by_default: false,
    })
    .unwrap()
}

/// The answer to one row: the first word of what the last column says.
fn answer(block: &Block, caller: &str, call: &str) -> &'static str {
    let id = SpiffeId::parse(&format!("spiffe://public/ns/{caller}"));
    let caller = match caller {
        "nobody" => Caller::Anonymous,
        _ => Caller::Peer(id.as_ref().unwrap()),
    };
    let decision = match call.split_once(' ') {
        Some((verb, path)) => {
            // The HTTP API decodes once.
            let decoded = path.replace("%25", "%");
            let method = Method::parse(&clean(&decoded)).unwrap();
            let verb = Verb::from_http(verb);
            let operation = Operation::invoke(method.as_str(), verb);
            policy(block, AppKind::Http).decide(caller, &operation)
        }
        None => policy(block, AppKind::Grpc).decide(caller, &Operation::proxied(call)),
    };
    if decision.is_allowed() {
        "allowed"
    } else {
        "denied"
    }
}

#[test]
fn every_resource_in_the_documents_is_read_without_a_word() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for path in documents() {
        for block in blocks(&path) {
            // Run templates are the command line's, roles and workloads are Kubernetes'; their own tests read them.
            let is_of = |group: &str| block.text.contains(&format!("apiVersion: {group}\n"));
            if block.text.starts_with("version:")
                || is_of("rbac.authorization.k8s.io/v1")
                || is_of("apps/v1")
            {
                continue;
            }
            read += 1;
            let flaws = flaws(&block);
            wrong.extend(flaws.iter().map(|flaw| format!("{}: {flaw}", block.place)));
        }
    }
    assert!(
        wrong.is_empty(),
        "YAML in documents:\n  {}",
        wrong.join("\n  ")
    );
    assert!(read > 15, "only {read} blocks were found");
}

#[test]
fn recipes_decide_as_their_tables_say() {
    let mut wrong = Vec::new();
    let mut recipes = 0;
    let mut rows = 0;
    for block in blocks(&root().join(GUIDE)) {
        assert!(
            !block.rows.is_empty(),
            "{}: a file without a table",
            block.place
        );
        recipes += 1;
        for [caller, call, want] in &block.rows {
            rows += 1;
            let got = answer(&block, caller, call);
            if got != want {
                wrong.push(format!(
                    "{}: {caller} {call}: {got}, not {want}",
                    block.place
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        recipes >= 11 && rows >= 30,
        "{recipes} recipes, {rows} rows"
    );
}

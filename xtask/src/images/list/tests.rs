//! The Dockerfile and the list say the same.

use std::collections::BTreeMap;

use super::*;

/// What the final stage of the Dockerfile puts where, with the defaults of its arguments.
fn dockerfile() -> (BTreeMap<String, String>, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut text = std::fs::read_to_string(root.join("Dockerfile")).unwrap();
    for line in text.clone().lines() {
        if let Some((name, value)) = line
            .strip_prefix("ARG ")
            .and_then(|rest| rest.split_once('='))
        {
            text = text.replace(&format!("${{{name}}}"), value);
        }
    }
    let (_, last) = text.split_once("FROM scratch").unwrap();
    let mut copies = BTreeMap::new();
    for line in last.lines() {
        if let Some(rest) = line.strip_prefix("COPY --from=build ") {
            let (from, to) = rest.split_once(' ').unwrap();
            copies.insert(to.to_owned(), from.to_owned());
        }
    }
    let others = last
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("COPY ") && !line.starts_with('#'))
        .filter(|line| !line.starts_with("ARG "))
        .map(str::to_owned)
        .collect();
    (copies, others)
}

/// Links of the build stage that the image takes over as they are.
fn links() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("Dockerfile")).unwrap();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("ln -s /ironside /links"))
        .map(|rest| rest.trim_end_matches([' ', '\\', '&', ';']).to_owned())
        .collect()
}

#[test]
#[cfg_attr(
    not(target_arch = "x86_64"),
    ignore = "the Dockerfile's defaults name x86-64"
)]
fn the_dockerfile_repeats_the_list() {
    let program = Path::new("/src/target/release/ironside");
    let (mut copies, others) = dockerfile();
    assert_eq!(copies.remove("/").as_deref(), Some("/links/"), "links");
    let mut linked = Vec::new();
    for entry in product(program) {
        match entry.source {
            Source::File(from) => {
                let found = copies.remove(&entry.at);
                assert_eq!(found.as_deref(), from.to_str(), "{}", entry.at);
            }
            Source::Link(to) => {
                assert_eq!(to, PROGRAM);
                linked.push(entry.at);
            }
        }
    }
    assert!(copies.is_empty(), "only in the Dockerfile: {copies:?}");
    assert_eq!(links(), linked);
    assert_eq!(others, [format!("USER {USER}")], "no ENTRYPOINT, no CMD");
}

#[test]
fn the_libraries_are_those_that_the_program_names() {
    // This test is linked as the product is; what it needs, the list must bring.
    let (loader, _) = loader();
    let itself = std::env::current_exe().unwrap();
    let output = std::process::Command::new(loader)
        .arg("--list")
        .arg(&itself)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let named: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !name.starts_with("linux-vdso") && !name.starts_with('/'))
        .collect();
    assert!(!named.is_empty(), "{text}");
    for name in named {
        assert!(LIBRARIES.contains(&name), "{name} is not in the image");
    }
}

//! The page of annotations is the table that pods are judged by.
//!
//! `UPDATE=1` writes it.
#![cfg(test)]

use ironside_resources::annotations::{Annotation, Kind, PREFIX, Support, TABLE};
use std::fs;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/annotations.md");
const BEGIN: &str = "<!-- table: made by injector/tests/docs.rs -->\n";
const END: &str = "<!-- end of table -->\n";

fn kind(known: &Annotation) -> String {
    match known.kind {
        Kind::Bool => "yes or no".into(),
        Kind::Int(i64::MIN, i64::MAX) => "number".into(),
        Kind::Int(least, _) => format!("number from {least}"),
        Kind::Port(0) => "port, or 0".into(),
        Kind::Port(_) => "port".into(),
        Kind::Text => "text".into(),
        Kind::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(" ")
        }
        Kind::Duration => "duration".into(),
        Kind::Quantity => "quantity".into(),
        Kind::Pairs => "pairs `name=value`".into(),
        Kind::Mounts => "pairs `volume:path`".into(),
    }
}

fn support(known: &Annotation) -> &'static str {
    match known.support {
        Support::Full => "yes",
        Support::Passed => "passed on",
        Support::Ignored => "no",
    }
}

fn table() -> String {
    let mut text =
        format!("| `{PREFIX}…` | Value | Default | Effect | Works |\n|---|---|---|---|---|\n");
    for known in TABLE {
        let default = if known.default.is_empty() {
            "–"
        } else {
            known.default
        };
        let (kind, support) = (kind(known), support(known));
        let Annotation { name, effect, .. } = known;
        text += &format!("| `{name}` | {kind} | {default} | {effect} | {support} |\n");
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "the switch of generated files")]
fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

#[test]
fn the_page_lists_every_annotation() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the begin of the table");
    let (found, after) = rest.split_once(END).expect("the end of the table");
    if update() {
        fs::write(PAGE, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "run with UPDATE=1");
}

//! Tables of command lines and what they mean.

use super::*;
use crate::commands::{GLOBAL, ROOT};

fn read(line: &[&str]) -> Result<Parsed, Refusal> {
    parse(ROOT, "ironside", GLOBAL, line.iter().map(OsString::from))
}

fn refused(line: &[&str]) -> String {
    read(line).unwrap_err().error.to_string()
}

/// Fact: cli-and-clients 1.1 "Flag grammar", CL-25.
#[test]
fn flags_and_words_mix() {
    let parsed = read(&[
        "run",
        "--app-id",
        "x",
        "node",
        "app.js",
        "--app-port",
        "3000",
    ])
    .unwrap();
    assert_eq!(parsed.values.text("app-id"), Some("x"));
    assert_eq!(parsed.values.number("app-port"), Some(3000));
    assert_eq!(parsed.words, ["node", "app.js"]);
}

/// Fact: cli-and-clients 1.1 "Flag grammar".
#[test]
fn every_spelling_of_a_value_is_read() {
    for line in [
        vec!["run", "--app-id", "v"],
        vec!["run", "--app-id=v"],
        vec!["run", "-a", "v"],
        vec!["run", "-av"],
        vec!["run", "-a=v"],
    ] {
        assert_eq!(
            read(&line).unwrap().values.text("app-id"),
            Some("v"),
            "{line:?}"
        );
    }
}

#[test]
fn a_value_may_begin_with_a_hyphen() {
    assert_eq!(
        read(&["run", "--app-port", "-1"])
            .unwrap()
            .values
            .number("app-port"),
        Some(-1)
    );
    assert_eq!(
        read(&["invoke", "-a", "x", "-m", "-m"])
            .unwrap()
            .values
            .text("method"),
        Some("-m")
    );
}

#[test]
fn two_dashes_end_the_flags() {
    let parsed = read(&["run", "--app-id", "x", "--", "app", "--app-port", "1", "--"]).unwrap();
    assert_eq!(parsed.words, ["app", "--app-port", "1", "--"]);
    assert!(!parsed.values.given("app-port"));
}

#[test]
fn a_switch_takes_a_value_only_with_an_equals_sign() {
    let parsed = read(&["run", "--enable-api-logging", "false"]).unwrap();
    assert!(parsed.values.switch("enable-api-logging"));
    assert_eq!(parsed.words, ["false"]);
    assert!(
        !read(&["run", "--enable-api-logging=false"])
            .unwrap()
            .values
            .switch("enable-api-logging")
    );
    let parsed = read(&["list", "-kA"]).unwrap();
    assert!(parsed.values.switch("kubernetes") && parsed.values.switch("all-namespaces"));
}

#[test]
fn lists_take_commas_and_repetition() {
    let parsed = read(&["run", "--resources-path", "a,b", "--resources-path", "c"]).unwrap();
    assert_eq!(parsed.values.texts("resources-path"), ["a", "b", "c"]);
    let parsed = read(&["invoke", "-a", "x", "-m", "m", "-H", "A=1,2", "-H", "B=3"]).unwrap();
    assert_eq!(parsed.values.texts("header"), ["A=1,2", "B=3"]);
}

/// Fact: CL-01.
#[test]
fn refusals_have_the_texts_scripts_know() {
    for (line, expected) in [
        (vec!["run", "--flag"], "unknown flag: --flag"),
        (
            vec!["stop", "-a", "x", "-p", "test"],
            "unknown shorthand flag: 'p' in -p",
        ),
        (
            vec!["invoke", "--app-id", "x"],
            "required flag(s) \"method\" not set",
        ),
        (
            vec!["invoke"],
            "required flag(s) \"app-id\", \"method\" not set",
        ),
        (vec!["run", "--app-id"], "flag needs an argument: --app-id"),
        (vec!["run", "-a"], "flag needs an argument: 'a' in -a"),
        (vec!["run", "--=x"], "bad flag syntax: --=x"),
        (
            vec!["run", "--app-port", "x"],
            "invalid argument \"x\" for \"-p, --app-port\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (vec!["rum"], "unknown command \"rum\" for \"ironside\""),
        (
            vec!["run", "-app-id", "x"],
            "unknown shorthand flag: 'a' in -app-id",
        ),
        (
            vec!["run", "-log-level", "x"],
            "unknown shorthand flag: 'l' in -log-level",
        ),
    ] {
        assert_eq!(refused(&line), expected, "{line:?}");
    }
}

#[test]
fn global_flags_stand_before_and_after_the_command() {
    for line in [
        vec!["--runtime-path", "/e", "list"],
        vec!["list", "--runtime-path", "/e"],
    ] {
        let parsed = read(&line).unwrap();
        assert_eq!(parsed.values.text("runtime-path"), Some("/e"));
        assert_eq!(parsed.path.last().unwrap().name, "list");
    }
}

#[test]
fn a_recognised_command_takes_any_words() {
    let parsed = read(&["workflow", "list", "--what", "-x"]).unwrap();
    assert_eq!(parsed.words, ["list", "--what", "-x"]);
    assert_eq!(read(&["wf"]).unwrap().path.last().unwrap().name, "workflow");
}

#[test]
fn help_needs_no_required_flags() {
    assert!(read(&["invoke", "--help"]).unwrap().values.switch("help"));
}

proptest::proptest! {
    #[test]
    fn any_words_are_read_or_refused(words in proptest::collection::vec("[-=a-z0-9 ]{0,8}", 0..6)) {
        let line: Vec<&str> = std::iter::once("run").chain(words.iter().map(String::as_str)).collect();
        let _read_or_refused = read(&line).map(|parsed| parsed.words.len());
    }
}

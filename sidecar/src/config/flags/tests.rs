//! The command line and the document that is generated from it.

mod document;

use super::*;

fn parse(words: &[&str]) -> Result<Given, Exit> {
    Given::parse(words.iter().map(Into::into))
}

/// Fact: process-interface 1 and 10, rows 1 and 2.
#[test]
fn syntax_is_that_of_the_reference() {
    let given = parse(&[
        "word",
        "-app-id",
        "a",
        "--app-port=80",
        "-log-as-json",
        "false",
    ])
    .unwrap();
    assert_eq!((given.text("app-id"), given.text("app-port")), ("a", "80"));
    assert!(
        given.bool("log-as-json"),
        "a boolean takes its value after = only"
    );
    for words in [
        &["--no-such-flag"][..],
        &["--app-max-concurrency", "x"],
        &["--enable-mtls=maybe"],
        &["--app-id"],
    ] {
        assert_eq!(parse(words).map(|_| ()).unwrap_err().code, 2, "{words:?}");
    }
}

#[test]
fn errands() {
    for (words, errand) in [
        (&[][..], Errand::Run),
        (&["--version"], Errand::Version),
        (&["--build-info"], Errand::BuildInfo),
        (&["--wait"], Errand::Wait),
        (&["--version", "--wait"], Errand::Version),
    ] {
        assert_eq!(parse(words).unwrap().errand(), errand);
    }
}

#[test]
fn every_flag_of_another_block_is_in_the_table() {
    for name in OF_OTHER_BLOCKS {
        assert!(TABLE.iter().any(|flag| flag.name == name), "{name}");
    }
}

#[test]
fn deprecated_flags_give_a_notice() {
    let given = parse(&["--components-path", "x", "--app-ssl"]).unwrap();
    assert_eq!(given.notices().len(), 2, "{:?}", given.notices());
}

/// The reference page is the table, in words; `UPDATE=1` writes it.
#[test]
fn the_document_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let text = document::configuration();
    #[expect(clippy::disallowed_methods, reason = "a switch of this test only")]
    let update = std::env::var("UPDATE").is_ok();
    if update {
        std::fs::write(path, &text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == text,
        "docs/configuration.md differs from the flags: UPDATE=1 cargo test -p ironside-sidecar"
    );
}

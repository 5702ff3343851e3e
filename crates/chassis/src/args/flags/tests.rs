//! Every row of process-interface 1 that concerns pflag programs.

use proptest::prelude::*;

use super::*;

const FLAGS: Flags = Flags::new(
    "daprd",
    &[
        Flag::text("mode", "standalone", "runtime mode"),
        Flag::text("app-id", "", "id of the app"),
        Flag::bool("enable-mtls", "false", "mutual TLS"),
        Flag::bool("enable-metrics", "true", "metrics"),
        Flag::int("app-max-concurrency", "-1", "calls at once"),
        Flag::uint("scheduler-job-streams", "3", "streams").hidden(),
        Flag::duration("dapr-block-shutdown-duration", "0", "block"),
        Flag::list("config", "", "files"),
        Flag::list("things", "x,y", "things"),
        Flag::bool("app-ssl", "false", "TLS to the app").deprecated("use '--app-protocol'"),
    ],
);

fn parse(words: &[&str]) -> Result<Parsed, Exit> {
    FLAGS.parse(words.iter().map(OsString::from))
}

fn good(words: &[&str]) -> Parsed {
    parse(words).unwrap_or_else(|exit| panic!("{words:?}: {}", exit.stderr))
}

#[track_caller]
fn refused(words: &[&str], first_line: &str) {
    let exit = parse(words).unwrap_err();
    assert_eq!(exit.code, 2, "{words:?}");
    assert_eq!(exit.stderr.lines().next(), Some(first_line), "{words:?}");
    assert!(
        exit.stderr.contains("--app-max-concurrency"),
        "usage follows"
    );
    assert_eq!(exit.stdout, "");
}

#[test]
fn absent_flags_have_their_defaults() {
    let parsed = good(&[]);
    assert_eq!(parsed.text("mode"), "standalone");
    assert!(!parsed.given("mode"));
    assert!(!parsed.bool("enable-mtls"));
    assert!(parsed.bool("enable-metrics"));
    assert_eq!(parsed.int("app-max-concurrency"), -1);
    assert_eq!(parsed.uint("scheduler-job-streams"), 3);
    assert_eq!(
        parsed.duration("dapr-block-shutdown-duration"),
        GoDuration::ZERO
    );
    assert!(parsed.list("config").is_empty());
    assert_eq!(parsed.list("things"), ["x", "y"]);
}

#[test]
fn one_dash_is_as_good_as_two() {
    for words in [
        ["-mode", "kubernetes"],
        ["--mode", "kubernetes"],
        ["-mode=kubernetes", "word"],
        ["--mode=kubernetes", "word"],
    ] {
        assert_eq!(good(&words).text("mode"), "kubernetes");
        assert!(good(&words).given("mode"));
    }
}

#[test]
fn values_may_be_empty_or_start_with_a_dash() {
    assert_eq!(good(&["--app-id", ""]).text("app-id"), "");
    assert_eq!(good(&["--app-id="]).text("app-id"), "");
    assert!(good(&["--app-id="]).given("app-id"));
    assert_eq!(good(&["--app-id", "--mode"]).text("app-id"), "--mode");
    assert_eq!(good(&["--app-id", "a=b"]).text("app-id"), "a=b");
    assert_eq!(
        good(&["--app-max-concurrency", "-1"]).int("app-max-concurrency"),
        -1
    );
    assert_eq!(
        good(&["--app-max-concurrency=-10"]).int("app-max-concurrency"),
        -10
    );
}

#[test]
fn a_negative_value_of_its_own_breaks_when_longer_than_two() {
    refused(
        &["--app-max-concurrency", "-10"],
        "invalid argument \"--10\" for \"--app-max-concurrency\" flag: invalid syntax",
    );
}

#[test]
fn a_boolean_never_takes_the_next_word() {
    assert!(good(&["--enable-mtls", "false"]).bool("enable-mtls"));
    assert!(good(&["--enable-mtls"]).bool("enable-mtls"));
    assert!(good(&["-enable-mtls=T"]).bool("enable-mtls"));
    assert!(!good(&["--enable-metrics=False"]).bool("enable-metrics"));
    assert!(!good(&["--enable-metrics=0", "--enable-metrics=f"]).bool("enable-metrics"));
    refused(
        &["--enable-mtls=yes"],
        "invalid argument \"yes\" for \"--enable-mtls\" flag: invalid syntax",
    );
}

#[test]
fn lists_replace_the_default_and_append() {
    let parsed = good(&["--config", "a,b", "--config=c", "--things", "z"]);
    assert_eq!(parsed.list("config"), ["a", "b", "c"]);
    assert_eq!(parsed.list("things"), ["z"]);
    assert_eq!(
        good(&["--config", "\"a,b\",c"]).list("config"),
        ["a,b", "c"]
    );
    refused(
        &["--config", "a\"b"],
        "invalid argument \"a\\\"b\" for \"--config\" flag: bare \" in non-quoted field",
    );
}

#[test]
fn integers_and_durations_are_go_ones() {
    assert_eq!(
        good(&["--app-max-concurrency", "0x10"]).int("app-max-concurrency"),
        16
    );
    let parsed = good(&["--dapr-block-shutdown-duration", "1m30s"]);
    let block = parsed.duration("dapr-block-shutdown-duration");
    assert_eq!(block.to_string(), "1m30s");
    refused(
        &["--dapr-block-shutdown-duration", "5"],
        "invalid argument \"5\" for \"--dapr-block-shutdown-duration\" flag: \
         time: missing unit in duration \"5\"",
    );
    refused(
        &["--scheduler-job-streams", "-1"],
        "invalid argument \"-1\" for \"--scheduler-job-streams\" flag: invalid syntax",
    );
}

#[test]
fn positional_words_are_ignored() {
    let parsed = good(&[
        "/daprd",
        "--mode",
        "kubernetes",
        "word",
        "-",
        "--",
        "--app-id",
        "x",
    ]);
    assert_eq!(parsed.text("mode"), "kubernetes");
    assert_eq!(parsed.text("app-id"), "");
    assert_eq!(good(&["word", "--mode", "m"]).text("mode"), "m");
}

#[test]
fn the_last_of_several_wins() {
    assert_eq!(good(&["--mode", "a", "--mode", "b"]).text("mode"), "b");
}

#[test]
fn unknown_flags_and_missing_values_are_refused() {
    refused(&["--no-such-flag"], "unknown flag: --no-such-flag");
    refused(&["--no-such-flag=5", "x"], "unknown flag: --no-such-flag");
    refused(&["-no-such-flag"], "unknown flag: --no-such-flag");
    refused(&["-x"], "unknown flag: -x");
    refused(&["--mode"], "flag needs an argument: --mode");
    // No abbreviations.
    refused(&["--mod", "x"], "unknown flag: --mod");
}

#[test]
fn deprecated_flags_work_and_are_noticed_once() {
    let parsed = good(&["--app-ssl", "--app-ssl"]);
    assert!(parsed.bool("app-ssl"));
    assert_eq!(
        parsed.notices(),
        ["Flag --app-ssl has been deprecated, use '--app-protocol'"]
    );
    assert!(good(&[]).notices().is_empty());
}

#[test]
fn help_is_usage_on_stderr() {
    for word in ["--help", "-h", "-help"] {
        let exit = parse(&[word]).unwrap_err();
        assert_eq!(exit.code, 0, "{word}");
        assert!(exit.stderr.contains("--enable-metrics"), "{}", exit.stderr);
        assert!(!exit.stderr.contains("--scheduler-job-streams"), "hidden");
    }
}

proptest! {
    #[test]
    fn any_command_line_is_read_or_refused(
        words in prop::collection::vec("(-{0,3}(mode|config|enable-mtls|help|app-max-concurrency)?=?)?\\PC{0,6}", 0..6)
    ) {
        let _no_panic = FLAGS.parse(words.iter().map(OsString::from));
    }
}

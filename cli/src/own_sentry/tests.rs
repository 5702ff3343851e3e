//! Versions, places, and what Sentry is told.

use super::*;

#[test]
fn an_older_release_gives_way_and_a_newer_one_does_not() {
    for (running, own, expected) in [
        ("1.2.3 abc", "1.2.4 def", true),
        ("1.2.3 abc", "1.10.0 def", true),
        ("1.2.4 def", "1.2.3 abc", false),
        ("1.2.3 abc", "1.2.3 abc", false),
        ("v1.2.3-rc.1 a", "1.3.0 b", true),
        ("edge abc", "edge abc", false),
        ("edge abc", "edge def", true),
        ("1.2.3 abc", "edge def", true),
    ] {
        assert_eq!(is_older(running, own), expected, "{running} {own}");
    }
}

#[test]
fn its_place_is_below_the_runtime_path_and_linger_comes_from_the_environment() {
    let home = Home::under(Path::new("/r"));
    let environment = Environment::from([(LINGER, "3s")]);
    let sentry = OwnSentry::find(Some(&home), &environment).unwrap();
    assert_eq!(
        sentry.credentials(),
        Path::new("/r/.dapr/sentry/credentials")
    );
    assert!(sentry.arguments(7).contains(&OsString::from("--linger=3s")));
    let default = OwnSentry::find(Some(&home), &Environment::default()).unwrap();
    assert_eq!(default.linger, DEFAULT_LINGER);
}

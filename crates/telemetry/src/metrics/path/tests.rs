//! Rows M-10 to M-14 of resiliency-observability, and Go's rules of precedence.

use proptest::prelude::*;

use super::*;

fn labels(patterns: &[&str], increased_cardinality: bool) -> PathLabels {
    PathLabels::new(&Settings {
        increased_cardinality,
        path_matching: PathPatterns::compile(patterns).unwrap(),
        ..Settings::default()
    })
}

fn label(labels: &PathLabels, path: &str) -> String {
    labels.with(path, str::to_owned)
}

#[test]
fn without_patterns_the_cardinality_decides() {
    let raw = labels(&[], true);
    assert_eq!(
        label(&raw, "/v1.0/invoke/b/method/hi"),
        "/v1.0/invoke/b/method/hi"
    );
    assert_eq!(label(&raw, "a//b"), "/a/b");
    let low = labels(&[], false);
    for path in ["/v1.0/invoke/b/method/hi", "/orders", "/", ""] {
        assert_eq!(label(&low, path), "", "{path}");
    }
    for path in STATIC_PATHS {
        assert_eq!(label(&low, path), path);
    }
}

/// Facts: resiliency-observability M-11 to M-14.
#[test]
fn patterns_stand_for_paths_here_and_below_the_invocation_api() {
    let patterns = [
        "/orders/{orderID}",
        "orders/1234",
        "/v1.0/invoke/x/method/y",
    ];
    let low = labels(&patterns, false);
    let table = [
        ("/orders/7", "/orders/{orderID}"),
        ("//orders//7", "/orders/{orderID}"),
        ("/orders/1234", "/orders/1234"),
        ("/orders/7/8", ""),
        ("/orders/", ""),
        ("/orders", ""),
        (
            "/v1.0/invoke/b/method/orders/7",
            "/v1.0/invoke/{app_id}/method/orders/{orderID}",
        ),
        (
            "/v1.0/invoke/b/method/orders/1234",
            "/v1.0/invoke/{app_id}/method/orders/1234",
        ),
        ("/v1.0/invoke/x/method/y", "/v1.0/invoke/x/method/y"),
        ("/v1.0/invoke/z/method/y", ""),
        ("/healthz", "/healthz"),
    ];
    for (path, want) in table {
        assert_eq!(label(&low, path), want, "{path}");
    }
    assert_eq!(label(&labels(&patterns, true), "/other"), "/other");
}

#[test]
fn the_most_specific_pattern_wins() {
    let low = labels(
        &[
            "/",
            "/a/",
            "/a/{x}",
            "/a/{x}/c",
            "/a/b",
            "/a/{$}",
            "/f/{rest...}",
        ],
        false,
    );
    let table = [
        ("/", "/"),
        ("/z/y", "/"),
        ("/a", "/"),
        ("/a/", "/a/{$}"),
        ("/a/b", "/a/b"),
        ("/a/q", "/a/{x}"),
        ("/a/q/c", "/a/{x}/c"),
        ("/a/q/d", "/a/"),
        ("/a/q/", "/a/"),
        ("/f/1/2", "/f/{rest...}"),
        ("/f/", "/f/{rest...}"),
    ];
    for (path, want) in table {
        assert_eq!(label(&low, path), want, "{path}");
    }
}

#[test]
fn malformed_patterns_are_all_reported() {
    let table = [
        ("GET /x", "methods and hosts are not matched"),
        ("/a{x}", "a wildcard must be a whole segment"),
        ("/{x", "a wildcard must be a whole segment"),
        ("/{}", "a wildcard's name must be an identifier"),
        ("/{1}", "a wildcard's name must be an identifier"),
        ("/{x...}/y", "{...} must be the last segment"),
        ("/{$}/y", "{$} must be the last segment"),
        ("/{x}/{x}", "a wildcard's name is used twice"),
    ];
    for (pattern, want) in table {
        let errors = PathPatterns::compile(&[pattern]).unwrap_err();
        assert!(errors[0].to_string().ends_with(want), "{errors:?}");
    }
    let errors = PathPatterns::compile(&["/{x", "/y}"]).unwrap_err();
    // Each is reported for itself and for its second registration.
    assert_eq!(errors.len(), 4);
}

#[test]
fn contradictions_are_refused() {
    for (one, other) in [
        ("/a/{x}", "/a/{y}"),
        ("/{x}/b", "/a/{y}"),
        ("/a/", "/a/{r...}"),
        ("/{x}/", "/a/{y}/"),
    ] {
        let compiled = PathPatterns::compile(&[one, other]);
        let conflict = compiled.is_err();
        assert_eq!(
            conflict,
            (one, other) != ("/{x}/", "/a/{y}/"),
            "{one} {other}: {compiled:?}"
        );
    }
    let errors = PathPatterns::compile(&["/{x}/b", "/a/{y}"]).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "path patterns \"/{x}/b\" and \"/a/{y}\" conflict"
    );
    assert!(
        PathPatterns::compile(&["/a", "//a", "a"]).is_ok(),
        "one text, once"
    );
}

proptest! {
    #[test]
    fn any_patterns_compile_or_are_refused(
        patterns in prop::collection::vec("(/(a|b|\\{x\\}|\\{y\\}|\\{r\\.\\.\\.\\}|\\{\\$\\}|))+|\\PC{0,6}", 0..4),
        path in "(/(a|b|c|))*",
    ) {
        if let Ok(patterns) = PathPatterns::compile(&patterns) {
            let matched = patterns.matched(&path).map(str::to_owned);
            // The winner does not depend on the order of the list.
            let reversed = PathPatterns(patterns.0.iter().rev().cloned().collect());
            prop_assert_eq!(reversed.matched(&path).map(str::to_owned), matched);
        }
    }

    #[test]
    fn paths_have_single_slashes(path in "[/a]*") {
        let path = normalise(&path);
        prop_assert!(path.starts_with('/') && !path.contains("//"));
        let again = normalise(&path);
        prop_assert_eq!(&*again, &*path);
    }
}

//! Tables of service-invocation 1.4 and the checklist rows that stand on it.

use proptest::prelude::*;

use super::*;

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

fn found(path: &str, app_id: Option<&str>, auth: Option<&str>) -> Option<(String, String, Form)> {
    let path = decode_path(path).expect("path decodes");
    let request = Request {
        path: &path,
        app_id: app_id.map(str::as_bytes),
        authorization: auth.map(str::as_bytes),
    };
    find(request).map(|f| (f.target.into_owned(), f.method.to_owned(), f.form))
}

#[track_caller]
fn path_form(path: &str, expected: Option<(&str, &str)>) {
    let expected = expected.map(|(t, m)| (t.to_owned(), m.to_owned(), Form::Path));
    assert_eq!(found(path, None, None), expected, "{path}");
}

/// Facts: service-invocation 1.4 form 3, SI-001, SI-008 to SI-011, SI-013, SI-014.
#[test]
fn path_names_the_target_up_to_the_first_method_segment() {
    path_form("/v1.0/invoke/appB/method/foo", Some(("appB", "foo")));
    path_form("/v1.0//invoke//appB/method//foo", Some(("appB", "/foo")));
    path_form("//v1.0///invoke/appB/method/foo", Some(("appB", "foo")));
    path_form("/v1.0/invoke/appB/method/", Some(("appB", "")));
    path_form(
        "/v1.0/invoke/appB.ns/method/a/b/c",
        Some(("appB.ns", "a/b/c")),
    );
    path_form("/v1.0/invoke/appB/method/foo/", Some(("appB", "foo/")));
    path_form(
        "/v1.0/invoke/a/method/b/method/c",
        Some(("a", "b/method/c")),
    );
    path_form("/v1.0/invoke/a//method/b", Some(("a/", "b")));
    path_form(
        "/v1.0/invoke/appB/method/admin%2F..%2Fpublic",
        Some(("appB", "admin/../public")),
    );
    path_form(
        "/v1.0/invoke/appB/method/test%25stream",
        Some(("appB", "test%stream")),
    );
    path_form(
        "/v1.0/invoke/appB/method/test%2541",
        Some(("appB", "test%41")),
    );
}

#[test]
fn paths_without_both_parts_name_no_target() {
    for path in [
        "/unknown",
        "/",
        "",
        "*",
        "/v1.0/invoke",
        "/v1.0/invoke/",
        "/v1.0/invoke/appB",
        "/v1.0/invoke/appB/method",
        "/v1.0/invoke//method/foo",
        "/v1.0/invoke/method/foo",
        "/v1.0/invoker/appB/method/foo",
        "/v1.0x/invoke/appB/method/foo",
        "/v1.1/invoke/appB/method/foo",
        "/x/v1.0/invoke/appB/method/foo",
        "/v1.0/INVOKE/appB/method/foo",
    ] {
        path_form(path, None);
    }
}

/// Fact: service-invocation 1.4, spellings of an external target.
#[test]
fn external_targets_are_read_in_every_spelling() {
    let prefix = "/v1.0/invoke/";
    for (written, target) in [
        ("http://host:80", "http://host:80"),
        ("https://host", "https://host"),
        ("http%3A%2F%2Fhost", "http://host"),
        ("https%3A/%2Fhost", "https://host"),
        ("http%253A%252F%252Fhost", "http://host"),
        ("http:/127.0.0.1:6050", "http:/127.0.0.1:6050"),
        ("http://host/base/path", "http://host/base/path"),
    ] {
        let path = format!("{prefix}{written}/method/m");
        path_form(&path, Some((target, "m")));
    }
    path_form(
        "/v1.0/invoke/http://h/method/x/method/m",
        Some(("http://h", "x/method/m")),
    );
}

/// Fact: service-invocation 1.4 form 3: the id is query-unescaped once more.
#[test]
fn target_of_the_path_is_decoded_a_second_time() {
    for (written, target) in [
        ("a+b", "a b"),
        ("a%2Bb", "a b"),
        ("a%252Bb", "a+b"),
        ("a%2562", "ab"),
        ("a%25", "a%"),
        ("a%25zz+", "a%zz+"),
        ("a%25ff", "a%ff"),
        ("%25C3%25A9", "é"),
    ] {
        path_form(
            &format!("/v1.0/invoke/{written}/method/m"),
            Some((target, "m")),
        );
    }
}

/// Facts: service-invocation 1.4 form 1, SI-004, SI-006, SI-007.
#[test]
fn header_wins_and_takes_the_whole_path() {
    let header = |path: &str| found(path, Some("appB"), Some(&basic("dapr-app-id:appC")));
    let expected = |method: &str| Some(("appB".to_owned(), method.to_owned(), Form::Header));
    assert_eq!(header("///foo"), expected("///foo"));
    assert_eq!(
        header("/v1.0/invoke/appC/method/x"),
        expected("/v1.0/invoke/appC/method/x")
    );
    assert_eq!(header("/"), expected("/"));
    let url = found("/x", Some("http://host:1/base"), None).map(|f| f.0);
    assert_eq!(url.as_deref(), Some("http://host:1/base"));
}

/// Facts: service-invocation 1.4 form 2, SI-005.
#[test]
fn basic_credentials_of_dapr_app_id_name_the_target() {
    let expected = Some(("appB".to_owned(), "/foo".to_owned(), Form::BasicAuth));
    for user in ["dapr-app-id", "DAPR-App-Id"] {
        let auth = basic(&format!("{user}:appB"));
        assert_eq!(found("/foo", None, Some(&auth)), expected);
        assert_eq!(found("/foo", Some(""), Some(&auth)), expected);
    }
}

#[test]
fn other_credentials_leave_the_path_form() {
    let path = "/v1.0/invoke/appC/method/x";
    for auth in [
        basic("user:appB"),
        basic("dapr-app-id"),
        basic("dapr-app-id:http://host"),
        basic("dapr-app-id:a:b"),
        basic("dapr-app-id:appB").replace("Basic", "basic"),
        basic("dapr-app-id:appB").replace("Basic", "Bearer"),
        basic("dapr-app-id:appB") + "!",
        "Basic".to_owned(),
        "Basic ".to_owned(),
        String::new(),
    ] {
        let form = found(path, None, Some(&auth)).map(|f| (f.0, f.2));
        assert_eq!(form, Some(("appC".to_owned(), Form::Path)), "{auth}");
    }
}

#[test]
fn empty_basic_target_is_no_target_even_on_an_invoke_path() {
    let auth = basic("dapr-app-id:");
    assert_eq!(found("/v1.0/invoke/appC/method/x", None, Some(&auth)), None);
}

#[test]
fn broken_escapes_and_foreign_bytes_are_refused_by_name() {
    let escape = |text: &str| Err(PathError::Escape(text.into()));
    assert_eq!(decode_path("/a%zz"), escape("%zz"));
    assert_eq!(decode_path("/a%4"), escape("%4"));
    assert_eq!(decode_path("/a%"), escape("%"));
    assert_eq!(decode_path("/a%%41"), escape("%%4"));
    assert_eq!(decode_path("/a%ff"), Err(PathError::NotUtf8));
    assert_eq!(
        PathError::Escape("%zz".into()).to_string(),
        "invalid URL escape \"%zz\""
    );
    assert!(matches!(decode_path("/plain"), Ok(Cow::Borrowed("/plain"))));
}

proptest! {
    #[test]
    fn finding_never_panics(path in ".{0,60}", app_id: Option<Vec<u8>>, auth: Option<Vec<u8>>) {
        let request = Request {
            path: &path,
            app_id: app_id.as_deref(),
            authorization: auth.as_deref(),
        };
        if let Some(found) = find(request) {
            prop_assert!(!found.target.is_empty());
            prop_assert!(path.ends_with(found.method));
        }
    }

    #[test]
    fn decoding_agrees_with_a_naive_decoder(raw in "[/a%0-9A-Fg]{0,20}") {
        let mut bytes = Vec::new();
        let mut rest = raw.as_bytes();
        let mut broken = false;
        while let [first, tail @ ..] = rest {
            rest = tail;
            if *first != b'%' {
                bytes.push(*first);
            } else if let Some(byte) = raw_hex(rest) {
                bytes.push(byte);
                rest = &rest[2..];
            } else {
                broken = true;
                break;
            }
        }
        let naive = String::from_utf8(bytes).ok().filter(|_| !broken);
        prop_assert_eq!(decode_path(&raw).ok().map(Cow::into_owned), naive);
    }

    #[test]
    fn written_targets_come_back(target in "[a-zA-Z0-9.-]{1,20}", method in "[a-z/]{0,20}") {
        let path = format!("/v1.0/invoke/{target}/method/{method}");
        let request = Request { path: &path, app_id: None, authorization: None };
        let found = find(request).map(|f| (f.target.into_owned(), f.method.to_owned()));
        prop_assert_eq!(found, Some((target, method)));
    }
}

fn raw_hex(rest: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
    let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

//! What becomes of a path that a handler of `appHttpPipeline` made.

use tonic::Code;

use super::*;

fn parts(uri: &str) -> Parts {
    let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
    parts
}

/// The app gets the spelling that policy saw, and nothing of what it refused.
#[test]
fn a_rewritten_path_is_sent_as_it_was_judged() {
    for (uri, judged, sent) in [
        ("/a/b", "/a/b", "http://app:1/a/b"),
        ("/a/../b?q=%2e%2e/c", "/b", "http://app:1/b?q=%2e%2e/c"),
        ("/a//b/./", "/a/b", "http://app:1/a/b"),
        ("/a/%2e%2e/b", "/b", "http://app:1/b"),
        ("/a%2F..%2Fb", "/b", "http://app:1/b"),
        ("/x%20y", "/x y", "http://app:1/x%20y"),
        ("/x%2541", "/x%41", "http://app:1/x%41"),
        ("/..", "/", "http://app:1/"),
    ] {
        let mut parts = parts(&format!("http://app:1{uri}"));
        let mut seen = String::new();
        let judge = |method: &Method| {
            method.as_str().clone_into(&mut seen);
            Ok(())
        };
        rejudge(&mut parts, judge).unwrap();
        assert_eq!(
            (seen.as_str(), parts.uri.to_string().as_str()),
            (judged, sent)
        );
    }
    for uri in ["http://app:1/a%00b", "http://app:1/a%25zz"] {
        rejudge(&mut parts(uri), |_method| Ok(())).unwrap_err();
    }
    let denied = |_method: &Method| Err(Status::permission_denied("no"));
    let error = rejudge(&mut parts("http://app:1/a"), denied).unwrap_err();
    assert!(
        matches!(error, ChannelError::Denied(status) if status.code() == Code::PermissionDenied)
    );
}

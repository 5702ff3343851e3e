//! Redirects of HTTPEndpoint targets.
//!
//! Owns where an answer points to and what may go there (H21). Headers of the resource and credentials of the
//! client stay with the host they were meant for: another authority, or the step from TLS to plaintext, gets
//! none of them. The reference drops the client's credentials only; its resource headers follow everywhere.

use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header};
use url::Url;

/// Redirects that one call follows at most (service-invocation 1.6).
pub(super) const REDIRECTS: usize = 10;

/// The address that a 3xx answer points to, if it does and if it may be followed.
pub(super) fn next<B>(response: &Response<B>, from: &Uri) -> Option<Uri> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let base = Url::parse(&from.to_string()).ok()?;
    let mut joined = base.join(location).ok()?;
    joined.set_fragment(None);
    matches!(joined.scheme(), "http" | "https").then_some(())?;
    joined.as_str().parse().ok()
}

/// True if what was meant for `from` may be shown to `to`.
pub(super) fn is_same_place(from: &Uri, to: &Uri) -> bool {
    from.scheme() == to.scheme() && from.authority() == to.authority()
}

/// Drops credentials, and the headers of the resource, before a request goes to another place.
pub(super) fn strip_credentials(headers: &mut HeaderMap, resource: &[(HeaderName, HeaderValue)]) {
    for name in [
        header::AUTHORIZATION,
        header::COOKIE,
        header::PROXY_AUTHORIZATION,
        header::WWW_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
    for (name, _) in resource {
        headers.remove(name);
    }
}

/// What the next server may learn of the last address: no user information, no query, nothing over plaintext
/// of an address that was called over TLS.
pub(super) fn referer(from: &Uri, to: &Uri) -> Option<HeaderValue> {
    if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
        return None;
    }
    let host = from.host()?;
    let port = from
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    let scheme = from.scheme_str()?;
    HeaderValue::from_str(&format!("{scheme}://{host}{port}{}", from.path())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, location: &str, expected: Option<&str>) {
        let answer = Response::builder()
            .status(302)
            .header(header::LOCATION, location)
            .body(())
            .unwrap();
        let found = next(&answer, &from.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), expected, "{from} {location}");
    }

    #[test]
    fn a_location_may_be_relative() {
        check("http://h:1/a/b", "/c?d", Some("http://h:1/c?d"));
        check("http://h:1/a/b", "other", Some("http://h:1/a/other"));
        check("http://h:1/a/b", "../up", Some("http://h:1/up"));
        check("http://h:1/a/b", "?x=1", Some("http://h:1/a/b?x=1"));
        check("https://h/a", "//h2/p", Some("https://h2/p"));
        check("http://h/a", "https://x/#frag", Some("https://x/"));
        check("http://h/a", "ftp://x/", None);
    }

    #[test]
    fn credentials_stay_with_their_host() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert!(is_same_place(&uri("http://h:1/a"), &uri("http://h:1/b")));
        assert!(!is_same_place(&uri("http://h:1/a"), &uri("http://h:2/a")));
        assert!(!is_same_place(&uri("https://h/a"), &uri("http://h/a")));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("secret"));
        headers.insert("x-key", HeaderValue::from_static("secret"));
        headers.insert("x-a", HeaderValue::from_static("1"));
        let resource = [(
            HeaderName::from_static("x-key"),
            HeaderValue::from_static("secret"),
        )];
        strip_credentials(&mut headers, &resource);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_referer_holds_no_secret() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let said = referer(&uri("http://u:p@h:1/a?token=t"), &uri("http://x/"));
        assert_eq!(said.unwrap(), "http://h:1/a");
        assert_eq!(referer(&uri("https://h/a"), &uri("http://x/")), None);
    }
}

//! Stage 4, `cors`: which web pages may read answers of the HTTP API.
//!
//! Owns `--allowed-origins`: absent (the default), every origin, or a list. A preflight is answered here,
//! before any token is asked for; other requests get their headers on the way back. Refuses credentials:
//! `Access-Control-Allow-Credentials` is never sent. Source: service-invocation 1.15.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};

use crate::body::{self, Body};

/// What a page may do once its origin is allowed.
const METHODS: &[&str] = &["HEAD", "GET", "POST", "PUT", "PATCH", "DELETE"];

/// CORS rules of the HTTP API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Cors {
    /// No CORS handling at all: `OPTIONS` is a request like any other.
    #[default]
    Off,
    /// `*`.
    Any,
    /// Exactly these origins.
    Only(Vec<Box<str>>),
}

/// What a request's origin is worth; put on the answer by [`Origin::mark`].
#[derive(Debug)]
pub(crate) enum Origin {
    /// CORS is off, or the request names no origin.
    None,
    /// Allowed: the value of `Access-Control-Allow-Origin`.
    Allowed(HeaderValue),
    /// Named, but not allowed.
    Foreign,
}

// === impl Cors ===

impl Cors {
    /// Reads `--allowed-origins`: empty is off, a `*` anywhere is every origin.
    pub(crate) fn parse(text: &str) -> Self {
        let origins: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|o| !o.is_empty())
            .collect();
        match origins.as_slice() {
            [] => Self::Off,
            all if all.contains(&"*") => Self::Any,
            some => Self::Only(some.iter().map(|o| Box::from(*o)).collect()),
        }
    }

    /// Judges the origin of a request.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> Origin {
        let (Some(origin), false) = (headers.get(header::ORIGIN), *self == Self::Off) else {
            return Origin::None;
        };
        match self {
            Self::Off => Origin::None,
            Self::Any => Origin::Allowed(HeaderValue::from_static("*")),
            Self::Only(list)
                if list
                    .iter()
                    .any(|o| o.as_bytes().eq_ignore_ascii_case(origin.as_bytes())) =>
            {
                Origin::Allowed(origin.clone())
            }
            Self::Only(_) => Origin::Foreign,
        }
    }

    /// The answer to a preflight; `None` for any other request.
    pub(crate) fn preflight(&self, head: &Parts) -> Option<Response<Body>> {
        let asks = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if *self == Self::Off
            || head.method != Method::OPTIONS
            || !head.headers.contains_key(header::ORIGIN)
        {
            return None;
        }
        let mut answer = Response::new(body::empty());
        *answer.status_mut() = StatusCode::OK;
        let headers = answer.headers_mut();
        for name in [
            header::ORIGIN,
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_REQUEST_HEADERS,
        ] {
            vary(headers, &name);
        }
        let known = METHODS
            .iter()
            .any(|m| m.as_bytes().eq_ignore_ascii_case(asks.as_bytes()));
        if let (Origin::Allowed(origin), true) = (self.origin(&head.headers), known) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, asks.clone());
            if let Some(wanted) = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            }
        }
        Some(answer)
    }
}

// === impl Origin ===

impl Origin {
    /// Puts the verdict on an answer.
    pub(crate) fn mark(self, headers: &mut HeaderMap) {
        let allowed = match self {
            Self::None => return,
            Self::Foreign => None,
            Self::Allowed(origin) => Some(origin),
        };
        vary(headers, &header::ORIGIN);
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
}

fn vary(headers: &mut HeaderMap, name: &HeaderName) {
    let text = match *name {
        header::ORIGIN => "Origin",
        header::ACCESS_CONTROL_REQUEST_METHOD => "Access-Control-Request-Method",
        _ => "Access-Control-Request-Headers",
    };
    headers.append(header::VARY, HeaderValue::from_static(text));
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn ask(method: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/v1.0/metadata");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn preflight_from(origin: &str) -> Parts {
        ask(
            "OPTIONS",
            &[
                ("origin", origin),
                ("access-control-request-method", "POST"),
            ],
        )
    }

    #[test]
    fn the_flag_is_read_as_a_list() {
        assert_eq!(Cors::parse(""), Cors::Off);
        assert_eq!(Cors::parse("*"), Cors::Any);
        assert_eq!(Cors::parse("https://x, *"), Cors::Any);
        assert_eq!(
            Cors::parse("https://x,https://y"),
            Cors::Only(vec!["https://x".into(), "https://y".into()])
        );
    }

    /// Fact: service-invocation SI-117.
    #[test]
    fn without_the_flag_a_preflight_is_an_ordinary_request() {
        assert!(Cors::Off.preflight(&preflight_from("https://x")).is_none());
        let mut headers = HeaderMap::new();
        Cors::Off
            .origin(&ask("GET", &[("origin", "https://x")]).headers)
            .mark(&mut headers);
        assert!(headers.is_empty());
    }

    /// Fact: service-invocation SI-118.
    #[test]
    fn a_listed_origin_is_echoed_and_a_foreign_one_is_not() {
        let cors = Cors::parse("https://x");
        let own = cors.preflight(&preflight_from("https://x")).unwrap();
        assert_eq!(own.status(), StatusCode::OK);
        assert_eq!(
            own.headers().get("access-control-allow-origin").unwrap(),
            "https://x"
        );
        assert_eq!(
            own.headers().get("access-control-allow-methods").unwrap(),
            "POST"
        );
        let foreign = cors.preflight(&preflight_from("https://y")).unwrap();
        assert_eq!(foreign.status(), StatusCode::OK);
        for answer in [&own, &foreign] {
            assert!(answer.headers().contains_key("vary"));
            assert!(
                !answer
                    .headers()
                    .contains_key("access-control-allow-credentials")
            );
        }
        assert!(
            !foreign
                .headers()
                .contains_key("access-control-allow-origin")
        );
    }

    #[test]
    fn an_unlisted_method_gets_no_permission() {
        let head = ask(
            "OPTIONS",
            &[
                ("origin", "https://x"),
                ("access-control-request-method", "PROPFIND"),
            ],
        );
        let answer = Cors::Any.preflight(&head).unwrap();
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }

    #[test]
    fn only_a_whole_preflight_is_one() {
        for head in [
            ask("OPTIONS", &[("origin", "https://x")]),
            ask("OPTIONS", &[("access-control-request-method", "GET")]),
            ask(
                "POST",
                &[
                    ("origin", "https://x"),
                    ("access-control-request-method", "GET"),
                ],
            ),
        ] {
            assert!(Cors::Any.preflight(&head).is_none());
        }
    }

    #[test]
    fn any_origin_is_a_star_and_no_origin_is_nothing() {
        let mut headers = HeaderMap::new();
        Cors::Any
            .origin(&ask("GET", &[("origin", "https://z")]).headers)
            .mark(&mut headers);
        assert_eq!(headers.get("access-control-allow-origin").unwrap(), "*");
        let mut none = HeaderMap::new();
        Cors::Any.origin(&ask("GET", &[]).headers).mark(&mut none);
        assert!(none.is_empty());
    }
}

//! The API's own routes: which there are, and what each answers.
//!
//! Owns the HTTP route table ([`Route::find`]): paths are looked up cleaned but still encoded, and everything
//! that no route matches is an invocation (service-invocation 1.2, 1.3), so there is no 405. The gRPC methods
//! are dispatched in `server/grpc.rs`. Refuses to own what happens before a route is looked up: the stages in
//! `server/` do.

use std::borrow::Cow;

use http::Method;
use ironside_policy::clean;

use self::{
    access::{ApiAccess, Group},
    blocks::BlockCall,
};

pub(crate) mod access;
pub(crate) mod blocks;
pub(crate) mod decisions;
pub(crate) mod error;
pub(crate) mod health;
pub(crate) mod metadata;
pub(crate) mod reply;
pub(crate) mod shutdown;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `GET /v1.0/healthz`
    Healthz,
    /// `GET /v1.0/healthz/outbound`
    Outbound,
    /// `GET /v1.0/metadata`
    Metadata,
    /// `PUT /v1.0/metadata/{key}`; the key is still encoded.
    SetMetadata(&'a str),
    /// `GET /v1.0-alpha1/accesscontrol/decisions`
    Decisions,
    /// `POST /v1.0/shutdown`
    Shutdown,
    /// A building block that is not offered.
    Block(BlockCall<'a>),
    /// Service invocation, in any of its forms, or nothing at all: the invocation says which.
    Invoke,
    /// Nothing, not even invocation: an access list closed it.
    Nothing,
}

const METADATA: Group<'static> = Group {
    key: "v1/metadata",
    route: "v1.0/metadata",
};
const SET_METADATA: Group<'static> = Group {
    key: "v1/metadata",
    route: "v1.0/metadata/{key}",
};
const SHUTDOWN: Group<'static> = Group {
    key: "v1/shutdown",
    route: "v1.0/shutdown",
};
const DECISIONS: Group<'static> = Group {
    key: "v1alpha1/accesscontrol",
    route: "v1.0-alpha1/accesscontrol",
};
const INVOKE: Group<'static> = Group {
    key: "v1/invoke",
    route: "v1.0/invoke",
};

/// The path that routes are looked up by: cleaned, still encoded, without trailing slash.
pub(crate) fn routing_path(path: &str) -> Cow<'_, str> {
    if path.contains("//") || path.contains("/.") || !path.starts_with('/') {
        return Cow::Owned(clean(path));
    }
    match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => Cow::Borrowed(shorter),
        Some(_) | None => Cow::Borrowed(path),
    }
}

// === impl Route ===

impl<'a> Route<'a> {
    /// Finds the route of a request on the API port; `path` comes from [`routing_path`].
    pub(crate) fn find(method: &Method, path: &'a str, access: &ApiAccess) -> Self {
        if let Some(route) = Self::of_sidecar(method, path, access) {
            return route;
        }
        match blocks::find(method, path) {
            Some(call) if access.allows_http(call.access_group(path)) => Self::Block(call),
            Some(_) | None if access.allows_http(INVOKE) => Self::Invoke,
            Some(_) | None => Self::Nothing,
        }
    }

    /// Finds the route of a request on the public port, which writes nothing (H14).
    pub(crate) fn find_public(method: &Method, path: &'a str, access: &ApiAccess) -> Self {
        match Self::of_sidecar(method, path, access) {
            Some(route @ (Self::Healthz | Self::Outbound | Self::Metadata)) => route,
            Some(_) | None => Self::Nothing,
        }
    }

    fn of_sidecar(method: &Method, path: &'a str, access: &ApiAccess) -> Option<Self> {
        if method == Method::GET && path == "/v1.0-alpha1/accesscontrol/decisions" {
            return access.allows_http(DECISIONS).then_some(Self::Decisions);
        }
        let rest = path.strip_prefix("/v1.0/")?;
        match (method.as_str(), rest) {
            ("GET", "healthz") => Some(Self::Healthz),
            ("GET", "healthz/outbound") => Some(Self::Outbound),
            ("GET", "metadata") => access.allows_http(METADATA).then_some(Self::Metadata),
            ("POST", "shutdown") => access.allows_http(SHUTDOWN).then_some(Self::Shutdown),
            ("PUT", _) => {
                let key = rest
                    .strip_prefix("metadata/")
                    .filter(|key| !key.contains('/'))?;
                access
                    .allows_http(SET_METADATA)
                    .then_some(Self::SetMetadata(key))
            }
            (_, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, path: &str) -> String {
        let path = routing_path(path);
        format!(
            "{:?}",
            Route::find(&method.parse().unwrap(), &path, &ApiAccess::default())
        )
    }

    /// Fact: service-invocation 1.2, 1.3, SI-008, SI-011, SI-012.
    #[test]
    fn the_table() {
        for (method, path, route) in [
            ("GET", "/v1.0/healthz", "Healthz"),
            ("GET", "/v1.0//healthz/", "Healthz"),
            ("GET", "/v1.0/x/../healthz/outbound", "Outbound"),
            ("HEAD", "/v1.0/healthz", "Invoke"),
            ("GET", "/v1.0/metadata", "Metadata"),
            ("POST", "/v1.0/metadata", "Invoke"),
            ("OPTIONS", "/v1.0/metadata", "Invoke"),
            ("GET", "/v1.0-alpha1/accesscontrol/decisions/", "Decisions"),
            ("POST", "/v1.0-alpha1/accesscontrol/decisions", "Invoke"),
            ("GET", "/v1.0/accesscontrol/decisions", "Invoke"),
            ("PUT", "/v1.0/metadata/k%20x", "SetMetadata(\"k%20x\")"),
            ("PUT", "/v1.0/metadata/", "Invoke"),
            ("PUT", "/v1.0/metadata/a/b", "Invoke"),
            ("POST", "/v1.0/shutdown", "Shutdown"),
            ("GET", "/v1.0/shutdown", "Invoke"),
            ("GET", "/v1.0/invoke/a/method/b", "Invoke"),
            ("GET", "/v1.0%2Fhealthz", "Invoke"),
            ("GET", "/unknown", "Invoke"),
            ("GET", "/", "Invoke"),
        ] {
            assert_eq!(find(method, path), route, "{method} {path}");
        }
        assert!(find("GET", "/v1.0/state/s/k").starts_with("Block"));
    }

    /// Fact: service-invocation 1.15, SI-123 to SI-125.
    #[test]
    fn access_lists_close_routes() {
        let rule = |name: &str| access::Rule {
            name: name.into(),
            version: "v1.0".into(),
            protocol: "http".into(),
        };
        let get = |path: &'static str, access: &ApiAccess| {
            format!("{:?}", Route::find(&Method::GET, path, access))
        };
        let no_metadata = ApiAccess::compile(&[], &[rule("metadata")]);
        assert_eq!(get("/v1.0/metadata", &no_metadata), "Invoke");
        assert_eq!(get("/v1.0/healthz", &no_metadata), "Healthz");
        let only_state = ApiAccess::compile(&[rule("state")], &[]);
        assert_eq!(get("/v1.0/invoke/a/method/b", &only_state), "Nothing");
        assert!(get("/v1.0/state/s/k", &only_state).starts_with("Block"));
        let no_state = ApiAccess::compile(&[], &[rule("state")]);
        assert_eq!(get("/v1.0/state/s/k", &no_state), "Invoke");
    }

    #[test]
    fn the_public_port_reads_only() {
        let all = ApiAccess::default();
        for (method, path, route) in [
            (Method::GET, "/v1.0/healthz", Route::Healthz),
            (Method::GET, "/v1.0/healthz/outbound", Route::Outbound),
            (Method::GET, "/v1.0/metadata", Route::Metadata),
            (Method::PUT, "/v1.0/metadata/k", Route::Nothing),
            (Method::POST, "/v1.0/shutdown", Route::Nothing),
            (Method::GET, "/v1.0/invoke/a/method/b", Route::Nothing),
            (
                Method::GET,
                "/v1.0-alpha1/accesscontrol/decisions",
                Route::Nothing,
            ),
        ] {
            assert_eq!(
                Route::find_public(&method, path, &all),
                route,
                "{method} {path}"
            );
        }
    }
}

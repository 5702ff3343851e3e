//! `GET /v1.0-alpha1/accesscontrol/decisions`: the last decisions about calls to this app.
//!
//! Owns who may see them: whoever has the API token; where there is none, whoever is on this machine. They name
//! callers, paths and rules, which a denied caller must not learn (security 4.9).

use std::net::IpAddr;

use http::{Extensions, Response, StatusCode};

use super::reply;
use crate::{body::Body, middleware::ClientAddress, worker::Shared};

/// The list, or a refusal; `client` is what is known of the connection. The token was asked for before, if one
/// is set.
pub(crate) fn list(shared: &Shared, client: &Extensions) -> Response<Body> {
    let is_open = shared.config.api_token.is_none();
    // Whoever comes over a socket file has no address.
    let address = client.get::<ClientAddress>().map(|address| address.0.ip());
    if is_open && !address.is_none_or(is_local) {
        return reply::error(
            StatusCode::FORBIDDEN,
            "ERR_ACCESS_CONTROL_DECISIONS",
            "decisions are shown to this machine only: call from there, or set DAPR_API_TOKEN and send it",
        );
    }
    reply::json(StatusCode::OK, shared.decisions.json())
}

fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_local() {
        for (address, local) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_local(address.parse().unwrap()), local, "{address}");
        }
    }
}

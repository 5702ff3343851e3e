//! The `host:port` text under which a peer's internal server is dialled.
//!
//! Owns the spelling, brackets of IPv6 included: the reference's multicast resolver leaves them
//! out and so hands on addresses that nobody can dial (service-invocation H5). Refuses to know how
//! an address was found, and whether anybody listens there.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A `host:port` text; cheap to clone. IPv6 hosts carry their brackets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority(Arc<str>);

/// Why a text is no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Nothing stands before the port.
    #[error("address {0:?} has no host")]
    NoHost(Box<str>),
    /// There is no port, or it is no number from 1 to 65535.
    #[error("address {0:?} has no port between 1 and 65535")]
    NoPort(Box<str>),
    /// An IPv6 host without brackets, or brackets around something else.
    #[error("address {0:?} does not bracket its IPv6 host")]
    Brackets(Box<str>),
}

// === impl Authority ===

impl Authority {
    /// Joins a host, a name or an IP address with or without brackets, and a port.
    ///
    /// # Errors
    /// [`AuthorityError`] if the host is empty, the port is 0, or the host contains a colon and is
    /// no IPv6 address.
    pub fn new(host: &str, port: u16) -> Result<Self, AuthorityError> {
        let bare = unbracketed(host);
        if bare.contains(':') {
            Self::parse(&format!("[{bare}]:{port}"))
        } else {
            Self::parse(&format!("{bare}:{port}"))
        }
    }

    /// Parses `host:port`; an IPv6 host must stand in brackets.
    ///
    /// # Errors
    /// [`AuthorityError`], which repeats the text.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(AuthorityError::NoPort(text.into()));
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().unwrap_or(0) == 0
        {
            return Err(AuthorityError::NoPort(text.into()));
        }
        let bare = unbracketed(host);
        if bare.is_empty() {
            return Err(AuthorityError::NoHost(text.into()));
        }
        let bracketed = bare.len() != host.len();
        let colons = bare.contains(':');
        if bracketed != colons || bare.contains(['[', ']']) || (colons && !is_ipv6(bare)) {
            return Err(AuthorityError::Brackets(text.into()));
        }
        Ok(Self(text.into()))
    }

    /// The whole text, ready to be dialled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0
            .rsplit_once(':')
            .map_or("", |(host, _)| unbracketed(host))
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or_default()
    }

    /// The socket address, unless the host is a name or a scoped address that needs a look-up.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.0.parse().ok()
    }
}

impl From<SocketAddr> for Authority {
    /// Keeps the scope of an IPv6 address; a port of 0 stays as it is, the caller knows better than
    /// to announce it.
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string().into())
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.0)
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn is_ipv6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(host: &str, port: u16) -> Option<String> {
        Authority::new(host, port).ok().map(|a| a.to_string())
    }

    #[test]
    fn ipv6_hosts_are_bracketed_once() {
        assert_eq!(joined("10.0.0.7", 50002).as_deref(), Some("10.0.0.7:50002"));
        assert_eq!(joined("localhost", 1).as_deref(), Some("localhost:1"));
        assert_eq!(joined("fd00::2", 9).as_deref(), Some("[fd00::2]:9"));
        assert_eq!(joined("[fd00::2]", 9).as_deref(), Some("[fd00::2]:9"));
        assert_eq!(
            joined("fe80::1%eth0", 9).as_deref(),
            Some("[fe80::1%eth0]:9")
        );
    }

    #[test]
    fn texts_that_cannot_be_dialled_are_refused() {
        for text in [
            "",
            ":",
            ":80",
            "[]:80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+8",
            "host:x",
            "fd00::2:80",
            "[host]:80",
            "[fd00::2]",
            "[fd00::2",
            "fd00::2]:80",
            "[[::1]]:80",
            "a:b:80",
            "[a:b]:80",
        ] {
            assert!(Authority::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(joined("", 80), None);
        assert_eq!(joined("host", 0), None);
        assert_eq!(joined("not:an:address", 80), None);
    }

    #[test]
    fn parts_can_be_taken_apart_again() {
        let authority = Authority::parse("[::1]:50002").expect("valid");
        assert_eq!(authority.host(), "::1");
        assert_eq!(authority.port(), 50002);
        assert_eq!(authority.socket_addr(), "[::1]:50002".parse().ok());
        let name = Authority::parse("localhost:7").expect("valid");
        assert_eq!((name.host(), name.port()), ("localhost", 7));
        assert_eq!(name.socket_addr(), None);
        let from: Authority = "[::1]:50002".parse::<SocketAddr>().expect("valid").into();
        assert_eq!(from, authority);
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(text in ".{0,40}") {
            if let Ok(authority) = Authority::parse(&text) {
                proptest::prop_assert_eq!(authority.as_str(), &text);
                let again = Authority::new(authority.host(), authority.port());
                proptest::prop_assert_eq!(again.map(|a| a.port()), Ok(authority.port()));
            }
        }

        #[test]
        fn joining_an_address_round_trips(address: SocketAddr) {
            let authority = Authority::from(address);
            if address.port() > 0 {
                let parsed = Authority::parse(authority.as_str());
                proptest::prop_assert_eq!(parsed, Ok(authority.clone()));
                proptest::prop_assert_eq!(authority.socket_addr().map(|a| a.ip()), Some(address.ip()));
            }
        }
    }
}

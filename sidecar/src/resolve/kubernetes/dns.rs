//! The questions themselves: A and AAAA records, from the servers of `/etc/resolv.conf` or of the configuration.
//!
//! Owns the library's settings. It keeps no answers: how long one counts is the keeper's word. An answer that says
//! that there is nothing, and no answer, are told apart, because only the first one takes addresses away.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{RData, RecordType},
    },
};

/// How long one server has for one question; there are two tries.
const LIMIT: Duration = Duration::from_secs(1);

/// Why there are no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// The servers say that there are none.
    Absent,
    /// They do not say.
    Failed(Arc<str>),
}

/// What came of a question.
pub(super) type Answer = Result<Vec<IpAddr>, Miss>;

/// Whoever can be asked for the addresses of a name.
pub(super) trait Ask: Send + Sync {
    /// All addresses of a name; one that ends in a dot is whole.
    fn addresses(&self, name: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>>;
}

/// DNS.
#[derive(Clone)]
pub(super) struct Dns(TokioResolver);

// === impl Dns ===

impl Dns {
    /// Asks `servers`, or those of the system.
    ///
    /// # Errors
    /// The library's text, for a `/etc/resolv.conf` that cannot be used.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, Arc<str>> {
        let text = |error: NetError| Arc::from(format!("/etc/resolv.conf: {error}"));
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(text)?
        } else {
            let servers = servers.iter().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.positive_max_ttl = Some(Duration::ZERO);
        options.negative_max_ttl = Some(Duration::ZERO);
        options.timeout = LIMIT;
        options.attempts = 2;
        // Many pods do not fit into 512 bytes.
        options.edns0 = true;
        builder.build().map(Self).map_err(text)
    }

    async fn family(self, name: String, family: RecordType) -> Answer {
        match self.0.lookup(name, family).await {
            Ok(lookup) => Ok(lookup
                .answers()
                .iter()
                .filter_map(|record| address(&record.data))
                .collect()),
            Err(error) if is_absence(&error) => Err(Miss::Absent),
            Err(error) => Err(Miss::Failed(error.to_string().into())),
        }
    }
}

impl Ask for Dns {
    fn addresses(&self, name: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let four = self.clone().family(name.to_owned(), RecordType::A);
        let six = self.clone().family(name.to_owned(), RecordType::AAAA);
        Box::pin(async { joined(futures_util::join!(four, six)) })
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn address(data: &RData) -> Option<IpAddr> {
    data.ip_addr()
}

/// True if a server says that there are no such records; a server that has a problem says something else.
fn is_absence(error: &NetError) -> bool {
    if let NetError::Dns(DnsError::NoRecordsFound(found)) = error {
        return matches!(
            found.response_code,
            ResponseCode::NoError | ResponseCode::NXDomain
        );
    }
    false
}

/// Both families: addresses of either count; that there are none must be said of both.
fn joined((four, six): (Answer, Answer)) -> Answer {
    match (four, six) {
        (Ok(mut four), Ok(six)) => {
            four.extend(six);
            Ok(four)
        }
        (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.is_empty() => Ok(some),
        (Err(Miss::Failed(why)), _) | (_, Err(Miss::Failed(why))) => Err(Miss::Failed(why)),
        (Err(Miss::Absent), _) | (_, Err(Miss::Absent)) => Err(Miss::Absent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_of_both_families_is_absence() {
        let four = || Ok(vec![IpAddr::from([10, 0, 0, 1])]);
        let failed = || Err(Miss::Failed("late".into()));
        let absent = || Err(Miss::Absent);
        assert_eq!(joined((four(), absent())), four());
        assert_eq!(joined((four(), failed())), four());
        assert_eq!(joined((absent(), absent())), absent());
        assert_eq!(joined((absent(), failed())), failed());
        assert_eq!(joined((Ok(Vec::new()), failed())), failed());
        assert_eq!(joined((Ok(Vec::new()), absent())), absent());
    }
}

//! Multicast DNS: how apps of one network find each other, and the reference's sidecars ours.
//!
//! Owns the sockets of all links, follows links that come and go, and sends the questions that
//! `search.rs` has due. Serves the own namespace only, because the names carry none. Where there is
//! no multicast it says so once and keeps looking for a link.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ironside_chassis::clock::Clock;
use ironside_resolution::name::{self, Names};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{COMPONENT, Instance, LOG};
use endpoint::{Duties, Endpoint};
use links::Links;
use wire::Announced;

mod endpoint;
mod links;
pub(super) mod search;
mod wire;

pub(super) use search::Search;
#[cfg(test)]
pub(super) use wire::Sighting;

/// Between two looks at the machine's links.
const LINKS_INTERVAL: Duration = Duration::from_secs(5);
/// How long goodbyes may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// The second layer of the default resolver.
pub(super) struct Multicast {
    duties: Duties,
    open: Vec<Open>,
    silence: Silence,
}

/// An endpoint in service, and the way to end it.
struct Open {
    endpoint: Arc<Endpoint>,
    stop: CancellationToken,
}

/// Whether the absence of multicast has been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Unreported,
    Reported,
}

/// The endpoints in service; each future ends with its endpoint.
type Serving = FuturesUnordered<Pin<Box<dyn Future<Output = Arc<Endpoint>> + Send>>>;

// === impl Multicast ===

impl Multicast {
    /// Speaks for `instance` and feeds `search`.
    pub(super) fn new(instance: &Instance, search: Arc<Search>, clock: Clock) -> Self {
        let announced = match announced(instance) {
            Ok(announced) => Some(Arc::new(announced)),
            Err(err) => {
                warn!(target: LOG, component = COMPONENT, %err, "this app is not announced by multicast DNS");
                None
            }
        };
        Self {
            duties: Duties {
                announced,
                search,
                clock,
            },
            open: Vec::new(),
            silence: Silence::Unreported,
        }
    }

    /// Serves until the stop, then says goodbye on every link.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut serving = Serving::new();
        let mut look = interval(LINKS_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => self.follow(&Links::read(), &stop, &serving),
                Some(ended) = serving.next() => {
                    self.open.retain(|open| !Arc::ptr_eq(&open.endpoint, &ended));
                }
                () = self.duties.search.wait_until_due() => self.ask().await,
            }
        }
        let goodbyes = async { while serving.next().await.is_some() {} };
        if timeout(GOODBYE_LIMIT, goodbyes).await.is_err() {
            debug!(target: LOG, component = COMPONENT, "goodbyes took longer than {GOODBYE_LIMIT:?}");
        }
    }

    /// Closes endpoints whose link is gone or has other addresses, opens those of new links.
    fn follow(&mut self, links: &Links, stop: &CancellationToken, serving: &Serving) {
        for gone in self
            .open
            .extract_if(.., |open| !links.usable.contains(open.endpoint.link()))
        {
            gone.stop.cancel();
        }
        for link in &links.usable {
            if self.open.iter().any(|open| open.endpoint.link() == link) {
                continue;
            }
            match Endpoint::open(link, &links.own) {
                Ok(endpoint) => self.serve(endpoint, stop.child_token(), serving),
                Err(err) => {
                    debug!(target: LOG, component = COMPONENT, interface = %link.name, %err, "no multicast DNS on an interface");
                }
            }
        }
        if self.open.is_empty() && self.silence == Silence::Unreported {
            info!(target: LOG, component = COMPONENT, "multicast DNS is not available: only apps of this machine and user are found");
            self.silence = Silence::Reported;
        }
    }

    fn serve(&mut self, endpoint: Endpoint, stop: CancellationToken, serving: &Serving) {
        let endpoint = Arc::new(endpoint);
        let duties = self.duties.clone();
        self.open.push(Open {
            endpoint: endpoint.clone(),
            stop: stop.clone(),
        });
        serving.push(Box::pin(async move {
            endpoint.serve(&duties, &stop).await;
            endpoint
        }));
    }

    async fn ask(&self) {
        for app in self.duties.search.due() {
            let Some(Ok(question)) = name::service(&app).ok().map(|name| wire::question(&name))
            else {
                continue;
            };
            for open in &self.open {
                open.endpoint.shout(&question).await;
            }
        }
    }
}

/// Why a sidecar cannot be announced.
#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error("the host address {0:?} is no IP address")]
    Address(Box<str>),
    #[error(transparent)]
    Name(#[from] name::NameError),
    #[error(transparent)]
    Wire(#[from] hickory_proto::ProtoError),
}

fn announced(instance: &Instance) -> Result<Announced, AnnounceError> {
    let host = instance.authority.host();
    let address = if host == "localhost" {
        Ok(IpAddr::V4(Ipv4Addr::LOCALHOST))
    } else {
        host.parse()
            .map_err(|_not_ip| AnnounceError::Address(host.into()))
    }?;
    let app = instance.app_id.clone();
    let names = Names::new(&app, &instance.host_name, instance.pid)?;
    Ok(Announced::new(
        app,
        &names,
        address,
        instance.authority.port(),
    )?)
}

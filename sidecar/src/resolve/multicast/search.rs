//! What multicast DNS is asked for, and what it has answered: the memory of the second layer.
//!
//! Owns the questions to come (`resolution::browse`) and the addresses seen (`resolution::cache`),
//! and wakes whoever sends the ones or merges the others. Asked from data-path threads, fed from
//! the control thread; a lock is held for a few map operations only. Refuses sockets.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ironside_chassis::clock::Clock;
use ironside_identity::AppId;
use ironside_resolution::browse::{ADDRESS_LIFETIME, Browse, Role};
use ironside_resolution::cache::Limits;
use ironside_resolution::{Authority, Cache};
use tokio::sync::Notify;

use super::wire::Sighting;

/// Apps looked for at once; a sidecar calls a few dozen.
const MAX_APPS: usize = 1024;
/// Addresses remembered per app and family.
const MAX_ADDRESSES: usize = 256;

/// The shared memory of the questions and the answers.
#[derive(Debug)]
pub(crate) struct Search {
    clock: Clock,
    memory: Mutex<Memory>,
    due: Notify,
    changed: Notify,
}

#[derive(Debug)]
struct Memory {
    browse: Browse,
    seen: Cache<(AppId, Family)>,
}

/// IPv4 is preferred: IPv6 addresses count only for apps that have no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

// === impl Search ===

impl Search {
    /// Looks for nothing and knows nothing yet.
    pub(crate) fn new(clock: Clock) -> Self {
        let limits = Limits {
            keys: MAX_APPS.saturating_mul(2),
            addresses: MAX_ADDRESSES,
        };
        Self {
            clock,
            memory: Mutex::new(Memory {
                browse: Browse::new(MAX_APPS),
                seen: Cache::new(ADDRESS_LIFETIME, limits),
            }),
            due: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// A caller waits for the app; `None` if too many apps are looked for.
    pub(crate) fn ask(&self, app: &AppId) -> Option<Role> {
        let role = self.with(|memory, now| memory.browse.ask(app, now));
        if role == Some(Role::Browser) {
            self.due.notify_one();
        }
        role
    }

    /// The app is used and known from elsewhere: look for more of it in the background.
    pub(crate) fn keep(&self, app: &AppId) {
        let news = self.with(|memory, now| {
            let news = !memory.browse.wants(app);
            memory.browse.keep(app, now);
            news
        });
        if news {
            self.due.notify_one();
        }
    }

    /// Takes in what was seen on the link numbered `scope`; apps nobody asked for are not kept.
    pub(crate) fn sighted(&self, sighting: &Sighting, scope: u32) {
        let changed = self.with(|memory, now| memory.sighted(sighting, scope, now));
        if changed {
            self.changed.notify_one();
            self.due.notify_one();
        }
    }

    /// Nobody answers there; true if the address was known.
    pub(crate) fn failed(&self, address: &Authority) -> bool {
        let known = self.with(|memory, now| {
            let known = memory.seen.forget_everywhere(address);
            memory.note_losses(now);
            known
        });
        if known {
            self.due.notify_one();
        }
        known
    }

    /// Drops addresses past their life time; true if there were any.
    pub(crate) fn expire(&self) -> bool {
        let expired = self.with(|memory, now| {
            let expired = memory.seen.expire(now);
            memory.note_losses(now);
            expired
        });
        if expired {
            self.due.notify_one();
        }
        expired
    }

    /// Every app with the addresses that count for it.
    pub(crate) fn known(&self) -> Vec<(AppId, Vec<Authority>)> {
        self.with(|memory, now| memory.known(now))
    }

    /// The apps to ask for now; they count as asked for.
    pub(super) fn due(&self) -> Vec<AppId> {
        self.with(|memory, now| memory.browse.due(now))
    }

    /// Waits until a question may be due, by the schedule or because somebody came.
    pub(super) async fn wait_until_due(&self) {
        let pause = self.with(|memory, now| {
            let next = memory.browse.next()?;
            Some(next.saturating_sub(now))
        });
        let Some(pause) = pause else {
            return self.due.notified().await;
        };
        tokio::select! {
            () = self.due.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Waits until addresses came or went by what was seen.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn with<T>(&self, act: impl FnOnce(&mut Memory, Duration) -> T) -> T {
        let now = self.clock.monotonic().since_start();
        // The maps are valid after any interrupted change.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut memory, now)
    }
}

// === impl Memory ===

impl Memory {
    fn sighted(&mut self, sighting: &Sighting, scope: u32, now: Duration) -> bool {
        let Sighting {
            app,
            v4,
            v6,
            port,
            gone,
        } = sighting;
        if !self.browse.wants(app) {
            return false;
        }
        let v4 = v4.map(|ip| (Family::V4, SocketAddr::from((ip, *port))));
        let v6 = v6.map(|ip| {
            let scope = if ip.is_unicast_link_local() { scope } else { 0 };
            let address = SocketAddrV6::new(ip, *port, 0, scope);
            (Family::V6, SocketAddr::V6(address))
        });
        let mut changed = false;
        for (family, address) in v4.into_iter().chain(v6) {
            let key = (app.clone(), family);
            changed |= if *gone {
                self.seen.forget(&key, &address.into())
            } else {
                self.seen.saw(&key, address.into(), now)
            };
        }
        if *gone {
            self.note_losses(now);
        } else {
            self.browse.found(app, now);
        }
        changed
    }

    fn known(&self, now: Duration) -> Vec<(AppId, Vec<Authority>)> {
        let addresses = |app: &AppId, family| -> Vec<Authority> {
            let key = (app.clone(), family);
            self.seen.addresses(&key, now).cloned().collect()
        };
        let mut apps: Vec<&AppId> = self.seen.keys().map(|(app, _)| app).collect();
        apps.sort_unstable();
        apps.dedup();
        apps.into_iter()
            .map(|app| {
                let v4 = addresses(app, Family::V4);
                let counting = if v4.is_empty() {
                    addresses(app, Family::V6)
                } else {
                    v4
                };
                (app.clone(), counting)
            })
            .collect()
    }

    /// Apps without an address are looked for again.
    fn note_losses(&mut self, now: Duration) {
        let Self { browse, seen } = self;
        let has =
            |app: &AppId, family| seen.addresses(&(app.clone(), family), now).next().is_some();
        browse.lost_unless(|app| has(app, Family::V4) || has(app, Family::V6), now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::SystemTime;

    use ironside_chassis::clock::ManualClock;

    use super::*;

    fn search() -> (Search, ManualClock) {
        let (clock, hand) = Clock::manual(SystemTime::UNIX_EPOCH);
        (Search::new(clock), hand)
    }

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("valid id")
    }

    fn sighting(id: &str, address: &str, gone: bool) -> Sighting {
        let address: IpAddr = address.parse().expect("address");
        let (v4, v6) = match address {
            IpAddr::V4(v4) => (Some(v4), None),
            IpAddr::V6(v6) => (None, Some(v6)),
        };
        Sighting {
            app: app(id),
            v4,
            v6,
            port: 50002,
            gone,
        }
    }

    fn known(search: &Search) -> Vec<String> {
        let known = search.known();
        known
            .into_iter()
            .flat_map(|(app, list)| list.into_iter().map(move |a| format!("{app} {a}")))
            .collect()
    }

    #[test]
    fn apps_nobody_asked_for_are_not_remembered() {
        let (search, _hand) = search();
        search.sighted(&sighting("a", "10.0.0.1", false), 2);
        assert!(known(&search).is_empty());
        search.keep(&app("a"));
        search.sighted(&sighting("a", "10.0.0.1", false), 2);
        assert_eq!(known(&search), ["a 10.0.0.1:50002"]);
    }

    /// Facts: service-invocation 6.3 row Lookup; H5.
    #[test]
    fn ipv6_counts_without_ipv4_only_and_has_brackets() {
        let (search, _hand) = search();
        search.ask(&app("a"));
        search.sighted(&sighting("a", "fd00::1", false), 2);
        search.sighted(&sighting("a", "fe80::1", false), 2);
        assert_eq!(known(&search), ["a [fd00::1]:50002", "a [fe80::1%2]:50002"]);
        search.sighted(&sighting("a", "10.0.0.1", false), 2);
        assert_eq!(known(&search), ["a 10.0.0.1:50002"]);
        search.sighted(&sighting("a", "10.0.0.1", true), 2);
        assert_eq!(known(&search).len(), 2);
    }

    /// Fact: service-invocation 6.3 row Refresh: an address lives 60 s from its last sighting.
    #[test]
    fn addresses_expire_and_the_app_is_asked_for_again() {
        let (search, hand) = search();
        search.ask(&app("a"));
        assert_eq!(search.due(), [app("a")]);
        search.sighted(&sighting("a", "10.0.0.1", false), 2);
        hand.advance(Duration::from_secs(1));
        assert_eq!(search.due(), [app("a")]);
        hand.advance(Duration::from_secs(58));
        search.keep(&app("a"));
        assert!(!search.expire());
        hand.advance(Duration::from_secs(1));
        assert!(search.expire());
        assert!(known(&search).is_empty());
        assert_eq!(search.due(), [app("a")]);
    }

    #[test]
    fn failures_and_goodbyes_forget_at_once() {
        let (search, hand) = search();
        search.ask(&app("a"));
        search.due();
        for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            search.sighted(&sighting("a", address, false), 2);
        }
        let authority = Authority::parse("10.0.0.2:50002").expect("valid");
        assert!(search.failed(&authority));
        assert!(!search.failed(&authority));
        search.sighted(&sighting("a", "10.0.0.3", true), 2);
        assert_eq!(known(&search), ["a 10.0.0.1:50002"]);
        search.sighted(&sighting("a", "10.0.0.1", true), 2);
        hand.advance(Duration::from_secs(1));
        assert_eq!(search.due(), [app("a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_wake_the_sender() {
        let search = Search::new(Clock::system());
        let app = app("a");
        let ask = async {
            tokio::task::yield_now().await;
            search.ask(&app)
        };
        let ((), role) = tokio::join!(search.wait_until_due(), ask);
        assert_eq!(role, Some(Role::Browser));
        assert_eq!(search.due().len(), 1);
        // Nobody else comes: the schedule says when, four seconds later.
        let before = Clock::system().monotonic();
        search.wait_until_due().await;
        search.wait_until_due().await;
        assert!(Clock::system().monotonic() - before <= Duration::from_secs(4));
        assert_eq!(search.due().len(), 1);
    }
}

//! The default resolver: the registry folder and multicast DNS, merged.
//!
//! Owns the order of look-ups (the table, then waiting for the folder and an answer from the
//! network), the merging of both layers, and the eviction of peers that died or do not answer. The
//! folder knows every namespace, multicast only the own one. Either layer may be missing. Only the
//! control task reads files; a look-up asks it to and waits for the table. Stage 12, `resolve`.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use ironside_chassis::clock::Clock;
use ironside_identity::{AppId, Namespace};
use ironside_resolution::Authority;
use ironside_resolution::browse::{BROWSER_PATIENCE, JOINER_PATIENCE, Role};
use ironside_resolution::registry::Entry;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::multicast::Search;
use super::registry::{Announcement, Registry};
use super::suspects::{Fault, Suspects};
use super::table::{Found, Table};
use super::watcher::Watcher;
use super::{Resolve, ResolveError, ResolveFuture};

#[cfg(test)]
mod tests;

/// Between two looks at the processes behind the entries, and at life times.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a look-up that asks nobody else waits for a look into the folder.
const LOOK_LIMIT: Duration = Duration::from_millis(250);

/// Both layers and what they know.
#[derive(Debug)]
pub(super) struct Layers {
    own: Namespace,
    clock: Clock,
    table: Table,
    suspects: Suspects,
    registry: Option<Registry>,
    search: Option<Arc<Search>>,
    /// Asks the control task for a look into the folder, and at the processes behind its entries.
    wanted: Notify,
    /// Tells of each look.
    looked: watch::Sender<()>,
}

// === impl Layers ===

impl Layers {
    /// Merges the layers that there are, for a sidecar in the namespace `own`.
    pub(super) fn new(
        own: Namespace,
        registry: Option<Registry>,
        search: Option<Arc<Search>>,
        clock: Clock,
    ) -> Self {
        let layers = Self {
            own,
            clock,
            table: Table::new(),
            suspects: Suspects::default(),
            registry,
            search,
            wanted: Notify::new(),
            looked: watch::Sender::new(()),
        };
        layers.look_into_folder();
        layers
    }

    /// Keeps the table fresh until the stop; then the sidecar's own entry goes.
    pub(super) async fn run(
        self: Arc<Self>,
        own_entry: Option<Announcement>,
        stop: CancellationToken,
    ) {
        let watcher = self.registry.as_ref().map(|r| Watcher::new(r.path()));
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = check.tick() => self.check(own_entry.as_ref()),
                () = folder_changed(watcher.as_ref()) => self.look_into_folder(),
                () = self.wanted.notified() => self.look_closely(),
                () = network_changed(self.search.as_deref()) => self.publish(),
            }
        }
        drop(own_entry);
    }

    /// What no notice tells: processes that died, life times that ended, apps in use.
    fn check(&self, own_entry: Option<&Announcement>) {
        if let Some(entry) = own_entry {
            entry.keep();
        }
        self.bury_dead();
        if let Some(registry) = &self.registry {
            registry.refresh();
        }
        if let Some(search) = &self.search {
            search.expire();
            for (namespace, app) in self.table.take_asked() {
                if namespace == self.own {
                    search.keep(&app);
                }
            }
        }
        self.publish();
    }

    fn bury_dead(&self) {
        let Some(registry) = &self.registry else {
            return;
        };
        for address in registry.bury() {
            if let Some(search) = &self.search {
                search.failed(&address);
            }
        }
    }

    fn look_into_folder(&self) {
        if self.registry.as_ref().is_some_and(Registry::refresh) {
            self.publish();
        }
    }

    /// What a look-up or a failed call asks for.
    fn look_closely(&self) {
        self.bury_dead();
        if let Some(registry) = &self.registry {
            registry.refresh();
        }
        self.publish();
        self.looked.send_replace(());
    }

    fn publish(&self) {
        let now = self.clock.monotonic().since_start();
        let entries = self.registry.as_ref().map(Registry::entries);
        let seen = self.search.as_ref().map(|search| search.known());
        let found = merged(
            &self.own,
            entries.unwrap_or_default(),
            seen.unwrap_or_default(),
        );
        self.table
            .publish(found, |turns| self.suspects.filter(turns, now));
    }

    async fn look_up(&self, app: &AppId, namespace: &Namespace) -> Result<Authority, ResolveError> {
        let mut changes = self.table.changes();
        let mut looks = self.looked.subscribe();
        self.wanted.notify_one();
        // It may have come before the changes are told.
        if let Some(address) = self.table.pick(app, namespace) {
            return Ok(address);
        }
        let (patience, failure) = match self.role(app, namespace) {
            Some(Role::Browser) => (BROWSER_PATIENCE, ResolveError::not_found(app)),
            Some(Role::Joiner) => (JOINER_PATIENCE, ResolveError::no_answer(app)),
            None => {
                let _late = timeout(LOOK_LIMIT, looks.changed()).await;
                let found = self.table.pick(app, namespace);
                return found.ok_or_else(|| ResolveError::not_found(app));
            }
        };
        let answered = async {
            loop {
                changes.next().await;
                if let Some(address) = self.table.pick(app, namespace) {
                    return address;
                }
            }
        };
        timeout(patience, answered)
            .await
            .map_err(|_elapsed| failure)
    }

    /// Asks the network, if it can know the app; a sidecar that is just starting is waited for in
    /// either case.
    fn role(&self, app: &AppId, namespace: &Namespace) -> Option<Role> {
        match &self.search {
            Some(search) if *namespace == self.own => search.ask(app),
            Some(_) | None => Some(Role::Browser),
        }
    }
}

impl Resolve for Layers {
    fn resolve<'a>(&'a self, app: &'a AppId, namespace: &'a Namespace) -> ResolveFuture<'a> {
        match self.table.pick(app, namespace) {
            Some(address) => Box::pin(ready(Ok(address))),
            None => Box::pin(self.look_up(app, namespace)),
        }
    }

    fn known(&self, app: &AppId, namespace: &Namespace) -> Option<Arc<[Authority]>> {
        self.table.all(app, namespace)
    }

    fn failed(&self, authority: &Authority) {
        let now = self.clock.monotonic().since_start();
        // Many calls may fail at once: the first one looks after the matter.
        if !self.suspects.add(authority, Fault::Gone, now) {
            return;
        }
        if let Some(search) = &self.search {
            search.failed(authority);
        }
        // From memory, so that the next try goes elsewhere; the rest is the control task's.
        self.publish();
        self.wanted.notify_one();
    }
}

/// Both layers together. An address that the folder knows under another name was announced by a
/// sidecar of another namespace: the network cannot tell, the folder can.
fn merged(own: &Namespace, entries: Vec<Entry>, seen: Vec<(AppId, Vec<Authority>)>) -> Found {
    let mut found = Found::new();
    let mut owners = HashMap::new();
    for entry in entries {
        let Entry {
            namespace,
            app_id,
            authority,
            process: _,
        } = entry;
        owners.insert(authority.clone(), (namespace.clone(), app_id.clone()));
        let apps = found.entry(namespace).or_default();
        apps.entry(app_id).or_default().push(authority);
    }
    for (app, addresses) in seen {
        let is_ours = |address: &Authority| {
            owners
                .get(address)
                .is_none_or(|(namespace, owner)| namespace == own && *owner == app)
        };
        let addresses: Vec<Authority> = addresses.into_iter().filter(is_ours).collect();
        let apps = found.entry(own.clone()).or_default();
        apps.entry(app).or_default().extend(addresses);
    }
    found
}

async fn folder_changed(watcher: Option<&Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

async fn network_changed(search: Option<&Search>) {
    match search {
        Some(search) => search.changed().await,
        None => std::future::pending().await,
    }
}

//! The addresses the data path reads: whole maps, replaced at once, each app with its turn.
//!
//! Owns the hand-over from whoever finds addresses to whoever dials them. A look-up takes one
//! shared lock and copies one text pointer; nothing here waits for a disk or a network. Refuses to
//! know where addresses come from and how long they last.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ironside_identity::{AppId, Namespace};
use ironside_resolution::{Authority, Rotation};
use tokio::sync::watch;

/// Addresses by namespace and app, as they are gathered.
pub(super) type Found = HashMap<Namespace, HashMap<AppId, Vec<Authority>>>;

/// The published addresses.
#[derive(Debug)]
pub(super) struct Table(watch::Sender<Arc<Map>>);

/// What is published: by namespace and app, in order and without doubles.
type Published = HashMap<Namespace, HashMap<AppId, Addresses>>;

/// The addresses of one app.
struct Addresses {
    all: Vec<Authority>,
    /// Those that have turns.
    turns: Vec<Authority>,
}

type Map = HashMap<Namespace, HashMap<AppId, Choice>>;

/// The addresses of one app.
#[derive(Debug)]
pub(super) struct Choice {
    rotation: Rotation<Authority>,
    /// All of them, those that are passed over for a moment too; in order, without doubles.
    all: Arc<[Authority]>,
    asked: AtomicBool,
}

/// Wakes up when the table changes.
pub(super) struct Changes(watch::Receiver<Arc<Map>>);

// === impl Table ===

impl Table {
    /// A table without addresses.
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }

    /// The address whose turn it is.
    pub(super) fn pick(&self, app: &AppId, namespace: &Namespace) -> Option<Authority> {
        self.read(app, namespace, |choice| choice.rotation.pick().cloned())
    }

    /// Any of the addresses, chosen by `choose`.
    pub(super) fn choose(
        &self,
        app: &AppId,
        namespace: &Namespace,
        choose: impl FnOnce(&[Authority]) -> Option<Authority>,
    ) -> Option<Authority> {
        self.read(app, namespace, |choice| choose(choice.rotation.items()))
    }

    /// All addresses, whether it is their turn or not.
    pub(super) fn all(&self, app: &AppId, namespace: &Namespace) -> Option<Arc<[Authority]>> {
        self.read(app, namespace, |choice| Some(Arc::clone(&choice.all)))
    }

    /// Replaces the addresses; apps keep their turn. Wakes nobody if nothing differs. `pass_over` takes out
    /// those that get no turn for the moment.
    pub(super) fn publish(&self, found: Found, pass_over: impl Fn(&mut Vec<Authority>)) {
        let addresses = |mut all: Vec<Authority>| {
            all.sort_unstable();
            all.dedup();
            let mut turns = all.clone();
            pass_over(&mut turns);
            Addresses { all, turns }
        };
        let of_app = |(app, all)| (app, addresses(all));
        let found = found.into_iter();
        let found = found.map(|(namespace, apps)| {
            let apps: HashMap<AppId, Addresses> = apps.into_iter().map(of_app).collect();
            (namespace, apps)
        });
        let found: Published = found.collect();
        self.0.send_if_modified(|map| {
            if is_same(map, &found) {
                return false;
            }
            *map = Arc::new(continued(map, found));
            true
        });
    }

    /// The apps that were asked for since the last call.
    pub(super) fn take_asked(&self) -> Vec<(Namespace, AppId)> {
        let map = self.0.borrow();
        let mut asked = Vec::new();
        for (namespace, apps) in map.iter() {
            let used = |choice: &Choice| choice.asked.swap(false, Ordering::Relaxed);
            let apps = apps.iter().filter(|(_, choice)| used(choice));
            asked.extend(apps.map(|(app, _)| (namespace.clone(), app.clone())));
        }
        asked
    }

    /// A way to wait for changes after now.
    pub(super) fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    fn read<T>(
        &self,
        app: &AppId,
        namespace: &Namespace,
        pick: impl FnOnce(&Choice) -> Option<T>,
    ) -> Option<T> {
        let map = self.0.borrow();
        let choice = map.get(namespace)?.get(app)?;
        choice.asked.store(true, Ordering::Relaxed);
        pick(choice)
    }
}

// === impl Changes ===

impl Changes {
    /// Waits for the next change; forever, if the table is gone.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

fn is_same(map: &Map, found: &Published) -> bool {
    let known: usize = map.values().map(HashMap::len).sum();
    let mut counted = 0;
    let same = found.iter().all(|(namespace, apps)| {
        apps.iter().all(|(app, addresses)| {
            counted += 1;
            let choice = map.get(namespace).and_then(|apps| apps.get(app));
            choice.is_some_and(|choice| {
                *choice.all == *addresses.all && choice.rotation.items() == addresses.turns
            })
        })
    });
    same && counted == known
}

fn continued(old: &Map, found: Published) -> Map {
    let choice = |namespace: &Namespace, app: &AppId, addresses: Addresses| {
        let known = old.get(namespace).and_then(|apps| apps.get(app));
        let Addresses { all, turns } = addresses;
        let (rotation, asked, before) = match known {
            Some(known) => (
                known.rotation.continued(turns),
                known.asked.load(Ordering::Relaxed),
                Some(&known.all),
            ),
            None => (Rotation::new(turns), false, None),
        };
        // The same addresses stay the same value: who compares it sees that nothing changed.
        let same = before.filter(|before| ***before == *all);
        Choice {
            rotation,
            all: same.cloned().unwrap_or_else(|| all.into()),
            asked: AtomicBool::new(asked),
        }
    };
    found
        .into_iter()
        .map(|(namespace, apps)| {
            let apps = apps
                .into_iter()
                .map(|(app, addresses)| {
                    let choice = choice(&namespace, &app, addresses);
                    (app, choice)
                })
                .collect();
            (namespace, apps)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("valid id")
    }

    fn ns(name: &str) -> Namespace {
        Namespace::parse(name).expect("valid namespace")
    }

    fn found(rows: &[(&str, &str, &[u16])]) -> Found {
        let mut found = Found::new();
        for (namespace, id, ports) in rows {
            let addresses = ports.iter().map(|port| at(*port)).collect();
            found
                .entry(ns(namespace))
                .or_default()
                .insert(app(id), addresses);
        }
        found
    }

    fn at(port: u16) -> Authority {
        Authority::new("127.0.0.1", port).expect("valid")
    }

    fn publish(table: &Table, found: Found) {
        table.publish(found, |_| {});
    }

    fn picked(table: &Table, id: &str) -> Option<u16> {
        table.pick(&app(id), &ns("n")).map(|a| a.port())
    }

    #[test]
    fn addresses_take_turns_across_changes() {
        let table = Table::new();
        assert_eq!(picked(&table, "a"), None);
        publish(&table, found(&[("n", "a", &[1, 2, 3]), ("m", "a", &[9])]));
        assert_eq!(picked(&table, "a"), Some(1));
        publish(&table, found(&[("n", "a", &[3, 4, 1]), ("n", "b", &[5])]));
        assert_eq!(
            [picked(&table, "a"), picked(&table, "a")],
            [Some(3), Some(4)]
        );
        assert_eq!(picked(&table, "b"), Some(5));
        assert_eq!(table.pick(&app("a"), &ns("m")), None);
        let last = table.choose(&app("a"), &ns("n"), |all| all.last().cloned());
        assert_eq!(last, Some(at(4)));
    }

    #[test]
    fn addresses_that_are_passed_over_stay_known() {
        let table = Table::new();
        let all = |table: &Table| table.all(&app("a"), &ns("n"));
        assert!(all(&table).is_none());
        table.publish(found(&[("n", "a", &[2, 1, 2])]), |_| {});
        let before = all(&table).unwrap();
        assert_eq!(*before, [at(1), at(2)]);
        table.publish(found(&[("n", "a", &[1, 2])]), |turns| {
            turns.retain(|address| *address != at(1));
        });
        assert_eq!(
            [picked(&table, "a"), picked(&table, "a")],
            [Some(2), Some(2)]
        );
        assert!(Arc::ptr_eq(&before, &all(&table).unwrap()));
    }

    #[test]
    fn only_differences_wake_those_who_wait() {
        let table = Table::new();
        publish(&table, found(&[("n", "a", &[1, 2])]));
        let mut changes = table.changes();
        publish(&table, found(&[("n", "a", &[2, 1, 2])]));
        assert!(changes.next().now_or_never().is_none());
        for different in [
            found(&[("n", "a", &[2])]),
            found(&[("n", "a", &[2]), ("n", "b", &[2])]),
            found(&[("n", "b", &[2])]),
            found(&[]),
        ] {
            publish(&table, different);
            assert!(changes.next().now_or_never().is_some());
        }
    }

    #[test]
    fn apps_in_use_are_reported_once() {
        let table = Table::new();
        publish(&table, found(&[("n", "a", &[1]), ("n", "b", &[2])]));
        picked(&table, "a");
        publish(&table, found(&[("n", "a", &[3])]));
        assert_eq!(table.take_asked(), [(ns("n"), app("a"))]);
        assert!(table.take_asked().is_empty());
    }
}

//! Edits in a temporary folder, good and bad.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ironside_chassis::Tasks;
use ironside_resources::access_control;
use ironside_telemetry::metrics::Settings;
use notify::Watcher;
use tokio::sync::oneshot;

use super::{report::changes, *};
use crate::{
    config::env::Environment,
    sources::{
        disk::tests::{Folder, component, endpoint},
        stream::Held,
    },
};

fn told(live: watch::Sender<Arc<Live>>) -> Told {
    Told {
        live,
        metrics: Arc::new(Metrics::disabled()),
        clock: Clock::system(),
        said: Vec::new(),
    }
}

impl Reloader {
    fn reload(&mut self, forced: bool) -> Reloaded {
        let found = self.look(forced);
        self.take(found, forced)
    }
}

async fn until<T>(
    live: &mut watch::Receiver<Arc<Live>>,
    mut seen: impl FnMut(&Live) -> Option<T>,
) -> T {
    let mut found = None;
    let waited = live.wait_for(|live| {
        found = seen(live);
        found.is_some()
    });
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .expect("published in time")
        .unwrap();
    found.unwrap()
}

/// Fact: process-interface 10, rows 10 to 12; the ports are not touched because nothing here owns any.
#[tokio::test]
async fn edits_are_published_and_bad_ones_keep_the_last_good_state() {
    let folder = Folder::new();
    let config = folder.write("conf", "spec: {}\n");
    let words = [
        "--resources-path",
        folder.resources(),
        "--config",
        config.to_str().unwrap(),
    ];
    let disk = folder.disk(&words, Environment::default());
    let snapshot = disk.read().unwrap();
    let first = disk.compile(&snapshot, &Streamed::Absent, None).unwrap();
    let (sender, mut live) = watch::channel(Arc::new(first.live));
    let (hangup, asked) = mpsc::channel(1);
    let reloader = Reloader::new(disk, snapshot, told(sender), asked);
    let tasks = Tasks::new();
    let watch = reloader.watch();
    tasks.spawn("reload", reloader.run(watch, tasks.token()));

    folder.write("ep.yaml", &endpoint("ep", "http://127.0.0.1:1"));
    until(&mut live, |live| {
        live.endpoints.contains_key("ep").then_some(())
    })
    .await;

    folder.write(
        "conf",
        "spec:\n  logging:\n    apiLogging:\n      enabled: true\n",
    );
    until(&mut live, |live| live.access_log.enabled.then_some(())).await;

    // A duplicate is refused as a whole; the state stays, and the next good edit is taken.
    live.mark_unchanged();
    folder.write(
        "dup1.yaml",
        &component("d", "middleware.http.uppercase", ""),
    );
    folder.write(
        "dup2.yaml",
        &component("d", "middleware.http.uppercase", ""),
    );
    hangup.send(()).await.unwrap();
    folder.remove("dup2.yaml");
    until(&mut live, |live| (live.components.len() == 1).then_some(())).await;
    assert!(live.borrow().endpoints.contains_key("ep"));

    folder.remove("ep.yaml");
    until(&mut live, |live| live.endpoints.is_empty().then_some(())).await;
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}

/// In a cluster the operator tells everything, and a node's limit of watches must not count.
#[test]
fn without_files_nothing_is_watched() {
    let disk = Folder::new().disk(&[], Environment::default());
    let snapshot = disk.read().unwrap();
    let first = disk.compile(&snapshot, &Streamed::Absent, None).unwrap();
    let (sender, _live) = watch::channel(Arc::new(first.live));
    let (_hangup, asked) = mpsc::channel(1);
    let reloader = Reloader::new(disk, snapshot, told(sender), asked);
    assert!(!reloader.watch().is_on());
}

/// What a node gives to all of its sidecars together.
#[derive(Debug, Default)]
struct Node {
    /// Whether it has watchers.
    instances: AtomicBool,
    /// Whether a further directory may be watched.
    watches: AtomicBool,
    watched: Mutex<Vec<PathBuf>>,
}

/// A watcher of such a node, which tells nothing.
#[derive(Debug)]
struct Spent(Arc<Node>);

impl Watcher for Spent {
    fn new<F: notify::EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        Ok(Self(Arc::default()))
    }

    fn watch(&mut self, path: &Path, _mode: notify::RecursiveMode) -> notify::Result<()> {
        // The first one of all fails alone.
        let mut watched = self.0.watched.lock().unwrap();
        if !self.0.watches.load(Ordering::Relaxed) && path.ends_with("first") {
            return Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        }
        watched.push(path.to_owned());
        Ok(())
    }

    fn unwatch(&mut self, _path: &Path) -> notify::Result<()> {
        Ok(())
    }

    fn kind() -> notify::WatcherKind {
        notify::WatcherKind::NullWatcher
    }
}

/// A node without free watches stops no sidecar: files are looked at, and watched once there is room.
#[tokio::test]
async fn a_node_without_watches_stops_nothing() {
    let folder = Folder::new();
    let first = folder.write("first.tmp", "").with_file_name("first");
    std::fs::create_dir(&first).unwrap();
    let words = [
        "--resources-path",
        first.to_str().unwrap(),
        "--resources-path",
        folder.resources(),
        "--hot-reload-reconcile-interval",
        "20ms",
    ];
    let disk = folder.disk(&words, Environment::default());
    let snapshot = disk.read().unwrap();
    let compiled = disk.compile(&snapshot, &Streamed::Absent, None).unwrap();
    let (sender, mut live) = watch::channel(Arc::new(compiled.live));
    let (_hangup, asked) = mpsc::channel(1);
    let node = Arc::new(Node::default());
    let of = Arc::clone(&node);
    let mut watch = Watch::by(Box::new(move |_watched, _sender| {
        if of.instances.load(Ordering::Relaxed) {
            return Ok(Box::new(Spent(Arc::clone(&of))));
        }
        let cause = std::io::Error::from_raw_os_error(24);
        Err(notify::Error::io(cause))
    }));
    watch.follow(disk.files());
    assert!(!watch.is_on());
    let tasks = Tasks::new();
    let reloader = Reloader::new(disk, snapshot, told(sender), asked);
    tasks.spawn("reload", reloader.run(watch, tasks.token()));

    folder.write("a.yaml", &endpoint("a", "http://127.0.0.1:1"));
    let mut is_there = async |name: &str| {
        let there = |live: &Live| live.endpoints.contains_key(name).then_some(());
        until(&mut live, there).await;
    };
    is_there("a").await;
    // No directory beyond those that are watched.
    node.instances.store(true, Ordering::Relaxed);
    folder.write("b.yaml", &endpoint("b", "http://127.0.0.1:1"));
    is_there("b").await;
    let watches = async |path: &Path| {
        let is_watched = || node.watched.lock().unwrap().iter().any(|one| one == path);
        let watched = async {
            while !is_watched() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let watched = tokio::time::timeout(Duration::from_secs(30), watched).await;
        watched.expect("watched in time");
    };
    watches(Path::new(folder.resources())).await;
    assert!(!node.watched.lock().unwrap().contains(&first));
    node.watches.store(true, Ordering::Relaxed);
    watches(&first).await;
    assert!(tasks.shutdown(Duration::from_secs(30)).await.is_empty());
}

/// The line of a bad edit must not be the cause of the next one.
#[tokio::test]
async fn a_bad_edit_is_told_once() {
    let folder = Folder::new();
    let config = folder.write("conf", "spec: {}\n");
    let words = ["--config", config.to_str().unwrap()];
    let disk = folder.disk(&words, Environment::default());
    let snapshot = disk.read().unwrap();
    let first = disk.compile(&snapshot, &Streamed::Absent, None).unwrap();
    let (sender, _live) = watch::channel(Arc::new(first.live));
    let (_hangup, asked) = mpsc::channel(1);
    let mut reloader = Reloader::new(disk, snapshot, told(sender), asked);
    assert_eq!(reloader.reload(false), Reloaded::Same);
    folder.write("conf", "spec: [not, this\n");
    assert_eq!(reloader.reload(false), Reloaded::Kept);
    assert_eq!(reloader.reload(false), Reloaded::Same);
    folder.remove("conf");
    assert_eq!(reloader.reload(false), Reloaded::Kept);
    assert_eq!(reloader.reload(false), Reloaded::Same);
    assert_eq!(reloader.reload(true), Reloaded::Kept, "a hangup asks");
    folder.write("conf", "spec: {}\n");
    assert_eq!(reloader.reload(false), Reloaded::Published);
}

/// E: objects that are gone wait for quiet, and nothing else does; what comes back was never away.
#[tokio::test]
async fn a_removal_waits_alone() {
    let object = |name: &str, action: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: {name}}}\nspec: {{defaultAction: {action}}}\n"
        )
    };
    let folder = Folder::new();
    folder.write("a.yaml", &object("a", "deny"));
    folder.write("b.yaml", &object("b", "deny"));
    let words = ["--resources-path", folder.resources()];
    let disk = folder.disk(&words, Environment::default());
    let snapshot = disk.read().unwrap();
    let first = disk.compile(&snapshot, &Streamed::Absent, None).unwrap();
    let (sender, live) = watch::channel(Arc::new(first.live));
    let (_hangup, asked) = mpsc::channel(1);
    let mut reloader = Reloader::new(disk, snapshot, told(sender), asked);
    let objects = || -> Vec<String> {
        let objects = live.borrow().policy.objects();
        objects
            .iter()
            .map(|object| object.name.to_string())
            .collect()
    };

    folder.remove("a.yaml");
    folder.write("c.yaml", &object("c", "allow"));
    let mut found = reloader.look(false);
    assert!(reloader.keep_removed(&mut found));
    assert_eq!(reloader.take(found, false), Reloaded::Published);
    assert_eq!(objects(), ["a", "b", "c"]);
    // It is still gone after the wait.
    assert_eq!(reloader.settle(), Reloaded::Published);
    assert_eq!(objects(), ["b", "c"]);
    assert_eq!(reloader.reload(false), Reloaded::Same);

    folder.remove("b.yaml");
    let mut found = reloader.look(false);
    assert!(reloader.keep_removed(&mut found));
    assert_eq!(reloader.take(found, false), Reloaded::Same);
    // It came back meanwhile.
    folder.write("b.yaml", &object("b", "deny"));
    assert_eq!(reloader.settle(), Reloaded::Same);
    assert_eq!(objects(), ["b", "c"]);

    // A bad edit takes nothing away, and is told at once.
    folder.write("b.yaml", &object("b", "maybe"));
    let mut found = reloader.look(false);
    assert!(!reloader.keep_removed(&mut found));
    assert_eq!(reloader.take(found, false), Reloaded::Kept);
    assert_eq!(objects(), ["b", "c"]);
}

#[test]
fn changes_are_told_in_the_order_of_the_reference() {
    let of = |items: &[(&str, i32)]| {
        items
            .iter()
            .map(|(n, v)| ((*n).to_owned(), *v))
            .collect::<Vec<_>>()
    };
    let before = of(&[("gone", 1), ("same", 1), ("changed", 1)]);
    let after = of(&[("new", 1), ("changed", 2), ("same", 1)]);
    let told = changes(
        &before,
        &after,
        |list, wanted| list.iter().position(|item| item.0 == wanted.0),
        |item| item.0.clone(),
    );
    let told: Vec<(&str, &str)> = told
        .iter()
        .map(|(event, name)| (*event, name.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("DELETED", "gone"),
            ("UPDATED", "changed"),
            ("CREATED", "new")
        ]
    );
}

/// The series of what cannot be used counts both sources, until it is corrected there.
#[tokio::test]
async fn what_is_invalid_stays_counted() {
    let folder = Folder::new();
    let disk = folder.disk(
        &["--resources-path", folder.resources()],
        Environment::default(),
    );
    let rules = |name: &str, pattern: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  policies:\n  - {{appId: web, namespace: default, operations: [{{name: {pattern}, action: allow}}]}}\n"
        )
    };
    folder.write("file.yaml", &rules("file", "/a"));
    let snapshot = disk.read().unwrap();
    let first = disk.compile(&snapshot, &Streamed::Pending, None).unwrap();
    let (sender, _live) = watch::channel(Arc::new(first.live));
    let (_hangup, asked) = mpsc::channel(1);
    let metrics = Arc::new(Metrics::new("appa", Settings::default()));
    let told = Told {
        metrics: Arc::clone(&metrics),
        ..told(sender)
    };
    let mut reloader = Reloader::new(disk, snapshot, told, asked).streaming(None);
    let follow = |reloader: &mut Reloader, outdated: &[&str]| {
        let held = Held {
            snapshot: 1,
            objects: vec![access_control::decode(&rules("streamed", "/b")).unwrap()],
            refused: Vec::new(),
            outdated: outdated.iter().map(|name| (*name).into()).collect(),
            deny_by_default: false,
        };
        let (applied, mut done) = oneshot::channel();
        reloader.follow(Update {
            state: Streamed::Held(Arc::new(held)),
            applied,
        });
        done.try_recv().unwrap().unwrap();
    };
    let counts = || {
        let text = metrics.exposition();
        let count = |state: &str| {
            let name = format!("dapr_runtime_accesscontrol_objects{{state=\"{state}\"}} ");
            let (_, rest) = text.split_once(&name).unwrap();
            rest.lines().next().unwrap().parse::<usize>().unwrap()
        };
        (count("ok"), count("invalid"))
    };
    follow(&mut reloader, &[]);
    assert_eq!(counts(), (2, 0));
    folder.write("file.yaml", &rules("file", "/a/**/b"));
    assert_eq!(reloader.reload(false), Reloaded::Kept);
    assert_eq!(counts(), (2, 1), "the old rules of the file are in force");
    follow(&mut reloader, &["default/streamed"]);
    assert_eq!(counts(), (1, 2), "the stream does not correct the file");
    folder.write("file.yaml", &rules("file", "/c"));
    assert_eq!(reloader.reload(false), Reloaded::Published);
    assert_eq!(counts(), (1, 1), "nor the file the stream");
    follow(&mut reloader, &[]);
    assert_eq!(counts(), (2, 0));
}

/// Fact F7: rules that cannot be compiled replace none, and whoever sent them hears why.
#[tokio::test]
async fn rules_of_the_stream_that_cannot_be_used_change_nothing() {
    let folder = Folder::new();
    let disk = folder.disk(&[], Environment::default());
    let snapshot = disk.read().unwrap();
    let first = disk.compile(&snapshot, &Streamed::Pending, None).unwrap();
    let (sender, live) = watch::channel(Arc::new(first.live));
    let (_hangup, asked) = mpsc::channel(1);
    let mut reloader = Reloader::new(disk, snapshot, told(sender), asked).streaming(None);
    let mut follow = |state: Streamed| {
        let (applied, mut done) = oneshot::channel();
        reloader.follow(Update { state, applied });
        done.try_recv().unwrap()
    };
    let objects = |pattern: &str| {
        let document = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {name: p, namespace: default}\nspec:\n  policies:\n  - {appId: web, namespace: default, operations: [{name: /a, action: allow}]}\n";
        let mut object = access_control::decode(document).unwrap();
        object.spec.policies[0].operations[0].name = pattern.to_owned();
        Arc::new(Held {
            snapshot: 1,
            objects: vec![object],
            refused: Vec::new(),
            outdated: Vec::new(),
            deny_by_default: false,
        })
    };
    follow(Streamed::Held(objects("/a/**/b"))).unwrap_err();
    assert!(live.borrow().policy.is_pending(), "it is as it was");
    follow(Streamed::Held(objects("/a"))).unwrap();
    let good = Arc::clone(&live.borrow().policy);
    let refused = follow(Streamed::Held(objects("/a/**/b"))).unwrap_err();
    assert!(refused.to_string().contains("default/p"), "{refused}");
    assert!(Arc::ptr_eq(&good, &live.borrow().policy));
    follow(Streamed::Expired(objects("/a/**/b"))).unwrap();
    assert!(live.borrow().policy.is_pending(), "too old is too old");
}

mod cluster;

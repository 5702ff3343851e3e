//! The default resolver over a temporary registry folder and a memory that tests feed.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ironside_resolution::registry::Process;
use tempfile::TempDir;
use tokio::task::yield_now;

use super::super::multicast::Sighting;
use super::super::tests::{app, at, namespace};
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

struct Rig {
    _dir: TempDir,
    path: PathBuf,
    layers: Arc<Layers>,
    search: Arc<Search>,
}

fn registry(path: &std::path::Path) -> Registry {
    let uid = rustix::process::geteuid().as_raw();
    Registry::open(path, uid, Clock::system()).expect("opens")
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("ironside").join("peers");
    let search = Arc::new(Search::new(Clock::system()));
    let layers = Layers::new(
        namespace("default"),
        Some(registry(&path)),
        Some(search.clone()),
        Clock::system(),
    );
    Rig {
        _dir: dir,
        path,
        layers: Arc::new(layers),
        search,
    }
}

// === impl Rig ===

impl Rig {
    fn enter(&self, name: &str, id: &str, port: u16) -> Announcement {
        let other = registry(&self.path);
        let entry = other.announce(namespace(name), app(id), at("127.0.0.1", port));
        entry.expect("announces")
    }

    fn see(&self, id: &str, last: u8, gone: bool) {
        let sighting = Sighting {
            app: app(id),
            v4: Some(Ipv4Addr::new(10, 0, 0, last)),
            v6: None,
            port: 50002,
            gone,
        };
        self.search.sighted(&sighting, 2);
    }

    async fn resolve(&self, id: &str) -> Result<String, String> {
        self.resolve_in(id, "default").await
    }

    async fn resolve_in(&self, id: &str, name: &str) -> Result<String, String> {
        let answer = self.layers.resolve(&app(id), &namespace(name)).await;
        answer.map(|a| a.to_string()).map_err(|err| err.to_string())
    }

    /// Runs the control task beside `check`.
    async fn while_running<T>(&self, check: impl Future<Output = T>) -> T {
        let running = self.layers.clone().run(None, CancellationToken::new());
        tokio::select! {
            () = running => panic!("ended by itself"),
            checked = timeout(DEADLINE, check) => checked.expect("in time"),
        }
    }
}

#[tokio::test]
async fn apps_of_the_machine_are_found_by_namespace_and_take_turns() {
    let rig = rig();
    let _one = rig.enter("default", "appB", 1);
    let _two = rig.enter("default", "appB", 2);
    let _other = rig.enter("prod", "appB", 3);
    rig.layers.look_closely();
    let mut turns = Vec::new();
    for _ in 0..4 {
        turns.push(rig.resolve("appB").await.expect("found"));
    }
    assert_eq!(
        turns,
        ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:2"]
    );
    assert_eq!(
        rig.resolve_in("appB", "prod").await.as_deref(),
        Ok("127.0.0.1:3")
    );
}

/// Facts: service-invocation 6.3 rows Lookup and Failure, SI-020.
#[tokio::test(start_paused = true)]
async fn unknown_app_fails_after_a_second_and_joiners_after_two() {
    let rig = rig();
    let clock = Clock::system();
    let start = clock.monotonic();
    let timed = async || {
        let answer = rig.resolve("nosuch").await;
        (answer, (clock.monotonic() - start).as_secs())
    };
    let (first, second) = tokio::join!(timed(), async {
        yield_now().await;
        timed().await
    });
    assert_eq!(first, (Err("couldn't find service: nosuch".to_owned()), 1));
    let joined = "timeout waiting for address for app id nosuch".to_owned();
    assert_eq!(second, (Err(joined), 2));
    // Another namespace is not asked for on the network, but waited for.
    let foreign = rig.resolve_in("nosuch", "prod").await;
    assert_eq!(foreign, Err("couldn't find service: nosuch".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_any_layer_every_app_is_unknown() {
    let layers = Layers::new(namespace("default"), None, None, Clock::system());
    let answer = layers.resolve(&app("appB"), &namespace("default")).await;
    assert_eq!(answer, Err(ResolveError::NotFound(app("appB"))));
    layers.failed(&at("127.0.0.1", 1));
}

#[tokio::test]
async fn answer_from_the_network_ends_the_waiting() {
    let rig = rig();
    let found = rig.while_running(async {
        let answer = async {
            yield_now().await;
            rig.see("appB", 7, false);
        };
        tokio::join!(rig.resolve("appB"), answer).0
    });
    assert_eq!(found.await.as_deref(), Ok("10.0.0.7:50002"));
}

#[tokio::test]
async fn sidecar_that_enters_while_a_caller_waits_is_found() {
    let rig = rig();
    let found = rig.while_running(async {
        let enter = async {
            yield_now().await;
            rig.enter("default", "appB", 1)
        };
        let (found, _entry) = tokio::join!(rig.resolve("appB"), enter);
        found
    });
    assert_eq!(found.await.as_deref(), Ok("127.0.0.1:1"));
}

#[tokio::test]
async fn both_layers_are_merged_without_doubles() {
    let rig = rig();
    let _entry = rig.enter("default", "appB", 1);
    rig.while_running(async {
        rig.resolve("appB").await.expect("in the folder");
        while !rig
            .search
            .known()
            .iter()
            .any(|(known, _)| *known == app("appB"))
        {
            // Interest follows from use, at the next check.
            rig.see("appB", 7, false);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let turn = rig.resolve("appB").await.expect("found");
            if !seen.contains(&turn) {
                seen.push(turn);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seen.sort_unstable();
        assert_eq!(seen, ["10.0.0.7:50002", "127.0.0.1:1"]);
        rig.see("appB", 7, true);
        while rig.resolve("appB").await.as_deref() != Ok("127.0.0.1:1")
            || rig.resolve("appB").await.as_deref() != Ok("127.0.0.1:1")
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn peer_that_left_is_gone_at_once() {
    let rig = rig();
    let leaving = rig.enter("default", "appB", 1);
    let _staying = rig.enter("default", "appB", 2);
    rig.while_running(async {
        rig.resolve("appB").await.expect("found");
        drop(leaving);
        let mut same = 0;
        while same < 4 {
            let turn = rig.resolve("appB").await;
            same = if turn.as_deref() == Ok("127.0.0.1:2") {
                same + 1
            } else {
                0
            };
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// An entry of a process that the test may kill.
fn plant_child(rig: &Rig, port: u16) -> std::process::Child {
    let child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("starts");
    let other = registry(&rig.path);
    other.plant(&Entry {
        namespace: namespace("default"),
        app_id: app("appB"),
        authority: at("127.0.0.1", port),
        process: Process {
            pid: child.id(),
            start_time: 0,
            place: other.here().place,
        },
    });
    child
}

#[tokio::test]
async fn failed_call_to_a_dead_peer_buries_it_without_waiting_for_the_check() {
    let rig = rig();
    let mut child = plant_child(&rig, 1);
    rig.layers.look_closely();
    assert_eq!(rig.resolve("appB").await.as_deref(), Ok("127.0.0.1:1"));
    child.kill().expect("kills");
    child.wait().expect("ends");
    let _alive = rig.enter("default", "appB", 2);
    let mut looks = rig.layers.looked.subscribe();
    rig.layers.failed(&at("127.0.0.1", 1));
    rig.while_running(async {
        looks.changed().await.expect("a look");
        for _ in 0..3 {
            assert_eq!(rig.resolve("appB").await.as_deref(), Ok("127.0.0.1:2"));
        }
    })
    .await;
}

/// A failed call reads and writes memory only: the folder may hang.
#[tokio::test]
async fn failed_call_changes_the_turn_at_once() {
    let rig = rig();
    let _one = rig.enter("default", "appB", 1);
    let _two = rig.enter("default", "appB", 2);
    rig.layers.look_closely();
    std::fs::remove_dir_all(&rig.path).expect("removes");
    rig.layers.failed(&at("127.0.0.1", 1));
    for _ in 0..3 {
        assert_eq!(rig.resolve("appB").await.as_deref(), Ok("127.0.0.1:2"));
    }
}

#[tokio::test]
async fn peer_killed_without_a_word_leaves_within_seconds() {
    let rig = rig();
    let mut child = plant_child(&rig, 1);
    rig.while_running(async {
        rig.resolve("appB").await.expect("found");
        child.kill().expect("kills");
        child.wait().expect("ends");
        while rig.resolve("appB").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silent_peer_is_passed_over_for_a_moment_while_there_are_others() {
    let rig = rig();
    let _one = rig.enter("default", "appB", 1);
    rig.layers.look_closely();
    assert_eq!(rig.resolve("appB").await.as_deref(), Ok("127.0.0.1:1"));
    rig.layers.failed(&at("127.0.0.1", 1));
    assert_eq!(rig.resolve("appB").await.as_deref(), Ok("127.0.0.1:1"));
    tokio::time::advance(Duration::from_secs(3)).await;
    let _two = rig.enter("default", "appB", 2);
    rig.layers.look_closely();
    rig.layers.failed(&at("127.0.0.1", 1));
    for _ in 0..3 {
        assert_eq!(rig.resolve("appB").await.as_deref(), Ok("127.0.0.1:2"));
    }
    tokio::time::advance(Duration::from_secs(3)).await;
    rig.layers.publish();
    assert_ne!(rig.resolve("appB").await, rig.resolve("appB").await);
}

/// The network's names carry no namespace; the folder's do.
#[test]
fn address_of_another_namespace_is_not_taken_for_the_own_one() {
    let rig = rig();
    let process = registry(&rig.path).here();
    let entry = |name: &str, id: &str, port| Entry {
        namespace: namespace(name),
        app_id: app(id),
        authority: at("10.0.0.1", port),
        process: process.clone(),
    };
    let entries = vec![entry("prod", "appB", 1), entry("default", "appB", 2)];
    let seen = [1, 2, 3].map(|port| at("10.0.0.1", port)).to_vec();
    let found = merged(&namespace("default"), entries, vec![(app("appB"), seen)]);
    let mut own = found[&namespace("default")][&app("appB")].clone();
    own.sort_unstable();
    own.dedup();
    assert_eq!(own, [at("10.0.0.1", 2), at("10.0.0.1", 3)]);
    assert_eq!(found[&namespace("prod")][&app("appB")], [at("10.0.0.1", 1)]);
}

#[tokio::test]
async fn own_entry_goes_with_the_stop() {
    let rig = rig();
    let own = rig.enter("default", "appA", 9);
    let stop = CancellationToken::new();
    stop.cancel();
    rig.layers.clone().run(Some(own), stop).await;
    assert_eq!(std::fs::read_dir(&rig.path).expect("reads").count(), 0);
}

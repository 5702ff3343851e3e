//! Which resolver a configuration gets, and the default one in a network namespace of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::*;

pub(super) fn app(id: &str) -> AppId {
    AppId::parse(id).expect("valid id")
}

pub(super) fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).expect("valid namespace")
}

pub(super) fn at(host: &str, port: u16) -> Authority {
    Authority::new(host, port).expect("valid authority")
}

pub(super) fn instance(id: &str, authority: Authority) -> Instance {
    Instance {
        app_id: app(id),
        namespace: namespace("default"),
        authority,
        host_name: "rig".into(),
        pid: std::process::id(),
        surroundings: Surroundings::Standalone,
    }
}

async fn start_named(component: &str, version: Option<&str>) -> Result<Started, StartError> {
    let spec = NameResolution {
        component: Some(component.to_owned()),
        version: version.map(str::to_owned),
        configuration: Some(json!({})),
    };
    let folders = Folders {
        runtime_dir: None,
        temp_dir: "/nonexistent".into(),
    };
    let instance = instance("appA", at("127.0.0.1", 1));
    start(
        Some(&spec),
        instance,
        &folders,
        &Tasks::new(),
        &Clock::system(),
    )
    .await
}

async fn refusal(component: &str, version: Option<&str>) -> String {
    match start_named(component, version).await {
        Ok(started) => panic!("{component} started as {}", started.name),
        Err(err) => err.to_string(),
    }
}

#[tokio::test]
async fn names_without_a_resolver_say_what_to_use_instead() {
    let instead = "use \"mdns\" (the default) or \"sqlite\"";
    for name in ["consul", "hashicorp.consul", "nameformat", "aws.cloudmap"] {
        let expected = format!("name resolution component {name:?} is not offered yet: {instead}");
        assert_eq!(refusal(name, None).await, expected);
    }
    assert_eq!(
        refusal("Kubernetes", Some("v1")).await,
        format!(
            "name resolution component \"Kubernetes\" is not offered outside Kubernetes: {instead}"
        )
    );
    assert_eq!(
        refusal("dns", None).await,
        format!("name resolution component \"dns\" is unknown: {instead}")
    );
    assert_eq!(
        refusal("mdns", Some("v2")).await,
        format!("name resolution component \"mdns/v2\" is unknown: {instead}")
    );
    assert!(
        refusal("SQLite", Some("V1"))
            .await
            .starts_with("missing connection string")
    );
}

#[tokio::test]
async fn resolver_that_could_not_start_tells_every_caller_why() {
    let Err(why) = start_named("dns", None).await else {
        panic!("dns is no resolver");
    };
    let resolver = unavailable(&why);
    let answer = resolver.resolve(&app("appB"), &namespace("default")).await;
    assert_eq!(answer.map_err(|err| err.to_string()), Err(why.to_string()));
    resolver.failed(&at("127.0.0.1", 1));
}

async fn start_default(instance: Instance, temp_dir: &Path) -> (Started, Tasks) {
    let folders = Folders {
        runtime_dir: None,
        temp_dir: temp_dir.to_owned(),
    };
    let tasks = Tasks::new();
    let started = start(None, instance, &folders, &tasks, &Clock::system()).await;
    (started.expect("starts"), tasks)
}

async fn resolved(started: &Started, id: &str) -> Result<String, String> {
    let answer = started
        .resolver
        .resolve(&app(id), &namespace("default"))
        .await;
    answer
        .map(|address| address.to_string())
        .map_err(|err| err.to_string())
}

/// Runs the test again inside network namespaces that the script makes; `$0` is this executable.
fn rerun_in_namespace(test: &str, script: &str) {
    let executable = std::env::current_exe().expect("the test itself");
    let ended = Command::new("unshare")
        .args(["--net", "sh", "-euc", script])
        .arg(executable)
        .arg(test)
        .status()
        .expect("unshare runs");
    assert!(ended.success(), "{ended}");
}

/// Whether this process sees a link of that name: not by `/sys`, which shows the outer network.
fn has_link(name: &str) -> bool {
    let links = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    links
        .lines()
        .any(|line| line.trim_start().starts_with(&format!("{name}:")))
}

async fn until(mut reached: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached)
        .await
        .expect("in time");
}

async fn stop(tasks: &Tasks) {
    assert!(tasks.shutdown(Duration::from_secs(2)).await.is_empty());
}

/// Two machines: a link whose other end lies in a second namespace, the test running in both.
const TWO_MACHINES: &str = r#"
ip link set lo up
ip link add irontest0 type veth peer name irontest1
unshare --net sh -euc '
  until ip link show irontest1 >/dev/null 2>&1; do sleep 0.05; done
  ip link set lo up
  ip addr add 10.77.0.2/24 dev irontest1
  ip link set irontest1 up
  exec "$0" --ignored --exact --nocapture "$1"' "$0" "$1" &
neighbour=$!
until [ "$(readlink /proc/$neighbour/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link set irontest1 netns $neighbour
ip addr add 10.77.0.1/24 dev irontest0
ip link set irontest0 up
"$0" --ignored --exact --nocapture "$1"
wait $neighbour
"#;

/// Facts: service-invocation 6.3, SI-020, SI-139. Two machines, and two sidecars on one of them
/// that share no registry folder, meet by multicast only.
#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn sidecars_meet_by_real_multicast() {
    if has_link("irontest1") {
        return neighbour().await;
    }
    if !has_link("irontest0") {
        let test = "resolve::tests::sidecars_meet_by_real_multicast";
        return rerun_in_namespace(test, TWO_MACHINES);
    }
    let homes = [(); 3].map(|()| tempfile::tempdir().expect("temporary folder"));
    let own = |id, port| instance(id, at("10.77.0.1", port));
    let (one, one_tasks) = start_default(own("appA", 1001), homes[0].path()).await;
    let (_two, two_tasks) = start_default(own("appB", 1003), homes[1].path()).await;

    // Both replicas take turns, the one of the other machine and the one of this.
    let mut seen = Vec::new();
    until(async || {
        seen.extend(resolved(&one, "appB").await.ok());
        seen.sort_unstable();
        seen.dedup();
        seen.len() == 2
    })
    .await;
    assert_eq!(seen, ["10.77.0.1:1003", "10.77.0.2:1002"]);

    let clock = Clock::system();
    let asked_at = clock.monotonic();
    let unknown = resolved(&one, "nosuch").await;
    assert_eq!(unknown, Err("couldn't find service: nosuch".to_owned()));
    assert!(clock.monotonic() - asked_at < Duration::from_secs(2));

    // A goodbye evicts at once, on the same machine and from the other one.
    stop(&two_tasks).await;
    until(async || {
        let turns = [resolved(&one, "appB").await, resolved(&one, "appB").await];
        turns
            .iter()
            .all(|turn| turn.as_deref() == Ok("10.77.0.2:1002"))
    })
    .await;
    let (_word, word_tasks) = start_default(own("go-home", 1004), homes[2].path()).await;
    until(async || resolved(&one, "appB").await.is_err()).await;
    stop(&one_tasks).await;
    stop(&word_tasks).await;
}

/// The other machine: announces `appB`, calls `appA`, and leaves when it hears of `go-home`.
async fn neighbour() {
    let home = tempfile::tempdir().expect("temporary folder");
    let own = instance("appB", at("10.77.0.2", 1002));
    let (started, tasks) = start_default(own, home.path()).await;
    until(async || resolved(&started, "appA").await.as_deref() == Ok("10.77.0.1:1001")).await;
    until(async || resolved(&started, "go-home").await.is_ok()).await;
    stop(&tasks).await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn machine_without_any_network_still_finds_its_own_apps() {
    if !has_link("irontest0") {
        // The loopback link stays down; the other one only marks the place.
        let script = r#"ip link add irontest0 type veth; exec "$0" --ignored --exact "$1""#;
        let test = "resolve::tests::machine_without_any_network_still_finds_its_own_apps";
        return rerun_in_namespace(test, script);
    }
    let home = tempfile::tempdir().expect("temporary folder");
    let (one, one_tasks) = start_default(instance("appA", at("127.0.0.1", 1)), home.path()).await;
    let (_two, two_tasks) = start_default(instance("appB", at("127.0.0.1", 2)), home.path()).await;
    assert_eq!(resolved(&one, "appB").await, Ok("127.0.0.1:2".to_owned()));
    stop(&two_tasks).await;
    until(async || resolved(&one, "appB").await.is_err()).await;
    stop(&one_tasks).await;
}

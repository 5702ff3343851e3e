//! `run -k -f`, `stop -k -f` and `invoke -k`, as an API server sees them.

use ironside_testkit::kube::{Fault, When};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::ClusterWorld;
use crate::rig::{LONG, Running, until};

const FILE: &str = "version: 1
apps:
- appDirPath: web
  appPort: 3000
  containerImage: r.test/web:1
  createService: true
  daprdLogDestination: console
  env: {COLOUR: blue}
- appDirPath: job
  containerImage: r.test/job:1
";

impl ClusterWorld {
    /// A template of two apps, and the pods that their Deployments will have.
    fn template(&self) {
        self.world.write("dapr.yaml", FILE);
        for app in ["web", "job"] {
            self.world.write(&format!("{app}/.keep"), "");
            self.app("shop", app, true);
        }
    }

    fn workload(&self, version: &str, kind: &str, name: &str) -> Option<Value> {
        self.api.object(version, kind, "shop", name)
    }

    fn run(&self) -> Running {
        let words = ["run", "-k", "-f", "dapr.yaml", "-n", "shop"];
        let mut running = Running::start(self.command(&words).current_dir(self.world.path()));
        running.wait_for("Deployed app \"job\"");
        running
    }

    fn ends(&self, app: &str) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{app}-1"), "namespace": "shop"}});
        assert!(self.api.delete(&pod));
    }
}

/// Cli-and-clients 1.11: Deployment and Service are written and applied, logs follow, a signal takes all of it away.
#[test]
fn apps_of_a_template_come_and_go_with_the_command() {
    let cluster = ClusterWorld::new();
    cluster.template();
    cluster.put(json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
        "metadata": {"name": "appconfig", "namespace": "shop"}, "spec": {},
    }));
    let log = When::new("get", "pods/log").named("web-1");
    cluster
        .api
        .inject(log.clone(), Fault::Answer("of web\n".to_owned()), 2);
    let mut running = cluster.run();
    running.wait_for("== APP - web == of web");
    let deployment = cluster.workload("apps/v1", "Deployment", "web").unwrap();
    let template = &deployment["spec"]["template"];
    assert_eq!(
        template["metadata"]["annotations"],
        json!({"dapr.io/enabled": "true", "dapr.io/app-id": "web", "dapr.io/app-port": "3000", "dapr.io/config": "appconfig"})
    );
    assert_eq!(template["spec"]["containers"][0]["image"], "r.test/web:1");
    let written = cluster.world.read("web/.dapr/deploy/deployment.yaml");
    assert!(written.contains("image: r.test/web:1"), "{written}");
    assert!(cluster.workload("v1", "Service", "web").is_some());
    assert!(cluster.workload("v1", "Service", "job").is_none());
    // A cluster that cannot be asked for a while has not said that the pods are gone.
    let pods = When::new("list", "pods");
    let before = cluster.api.seen(&pods).len();
    cluster.api.inject(pods.clone(), Fault::Status(500), 6);
    until("questions that fail", LONG, || {
        (cluster.api.seen(&pods).len() > before + 6).then_some(())
    });
    assert!(cluster.workload("apps/v1", "Deployment", "web").is_some());
    running.signal(Signal::INT);
    running.wait_for("Received signal to stop");
    // The Deployments' pods go with them.
    cluster.ends("web");
    cluster.ends("job");
    assert_eq!(running.end().code(), Some(0), "{}", running.stderr());
    for (version, kind, name) in [
        ("apps/v1", "Deployment", "web"),
        ("apps/v1", "Deployment", "job"),
        ("v1", "Service", "web"),
    ] {
        assert_eq!(cluster.workload(version, kind, name), None);
    }
}

/// A log that breaks off, and one that a container goes on with, go on where they were; what forbids it is said once.
#[test]
fn a_log_goes_on_where_it_broke_off() {
    let cluster = ClusterWorld::new();
    cluster.template();
    // One container, so that the answers come in their order.
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"dapr.io/app-id": "web"}},
        "spec": {"containers": [{"name": "web", "image": "r/app:1"}]},
    }));
    let log = When::new("get", "pods/log").named("web-1");
    let inject = |fault: Fault, times: usize| cluster.api.inject(log.clone(), fault, times);
    let line = |second: u8, text: &str| format!("2026-11-22T04:16:{second:02}.75Z {text}\n");
    inject(Fault::Status(403), 2);
    let first = [
        line(1, "one"),
        line(2, "two"),
        "2026-11-22T04:16:03.75Z thr".to_owned(),
    ]
    .concat();
    inject(Fault::Cut(first), 1);
    let again = [line(2, "two"), line(3, "three")].concat();
    inject(Fault::Answer(again), 1);
    inject(
        Fault::Answer([line(3, "three"), line(4, "four")].concat()),
        usize::MAX,
    );
    let mut running = cluster.run();
    running.wait_for("== APP - web == four");
    running.signal(Signal::INT);
    running.wait_for("Received signal to stop");
    cluster.api.heal();
    cluster.ends("web");
    cluster.ends("job");
    assert_eq!(running.end().code(), Some(0), "{}", running.stderr());
    let text = running.stdout();
    let shown: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("== APP - web == "))
        .collect();
    assert_eq!(shown, ["one", "two", "three", "four"], "{text}");
    // What was written in the second of the last line is asked for again; API servers are asked in whole seconds.
    let asked = cluster.api.seen(&log);
    let since = |question: usize| {
        let query = asked[question].query.split('&');
        query
            .filter_map(|pair| pair.strip_prefix("sinceTime="))
            .collect::<Vec<_>>()
    };
    assert!(since(0).is_empty() && since(2).is_empty());
    assert_eq!(since(3), ["2026-11-22T04%3A16%3A02Z"]);
    assert_eq!(since(4), ["2026-11-22T04%3A16%3A03Z"]);
    let refused = running.stderr() + &text;
    let told = refused
        .matches("The log of container web of pod web-1 cannot be read")
        .count();
    assert_eq!(told, 1, "{refused}");
}

/// Cli-and-clients 1.11: `stop -k -f` ends what `run -k -f` follows; a second one finds nothing, which is no failure.
#[test]
fn apps_of_a_template_are_stopped_from_elsewhere() {
    let cluster = ClusterWorld::new();
    cluster.template();
    let mut running = cluster.run();
    let path = cluster.world.path().join("dapr.yaml");
    let words = ["stop", "-k", "-n", "shop", "-f", path.to_str().unwrap()];
    let mut stopping = Running::start(&mut cluster.command(&words));
    let gone = || {
        cluster
            .workload("apps/v1", "Deployment", "job")
            .is_none()
            .then_some(())
    };
    until("the end of the Deployment", LONG, gone);
    cluster.ends("web");
    cluster.ends("job");
    assert_eq!(stopping.end().code(), Some(0), "{}", stopping.stderr());
    assert_eq!(running.end().code(), Some(0), "{}", running.stderr());
    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stderr.contains("couldn't find apps"),
        "{}",
        seen.stderr
    );
}

/// What others made under the name of an app is neither changed nor deleted, and nothing else stays.
#[test]
fn a_deployment_of_somebody_else_is_left_alone() {
    let cluster = ClusterWorld::new();
    cluster.template();
    cluster.ends("web");
    let foreign = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "job", "namespace": "shop", "labels": {"app": "job"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "job"}}, "template": {}},
    });
    let before = cluster.put(foreign);
    // The first app's pod, for as long as it has a Deployment.
    cluster.app("shop", "web", true);
    let words = ["run", "-k", "-f", "dapr.yaml", "-n", "shop"];
    let mut running = Running::start(cluster.command(&words).current_dir(cluster.world.path()));
    let refused = || {
        let text = running.stderr();
        text.contains("Error deploying app \"job\"").then_some(())
    };
    until("the refusal", LONG, refused);
    cluster.ends("web");
    cluster.ends("job");
    assert_eq!(running.end().code(), Some(1));
    assert!(
        running.stderr().contains("it is not taken over"),
        "{}",
        running.stderr()
    );
    assert_eq!(
        cluster.workload("apps/v1", "Deployment", "job"),
        Some(before)
    );
    assert_eq!(cluster.workload("apps/v1", "Deployment", "web"), None);
}

/// Templates that say too little are refused before anything is asked of the cluster.
#[test]
fn what_cannot_run_in_a_cluster_is_refused_first() {
    let cluster = ClusterWorld::new();
    let file = cluster.world.write(
        "dapr.yaml",
        "version: 1\ncommon: {resourcesPaths: [.]}\napps: [{appDirPath: .}]\n",
    );
    let file = file.to_str().unwrap();
    for (words, text) in [
        (&["run", "-k"][..], "run -k needs --run-file"),
        (&["stop", "-k"], "stop -k needs --run-file"),
        (
            &["run", "-k", "-f", file],
            "required field 'containerImage'",
        ),
    ] {
        let seen = cluster.ironside(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        assert!(seen.stderr.contains(text), "{words:?}: {}", seen.stderr);
    }
    let seen = cluster.ironside(&["run", "-k", "-f", file]);
    let warning = "mean nothing in a cluster: resourcesPaths";
    assert!(seen.stdout.contains(warning), "{}", seen.stdout);
    assert!(cluster.api.all_seen().is_empty());
}

/// Cli-and-clients 1.13: an app that is not there, or does not run, is named.
#[test]
fn a_call_in_a_cluster_needs_a_running_sidecar() {
    let cluster = ClusterWorld::new();
    cluster.app("shop", "orders", true);
    for words in [
        &["invoke", "-k", "-a", "orders", "-m", "x"][..],
        &["invoke", "-k", "-a", "orders", "-m", "x", "-n", "shop"],
        &[
            "invoke", "-k", "-a", "x", "-m", "x", "--from", "orders", "-n", "shop",
        ],
    ] {
        let seen = cluster.ironside(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        let text = "app ID orders not found in namespace";
        assert!(seen.stderr.contains(text), "{words:?}: {}", seen.stderr);
    }
    let seen = cluster.ironside(&["invoke", "-k", "-a", "o", "-m", "x", "-u", "/s"]);
    let text = "--unix-domain-socket does not go with -k";
    assert!(seen.stderr.contains(text), "{}", seen.stderr);
}

//! The pod that comes out, row by row (kubernetes.md 9.2).
//!
//! One function applies the patch as the API server does; the rows ask the resulting pod.

mod property;

use super::settings::{Security, Service, Settings};
use super::*;
use serde_json::Map;

/// What a test bends.
pub(crate) struct Case {
    pub(crate) pod: Value,
    pub(crate) settings: Settings,
    pub(crate) mtls: bool,
}

pub(crate) const ANCHORS: &str = "-----BEGIN CERTIFICATE-----\n";

/// A control plane as in the worked example: nothing but the three programs.
pub(crate) fn plain() -> Settings {
    Settings {
        image: "registry.example/daprd:1".into(),
        pull_policy: "IfNotPresent",
        namespace: "dapr-system".into(),
        cluster_domain: "cluster.local".into(),
        trust_domain: "cluster.local".into(),
        native: false,
        ignore_entrypoint: Vec::new(),
        security: Security {
            run_as_non_root: true,
            run_as_user: None,
            run_as_group: None,
            read_only_root: true,
            drop_all: true,
        },
        host_ip: false,
        actors: None,
        reminders: None,
        scheduler: false,
    }
}

/// `base pod` of the sheet.
pub(crate) fn base() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "app1-7d9-",
            "annotations": {
                "dapr.io/enabled": "true", "dapr.io/app-id": "app1", "dapr.io/app-port": "3000",
            },
        },
        "spec": {"containers": [{"name": "main", "image": "app:1"}]},
    })
}

pub(crate) fn case() -> Case {
    Case {
        pod: base(),
        settings: plain(),
        mtls: true,
    }
}

/// The base pod with more annotations.
fn annotated(pairs: &[(&str, &str)]) -> Case {
    let mut case = case();
    for (name, value) in pairs {
        case.pod["metadata"]["annotations"][format!("dapr.io/{name}")] = (*value).into();
    }
    case
}

// === impl Case ===

impl Case {
    fn spec(mut self, part: &str, value: Value) -> Self {
        self.pod["spec"][part] = value;
        self
    }

    fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) fn operations(&self) -> Value {
        let pod = Pod::read(&self.pod).unwrap();
        let app_id = pod
            .annotations()
            .some("app-id")
            .unwrap_or("app1")
            .to_owned();
        let input = Input {
            settings: &self.settings,
            trust_anchors: ANCHORS,
            mtls: self.mtls,
            namespace: "n1",
            app_id: &app_id,
            pod: &pod,
        };
        serde_json::to_value(build(&input).unwrap()).unwrap()
    }

    /// The pod after the patch.
    pub(crate) fn patched(&self) -> Value {
        let patch: json_patch::Patch = serde_json::from_value(self.operations()).unwrap();
        let mut pod = self.pod.clone();
        json_patch::patch(&mut pod, &patch).unwrap();
        pod
    }

    fn daprd(&self) -> Value {
        daprd_of(&self.patched()).unwrap()
    }

    fn args(&self) -> Vec<String> {
        serde_json::from_value(self.daprd()["args"].clone()).unwrap()
    }

    /// The word behind a flag.
    fn arg(&self, flag: &str) -> Option<String> {
        let args = self.args();
        let at = args.iter().position(|word| word == flag)?;
        Some(args[at + 1].clone())
    }

    fn has(&self, word: &str) -> bool {
        self.args().iter().any(|have| have == word)
    }

    /// The environment of a container, as `NAME=value`, or as `NAME<source`.
    fn env(&self, container: &str) -> Vec<String> {
        let pod = self.patched();
        let lists = ["containers", "initContainers"].iter();
        let all = lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
        let found = all
            .into_iter()
            .find(|one| one["name"] == container)
            .unwrap()
            .clone();
        let env = found["env"].as_array().cloned().unwrap_or_default();
        env.iter().map(shown).collect()
    }
}

fn shown(variable: &Value) -> String {
    let name = variable["name"].as_str().unwrap();
    let from = &variable["valueFrom"];
    if let Some(path) = from.pointer("/fieldRef/fieldPath").and_then(Value::as_str) {
        return format!("{name}<{path}");
    }
    if let Some(secret) = from.get("secretKeyRef") {
        let text = |key: &str| secret[key].as_str().unwrap().to_owned();
        return format!("{name}<{}/{}", text("name"), text("key"));
    }
    format!("{name}={}", variable["value"].as_str().unwrap())
}

pub(crate) fn daprd_of(pod: &Value) -> Option<Value> {
    let lists = ["initContainers", "containers"].iter();
    let mut all = lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.find(|one| one["name"] == DAPRD).cloned()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// KP-01
#[test]
fn arguments_are_the_worked_example() {
    let mut expected = words(
        "/daprd --dapr-http-port 3500 --dapr-grpc-port 50001 --dapr-internal-grpc-port 50002 \
         --dapr-listen-addresses [::1],127.0.0.1 --dapr-public-port 3501 --app-id app1 --app-protocol http \
         --log-level info --dapr-graceful-shutdown-seconds -1 --mode kubernetes \
         --control-plane-address dapr-api.dapr-system.svc.cluster.local:443 \
         --sentry-address dapr-sentry.dapr-system.svc.cluster.local:443 --app-port 3000 --enable-metrics \
         --metrics-port 9090 --enable-mtls",
    );
    assert_eq!(case().args(), expected);
    assert_eq!(case().daprd().get("command"), None);
    // Rows 17, 18 and 36, where there are such services.
    let service = |name: &str, service: &str, port| {
        Some(Service {
            name: name.into(),
            service: service.into(),
            port,
        })
    };
    let with = case().settings(|settings| {
        settings.actors = service("placement", "dapr-placement-server", 50005);
        settings.reminders = service("rem", "dapr-rem", 1);
        settings.scheduler = true;
    });
    let at = expected.len() - 1;
    let more = words(
        "--placement-host-address dapr-placement-server.dapr-system.svc.cluster.local:50005 \
         --reminders-service rem:dapr-rem.dapr-system.svc.cluster.local:1",
    );
    expected.splice(at..at, more);
    expected.extend(words(
        "--scheduler-host-address dapr-scheduler-server-a.dapr-system.svc.cluster.local:443",
    ));
    assert_eq!(with.args(), expected);
    let other = case().settings(|settings| settings.actors = service("mine", "svc", 7));
    assert_eq!(
        other.arg("--actors-service").unwrap(),
        "mine:svc.dapr-system.svc.cluster.local:7"
    );
}

/// KP-12, KP-40: every annotation that is a word of the command line, in the order of kubernetes.md 2.9.
#[test]
fn all_arguments_stand_in_the_order_of_the_table() {
    let case = annotated(&[
        ("grpc-port", "1"),
        ("internal-grpc-port", "2"),
        ("sidecar-listen-addresses", "0.0.0.0"),
        ("app-protocol", "GRPC"),
        ("log-level", "debug"),
        ("graceful-shutdown-seconds", "9"),
        ("metrics-port", "3"),
        ("config", "c1"),
        ("app-channel-address", "host"),
        ("placement-host-address", " 'p:1' "),
        ("sentry-request-jwt-audiences", "a,b"),
        ("enable-api-logging", "true"),
        ("disable-builtin-k8s-secret-store", "on"),
        ("enable-app-health-check", "true"),
        ("app-binding-options-timeout", "1s"),
        ("log-as-json", "true"),
        ("enable-profiling", "true"),
        ("app-ssl", "true"),
        ("app-max-concurrency", "5"),
        ("http-max-request-size", "6"),
        ("max-body-size", "8Mi"),
        ("http-read-buffer-size", "7"),
        ("read-buffer-size", "16Ki"),
        ("unix-domain-socket-path", "/var/run/s"),
        ("block-shutdown-duration", "10s"),
        ("actors-disseminate-timeout", "2s"),
        ("scheduler-host-address", "s:1"),
        ("disable-init-endpoints", "config"),
    ]);
    let expected = words(
        "/daprd --dapr-http-port 3500 --dapr-grpc-port 1 --dapr-internal-grpc-port 2 \
         --dapr-listen-addresses 0.0.0.0 --dapr-public-port 3501 --app-id app1 --app-protocol GRPC \
         --log-level debug --dapr-graceful-shutdown-seconds 9 --mode kubernetes \
         --control-plane-address dapr-api.dapr-system.svc.cluster.local:443 \
         --sentry-address dapr-sentry.dapr-system.svc.cluster.local:443 --app-port 3000 --enable-metrics \
         --metrics-port 3 --config c1 --app-channel-address host --placement-host-address p:1 \
         --sentry-request-jwt-audiences a,b --enable-api-logging=true --disable-builtin-k8s-secret-store \
         --enable-app-health-check --app-health-check-path /healthz --app-health-probe-interval 5 \
         --app-health-probe-timeout 500 --app-health-threshold 3 --app-binding-options-timeout 1s --log-as-json \
         --enable-profiling --enable-mtls --app-ssl --app-max-concurrency 5 --dapr-http-max-request-size 6 \
         --max-body-size 8Mi --dapr-http-read-buffer-size 7 --read-buffer-size 16Ki \
         --unix-domain-socket /var/run/dapr-sockets --dapr-block-shutdown-duration 10s \
         --actors-disseminate-timeout 2s --scheduler-host-address s:1 --disable-init-endpoints config",
    );
    assert_eq!(case.args(), expected);
}

/// KP-02, KP-10
#[test]
fn ports_follow_the_annotations() {
    let ports = |case: &Case| -> Vec<(String, i64)> {
        let ports = case.daprd()["ports"].as_array().unwrap().clone();
        let one = |port: &Value| {
            let name = port["name"].as_str().unwrap().to_owned();
            (name, port["containerPort"].as_i64().unwrap())
        };
        ports.iter().map(one).collect()
    };
    let expected = |grpc, internal, metrics| {
        let all = [
            ("http", 3500),
            ("grpc", grpc),
            ("internal", internal),
            ("metrics", metrics),
        ];
        all.map(|(name, port)| (format!("dapr-{name}"), port))
            .to_vec()
    };
    assert_eq!(ports(&case()), expected(50001, 50002, 9090));
    let other = [
        ("grpc-port", "60001"),
        ("internal-grpc-port", "60002"),
        ("metrics-port", "9999"),
    ];
    let other = annotated(&other);
    assert_eq!(ports(&other), expected(60001, 60002, 9999));
    assert_eq!(other.arg("--dapr-grpc-port").unwrap(), "60001");
    assert_eq!(other.arg("--dapr-internal-grpc-port").unwrap(), "60002");
    assert_eq!(other.arg("--metrics-port").unwrap(), "9999");
    assert!(
        other
            .env("main")
            .contains(&"DAPR_GRPC_PORT=60001".to_owned())
    );
}

/// KP-03, KP-15, KP-16, KP-17
#[test]
fn the_environment_stands_in_order() {
    let fixed = [
        "NAMESPACE=n1".to_owned(),
        format!("DAPR_TRUST_ANCHORS={ANCHORS}"),
        "POD_NAME<metadata.name".into(),
        "DAPR_CONTROLPLANE_NAMESPACE=dapr-system".into(),
        "DAPR_CONTROLPLANE_TRUST_DOMAIN=cluster.local".into(),
        "DAPR_ACCESS_CONTROL=required".into(),
        "DAPR_TRUST_ANCHORS_CACHE=/var/run/dapr.io/anchors/anchors.pem".into(),
    ];
    assert_eq!(case().env(DAPRD), fixed);
    let more = annotated(&[
        ("env", "A=1,B=x=y,C=p,q"),
        ("env-from-secret", "T=s1:k1,U=s2,V=a:b:c"),
        ("api-token-secret", "s"),
        ("app-token-secret", "t"),
    ]);
    let more = more.settings(|settings| settings.host_ip = true);
    let mut expected = fixed.to_vec();
    expected.insert(5, "DAPR_HOST_IP<status.podIP".into());
    expected.extend(
        [
            "A=1",
            "B=x=y",
            "C=p,q",
            "T<s1/k1",
            "U<s2/s2",
            "DAPR_ENV_KEYS=A B C T U",
            "DAPR_API_TOKEN<s/token",
            "APP_API_TOKEN<t/token",
        ]
        .map(str::to_owned),
    );
    assert_eq!(more.env(DAPRD), expected);
}

#[test]
fn pairs_are_split_before_names_only() {
    for (text, expected) in [
        ("A=1", "A=1 DAPR_ENV_KEYS=A"),
        (" A=1 , B=2", "A=1 B=2 DAPR_ENV_KEYS=A,B"),
        ("A=1,,B=", "A=1, B= DAPR_ENV_KEYS=A,B"),
        ("A=1,2B=3", "A=1,2B=3 DAPR_ENV_KEYS=A"),
        ("nothing,A=1", "A=1 DAPR_ENV_KEYS=A"),
        ("=x", ""),
        ("", ""),
        (",", ""),
    ] {
        let env = annotated(&[("env", text)]).env(DAPRD);
        let rest: Vec<_> = env[7..]
            .iter()
            .map(|one| one.replace("=A B", "=A,B"))
            .collect();
        assert_eq!(rest.join(" "), expected, "{text}");
    }
}

/// KP-04, KP-31
#[test]
fn volumes_and_their_mounts() {
    let audience = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";
    let token = json!({"name": "dapr-identity-token", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"audience": audience, "expirationSeconds": 7200, "path": "token"}}]}});
    let anchors = json!({"name": "dapr-trust-anchors", "emptyDir": {}});
    let pod = case().patched();
    assert_eq!(pod["spec"]["volumes"], json!([token, anchors]));
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"dapr.io/sidecar-injected": "true", "dapr.io/app-id": "app1", "dapr.io/metrics-enabled": "true"})
    );
    let mounts = json!([
        {"name": "dapr-identity-token", "mountPath": "/var/run/secrets/dapr.io/sentrytoken", "readOnly": true},
        {"name": "dapr-trust-anchors", "mountPath": "/var/run/dapr.io/anchors"},
    ]);
    assert_eq!(case().daprd()["volumeMounts"], mounts);
    let own = json!([{"name": "x"}, {"name": "dapr-identity-token"}]);
    let mut with = case().spec("volumes", own);
    with.pod["metadata"]["labels"] = json!({"app": "a"});
    let pod = with.patched();
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "x"}, {"name": "dapr-identity-token"}, anchors])
    );
    assert_eq!(pod["metadata"]["labels"]["app"], "a");
    assert_eq!(pod["metadata"]["labels"].as_object().map(Map::len), Some(4));
}

/// KP-05, KP-06
#[test]
fn probes_have_their_numbers() {
    let daprd = case().daprd();
    assert_eq!(
        daprd["readinessProbe"],
        json!({"httpGet": {"path": "/v1.0/healthz", "port": 3501}, "initialDelaySeconds": 1,
               "timeoutSeconds": 1, "periodSeconds": 1, "failureThreshold": 5})
    );
    assert_eq!(
        daprd["livenessProbe"],
        json!({"tcpSocket": {"port": 3501}, "initialDelaySeconds": 180,
               "timeoutSeconds": 3, "periodSeconds": 10, "failureThreshold": 5})
    );
    assert_eq!(
        (daprd.get("startupProbe"), daprd.get("lifecycle")),
        (None, None)
    );
    let parts = [
        "delay-seconds",
        "timeout-seconds",
        "period-seconds",
        "threshold",
    ];
    let fields = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "failureThreshold",
    ];
    for kind in ["readiness", "liveness"] {
        for (part, field) in parts.iter().zip(fields) {
            let name = format!("sidecar-{kind}-probe-{part}");
            let daprd = annotated(&[(&name, "77")]).daprd();
            assert_eq!(daprd[format!("{kind}Probe")][field], 77, "{name}");
        }
    }
    let odd = annotated(&[
        ("sidecar-readiness-probe-period-seconds", "0"),
        ("sidecar-liveness-probe-threshold", "4294967301"),
    ]);
    let odd = odd.daprd();
    assert_eq!(odd["readinessProbe"]["periodSeconds"], 1);
    assert_eq!(odd["livenessProbe"]["failureThreshold"], 5);
}

/// resiliency-observability 4: payloads are logged for those who ask, and nobody else.
#[test]
fn payloads_are_logged_when_somebody_asks() {
    let flags = |case: &Case| -> Vec<String> {
        let is_one = |word: &&String| word.starts_with("--log-payload");
        case.args().iter().filter(is_one).cloned().collect()
    };
    let off = annotated(&[("log-payload-max-bytes", "7"), ("log-payload-redact", "a")]);
    assert!(flags(&off).is_empty());
    let on = annotated(&[
        ("log-payloads", "true"),
        ("log-payload-max-bytes", "7"),
        ("log-payload-redact", "iban,x-tenant"),
    ]);
    let all = [
        "--log-payloads",
        "--log-payload-max-bytes",
        "--log-payload-redact",
    ];
    assert_eq!(flags(&on), all);
    assert!(on.has("7") && on.has("iban,x-tenant"));
}

/// KP-07, KP-08, KP-11, KP-13, L-11
#[test]
fn words_come_and_go_with_their_annotations() {
    for port in ["0", "abc", ""] {
        assert!(
            !annotated(&[("app-port", port)]).has("--app-port"),
            "{port}"
        );
    }
    let mut none = case();
    let annotations = none.pod["metadata"]["annotations"].as_object_mut();
    assert!(annotations.unwrap().remove("dapr.io/app-port").is_some());
    assert!(!none.has("--app-port"));
    assert_eq!(
        annotated(&[("config", "c1")]).arg("--config").unwrap(),
        "c1"
    );
    for (value, word) in [("true", "true"), ("false", "false"), ("", "false")] {
        let case = annotated(&[("enable-api-logging", value)]);
        assert!(case.has(&format!("--enable-api-logging={word}")), "{value}");
    }
    assert!(
        !case()
            .args()
            .iter()
            .any(|word| word.starts_with("--enable-api-logging"))
    );
    let health = annotated(&[
        ("enable-app-health-check", "yes"),
        ("app-health-check-path", "/h"),
        ("app-health-probe-interval", "1"),
        ("app-health-probe-timeout", "2"),
        ("app-health-threshold", "x"),
    ]);
    let args = health.args().join(" ");
    assert!(
        args.contains(
            "--enable-app-health-check --app-health-check-path /h --app-health-probe-interval 1 \
             --app-health-probe-timeout 2 --app-health-threshold 3"
        ),
        "{args}"
    );
    let empty = annotated(&[
        ("block-shutdown-duration", ""),
        ("scheduler-host-address", "\"\""),
    ]);
    assert_eq!(empty.arg("--dapr-block-shutdown-duration").unwrap(), "");
    assert_eq!(empty.arg("--scheduler-host-address").unwrap(), "");
    let none = annotated(&[("placement-host-address", " \"\" ")]);
    assert!(!none.has("--placement-host-address"));
    assert_eq!(
        annotated(&[("log-level", "")]).arg("--log-level").unwrap(),
        ""
    );
}

/// KP-09
#[test]
fn the_app_is_told_its_protocol_if_it_is_one() {
    for (protocol, ssl, told) in [
        ("GRPC", "", Some("grpc")),
        ("https", "", Some("https")),
        ("h2c", "true", Some("h2c")),
        ("bogus", "", None),
        ("http", "true", Some("https")),
        ("grpc", "1", Some("grpcs")),
        ("", "", Some("http")),
    ] {
        let case = annotated(&[("app-protocol", protocol), ("app-ssl", ssl)]);
        assert_eq!(case.arg("--app-protocol").unwrap(), protocol);
        let env = case.env("main");
        let found = env.iter().find_map(|one| one.strip_prefix("APP_PROTOCOL="));
        assert_eq!(found, told, "{protocol} {ssl}");
    }
}

/// KP-14, M-03: the sidecar's own default is on.
#[test]
fn metrics_can_be_turned_off() {
    for (value, word) in [
        ("false", "false"),
        ("", "false"),
        ("off", "false"),
        ("1", "true"),
    ] {
        let case = annotated(&[("enable-metrics", value)]);
        let label = &case.patched()["metadata"]["labels"]["dapr.io/metrics-enabled"];
        assert_eq!(label, word, "{value}");
        assert_eq!(case.has("--enable-metrics=false"), word == "false");
        assert_eq!(case.has("--enable-metrics"), word == "true");
        assert_eq!(case.has("--metrics-port"), word == "true");
    }
}

/// KP-18: one bad quantity is no reason to drop the others.
#[test]
fn resources_are_what_can_be_read() {
    assert_eq!(case().daprd().get("resources"), None);
    let all = [
        ("sidecar-cpu-request", "100m"),
        ("sidecar-cpu-limit", "1.5"),
        ("sidecar-memory-request", "64Mi"),
        ("sidecar-memory-limit", "1Gi"),
    ];
    assert_eq!(
        annotated(&all).daprd()["resources"],
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1.5", "memory": "1Gi"}})
    );
    let mut bad = all;
    bad[1].1 = "lots";
    assert_eq!(
        annotated(&bad).daprd()["resources"],
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}})
    );
    for bad in ["lots", "-1", "-100m", ""] {
        let case = annotated(&[("sidecar-cpu-limit", bad)]);
        assert_eq!(case.daprd().get("resources"), None, "{bad}");
    }
}

/// KP-19, KP-20, KP-21: the defaults are what the restricted standard demands.
#[test]
fn the_security_context_is_restricted_unless_it_is_told_otherwise() {
    assert_eq!(
        case().daprd()["securityContext"],
        json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
               "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let other = annotated(&[("sidecar-seccomp-profile-type", "Unconfined")]);
    let other = other.settings(|settings| {
        settings.security = Security {
            run_as_non_root: false,
            run_as_user: Some(7),
            run_as_group: Some(8),
            read_only_root: false,
            drop_all: false,
        };
    });
    assert_eq!(
        other.daprd()["securityContext"],
        json!({"allowPrivilegeEscalation": false, "runAsNonRoot": false, "runAsUser": 7, "runAsGroup": 8,
               "readOnlyRootFilesystem": false, "seccompProfile": {"type": "Unconfined"}})
    );
    let none = annotated(&[("sidecar-seccomp-profile-type", "")]).daprd();
    assert_eq!(none["securityContext"].get("seccompProfile"), None);
}

/// KP-22, KP-23
#[test]
fn sockets_are_shared_with_every_container_of_the_app() {
    let containers = json!([
        {"name": "a"},
        {"name": "b", "volumeMounts": [{"name": "own", "mountPath": "/x"}]},
        {"name": "c", "volumeMounts": [{"name": "own", "mountPath": "/var/run/s"}]},
        {"name": "d", "volumeMounts": [{"name": "dapr-unix-domain-socket", "mountPath": "/y"}]},
    ]);
    let case = annotated(&[("unix-domain-socket-path", "/var/run/s")]);
    let case = case.spec("containers", containers);
    let pod = case.patched();
    assert_eq!(
        pod["spec"]["volumes"][0],
        json!({"name": "dapr-unix-domain-socket", "emptyDir": {"medium": "Memory"}})
    );
    let mount = |path: &str| json!({"name": "dapr-unix-domain-socket", "mountPath": path});
    let of = |index: usize| pod["spec"]["containers"][index]["volumeMounts"].clone();
    let own = |path: &str| json!({"name": "own", "mountPath": path});
    assert_eq!(of(0), json!([mount("/var/run/s")]));
    assert_eq!(of(1), json!([own("/x"), mount("/var/run/s")]));
    assert_eq!(of(2), json!([own("/var/run/s")]));
    assert_eq!(of(3), json!([mount("/y")]));
    assert_eq!(
        case.daprd()["volumeMounts"][0],
        mount("/var/run/dapr-sockets")
    );
    assert_eq!(
        case.arg("--unix-domain-socket").unwrap(),
        "/var/run/dapr-sockets"
    );
}

/// KP-24
#[test]
fn volumes_of_the_pod_are_mounted_where_there_are_such() {
    let case = annotated(&[
        ("volume-mounts", "v1:/m1,nope:/m2, bad ,a:b:c"),
        ("volume-mounts-rw", "v2:/m3"),
    ]);
    let case = case.spec("volumes", json!([{"name": "v1"}, {"name": "v2"}]));
    let mounts = case.daprd()["volumeMounts"].clone();
    let expected = [
        json!({"name": "v1", "mountPath": "/m1", "readOnly": true}),
        json!({"name": "v2", "mountPath": "/m3"}),
    ];
    assert_eq!(mounts.as_array().unwrap()[..2], expected);
    assert_eq!(mounts[2]["name"], "dapr-identity-token");
    assert_eq!(mounts.as_array().map(Vec::len), Some(4));
}

/// KP-25, KP-26
#[test]
fn apps_are_told_the_ports_and_keep_what_they_say() {
    let told = [
        "DAPR_HTTP_PORT=3500",
        "DAPR_GRPC_PORT=50001",
        "APP_PROTOCOL=http",
    ];
    let containers = json!([
        {"name": "a"},
        {"name": "b", "env": [{"name": "DAPR_HTTP_PORT", "value": "1"}]},
        {"name": "c", "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}]},
        {"name": "component"},
    ]);
    let case = annotated(&[("pluggable-components", "x, component")]);
    let case = case
        .spec("containers", containers)
        .spec("initContainers", json!([{"name": "first"}]));
    assert_eq!(case.env("a"), told);
    assert_eq!(case.env("b"), ["DAPR_HTTP_PORT=1", told[1], told[2]]);
    assert_eq!(case.env("c")[1..], told);
    assert!(case.env("component").is_empty());
    assert!(case.env("first").is_empty(), "it runs before the sidecar");
    let native = case.settings(|settings| settings.native = true);
    assert_eq!(native.env("first"), told, "it runs after the sidecar");
}

/// KP-27, KP-28
#[test]
fn native_sidecars_stand_first_and_say_when_they_can_be_used() {
    let place = |case: &Case| {
        let pod = case.patched();
        let at = |list: &str| {
            let all = pod["spec"][list].as_array().cloned().unwrap_or_default();
            all.iter().position(|one| one["name"] == DAPRD)
        };
        (at("containers"), at("initContainers"))
    };
    let native = |on| move |settings: &mut Settings| settings.native = on;
    let classic = (Some(1), None);
    let first = (None, Some(0));
    let annotation = |value: &str| annotated(&[("enable-native-sidecar", value)]);
    assert_eq!(place(&case().settings(native(true))), first);
    assert_eq!(place(&case().settings(native(false))), classic);
    assert_eq!(place(&annotation("false").settings(native(true))), classic);
    assert_eq!(place(&annotation("true").settings(native(false))), first);
    let with = case().settings(native(true));
    let with = with.spec("initContainers", json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(place(&with), first);
    let pod = with.patched();
    let names = pod["spec"]["initContainers"].as_array().unwrap().clone();
    let names: Vec<_> = names.iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, [DAPRD, "a", "b"]);
    let daprd = with.daprd();
    assert_eq!(daprd["restartPolicy"], "Always");
    // The endpoint that does not wait for the app, and ten minutes of patience.
    assert_eq!(
        daprd["startupProbe"],
        json!({"httpGet": {"path": "/v1.0/healthz/outbound", "port": 3501},
               "timeoutSeconds": 3, "periodSeconds": 1, "failureThreshold": 600})
    );
    assert_eq!(daprd["readinessProbe"]["httpGet"]["path"], "/v1.0/healthz");
    assert_eq!(case().daprd().get("restartPolicy"), None);
}

/// KP-31, KP-32
#[test]
fn lists_that_are_not_there_are_made_and_nothing_is_lost() {
    let mut bare = case();
    bare.pod["spec"] = json!({"containers": null, "volumes": null});
    let pod = bare.patched();
    assert_eq!(pod["spec"]["containers"].as_array().map(Vec::len), Some(1));
    assert_eq!(pod["spec"]["volumes"].as_array().map(Vec::len), Some(2));
    let components = annotated(&[
        ("inject-pluggable-components", "true"),
        ("pluggable-components", "main"),
        ("pluggable-components-sockets-folder", "/s"),
    ]);
    let volumes = components.patched()["spec"]["volumes"].clone();
    assert_eq!(volumes[0]["name"], "dapr-identity-token");
}

/// KP-33, KP-35
#[test]
fn images_and_their_entry_points() {
    assert_eq!(case().daprd()["image"], "registry.example/daprd:1");
    assert_eq!(case().daprd()["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        annotated(&[("sidecar-image", "img:1")]).daprd()["image"],
        "img:1"
    );
    let toleration =
        |effect: &str| json!({"key": "virtual", "operator": "Equal", "effect": effect});
    let with = |effect: &str| {
        case()
            .spec("tolerations", json!([{"key": "x"}, toleration(effect)]))
            .settings(|settings| {
                // Nothing stands for Equal.
                let wanted = json!([{"key": "virtual", "effect": "NoSchedule"}]);
                settings.ignore_entrypoint = serde_json::from_value(wanted).unwrap();
            })
    };
    let ignored = with("NoSchedule");
    assert_eq!(ignored.daprd()["command"], json!(["/daprd"]));
    assert_eq!(ignored.args()[0], "--dapr-http-port");
    let other = with("NoExecute");
    assert_eq!(other.daprd().get("command"), None);
    assert_eq!(other.args()[0], "/daprd");
}

/// KP-36
#[test]
fn mutual_tls_is_a_word() {
    let mut off = case();
    assert!(off.has("--enable-mtls"));
    off.mtls = false;
    assert!(!off.has("--enable-mtls"));
}

/// KP-39
#[test]
fn the_same_pod_gets_the_same_bytes() {
    let case = annotated(&[("env", "A=1"), ("volume-mounts", "v:/m")]);
    let first = case.operations().to_string();
    for _ in 0..100 {
        assert_eq!(case.operations().to_string(), first);
    }
}

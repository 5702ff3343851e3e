//! What values do: rows KH-02 to KH-13, and what is refused.

use std::collections::BTreeSet;

use ironside_resources::yaml;
use serde_json::{Value, json};

use crate::rig::{Render, refused, render, root};

const PROGRAMS: [&str; 3] = ["dapr-operator", "dapr-sentry", "dapr-sidecar-injector"];

/// KH-02
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn high_availability_has_three_of_each_apart_from_each_other() {
    let render = render("global: {ha: {enabled: true}}");
    for (name, budget) in [
        ("dapr-operator", "dapr-operator-disruption-budget"),
        ("dapr-sentry", "dapr-sentry-budget"),
        (
            "dapr-sidecar-injector",
            "dapr-sidecar-injector-disruption-budget",
        ),
    ] {
        assert_eq!(render.object("Deployment", name)["spec"]["replicas"], 3);
        let budget = &render.object("PodDisruptionBudget", budget)["spec"];
        assert_eq!(budget["maxUnavailable"], "25%");
        assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
        assert_eq!(budget["selector"]["matchLabels"], json!({"app": name}));
        let pod = &render.pod(name)["spec"];
        let apart = pod.pointer(
            "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm",
        );
        let apart = apart.unwrap();
        assert_eq!(apart["topologyKey"], "topology.kubernetes.io/zone");
        assert_eq!(apart["labelSelector"]["matchLabels"], json!({"app": name}));
        let spread = &pod["topologySpreadConstraints"][0];
        assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(spread["whenUnsatisfiable"], "ScheduleAnyway");
    }
    let other = crate::rig::render(
        "global: {ha: {enabled: true, replicaCount: 2, disruption: {minimumAvailable: 1}}}",
    );
    let budget = &other.object("PodDisruptionBudget", "dapr-sentry-budget")["spec"];
    assert_eq!(budget["minAvailable"], 1);
    assert_eq!(budget.get("maxUnavailable"), None);
    assert_eq!(
        other.object("Deployment", "dapr-sentry")["spec"]["replicas"],
        2
    );
    let both = refused("global: {ha: {disruption: {minimumAvailable: 1, maximumUnavailable: 1}}}");
    assert!(
        both.contains("set minimumAvailable or maximumUnavailable, not both"),
        "{both}"
    );
    let apart = crate::rig::render(
        "global: {ha: {enabled: true, podAntiAffinityPolicy: requiredDuringSchedulingIgnoredDuringExecution}}",
    );
    let operator = &apart.object("Deployment", "dapr-operator")["spec"];
    let affinity = &apart.pod("dapr-operator")["spec"]["affinity"]["podAntiAffinity"];
    assert_eq!(
        *affinity,
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "topology.kubernetes.io/zone",
            "labelSelector": {"matchLabels": {"app": "dapr-operator"}},
        }]})
    );
    assert_eq!(
        operator["strategy"]["rollingUpdate"],
        json!({"maxSurge": 1, "maxUnavailable": 1}),
        "with a pod in each zone a new one waits for an old one's place"
    );
    let policy = refused("global: {ha: {podAntiAffinityPolicy: always}}");
    assert!(
        policy.contains("global.ha.podAntiAffinityPolicy"),
        "{policy}"
    );
}

/// KH-03
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn without_metrics_there_is_no_trace_of_them() {
    let render = render("global: {prometheus: {enabled: false}}");
    for name in PROGRAMS {
        assert!(render.args(name).contains(&"--enable-metrics=false"));
    }
    for word in ["prometheus.io", "name: metrics", "--metrics-port", "9090"] {
        assert!(!render.text.contains(word), "{word}");
    }
    let other = crate::rig::render("global: {prometheus: {port: 9191}}");
    for name in PROGRAMS {
        assert!(
            other
                .args(name)
                .windows(2)
                .any(|pair| pair == ["--metrics-port", "9191"])
        );
        assert_eq!(
            other.pod(name)["metadata"]["annotations"]["prometheus.io/port"],
            "9191"
        );
    }
}

/// KH-04
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn an_image_with_a_slash_is_taken_as_it_is() {
    let render =
        render("dapr_sidecar_injector: {image: {name: 'my.test:5000/team/daprd@sha256:00'}}");
    let injector = "dapr-sidecar-injector";
    let image = render.env(injector)["SIDECAR_IMAGE"];
    assert_eq!(image, "my.test:5000/team/daprd@sha256:00");
    assert_eq!(render.main(injector)["image"], "r.test/injector:e2e");
}

/// KH-05
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn pull_secrets_have_one_shape() {
    for (values, want) in [
        ("a", json!([{"name": "a"}])),
        ("[a, b]", json!([{"name": "a"}, {"name": "b"}])),
        (
            "[{name: a}, {name: b}]",
            json!([{"name": "a"}, {"name": "b"}]),
        ),
    ] {
        let render = render(&format!("global: {{imagePullSecrets: {values}}}"));
        for name in PROGRAMS {
            assert_eq!(
                render.pod(name)["spec"]["imagePullSecrets"],
                want,
                "{values}"
            );
        }
    }
    assert!(
        render("").pod("dapr-sentry")["spec"]
            .get("imagePullSecrets")
            .is_none()
    );
}

/// KH-06
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn users_of_sidecars_that_cannot_be_are_refused() {
    let injector = |values: &str| format!("dapr_sidecar_injector: {{{values}}}");
    let found = refused(&injector("sidecarRunAsNonRoot: false, sidecarRunAsUser: 5"));
    assert!(found.contains("sidecarRunAsNonRoot is false"), "{found}");
    let found = refused(&injector("sidecarRunAsNonRoot: true, sidecarRunAsUser: 0"));
    assert!(
        found.contains("sidecarRunAsUser must be greater than 0"),
        "{found}"
    );
    let render = render(&injector(
        "sidecarRunAsUser: 1000, sidecarRunAsGroup: 3000000",
    ));
    let env = render.env("dapr-sidecar-injector");
    assert_eq!(env["SIDECAR_RUN_AS_USER"], "1000");
    assert_eq!(env["SIDECAR_RUN_AS_GROUP"], "3000000");
    let usual = crate::rig::render("");
    assert!(
        !usual
            .env("dapr-sidecar-injector")
            .contains_key("SIDECAR_RUN_AS_USER")
    );
}

/// KH-08
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn trust_domain_and_address_of_sentry_reach_all_who_need_them() {
    let render =
        render("global: {mtls: {sentryAddress: 'ca.test:443', controlPlaneTrustDomain: cp.test}}");
    let injector = "dapr-sidecar-injector";
    let env = render.env(injector);
    assert_eq!(env["DAPR_SENTRY_ADDRESS"], "ca.test:443");
    assert_eq!(env["DAPR_CONTROL_PLANE_TRUST_DOMAIN"], "cp.test");
    let mtls = &render.object("Configuration", "daprsystem")["spec"]["mtls"];
    assert_eq!(mtls["sentryAddress"], "ca.test:443");
    assert_eq!(mtls["controlPlaneTrustDomain"], "cp.test");
    assert!(
        render
            .args("dapr-sentry")
            .windows(2)
            .any(|pair| pair == ["--trust-domain", "cp.test"])
    );
    for name in [injector, "dapr-operator"] {
        let source =
            render.pod(name)["spec"].pointer("/volumes/0/projected/sources/0/serviceAccountToken");
        let want = json!({
            "path": "token",
            "expirationSeconds": 600,
            "audience": "spiffe://cp.test/ns/dapr-system/dapr-sentry",
        });
        assert_eq!(source, Some(&want), "{name}");
        let mounted = &render.main(name)["volumeMounts"][0]["mountPath"];
        assert_eq!(mounted, "/var/run/secrets/dapr.io/sentrytoken");
    }
    let usual = crate::rig::render("dapr_sidecar_injector: {kubeClusterDomain: k8s.test}");
    let address = usual.env(injector)["DAPR_SENTRY_ADDRESS"];
    assert_eq!(address, "dapr-sentry.dapr-system.svc.k8s.test:443");
    let mtls = &usual.object("Configuration", "daprsystem")["spec"]["mtls"];
    assert_eq!(mtls["sentryAddress"], address);
}

/// A change of what is read at start only rolls those who read it.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn a_change_of_the_system_configuration_rolls_its_readers() {
    let sum = |render: &Render, name: &str| {
        render.pod(name)["metadata"]["annotations"]["checksum/daprsystem"].clone()
    };
    let (one, other) = (render(""), render("global: {mtls: {workloadCertTTL: 1h}}"));
    for name in ["dapr-operator", "dapr-sentry"] {
        assert_ne!(sum(&one, name), sum(&other, name), "{name}");
    }
    assert_eq!(sum(&one, "dapr-sidecar-injector"), Value::Null);
}

/// KH-09
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn a_critical_priority_class_is_admitted() {
    let render = render("global: {priorityClassName: system-node-critical}");
    for name in PROGRAMS {
        assert_eq!(
            render.pod(name)["spec"]["priorityClassName"],
            "system-node-critical"
        );
    }
    let quota = render.object("ResourceQuota", "system-critical-quota");
    let scope = &quota["spec"]["scopeSelector"]["matchExpressions"][0];
    assert_eq!(scope["values"], json!(["system-node-critical"]));
    let other = crate::rig::render("global: {priorityClassName: mine}");
    assert!(
        other
            .find("ResourceQuota", "system-critical-quota")
            .is_none()
    );
}

/// KH-10
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn an_operator_of_one_namespace_has_no_cluster_role() {
    for (values, namespace) in [
        ("", "dapr-system"),
        ("dapr_operator: {watchNamespace: shop}", "shop"),
    ] {
        let render = render(&format!(
            "global: {{rbac: {{namespaced: true}}}}\n---\n{values}"
        ));
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            let mut all = render.all(kind);
            assert!(all.all(|role| {
                !role["metadata"]["name"]
                    .as_str()
                    .unwrap()
                    .contains("operator")
            }));
        }
        let role = render.object("Role", "dapr-operator-admin");
        assert_eq!(role["metadata"]["namespace"], namespace);
        let args = render.args("dapr-operator");
        assert!(
            args.windows(2)
                .any(|pair| pair == ["--watch-namespace", namespace])
        );
        // Definitions are not of a namespace.
        assert!(!args.contains(&"--manage-crds"));
    }
}

/// What the operator is told to do otherwise than usual.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn values_of_the_operator_become_its_flags() {
    let usual = render("").args("dapr-operator").join(" ");
    for (values, flag) in [
        (
            "dapr_operator: {serviceReconciler: {enabled: false}}",
            "--disable-service-reconciler",
        ),
        (
            "dapr_operator: {watchNamespace: shop}",
            "--watch-namespace shop",
        ),
        (
            "dapr_operator: {watchInterval: once}",
            "--watch-interval once",
        ),
        (
            "dapr_operator: {maxPodRestartsPerMinute: 5}",
            "--max-pod-restarts-per-minute 5",
        ),
        (
            "global: {operator: {watchdogCanPatchPodLabels: true}}",
            "--watchdog-can-patch-pod-labels",
        ),
        (
            "global: {argoRolloutServiceReconciler: {enabled: true}}",
            "--enable-argo-rollout-service-reconciler",
        ),
        (
            "dapr_config: {dapr_default_system_config_name: mine}",
            "--config mine",
        ),
    ] {
        assert!(!usual.contains(flag), "{flag}");
        let found = render(values).args("dapr-operator").join(" ");
        assert!(found.contains(flag), "{values}: {found}");
    }
    assert!(usual.contains("--manage-crds"));
    let args = render("crds: {manage: false}");
    assert!(!args.args("dapr-operator").contains(&"--manage-crds"));
}

/// L-17
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn all_programs_log_json_where_that_is_asked_for() {
    let (usual, json) = (render(""), render("global: {logAsJson: true}"));
    for name in ["dapr-operator", "dapr-sentry", "dapr-sidecar-injector"] {
        assert!(!usual.args(name).contains(&"--log-as-json"), "{name}");
        assert!(json.args(name).contains(&"--log-as-json"), "{name}");
    }
    assert_eq!(usual.all("Deployment").count(), 3, "no program but these");
}

/// KH-11: a values file of the reference's chart, with parts that there are none of here.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn values_of_parts_that_there_are_none_of_are_ignored() {
    let more = "
global: {actors: {enabled: false}, scheduler: {enabled: false}, dnsSuffix: .cluster.local, nosuch: 1}
dapr_placement: {replicationFactor: 100, volumeclaims: {storageSize: 1Gi}, ha: true}
dapr_scheduler: {cluster: {storageSize: 16Gi}, etcdDataDirPath: /x}
dapr_dashboard: {enabled: true}
dapr_sidecar_injector: {debug: {enabled: false}, nameOverride: '', fullnameOverride: ''}
dapr_sentry: {tls: {trustDomain: cluster.local}, debug: {port: 40000}}
";
    assert_eq!(render(more).text, render("").text);
}

/// KH-12
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn further_containers_come_after_the_main_one() {
    for (short, name) in [
        ("operator", "dapr-operator"),
        ("sentry", "dapr-sentry"),
        ("injector", "dapr-sidecar-injector"),
    ] {
        let values = format!(
            "global: {{extraContainers: {{{short}: [{{name: x, image: img}}]}}, initContainers: {{{short}: [{{name: i, \
             image: img}}]}}, extraVolumes: {{{short}: [{{name: v, emptyDir: {{}}}}]}}, extraVolumeMounts: {{{short}: \
             [{{name: v, mountPath: /v}}]}}}}"
        );
        let render = render(&values);
        let spec = &render.pod(name)["spec"];
        let names = spec["containers"].as_array().unwrap().iter();
        let names: Vec<_> = names.map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, [name, "x"]);
        assert_eq!(
            spec["initContainers"],
            json!([{"name": "i", "image": "img"}])
        );
        let last = |list: &Value| list.as_array().unwrap().last().unwrap()["name"].clone();
        assert_eq!(last(&spec["volumes"]), "v");
        assert_eq!(last(&render.main(name)["volumeMounts"]), "v");
    }
}

/// Who reads another system configuration reads it everywhere.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn another_system_configuration_is_known_to_all_its_readers() {
    let render = render("dapr_config: {dapr_default_system_config_name: other}");
    assert!(render.find("Configuration", "other").is_some());
    for name in ["dapr-operator", "dapr-sentry", "dapr-sidecar-injector"] {
        let args = render.args(name);
        assert!(
            args.windows(2).any(|pair| pair == ["--config", "other"]),
            "{name}: {args:?}"
        );
    }
    for name in ["dapr-operator", "dapr-injector"] {
        let rules = render.object("Role", name)["rules"].as_array().unwrap();
        let rule = rules
            .iter()
            .find(|rule| rule["resources"] == json!(["configurations"]));
        assert_eq!(rule.unwrap()["resourceNames"], json!(["other"]), "{name}");
    }
}

/// KH-13
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn the_trust_bundle_has_data_only_if_values_have_it() {
    const NAME: &str = "dapr-trust-bundle";
    let usual = render("");
    assert_eq!(usual.object("Secret", NAME).get("data"), None);
    assert_eq!(usual.object("ConfigMap", NAME).get("data"), None);
    let whole = render("dapr_sentry: {tls: {root: {certPEM: R}, issuer: {certPEM: C, keyPEM: K}}}");
    let data = json!({"ca.crt": "Ug==", "issuer.crt": "Qw==", "issuer.key": "Sw=="});
    // By this an upgrade knows that they were written, and leaves what has replaced them.
    let mark = "/metadata/annotations/checksum~1authority";
    for kind in ["Secret", "ConfigMap"] {
        assert_eq!(usual.object(kind, NAME).pointer(mark), None);
        assert!(whole.object(kind, NAME).pointer(mark).is_some());
    }
    assert_eq!(whole.object("Secret", NAME)["data"], data);
    assert_eq!(
        whole.object("ConfigMap", NAME)["data"],
        json!({"ca.crt": "R"})
    );
    let root = render("dapr_sentry: {tls: {root: {certPEM: R}}}");
    assert_eq!(root.object("Secret", NAME).get("data"), None);
    assert_eq!(
        root.object("ConfigMap", NAME)["data"],
        json!({"ca.crt": "R"})
    );
    for part in ["certPEM: C", "keyPEM: K", "certPEM: C, keyPEM: K"] {
        let found = refused(&format!("dapr_sentry: {{tls: {{issuer: {{{part}}}}}}}"));
        assert!(found.contains("belong together"), "{found}");
    }
}

/// The injector's list of tolerations is a JSON array, not text with backslashes.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn tolerations_of_virtual_nodes_can_be_read() {
    let render = render("");
    let text = render.env("dapr-sidecar-injector")["IGNORE_ENTRYPOINT_TOLERATIONS"];
    let list: Vec<Value> = serde_json::from_str(text).unwrap();
    let keys: Vec<_> = list
        .iter()
        .map(|one| one["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "alibabacloud.com/eci",
            "azure.com/aci",
            "aws",
            "huawei.com/cci"
        ]
    );
}

#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn boards_and_rules_come_when_asked_for() {
    let kinds = ["PrometheusRule", "PodMonitor"];
    let boards = ["data-plane", "control-plane"];
    let plain = render("{}");
    assert!(kinds.iter().all(|kind| plain.all(kind).next().is_none()));
    assert!(
        plain
            .find("ConfigMap", "dapr-dashboard-data-plane")
            .is_none()
    );

    let asked = "{enabled: true, labels: {release: mine}}";
    let render = render(&format!(
        "monitoring: {{dashboards: {{enabled: true}}, rules: {asked}, podMonitors: {asked}}}"
    ));
    let home = |file: &str| std::fs::read_to_string(root().join("dashboards").join(file)).unwrap();
    for name in boards {
        let map = render.object("ConfigMap", &format!("dapr-dashboard-{name}"));
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        let file = format!("{name}.json");
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(
            read(map["data"][&file].as_str().unwrap()),
            read(&home(&file))
        );
    }
    let rules = render.object("PrometheusRule", "dapr");
    let file: Option<Value> = yaml::decode(&home("ironside.rules.yaml")).unwrap();
    assert_eq!(rules["spec"], file.unwrap());
    for object in render.all("PodMonitor").chain([rules]) {
        assert_eq!(object["metadata"]["labels"]["release"], "mine");
    }
    let monitored = render.all("PodMonitor").map(|monitor| {
        let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
        port.as_str().unwrap()
    });
    assert_eq!(
        monitored.collect::<BTreeSet<_>>(),
        BTreeSet::from(["dapr-metrics", "metrics"])
    );
    let ports = render.main("dapr-sentry")["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["name"] == "metrics"));
}

/// KP-34: what the injector reads as JSON is JSON, with the defaults, with a list and with a text.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn tolerations_without_an_entry_point_are_json() {
    let listed = |given: &str| -> Value {
        let rendered = render(given);
        let text =
            rendered.env("dapr-sidecar-injector")["IGNORE_ENTRYPOINT_TOLERATIONS"].to_owned();
        serde_json::from_str(&text).unwrap()
    };
    let defaults = listed("");
    let keys = defaults.as_array().unwrap().iter();
    let keys: Vec<_> = keys.map(|one| one["key"].as_str().unwrap()).collect();
    let clouds = [
        "alibabacloud.com/eci",
        "azure.com/aci",
        "aws",
        "huawei.com/cci",
    ];
    assert_eq!(keys, clouds);
    let given =
        json!([{"key": "virtual", "operator": "Equal", "value": "1", "effect": "NoSchedule"}]);
    for value in [given.clone(), given.to_string().into()] {
        let values = json!({"dapr_sidecar_injector": {"ignoreEntrypointTolerations": value}});
        assert_eq!(listed(&values.to_string()), given);
    }
}

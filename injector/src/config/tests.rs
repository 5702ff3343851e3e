//! What the environment and the command line may say.

use super::flags::FLAGS;
use super::*;

const NEEDED: [(&str, &str); 2] = [("SIDECAR_IMAGE", "img:1"), ("NAMESPACE", "dapr-system")];

fn read(words: &[&str], more: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
    let all: Vec<_> = NEEDED.iter().chain(more).copied().collect();
    let parsed = FLAGS.parse(words.iter().map(Into::into)).unwrap();
    Config::new(&parsed, &Env::of(&all))
}

fn settings_of(more: &[(&'static str, &str)]) -> Settings {
    read(&[], more).unwrap().settings
}

fn refused(more: &[(&'static str, &str)]) -> String {
    read(&[], more).unwrap_err().to_string()
}

/// Fact: kubernetes.md 2.1, process-interface 5.
#[test]
fn the_defaults_are_the_references_where_they_are_safe() {
    let config = read(&[], &[]).unwrap();
    let any = |port| Address {
        host: String::new(),
        port,
    };
    assert_eq!((config.webhook, config.healthz), (any(4000), any(8080)));
    assert_eq!(config.metrics.map(|address| address.port), Some(9090));
    assert_eq!(config.anchors, AnchorsSource::File(ANCHORS_FILE.into()));
    assert_eq!(config.instance, "dapr-injector");
    assert_eq!(
        config.identity.sentry_address,
        "dapr-sentry.dapr-system.svc.cluster.local:443"
    );
    let settings = config.settings;
    assert_eq!((settings.pull_policy, settings.native), ("Always", true));
    assert_eq!(settings.cluster_domain, "cluster.local");
    assert_eq!(
        settings.security,
        Security {
            run_as_non_root: true,
            run_as_user: None,
            run_as_group: None,
            read_only_root: true,
            drop_all: true,
        }
    );
    assert!(settings.scheduler && !settings.host_ip && settings.reminders.is_none());
    let actors = settings.actors.unwrap();
    assert_eq!(
        (actors.name.as_str(), actors.service.as_str(), actors.port),
        ("placement", "dapr-placement-server", 50005)
    );
}

#[test]
fn one_dash_is_enough() {
    let words = [
        "-port=1",
        "-listen-address",
        "::1",
        "--scheduler-enabled=false",
    ];
    let config = read(&words, &[("DAPR_TRUST_ANCHORS_CONFIGMAP", "m")]).unwrap();
    assert_eq!(
        (config.webhook.port, config.webhook.host.as_str()),
        (1, "::1")
    );
    assert!(!config.settings.scheduler);
    assert!(matches!(config.anchors, AnchorsSource::ConfigMap { .. }));
    let file = read(
        &["-trust-anchors-file=/f"],
        &[("DAPR_TRUST_ANCHORS_CONFIGMAP", "m")],
    );
    assert_eq!(file.unwrap().anchors, AnchorsSource::File("/f".into()));
}

#[test]
fn what_is_needed_and_what_cannot_be_is_named() {
    let parsed = FLAGS.parse([]).unwrap();
    let without = |name: &str| {
        let rest: Vec<_> = NEEDED
            .iter()
            .filter(|(have, _)| *have != name)
            .copied()
            .collect();
        Config::new(&parsed, &Env::of(&rest))
            .unwrap_err()
            .to_string()
    };
    for name in ["SIDECAR_IMAGE", "NAMESPACE"] {
        assert!(without(name).contains(name));
        assert!(refused(&[(name_of(name), "")]).contains(name));
    }
    for (name, value) in [
        ("SIDECAR_RUN_AS_USER", "root"),
        ("SIDECAR_RUN_AS_GROUP", "-1"),
        ("ACTORS_SERVICE_ADDRESS", "no-port"),
        ("DAPR_CONTROL_PLANE_TRUST_DOMAIN", "Upper"),
        ("DAPR_SENTRY_TOKEN_FILE", ""),
    ] {
        let text = refused(&[(name, value)]);
        assert!(text.contains(name), "{text}");
    }
    // KI-15
    for pattern in ["abc", "a:b:c", "a:[", ":"] {
        let text = refused(&[("ALLOWED_SERVICE_ACCOUNTS", pattern)]);
        assert!(text.contains(&format!("{pattern:?}")), "{text}");
        let text = refused(&[("ALLOWED_SERVICE_ACCOUNTS_PREFIX_NAMES", pattern)]);
        assert!(text.contains(&format!("{pattern:?}")), "{text}");
    }
    let root = Env {
        uid: 0,
        ..Env::of(&NEEDED)
    };
    assert!(matches!(
        Config::new(&parsed, &root),
        Err(ConfigError::Root)
    ));
    assert!(read(&["--port=70000"], &[]).is_err());
}

fn name_of(name: &str) -> &'static str {
    NEEDED.iter().find(|(have, _)| *have == name).unwrap().0
}

#[test]
fn policies_and_switches_are_read_as_the_reference_reads_them() {
    for (text, policy) in [
        ("Always", "Always"),
        ("Never", "Never"),
        ("never", "IfNotPresent"),
    ] {
        assert_eq!(
            settings_of(&[("SIDECAR_IMAGE_PULL_POLICY", text)]).pull_policy,
            policy
        );
    }
    let off = settings_of(&[
        ("NATIVE_SIDECAR_ENABLED", "false"),
        ("SIDECAR_DROP_ALL_CAPABILITIES", "no"),
        ("SIDECAR_READ_ONLY_ROOT_FILESYSTEM", "0"),
        ("ACTORS_ENABLED", "false"),
        ("REMINDERS_SERVICE_NAME", "r"),
    ]);
    assert!(!off.native && !off.security.drop_all && !off.security.read_only_root);
    assert!(off.actors.is_none() && off.reminders.is_none());
    let with = settings_of(&[
        ("ENABLE_K8S_DOWNWARD_APIS", "yes"),
        ("REMINDERS_SERVICE_NAME", "r"),
        ("REMINDERS_SERVICE_ADDRESS", "s:1"),
        (
            "IGNORE_ENTRYPOINT_TOLERATIONS",
            r#"[{"key":"k","effect":"NoSchedule"}]"#,
        ),
    ]);
    assert!(with.host_ip && with.reminders.is_some());
    assert_eq!(with.ignore_entrypoint.len(), 1);
    let bad = settings_of(&[("IGNORE_ENTRYPOINT_TOLERATIONS", r#"[{\"key\":1}]"#)]);
    assert!(bad.ignore_entrypoint.is_empty());
}

#[test]
fn the_domain_of_the_cluster_is_found() {
    let domain = |resolv_conf: &str| {
        let env = Env {
            resolv_conf: resolv_conf.to_owned(),
            ..Env::of(&NEEDED)
        };
        cluster_domain(&env)
    };
    for (text, found) in [
        ("", "cluster.local"),
        ("nameserver 1.1.1.1\n", "cluster.local"),
        (
            "search dapr-system.svc.k8s.example svc.k8s.example k8s.example a.corp\n",
            "k8s.example",
        ),
        ("search b.corp a.corp\n", "a.corp"),
    ] {
        assert_eq!(domain(text), found, "{text}");
    }
    assert_eq!(
        settings_of(&[("KUBE_CLUSTER_DOMAIN", "x.y")]).cluster_domain,
        "x.y"
    );
}

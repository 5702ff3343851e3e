//! Templates and the objects that come of them.

use std::path::PathBuf;

use super::*;
use crate::command::run::spec::{AskedPorts, Health};
use crate::command::run::template::resolve::Destination;

fn app(spec: AppSpec, has_service: bool) -> TemplateApp {
    TemplateApp {
        spec,
        folder: PathBuf::from("/t/web"),
        app_log: Destination::Console,
        daprd_log: Destination::File,
        container: Container {
            image: "r.test/web:1".to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
            has_service,
        },
    }
}

fn named(spec: AppSpec) -> AppSpec {
    AppSpec {
        app_id: "web".to_owned(),
        ..spec
    }
}

/// Cli-and-clients 1.11: what a template does not say is left to the cluster, the metrics port too.
#[test]
fn a_bare_app_has_no_annotation_beyond_its_name() {
    let object = deployment(&app(named(AppSpec::default()), true), "shop", None);
    let template = &object["spec"]["template"];
    assert_eq!(
        template["metadata"]["annotations"],
        json!({"dapr.io/enabled": "true", "dapr.io/app-id": "web"})
    );
    assert_eq!(
        template["spec"]["containers"],
        json!([{
            "name": "web", "image": "r.test/web:1", "imagePullPolicy": "IfNotPresent",
            "env": [
                {"name": "APP_ID", "value": "web"},
                {"name": "APP_CHANNEL_ADDRESS", "value": "127.0.0.1"},
                {"name": "DAPR_HTTP_PORT", "value": "3500"},
                {"name": "DAPR_GRPC_PORT", "value": "50001"},
                {"name": "DAPR_METRICS_PORT", "value": "9090"},
                {"name": "APP_PROTOCOL", "value": "http"},
            ],
        }])
    );
    assert_eq!(object["metadata"]["namespace"], "shop");
    assert_eq!(object["metadata"]["labels"][MANAGED_BY], MANAGER);
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(
        object["spec"]["selector"]["matchLabels"],
        template["metadata"]["labels"]
    );
    // Nothing to reach.
    assert_eq!(service(&app(named(AppSpec::default()), true), "shop"), None);
}

/// Cli-and-clients 1.11: every key that a sidecar in a cluster knows becomes its annotation.
#[test]
fn every_key_has_its_annotation() {
    let spec = named(AppSpec {
        app_port: 3000,
        app_protocol: "grpc".to_owned(),
        app_ssl: true,
        app_channel_address: "::1".to_owned(),
        app_max_concurrency: 5,
        ports: AskedPorts {
            http: 1,
            grpc: 2,
            internal: 3,
            metrics: 4,
            profile: 5,
        },
        enable_profiling: true,
        log_level: "debug".to_owned(),
        max_body_size: "8Mi".to_owned(),
        read_buffer_size: "8Ki".to_owned(),
        unix_domain_socket: Some("/tmp/s".into()),
        health: Health {
            enabled: true,
            path: "/h".to_owned(),
            interval: 1,
            timeout: 2,
            threshold: 3,
        },
        api_logging: Some(false),
        listen_addresses: "0.0.0.0".to_owned(),
        placement_host_address: "p:1".to_owned(),
        scheduler_host_address: "s:1".to_owned(),
        ..AppSpec::default()
    });
    let app = app(spec, true);
    let object = deployment(&app, "shop", Some("appconfig"));
    let annotations = &object["spec"]["template"]["metadata"]["annotations"];
    let expected = json!({
        "dapr.io/enabled": "true", "dapr.io/app-id": "web", "dapr.io/app-port": "3000",
        "dapr.io/app-protocol": "grpc", "dapr.io/app-ssl": "true", "dapr.io/app-channel-address": "::1",
        "dapr.io/app-max-concurrency": "5", "dapr.io/config": "appconfig", "dapr.io/grpc-port": "2",
        "dapr.io/internal-grpc-port": "3", "dapr.io/metrics-port": "4",
        "dapr.io/sidecar-listen-addresses": "0.0.0.0", "dapr.io/unix-domain-socket-path": "/tmp/s",
        "dapr.io/enable-api-logging": "false", "dapr.io/log-level": "debug", "dapr.io/max-body-size": "8Mi",
        "dapr.io/read-buffer-size": "8Ki", "dapr.io/enable-app-health-check": "true",
        "dapr.io/app-health-check-path": "/h", "dapr.io/app-health-probe-interval": "1",
        "dapr.io/app-health-probe-timeout": "2", "dapr.io/app-health-threshold": "3",
        "dapr.io/enable-profiling": "true", "dapr.io/placement-host-address": "p:1",
        "dapr.io/scheduler-host-address": "s:1",
    });
    assert_eq!(*annotations, expected);
    let service = service(&app, "shop").unwrap();
    assert_eq!(
        service["spec"],
        json!({
            "type": "LoadBalancer", "selector": {"app": "web"},
            "ports": [{"protocol": "TCP", "port": 80, "targetPort": 3000}],
        })
    );
}

/// Cli-and-clients 1.6: the template's values beat ours, and each name is there once.
#[test]
fn the_templates_variables_win() {
    let spec = named(AppSpec {
        app_port: 80,
        environment: vec![
            ("APP_PORT".to_owned(), "81".to_owned()),
            ("OWN".to_owned(), "x".to_owned()),
        ],
        ..AppSpec::default()
    });
    let object = deployment(&app(spec, false), "shop", None);
    let all = object["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let of = |name: &str| -> Vec<Value> {
        let all = all.as_array().unwrap().iter();
        all.filter(|one| one["name"] == name)
            .map(|one| one["value"].clone())
            .collect()
    };
    assert_eq!(
        (of("APP_PORT"), of("OWN")),
        (vec![json!("81")], vec![json!("x")])
    );
}

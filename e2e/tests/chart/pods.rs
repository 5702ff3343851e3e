//! Every object is one that the API server would take whole, and every pod passes the strictest standard.

use ironside_resources::{access_control, configuration, yaml};
use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        apps::v1::Deployment,
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{ConfigMap, ResourceQuota, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::rig::{render, root};

/// All that the chart can make.
const EVERYTHING: &str = include_str!("../../golden/chart/everything.yaml");

/// Returns what a type does not know of an object, by reading and writing it.
fn unknown<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    let read: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
    let mut lost = Vec::new();
    compare(object, &serde_json::to_value(read).unwrap(), "", &mut lost);
    lost
}

fn compare(given: &Value, kept: &Value, at: &str, lost: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                match kept.get(key) {
                    Some(kept) => compare(value, kept, &format!("{at}.{key}"), lost),
                    None => lost.push(format!("{at}.{key}")),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(given, kept, &format!("{at}[{index}]"), lost);
            }
        }
        (given, kept) => {
            let is_same_number = given.is_number() && given.as_f64() == kept.as_f64();
            if given != kept && !is_same_number {
                lost.push(format!("{at}: {given} became {kept}"));
            }
        }
    }
}

/// KH-16, as far as types can say it: no key is misspelt, no value of another type.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn every_object_is_one_that_its_type_knows_whole() {
    for values in ["", EVERYTHING] {
        for object in render(values).objects {
            let kind = object["kind"].as_str().unwrap();
            let lost = match kind {
                "ClusterRole" => unknown::<ClusterRole>(&object),
                "ClusterRoleBinding" => unknown::<ClusterRoleBinding>(&object),
                "ConfigMap" => unknown::<ConfigMap>(&object),
                "Deployment" => unknown::<Deployment>(&object),
                "Job" => unknown::<Job>(&object),
                "Lease" => unknown::<Lease>(&object),
                "MutatingWebhookConfiguration" => unknown::<MutatingWebhookConfiguration>(&object),
                "NetworkPolicy" => unknown::<NetworkPolicy>(&object),
                "PodDisruptionBudget" => unknown::<PodDisruptionBudget>(&object),
                "ResourceQuota" => unknown::<ResourceQuota>(&object),
                "Role" => unknown::<Role>(&object),
                "RoleBinding" => unknown::<RoleBinding>(&object),
                "Secret" => unknown::<Secret>(&object),
                "Service" => unknown::<Service>(&object),
                "ServiceAccount" => unknown::<ServiceAccount>(&object),
                "Configuration" => system(&object),
                other => panic!("{other}"),
            };
            assert_eq!(lost, [""; 0], "{kind}");
        }
    }
}

/// The system configuration is read by Sentry and the operator.
fn system(object: &Value) -> Vec<String> {
    let text = object.to_string();
    let file = configuration::ConfigFile {
        path: "daprsystem",
        bytes: text.as_bytes(),
    };
    let read = configuration::load([file], |_| None).unwrap();
    let mtls = read.spec.mtls.unwrap();
    assert_eq!(mtls.enabled, Some(true));
    assert!(mtls.sentry_address.is_some() && mtls.control_plane_trust_domain.is_some());
    let keys = object["spec"]["mtls"].as_object().unwrap().keys();
    let known = [
        "enabled",
        "workloadCertTTL",
        "allowedClockSkew",
        "controlPlaneTrustDomain",
        "sentryAddress",
    ];
    keys.filter(|key| !known.contains(&key.as_str()))
        .cloned()
        .collect()
}

/// KC-01, as far as types can say it.
#[test]
fn the_definitions_are_such_that_their_type_knows_them_whole() {
    for file in std::fs::read_dir(root().join("charts/ironside/crds")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let object: Value = yaml::from_str(&text).unwrap();
        assert_eq!(unknown::<CustomResourceDefinition>(&object), [""; 0]);
    }
}

/// The manifests of the quick start are such as the API server and the sidecars take them.
#[test]
fn the_apps_of_the_quick_start_are_known_whole() {
    let folder = root().join("e2e/apps/cluster");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let apps = read("shop.yaml");
    let mut ids = Vec::new();
    for document in yaml::documents(&apps) {
        let object = yaml::decode::<Value>(document).unwrap().unwrap();
        assert_eq!(unknown::<Deployment>(&object), [""; 0]);
        let notes = &object["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(notes["dapr.io/enabled"], "true");
        ids.push(notes["dapr.io/app-id"].clone());
    }
    assert_eq!(ids, ["server", "client"]);
    let rules = access_control::decode(&read("access.yaml")).unwrap();
    assert_eq!(rules.scopes, ["server"]);
}

/// What the standard `restricted` asks of a pod, and this one has not.
fn misses(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut want = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        want(spec.get(field).is_none(), field);
    }
    let pod = &spec["securityContext"];
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    for volume in volumes {
        let allowed = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        want(
            allowed.iter().any(|kind| volume.get(kind).is_some()),
            "volume",
        );
    }
    let containers = ["containers", "initContainers"].map(|list| spec[list].as_array().cloned());
    for container in containers.into_iter().flatten().flatten() {
        let own = &container["securityContext"];
        let either = |field: &str| {
            own.get(field)
                .or_else(|| pod.get(field))
                .cloned()
                .unwrap_or_default()
        };
        want(
            own["allowPrivilegeEscalation"] == false,
            "allowPrivilegeEscalation",
        );
        want(
            own["capabilities"]["drop"] == json!(["ALL"]),
            "capabilities",
        );
        want(either("runAsNonRoot") == true, "runAsNonRoot");
        want(either("runAsUser") != 0, "runAsUser");
        want(
            either("seccompProfile")["type"] == "RuntimeDefault",
            "seccompProfile",
        );
        want(own.get("privileged").is_none(), "privileged");
        let ports = container["ports"].as_array().cloned().unwrap_or_default();
        want(
            ports.iter().all(|port| port.get("hostPort").is_none()),
            "hostPort",
        );
    }
    found
}

/// KH-23
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn pods_pass_the_strictest_standard() {
    for values in ["", EVERYTHING] {
        let render = render(values);
        let mut pods = 0;
        for kind in ["Deployment", "Job"] {
            for object in render.all(kind) {
                pods += 1;
                let missing = misses(&object["spec"]["template"]["spec"]);
                assert_eq!(missing, [""; 0], "{}", object["metadata"]["name"]);
            }
        }
        assert_eq!(pods, 4);
        let env = render.env("dapr-sidecar-injector");
        assert_eq!(env["SIDECAR_DROP_ALL_CAPABILITIES"], "true");
        assert_eq!(env["SIDECAR_RUN_AS_NON_ROOT"], "true");
        assert_eq!(env["NATIVE_SIDECAR_ENABLED"], "true");
    }
    // The check itself can fail.
    let open = render("global: {seccompProfile: ''}");
    assert_eq!(misses(&open.pod("dapr-sentry")["spec"]), ["seccompProfile"]);
}

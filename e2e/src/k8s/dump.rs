//! What there is to know about a failed test, in one folder: events, objects, logs of every container.
//!
//! Of the test's namespace and of the control plane's. Nothing here fails for good: what cannot be read is written
//! down as that.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Helm, Place};
use crate::binaries::target;

/// Kinds whose objects are written as YAML; of Secrets only the names.
const KINDS: &str = "pods,deployments,statefulsets,daemonsets,jobs,cronjobs,services,endpointslices,configmaps,\
                     serviceaccounts,leases,replicasets,networkpolicies";

/// Kinds of the product; on a cluster without them they are not there.
const OURS: &str = "accesscontrols,configurations,resiliencies,httpendpoints,components";

/// Writes the folder and returns its path.
pub(super) fn write(place: &Place, name: &str) -> Result<PathBuf> {
    let folder = target().join("k8s-failures").join(format!(
        "{}-{}",
        name.replace("::", "."),
        place.namespace()
    ));
    let control_plane = Helm::new(place.cluster()).namespace();
    for each in [place.clone(), place.beside(control_plane)] {
        let inside = folder.join(each.namespace());
        fs::create_dir_all(&inside).with_context(|| format!("{}", inside.display()))?;
        namespace(&each, &inside)?;
    }
    let cluster = [
        ("nodes.yaml", vec!["get", "nodes", "--output=yaml"]),
        (
            "all-pods.txt",
            vec!["get", "pods", "--all-namespaces", "--output=wide"],
        ),
        (
            "webhooks.yaml",
            vec![
                "get",
                "mutatingwebhookconfigurations,validatingwebhookconfigurations",
                "--output=yaml",
            ],
        ),
    ];
    for (file, arguments) in cluster {
        ask(place, &folder.join(file), &arguments)?;
    }
    Ok(folder)
}

fn namespace(place: &Place, folder: &Path) -> Result<()> {
    let events = ["get", "events", "--sort-by=.lastTimestamp", "--output=wide"];
    ask(place, &folder.join("events.txt"), &events)?;
    ask(
        place,
        &folder.join("objects.yaml"),
        &["get", KINDS, "--output=yaml"],
    )?;
    ask(
        place,
        &folder.join("ours.yaml"),
        &["get", OURS, "--output=yaml"],
    )?;
    ask(place, &folder.join("secrets.txt"), &["get", "secrets"])?;
    let template = "{range .items[*]}{.metadata.name}{range .spec.initContainers[*]} {.name}{end}\
                    {range .spec.containers[*]} {.name}{end}{\"\\n\"}{end}";
    let pods = place.kubectl(
        &["get", "pods", "--output", &format!("jsonpath={template}")],
        None,
    )?;
    for line in pods.stdout.lines() {
        let mut words = line.split(' ');
        let pod = words.next().unwrap_or_default();
        for container in words {
            for (suffix, which) in [
                ("log", "--previous=false"),
                ("previous.log", "--previous=true"),
            ] {
                let file = folder.join(format!("{pod}.{container}.{suffix}"));
                ask(
                    place,
                    &file,
                    &["logs", pod, "--container", container, which],
                )?;
            }
        }
    }
    Ok(())
}

/// Writes the answer of `kubectl`, or why there is none.
fn ask(place: &Place, file: &Path, arguments: &[&str]) -> Result<()> {
    let said = place.kubectl(arguments, None)?;
    let nothing_before = !said.ok && file.to_string_lossy().ends_with(".previous.log");
    if nothing_before {
        return Ok(());
    }
    fs::write(file, said.stdout + &said.stderr).with_context(|| format!("{}", file.display()))
}

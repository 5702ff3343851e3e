//! What changes for the containers of the app.
//!
//! Owns the names that an app may use instead of numbers (kubernetes 2.14), and the sockets' volume (2.15). What a
//! container says itself is kept. Beside a native sidecar the app's init containers get the same, because they can
//! call others; beside a container they get nothing.

use super::annotations::Annotations;
use super::args::GRPC_PORT;
use super::environment::literal;
use super::pod::Container;
use super::volumes::{SOCKET_VOLUME, mount};
use super::{HTTP_PORT, Input, Patch, PatchError};
use k8s_openapi::api::core::v1::EnvVar;
use std::collections::HashSet;

/// Patches all containers of the app, in order.
pub(super) fn patch(
    input: &Input<'_>,
    annotations: &Annotations<'_>,
    native: bool,
    patch: &mut Patch,
) -> Result<(), PatchError> {
    let components = annotations.text("pluggable-components").split(',');
    let components: HashSet<&str> = components.map(str::trim).collect();
    let is_app = |container: &Container| !components.contains(container.name.as_str());
    let environment = environment(annotations);
    let spec = &input.pod.spec;
    let containers = spec.containers.as_deref().unwrap_or_default();
    let init = spec.init_containers.as_deref().filter(|_| native);
    let paths = |list: &'static str, first: usize| {
        move |(index, container)| (format!("/spec/{list}/{}", index + first), container)
    };
    let containers = containers.iter().enumerate().map(paths("containers", 0));
    // The sidecar stands before them.
    let init = init.unwrap_or_default().iter().enumerate();
    let init = init.map(paths("initContainers", 1));
    for (path, container) in containers.chain(init) {
        if is_app(container) {
            add_environment(&path, container, &environment, patch)?;
            add_sockets(&path, container, annotations, patch)?;
        }
    }
    Ok(())
}

fn environment(annotations: &Annotations<'_>) -> Vec<EnvVar> {
    let mut all = vec![
        literal("DAPR_HTTP_PORT", &HTTP_PORT.to_string()),
        literal(
            "DAPR_GRPC_PORT",
            &annotations.int("grpc-port", GRPC_PORT).to_string(),
        ),
    ];
    let (protocol, ssl) = (
        annotations.text("app-protocol"),
        annotations.bool("app-ssl", false),
    );
    if let Some(protocol) = protocol_of(protocol, ssl) {
        all.push(literal("APP_PROTOCOL", protocol));
    }
    all
}

/// The protocol as the app is told; nothing for one that is not known.
fn protocol_of(text: &str, ssl: bool) -> Option<&'static str> {
    Some(match (text.to_ascii_lowercase().as_str(), ssl) {
        ("" | "http", false) => "http",
        ("" | "http", true) | ("https", _) => "https",
        ("grpc", false) => "grpc",
        ("grpc", true) | ("grpcs", _) => "grpcs",
        ("h2c", _) => "h2c",
        _ => return None,
    })
}

fn add_environment(
    path: &str,
    container: &Container,
    environment: &[EnvVar],
    patch: &mut Patch,
) -> Result<(), PatchError> {
    let have = container.env.as_deref();
    let is_taken = |name: &str| have.into_iter().flatten().any(|one| one.name == name);
    let missing = environment.iter().filter(|one| !is_taken(&one.name));
    let values = missing
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    patch.extend(&format!("{path}/env"), have.is_some(), values);
    Ok(())
}

fn add_sockets(
    path: &str,
    container: &Container,
    annotations: &Annotations<'_>,
    patch: &mut Patch,
) -> Result<(), PatchError> {
    let Some(folder) = annotations.some("unix-domain-socket-path") else {
        return Ok(());
    };
    let have = container.volume_mounts.as_deref();
    let mut mounts = have.into_iter().flatten();
    if mounts.any(|one| one.mount_path == folder || one.name == SOCKET_VOLUME) {
        return Ok(());
    }
    let value = serde_json::to_value(mount(SOCKET_VOLUME, folder))?;
    patch.extend(&format!("{path}/volumeMounts"), have.is_some(), vec![value]);
    Ok(())
}

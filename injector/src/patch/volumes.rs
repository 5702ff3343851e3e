//! The volumes of the pod, and what the sidecar sees of them.
//!
//! Owns the tables of kubernetes 2.11 and 2.15, and the volume that keeps trust anchors over a restart of the
//! container. One list is computed and added as a whole or piece by piece, so that no operation undoes another. A
//! volume whose name is taken is not added.

use super::annotations::Annotations;
use super::args::SOCKETS;
use super::{Input, Patch, PatchError};
use ironside_telemetry::quoted;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};

/// Where the sidecar keeps trust anchors that it received.
pub(super) const ANCHORS_PATH: &str = "/var/run/dapr.io/anchors";
pub(super) const SOCKET_VOLUME: &str = "dapr-unix-domain-socket";
const TOKEN_VOLUME: &str = "dapr-identity-token";
const ANCHORS_VOLUME: &str = "dapr-trust-anchors";
const TOKEN_PATH: &str = "/var/run/secrets/dapr.io/sentrytoken";
/// Life of a token, in seconds.
const TOKEN_LIFE: i64 = 7200;
/// 0644.
const TOKEN_MODE: i32 = 420;

/// A volume of the pod that the sidecar is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    pub(super) volume: &'a str,
    pub(super) path: &'a str,
    read_only: bool,
}

/// Adds the volumes that the pod lacks.
pub(super) fn patch(
    input: &Input<'_>,
    annotations: &Annotations<'_>,
    patch: &mut Patch,
) -> Result<(), PatchError> {
    let have = input.pod.spec.volumes.as_deref();
    let is_taken = |name: &str| have.into_iter().flatten().any(|one| one.name == name);
    let mut values = Vec::new();
    for volume in all(input, annotations) {
        if !is_taken(&volume.name) {
            values.push(serde_json::to_value(volume)?);
        }
    }
    patch.extend("/spec/volumes", have.is_some(), values);
    Ok(())
}

fn all(input: &Input<'_>, annotations: &Annotations<'_>) -> Vec<Volume> {
    let mut all = Vec::new();
    if annotations.some("unix-domain-socket-path").is_some() {
        all.push(empty(SOCKET_VOLUME, Some("Memory")));
    }
    all.push(token(input.settings.sentry_id()));
    all.push(empty(ANCHORS_VOLUME, None));
    all
}

fn empty(name: &str, medium: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn token(audience: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(audience),
        expiration_seconds: Some(TOKEN_LIFE),
        path: "token".to_owned(),
    };
    let source = VolumeProjection {
        service_account_token: Some(token),
        ..VolumeProjection::default()
    };
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(TOKEN_MODE),
            sources: Some(vec![source]),
        }),
        ..Volume::default()
    }
}

/// What the sidecar sees, in order.
pub(super) fn mounts(input: &Input<'_>, annotations: &Annotations<'_>) -> Vec<VolumeMount> {
    let volumes = input.pod.volume_names();
    let known = |wanted: &Wanted<'_>| volumes.contains(wanted.volume);
    let wanted = wanted(annotations).filter_map(Result::ok).filter(known);
    let mut all: Vec<VolumeMount> = wanted
        .map(|wanted| VolumeMount {
            read_only: wanted.read_only.then_some(true),
            ..mount(wanted.volume, wanted.path)
        })
        .collect();
    if annotations.some("unix-domain-socket-path").is_some() {
        all.push(mount(SOCKET_VOLUME, SOCKETS));
    }
    all.push(VolumeMount {
        read_only: Some(true),
        ..mount(TOKEN_VOLUME, TOKEN_PATH)
    });
    all.push(mount(ANCHORS_VOLUME, ANCHORS_PATH));
    all
}

/// Everything that the two annotations ask for, in order, and what cannot be had.
pub(super) fn wanted<'a>(
    annotations: &Annotations<'a>,
) -> impl Iterator<Item = Result<Wanted<'a>, String>> + use<'a> {
    let of = |text: &'a str, read_only| {
        let entries = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        entries.map(
            move |entry| match entry.split(':').collect::<Vec<_>>().as_slice() {
                [volume, path] if !volume.trim().is_empty() && !path.trim().is_empty() => {
                    Ok(Wanted {
                        volume: volume.trim(),
                        path: path.trim(),
                        read_only,
                    })
                }
                _ => Err(format!("{} is no pair volume:path", quoted(entry))),
            },
        )
    };
    let read_only = of(annotations.text("volume-mounts"), true);
    read_only.chain(of(annotations.text("volume-mounts-rw"), false))
}

pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

//! `GET /v1.0/metadata`, `PUT /v1.0/metadata/{key}`, gRPC `GetMetadata` and `SetMetadata`.
//!
//! Owns what a sidecar says about itself, in both spellings (service-invocation 1.14), and the values that
//! apps and the CLI leave here, in memory only. Building blocks that are not offered add nothing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ironside_chassis::{args::GoDuration, build_info};
use ironside_proto::runtime;
use serde::Serialize;

use crate::{
    config::{AppHealth, AppTarget, Config},
    live::{Generation, Live},
};

/// Values that callers may leave.
const MAX_VALUES: usize = 1024;
/// Bytes of one value.
const MAX_VALUE: usize = 64 << 10;
/// Bytes of all keys and values together.
const MAX_TOTAL: usize = 1 << 20;

/// A component as the metadata API lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ComponentView {
    /// Its name.
    pub(crate) name: Box<str>,
    /// Its type, with prefix.
    #[serde(rename = "type")]
    pub(crate) kind: Box<str>,
    /// Its version, as written.
    pub(crate) version: Box<str>,
}

/// Why a value is not kept; the bounds are ours, the reference has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMuch {
    /// The value itself.
    #[error("metadata value is larger than {MAX_VALUE} bytes")]
    Value,
    /// One more key.
    #[error("there are {MAX_VALUES} metadata keys already")]
    Keys,
    /// Everything together.
    #[error("metadata keys and values together are larger than {MAX_TOTAL} bytes")]
    Total,
}

/// Values set by callers.
#[derive(Debug, Default)]
pub(crate) struct MetadataStore(Mutex<BTreeMap<String, String>>);

/// What a sidecar says about itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    id: &'a str,
    runtime_version: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    enabled_features: &'a [Box<str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    components: &'a [ComponentView],
    extended: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http_endpoints: Vec<Name<'a>>,
    app_connection_properties: AppView,
    actor_runtime: ActorView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resiliencies: Vec<Name<'a>>,
}

#[derive(Debug, Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct AppView {
    #[serde(skip_serializing_if = "is_zero")]
    port: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    protocol: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel_address: Box<str>,
    #[serde(skip_serializing_if = "is_zero")]
    max_concurrency: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthView {
    #[serde(skip_serializing_if = "str::is_empty")]
    health_check_path: Box<str>,
    health_probe_interval: String,
    health_probe_timeout: String,
    health_threshold: i32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorView {
    runtime_status: &'static str,
    host_ready: bool,
    placement: &'static str,
}

/// Actors are not offered; the words are the reference's without a placement service.
const NO_ACTORS: ActorView = ActorView {
    runtime_status: "DISABLED",
    host_ready: false,
    placement: "placement: disconnected",
};

// === impl MetadataStore ===

impl MetadataStore {
    /// Keeps `value` under `key`; an empty key is ignored.
    ///
    /// # Errors
    /// [`TooMuch`]: what is there stays as it is.
    pub(crate) fn set(&self, key: String, value: String) -> Result<(), TooMuch> {
        if key.is_empty() {
            return Ok(());
        }
        if value.len() > MAX_VALUE {
            return Err(TooMuch::Value);
        }
        // A map of strings is valid after any interrupted change.
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() >= MAX_VALUES && !values.contains_key(&key) {
            return Err(TooMuch::Keys);
        }
        let others = values.iter().filter(|(other, _)| **other != key);
        let kept: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if kept + key.len() + value.len() > MAX_TOTAL {
            return Err(TooMuch::Total);
        }
        values.insert(key, value);
        Ok(())
    }

    fn all(&self) -> BTreeMap<String, String> {
        let mut values = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        values.insert(
            "daprRuntimeVersion".to_owned(),
            build_info::VERSION.to_owned(),
        );
        values
    }
}

/// The JSON of `GET /v1.0/metadata`, with its final newline.
pub(crate) fn json(config: &Config, live: &Live, store: &MetadataStore) -> String {
    // Only maps with keys that are no text can fail.
    let mut text = serde_json::to_string(&View::of(config, live, store)).unwrap_or_default();
    text.push('\n');
    text
}

/// The message of `GetMetadata`.
pub(crate) fn message(
    config: &Config,
    live: &Live,
    store: &MetadataStore,
) -> runtime::GetMetadataResponse {
    let View {
        id,
        runtime_version,
        enabled_features,
        components,
        extended,
        http_endpoints,
        app_connection_properties: app,
        actor_runtime,
        resiliencies,
    } = View::of(config, live, store);
    let component = |c: &ComponentView| runtime::RegisteredComponents {
        name: c.name.to_string(),
        r#type: c.kind.to_string(),
        version: c.version.to_string(),
        capabilities: Vec::new(),
    };
    let endpoint = |e: Name<'_>| runtime::MetadataHttpEndpoint {
        name: e.name.to_owned(),
    };
    let resiliency = |r: Name<'_>| runtime::MetadataResiliency {
        name: r.name.to_owned(),
    };
    runtime::GetMetadataResponse {
        id: id.to_owned(),
        registered_components: components.iter().map(component).collect(),
        extended_metadata: extended.into_iter().collect(),
        http_endpoints: http_endpoints.into_iter().map(endpoint).collect(),
        app_connection_properties: Some(app.message()),
        runtime_version: runtime_version.to_owned(),
        enabled_features: enabled_features.iter().map(ToString::to_string).collect(),
        actor_runtime: Some(runtime::ActorRuntime {
            runtime_status: runtime::actor_runtime::ActorRuntimeStatus::Disabled as i32,
            active_actors: Vec::new(),
            host_ready: actor_runtime.host_ready,
            placement: actor_runtime.placement.to_owned(),
        }),
        resiliencies: resiliencies.into_iter().map(resiliency).collect(),
        ..Default::default()
    }
}

// === impl View ===

impl<'a> View<'a> {
    fn of(config: &'a Config, live: &'a Live, store: &MetadataStore) -> Self {
        let mut endpoints: Vec<Name<'a>> =
            live.endpoints.keys().map(|name| Name { name }).collect();
        endpoints.sort_unstable_by_key(|endpoint| endpoint.name);
        Self {
            id: config.app_id.as_str(),
            runtime_version: build_info::VERSION,
            enabled_features: &live.features,
            components: &live.components,
            extended: extended(live, store),
            http_endpoints: endpoints,
            app_connection_properties: AppView::of(config),
            actor_runtime: NO_ACTORS,
            resiliencies: live.resiliencies.iter().map(|name| Name { name }).collect(),
        }
    }
}

/// What was left here, which rules of access control are in force, and which objects of a cluster.
fn extended(live: &Live, store: &MetadataStore) -> BTreeMap<String, String> {
    let mut values = store.all();
    let since = jiff::Timestamp::try_from(live.snapshot.since);
    for (key, value) in [
        ("snapshot", live.snapshot.number.to_string()),
        ("objects", live.policy.objects().len().to_string()),
        (
            "lastChange",
            since.map(|since| since.to_string()).unwrap_or_default(),
        ),
    ] {
        values.insert(format!("accessControl.{key}"), value);
    }
    for Generation {
        kind,
        name,
        generation,
    } in &live.generations
    {
        values.insert(format!("generation.{kind}.{name}"), generation.to_string());
    }
    values
}

// === impl AppView ===

impl AppView {
    fn of(config: &Config) -> Self {
        let Some(AppTarget {
            address,
            port,
            protocol,
        }) = &config.app
        else {
            return Self::default();
        };
        Self {
            port: i32::from(*port),
            protocol: protocol.as_str(),
            channel_address: address.clone(),
            max_concurrency: config.app_max_concurrency.map_or(0, clamp),
            health: config
                .app_health
                .as_ref()
                .map(|health| HealthView::of(health, protocol.is_http())),
        }
    }

    fn message(self) -> runtime::AppConnectionProperties {
        let Self {
            port,
            protocol,
            channel_address,
            max_concurrency,
            health,
        } = self;
        runtime::AppConnectionProperties {
            port,
            protocol: protocol.to_owned(),
            channel_address: channel_address.into(),
            max_concurrency,
            health: health.map(|health| runtime::AppConnectionHealthProperties {
                health_check_path: health.health_check_path.into(),
                health_probe_interval: health.health_probe_interval,
                health_probe_timeout: health.health_probe_timeout,
                health_threshold: health.health_threshold,
            }),
        }
    }
}

// === impl HealthView ===

impl HealthView {
    fn of(health: &AppHealth, http: bool) -> Self {
        let AppHealth {
            path,
            interval,
            timeout,
            threshold,
        } = health;
        Self {
            health_check_path: if http { path.clone() } else { Box::from("") },
            health_probe_interval: GoDuration::from(*interval).to_string(),
            health_probe_timeout: GoDuration::from(*timeout).to_string(),
            health_threshold: i32::try_from(*threshold).unwrap_or(i32::MAX),
        }
    }
}

fn clamp(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(n: &i32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(store: &MetadataStore, key: &str, length: usize) -> Result<(), TooMuch> {
        store.set(key.to_owned(), "v".repeat(length))
    }

    #[test]
    fn what_callers_leave_is_bounded() {
        let store = MetadataStore::default();
        assert_eq!(set(&store, "k", MAX_VALUE + 1), Err(TooMuch::Value));
        for n in 0..15 {
            assert_eq!(set(&store, &format!("k{n}"), MAX_VALUE), Ok(()));
        }
        assert_eq!(set(&store, "last", MAX_VALUE), Err(TooMuch::Total));
        assert_eq!(set(&store, "k0", MAX_VALUE), Ok(()), "in its own place");
        assert_eq!(set(&store, "k0", 1), Ok(()));
        assert_eq!(set(&store, "last", MAX_VALUE), Ok(()));
        assert!(!store.all().contains_key("k"));
    }

    #[test]
    fn keys_are_counted() {
        let store = MetadataStore::default();
        for n in 0..MAX_VALUES {
            assert_eq!(set(&store, &n.to_string(), 1), Ok(()));
        }
        assert_eq!(set(&store, "one more", 1), Err(TooMuch::Keys));
        assert_eq!(set(&store, "7", 2), Ok(()));
        assert_eq!(set(&store, "", 2), Ok(()));
    }
}

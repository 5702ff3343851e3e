//! Do sidecars use mutual TLS?
//!
//! Owns the answer for new pods: `spec.mtls.enabled` of the system's Configuration, `daprsystem` unless the command
//! line names another (kubernetes 2.9). It is watched, not read for each pod. Whenever nothing is known, the answer is
//! yes.

use ironside_cluster::follow_one;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use tokio::sync::watch;
use tracing::info;

const SCOPE: &str = "dapr.injector.service";

/// A Configuration, as far as it matters; an odd value is no error of the watch.
#[derive(Debug, Clone, Deserialize)]
struct Configuration {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

impl Resource for Configuration {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_dt: &()) -> Cow<'_, str> {
        "Configuration".into()
    }

    fn group(_dt: &()) -> Cow<'_, str> {
        "dapr.io".into()
    }

    fn version(_dt: &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural(_dt: &()) -> Cow<'_, str> {
        "configurations".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Publishes the answer, for ever.
pub(crate) async fn follow(
    client: Client,
    (namespace, name): (&str, &str),
    publish: watch::Sender<bool>,
) {
    let api: Api<Configuration> = Api::namespaced(client, namespace);
    follow_one(api, name, |object: Option<&Configuration>| {
        let on = object.is_none_or(|object| is_on(&object.spec));
        let is_news = publish.send_if_modified(|held| std::mem::replace(held, on) != on);
        if is_news {
            let word = if on { "on" } else { "off" };
            info!(target: SCOPE, "Mutual TLS of new sidecars is {word}, says Configuration {name}");
        }
    })
    .await;
}

fn is_on(spec: &Value) -> bool {
    let enabled = spec.pointer("/mtls/enabled").and_then(Value::as_bool);
    enabled.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// KP-36
    #[test]
    fn only_a_no_turns_it_off() {
        assert!(!is_on(&json!({"mtls": {"enabled": false}})));
        for on in [
            json!({"mtls": {"enabled": true}}),
            json!({"mtls": {}}),
            json!({"mtls": {"enabled": "false"}}),
            json!({}),
            Value::Null,
        ] {
            assert!(is_on(&on), "{on}");
        }
    }
}

//! What the Configuration of the control plane says (kubernetes 3.1).
//!
//! Owns reading `spec.mtls` once, at the start. The object may come later than the operator, because one Helm release
//! makes both: it is awaited, and readiness says so.

use crate::cluster::{Calls, Place};
use ironside_identity::{Namespace, TrustDomain, TrustDomainError};
use serde_json::Value;
use std::time::Duration;
use tracing::{info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.operator";
/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// The trust domain where none is said.
const TRUST_DOMAIN: &str = "cluster.local";

/// What is taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    /// Sidecars speak mutual TLS with each other. The operator's own port always does.
    pub(crate) mtls: bool,
    pub(crate) trust_domain: TrustDomain,
    /// Sentry's `host:port`.
    pub(crate) sentry_address: String,
}

// === impl System ===

impl System {
    /// Waits for the object and reads it.
    pub(crate) async fn wait(calls: &Calls, namespace: &Namespace, name: &str) -> Self {
        let mut trouble = None;
        loop {
            let found = calls
                .get(Place::CONFIGURATIONS, Some(namespace.as_str()), name)
                .await;
            let text = match found {
                Ok(Some(object)) => match Self::of(&object, namespace) {
                    Ok(system) => return system,
                    Err(cause) => format!("spec.mtls.controlPlaneTrustDomain: {cause}"),
                },
                Ok(None) => "it is not there yet".to_owned(),
                Err(cause) => cause.to_string(),
            };
            if trouble.as_ref() != Some(&text) {
                let what = format!("Configuration {namespace}/{name}");
                match trouble {
                    None => info!(target: SCOPE, "Waiting for {what}: {text}"),
                    Some(_) => warn!(target: SCOPE, "Still waiting for {what}: {text}"),
                }
                trouble = Some(text);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn of(object: &Value, namespace: &Namespace) -> Result<Self, TrustDomainError> {
        let text = |name: &str| crate::index::text(object, &format!("/spec/mtls/{name}"));
        let enabled = object
            .pointer("/spec/mtls/enabled")
            .and_then(Value::as_bool);
        let address = text("sentryAddress").map(str::to_owned);
        Ok(Self {
            mtls: enabled.unwrap_or(true),
            trust_domain: TrustDomain::parse(
                text("controlPlaneTrustDomain").unwrap_or(TRUST_DOMAIN),
            )?,
            sentry_address: address.unwrap_or_else(|| format!("dapr-sentry.{namespace}.svc:443")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_has_a_default() {
        let namespace = Namespace::parse("dapr-system").unwrap();
        let of = |object| System::of(&object, &namespace).map_err(|cause| cause.to_string());
        let system = of(json!({"spec": {}})).unwrap();
        assert!(system.mtls);
        assert_eq!(system.trust_domain.as_str(), "cluster.local");
        assert_eq!(system.sentry_address, "dapr-sentry.dapr-system.svc:443");
        let system = of(
            json!({"spec": {"mtls": {"enabled": false, "controlPlaneTrustDomain": "td.example",
            "sentryAddress": "sentry:50001"}}}),
        );
        let system = system.unwrap();
        assert!(!system.mtls);
        assert_eq!(system.trust_domain.as_str(), "td.example");
        assert_eq!(system.sentry_address, "sentry:50001");
        assert!(of(json!({"spec": {"mtls": {"controlPlaneTrustDomain": "A B"}}})).is_err());
    }
}

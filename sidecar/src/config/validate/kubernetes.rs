//! What `--mode kubernetes` needs (kubernetes 2.9, 2.10, 2.12).
//!
//! Owns the refusal to run as root and what of the command line names objects instead of files. Which flags and
//! variables there are is the injector's word; those without effect here are accepted all the same.

use super::{ConfigError, Machine, access, runtime};
use crate::config::{IdentityConfig, KubernetesConfig, env::Environment, flags::Given};

/// Exactly `true` lets root run.
const SKIP_USER_CHECK: &str = "DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK";

/// Refuses UID 0.
pub(super) fn check_user(env: &Environment, machine: &Machine) -> Result<(), ConfigError> {
    if machine.is_root && env.get(SKIP_USER_CHECK) != Some("true") {
        return Err(runtime(format!(
            "refusing to run as root (UID 0) in Kubernetes mode: run the container as another user, or set \
             {SKIP_USER_CHECK}=true"
        )));
    }
    Ok(())
}

/// Reads what belongs to the mode; there is always an identity.
pub(super) fn read(
    given: &Given,
    env: &Environment,
    identity: Option<&IdentityConfig>,
    warnings: &mut Vec<String>,
) -> Result<Option<KubernetesConfig>, ConfigError> {
    let Some(identity) = identity else {
        return Ok(None);
    };
    let operator_address = given.text("control-plane-address");
    if operator_address.is_empty() {
        return Err(runtime(
            "control plane address is required: --mode kubernetes is given and --control-plane-address is empty",
        ));
    }
    let names: Vec<&String> = given
        .list("config")
        .iter()
        .filter(|name| !name.is_empty())
        .collect();
    if names.len() > 1 {
        warnings.push(
            "--config is given more than once: in Kubernetes mode only the first Configuration is used".to_owned(),
        );
    }
    if !given.list("resources-path").is_empty() || !given.text("components-path").is_empty() {
        warnings.push(
            "--resources-path has no effect in Kubernetes mode: resources come from the operator"
                .to_owned(),
        );
    }
    Ok(Some(KubernetesConfig {
        configuration: names.first().map(|name| name.as_str().into()),
        operator_address: operator_address.into(),
        operator: access::operator(identity)?,
        pod_name: env.non_empty("POD_NAME").map(Into::into),
    }))
}

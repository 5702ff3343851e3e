//! Whether there is a stream of access control, and what it is worth (security 4.6, 4.8).

use std::time::Duration;

use ironside_identity::SpiffeId;

use super::{ConfigError, flags, runtime};
use crate::config::{Demand, IdentityConfig, StreamConfig, env::Environment, flags::Given};

/// Three heartbeats: below that a healthy operator looks dead between two of them.
const LEAST_STALENESS: Duration = Duration::from_secs(30);

pub(super) fn stream(
    given: &Given,
    env: &Environment,
    identity: Option<&IdentityConfig>,
    machine: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<StreamConfig>, ConfigError> {
    let demand = match given.text_or("access-control", env.non_empty("DAPR_ACCESS_CONTROL")) {
        "auto" => Demand::Auto,
        "required" => Demand::Required,
        other => {
            return Err(flags(format!(
                "invalid value for 'access-control': {other} is not auto or required"
            )));
        }
    };
    let max_staleness = max_staleness(given, warnings)?;
    let address = given.text("control-plane-address");
    let Some(identity) = identity.filter(|_| !address.is_empty()) else {
        if demand == Demand::Required {
            return Err(runtime(
                "access control is required: it comes from --control-plane-address, and needs --enable-mtls",
            ));
        }
        if !address.is_empty() {
            warnings.push(
                "--control-plane-address needs --enable-mtls, or the operator cannot be asked who may call: calls of peers are refused; start with --enable-mtls, or without the address".to_owned(),
            );
        }
        return Ok(None);
    };
    let name = env.non_empty("POD_NAME").unwrap_or(machine);
    Ok(Some(StreamConfig {
        address: address.into(),
        operator: operator(identity)?,
        demand,
        max_staleness,
        name: name.chars().filter(char::is_ascii_graphic).collect(),
    }))
}

/// Who the operator must be.
pub(super) fn operator(identity: &IdentityConfig) -> Result<SpiffeId, ConfigError> {
    let (domain, namespace) = (
        identity.sentry_id.trust_domain(),
        identity.sentry_id.namespace(),
    );
    SpiffeId::parse(&format!("spiffe://{domain}/ns/{namespace}/dapr-operator")).map_err(runtime)
}

fn max_staleness(
    given: &Given,
    warnings: &mut Vec<String>,
) -> Result<Option<Duration>, ConfigError> {
    let limit = given.duration("access-control-max-staleness");
    let limit = limit.to_std().ok_or_else(|| {
        flags(format!(
            "invalid value for 'access-control-max-staleness': {limit} is negative"
        ))
    })?;
    if !limit.is_zero() && limit < LEAST_STALENESS {
        warnings.push(format!(
            "--access-control-max-staleness {} is less than three heartbeats of the operator: calls may be refused while it is well",
            ironside_chassis::args::GoDuration::from(limit)
        ));
    }
    Ok((!limit.is_zero()).then_some(limit))
}

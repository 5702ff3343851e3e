//! What `--enable-mtls` and `--mode kubernetes` need (security 2.1): a sidecar in a cluster always proves who it
//! is to the control plane, whatever its peers speak.

use std::path::PathBuf;

use ironside_identity::{AppId, SpiffeId, TrustDomain};
use ironside_transport::{MinTls, sentry_client::TokenSource};

use super::{ConfigError, Mode, flags, runtime};
use crate::config::{IdentityConfig, env::Environment, flags::Given};

pub(super) fn identity(
    given: &Given,
    env: &Environment,
    app_id: &AppId,
    mode: Mode,
) -> Result<Option<IdentityConfig>, ConfigError> {
    let domain = given.text_or(
        "control-plane-trust-domain",
        env.non_empty("DAPR_CONTROLPLANE_TRUST_DOMAIN"),
    );
    let domain = TrustDomain::parse(domain).map_err(runtime)?;
    let namespace = given.text_or(
        "control-plane-namespace",
        env.non_empty("DAPR_CONTROLPLANE_NAMESPACE"),
    );
    let min_tls = match given.text("tls-min-version") {
        "1.2" => MinTls::V1_2,
        "1.3" => MinTls::V1_3,
        other => {
            return Err(flags(format!(
                "invalid value for 'tls-min-version': {other} is not 1.2 or 1.3"
            )));
        }
    };
    let is_in_cluster = mode == Mode::Kubernetes;
    if !given.bool("enable-mtls") && !is_in_cluster {
        return Ok(None);
    }
    let sentry_id = SpiffeId::parse(&format!("spiffe://{domain}/ns/{namespace}/dapr-sentry"))
        .map_err(runtime)?;
    let trust_anchors = env.non_empty("DAPR_TRUST_ANCHORS").map(Into::into);
    let trust_anchors_file = env.non_empty("DAPR_TRUST_ANCHORS_FILE").map(PathBuf::from);
    if trust_anchors.is_none() && trust_anchors_file.is_none() {
        return Err(runtime("trust anchors are required"));
    }
    if given.text("sentry-address").is_empty() {
        return Err(runtime(if is_in_cluster {
            "sentry address is required: --mode kubernetes is given and --sentry-address is empty"
        } else {
            "sentry address is required: mTLS is on and --sentry-address is empty"
        }));
    }
    let token_file = env.get("DAPR_SENTRY_TOKEN_FILE");
    let token = TokenSource::choose(token_file, is_in_cluster).map_err(runtime)?;
    let trust_anchors_cache = env.non_empty("DAPR_TRUST_ANCHORS_CACHE").map(PathBuf::from);
    let request_id = match env.non_empty("SENTRY_LOCAL_IDENTITY") {
        Some(text) => AppId::parse(text).map_err(runtime)?,
        None => app_id.clone(),
    };
    Ok(Some(IdentityConfig {
        sentry_address: given.text("sentry-address").into(),
        sentry_id,
        trust_anchors,
        trust_anchors_file,
        trust_anchors_cache,
        request_id,
        token,
        jwt_audiences: given.list("sentry-request-jwt-audiences").to_vec(),
        min_tls,
    }))
}

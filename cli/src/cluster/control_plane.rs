//! The control plane's own objects: where it is, its system configuration, its trust bundle.
//!
//! Owns their names (kubernetes 0.1), and the sentence about a root that ends soon, which the commands that look at a
//! cluster print (cli-and-clients 1.14).

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ironside_identity::TrustBundle;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::DynamicObject;

use super::{CONFIGURATIONS, Cluster, failed};
use crate::command::Session;
use crate::output::{self, Level};

/// The namespace of the control plane, where nothing says otherwise.
pub(crate) const NAMESPACE: &str = "dapr-system";
/// The system configuration, where the chart was not told another name.
pub(crate) const SYSTEM: &str = "daprsystem";
/// The Secret and the ConfigMap of the trust bundle.
pub(crate) const BUNDLE: &str = "dapr-trust-bundle";
/// Below this a warning is due.
const SOON: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// The system configuration, wherever it is, and whatever the chart was told to call it.
pub(crate) async fn system(cluster: &Cluster) -> anyhow::Result<Option<DynamicObject>> {
    let all = cluster.objects(CONFIGURATIONS, None).await?;
    let mut all = all.unwrap_or_default();
    let is_named = |one: &DynamicObject| one.metadata.name.as_deref() == Some(SYSTEM);
    let at = all.iter().position(is_named);
    let at = at.or_else(|| all.iter().position(is_system));
    Ok(at.map(|at| all.swap_remove(at)))
}

/// Whether a Configuration is that of the control plane: by its name, or by what the chart writes on it and in it.
pub(crate) fn is_system(one: &DynamicObject) -> bool {
    let labels = one.metadata.labels.as_ref();
    let part = labels.and_then(|labels| labels.get("app.kubernetes.io/component"));
    let domain = one.data.pointer("/spec/mtls/controlPlaneTrustDomain");
    one.metadata.name.as_deref() == Some(SYSTEM)
        || (part.is_some_and(|part| part == "config") && domain.is_some())
}

/// Where the control plane is: the namespace of its system configuration.
pub(crate) async fn namespace(cluster: &Cluster) -> String {
    let found = system(cluster).await.ok().flatten();
    let namespace = found.and_then(|found| found.metadata.namespace);
    namespace.unwrap_or_else(|| NAMESPACE.to_owned())
}

/// A file of the Secret: `ca.crt`, `issuer.crt`, `issuer.key`.
pub(crate) async fn secret(cluster: &Cluster, namespace: &str) -> anyhow::Result<Option<Secret>> {
    let api: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let found = api.get_opt(BUNDLE).await;
    let found = found.map_err(|error| failed(&error));
    found.with_context(|| format!("cannot read the Secret {namespace}/{BUNDLE}"))
}

/// The roots that everybody may read; none while there are none.
pub(crate) async fn roots(
    cluster: &Cluster,
    namespace: &str,
) -> anyhow::Result<Option<TrustBundle>> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    let found = api.get_opt(BUNDLE).await;
    let found = found.map_err(|error| failed(&error));
    let found = found.with_context(|| format!("cannot read the ConfigMap {namespace}/{BUNDLE}"))?;
    let data = found.and_then(|map| map.data);
    let text = data.and_then(|mut data| data.remove(ironside_cluster::BUNDLE_KEY));
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bundle = TrustBundle::from_pem(text.as_bytes());
    let bundle = bundle
        .with_context(|| format!("ca.crt of the ConfigMap {namespace}/{BUNDLE} is no root"))?;
    Ok(Some(bundle))
}

/// The end of the last root: during a rotation the new one is there already.
pub(crate) fn roots_end(bundle: &TrustBundle) -> Option<SystemTime> {
    let ends = bundle.anchors().iter().map(|anchor| anchor.not_after());
    ends.max()
}

/// Warns on the standard output, or on the standard error if that holds data, of a root that ends soon.
///
/// What cannot be read is no matter here: the command was about something else.
pub(crate) async fn warn_of_end(session: &Session, cluster: &Cluster, is_data: bool) {
    let namespace = namespace(cluster).await;
    let Ok(Some(bundle)) = roots(cluster, &namespace).await else {
        return;
    };
    let Some(text) = roots_end(&bundle).and_then(|end| warning(end, session.clock.now())) else {
        return;
    };
    for text in [text.as_str(), HINT] {
        let line = session.status.line(Level::Warning, text);
        if is_data {
            output::err(line.as_bytes());
        } else {
            output::out(line.as_bytes());
        }
    }
}

const HINT: &str = "Renew it with: ironside mtls renew-certificate -k. \
    Sentry replaces a root that it made by itself; if it does not, its log says why.";

/// The warning that is due for a root with this end, if one is.
pub(crate) fn warning(end: SystemTime, now: SystemTime) -> Option<String> {
    let at = rfc1123(end);
    let Ok(left) = end.duration_since(now) else {
        return Some(format!(
            "Dapr root certificate of your Kubernetes cluster has expired. Expiry date: {at}."
        ));
    };
    if left >= SOON {
        return None;
    }
    let days = left.as_secs() / DAY;
    Some(if days == 0 {
        format!(
            "Dapr root certificate of your Kubernetes cluster expires today. Expiry date: {at}."
        )
    } else {
        format!(
            "Dapr root certificate of your Kubernetes cluster expires in {days} days. Expiry date: {at}."
        )
    })
}

/// An instant as `Sat, 21 Nov 2026 19:26:07 UTC`.
pub(crate) fn rfc1123(at: SystemTime) -> String {
    match Timestamp::try_from(at) {
        Ok(at) => at.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string(),
        Err(_beyond_year_9999) => "never".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: CL-84.
    #[test]
    fn a_root_that_ends_soon_is_told() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_785_585_600);
        let day = Duration::from_secs(DAY);
        for (end, expected) in [
            (now + day * 40, None),
            (now + day * 30, None),
            (
                now + day * 20,
                Some("expires in 20 days. Expiry date: Fri, 21 Aug 2026 12:00:00 UTC."),
            ),
            (
                now + day / 2,
                Some("expires today. Expiry date: Sun, 02 Aug 2026 00:00:00 UTC."),
            ),
            (
                now - day,
                Some("has expired. Expiry date: Fri, 31 Jul 2026 12:00:00 UTC."),
            ),
        ] {
            let expected = expected
                .map(|rest| format!("Dapr root certificate of your Kubernetes cluster {rest}"));
            assert_eq!(warning(end, now), expected);
        }
    }
}

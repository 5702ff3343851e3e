//! What flags and environment say of the cluster, for mode `kubernetes`.
//!
//! Owns the rules of process-interface 3 for that mode: a namespace is needed, root is refused, and the keys of the
//! Secret are the base names of the file flags (security 1.8).

use super::env::Env;
use super::{ConfigError, Namespace};
use crate::cluster::ClusterOptions;
use ironside_chassis::args::Parsed;
use std::path::{Path, PathBuf};

/// Where a kubeconfig is looked for, below the home.
const KUBECONFIG: &str = ".kube/config";

/// Reads the mode; none is self-hosted.
pub(super) fn read(parsed: &Parsed, env: &Env) -> Result<Option<ClusterOptions>, ConfigError> {
    match parsed.text("mode") {
        "standalone" => return Ok(None),
        "kubernetes" => {}
        other => return Err(ConfigError::Mode(other.to_owned())),
    }
    if env.uid == 0 && !env.root_allowed {
        return Err(ConfigError::Root);
    }
    let namespace = env.namespace.as_deref();
    Namespace::parse(namespace.ok_or(ConfigError::NoNamespace)?)?;
    let given = Some(parsed.text("kubeconfig")).filter(|path| !path.is_empty());
    let of_home = env.home.as_ref().map(|home| home.join(KUBECONFIG));
    let keys = [
        "issuer-ca-filename",
        "issuer-certificate-filename",
        "issuer-key-filename",
    ];
    let keys = keys.map(|flag| base_name(parsed.text(flag)));
    Ok(Some(ClusterOptions {
        kubeconfig: given.map(PathBuf::from).or(of_home),
        keys,
        legacy_audience: parsed.bool("allow-legacy-audience"),
        instance: env
            .hostname
            .clone()
            .unwrap_or_else(|| "dapr-sentry".to_owned()),
    }))
}

fn base_name(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::flags;
    use super::*;

    fn read_with(words: &[&str], env: &Env) -> Result<Option<ClusterOptions>, ConfigError> {
        let words = ["--mode=kubernetes"].iter().chain(words);
        let parsed = flags::FLAGS.parse(words.map(Into::into)).unwrap();
        read(&parsed, env)
    }

    fn pod() -> Env {
        Env {
            namespace: Some("dapr-system".into()),
            hostname: Some("dapr-sentry-0".into()),
            uid: 65532,
            ..Env::default()
        }
    }

    /// Fact: security.md 1.8, 1.11.
    #[test]
    fn the_cluster_is_described_by_flags_and_environment() {
        let options = read_with(&[], &pod()).unwrap().unwrap();
        assert_eq!(options.keys, ["ca.crt", "issuer.crt", "issuer.key"]);
        assert_eq!(options.kubeconfig, None);
        assert_eq!(options.instance, "dapr-sentry-0");
        assert!(!options.legacy_audience);
        let home = Env {
            home: Some("/h".into()),
            ..pod()
        };
        let options = read_with(&["--issuer-key-filename=/x/y.key"], &home).unwrap();
        let options = options.unwrap();
        assert_eq!(options.keys, ["ca.crt", "issuer.crt", "y.key"]);
        assert_eq!(options.kubeconfig, Some("/h/.kube/config".into()));
        let named = read_with(&["--kubeconfig=/k", "--allow-legacy-audience"], &home);
        let named = named.unwrap().unwrap();
        assert_eq!(named.kubeconfig, Some("/k".into()));
        assert!(named.legacy_audience);
    }

    /// Fact: security.md K057.
    #[test]
    fn root_is_refused_unless_it_is_allowed() {
        let root = Env { uid: 0, ..pod() };
        assert!(matches!(read_with(&[], &root), Err(ConfigError::Root)));
        let allowed = Env {
            root_allowed: true,
            ..root
        };
        assert!(read_with(&[], &allowed).is_ok());
    }

    #[test]
    fn a_namespace_is_needed() {
        let nowhere = Env {
            namespace: None,
            ..pod()
        };
        assert!(matches!(
            read_with(&[], &nowhere),
            Err(ConfigError::NoNamespace)
        ));
    }
}

//! What is the domain of the cluster's names?
//!
//! Owns the answer for DNS names in certificates (security 1.5), which the reference looks up as the canonical name of
//! `kubernetes.default.svc`. The kubelet writes the same into every pod's `resolv.conf`, where no server is needed to
//! read it: the search list holds `svc.<domain>`.

use std::path::Path;

/// Where resolvers are configured.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Reads the domain of this pod's cluster.
///
/// # Errors
/// A text that says why it is not known.
pub(crate) fn read() -> Result<String, String> {
    let path = Path::new(RESOLV_CONF);
    let text = std::fs::read_to_string(path).map_err(|cause| format!("{RESOLV_CONF}: {cause}"))?;
    find(&text).ok_or_else(|| format!("{RESOLV_CONF} names no domain of services"))
}

fn find(resolv_conf: &str) -> Option<String> {
    // The last search list counts (resolv.conf(5)).
    let mut lines = resolv_conf.lines().rev().map(str::trim);
    let list = lines.find_map(|line| line.strip_prefix("search"))?;
    let mut names = list.split_ascii_whitespace();
    let domain = names.find_map(|name| name.strip_prefix("svc."))?;
    let domain = domain.trim_end_matches('.');
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (!domain.is_empty() && domain.chars().all(is_name)).then(|| domain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_names_the_domain() {
        let text = "nameserver 10.96.0.10\nsearch dapr-system.svc.cluster.local svc.cluster.local cluster.local\n\
                    options ndots:5\n";
        assert_eq!(find(text).as_deref(), Some("cluster.local"));
        assert_eq!(
            find("search a.b\nsearch svc.k8s.example. x\n").as_deref(),
            Some("k8s.example")
        );
        for other in [
            "",
            "search\n",
            "search example.org\n",
            "search svc.\n",
            "search svc.a\u{e9}\n",
        ] {
            assert_eq!(find(other), None, "{other:?}");
        }
    }
}

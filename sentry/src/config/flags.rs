//! The flags of `sentry`.
//!
//! Every flag of the reference is here (process-interface 3); those of Kubernetes are read in its mode only. `ca-ttl`,
//! `keep-root-key`, `root-ttl`, `allow-control-plane-identities`, `port-file`, `clients-file` and `linger` are our own.

use ironside_chassis::args::{Flag, Flags};

/// The table, in the order of the configuration reference.
pub const FLAGS: Flags = Flags::new("sentry", TABLE);

const TABLE: &[Flag] = &[
    Flag::text("mode", "standalone", "standalone or kubernetes"),
    Flag::text(
        "config",
        "daprsystem",
        "path of the configuration file, or name of the Configuration (kubernetes)",
    ),
    Flag::int("port", "50001", "port of the certificate service"),
    Flag::text(
        "listen-address",
        "",
        "address of the certificate service; empty means all",
    ),
    Flag::int("healthz-port", "8080", "port of the health endpoint"),
    Flag::text(
        "healthz-listen-address",
        "",
        "address of the health endpoint; empty means all",
    ),
    Flag::text(
        "trust-domain",
        "localhost",
        "trust domain of the control plane",
    ),
    Flag::text(
        "issuer-credentials",
        "/var/run/secrets/dapr.io/credentials",
        "folder of root, issuer certificate and issuer key; made anew when it is empty",
    ),
    Flag::text("issuer-ca-filename", "ca.crt", "file of the trust anchors"),
    Flag::text(
        "issuer-certificate-filename",
        "issuer.crt",
        "file of the issuer certificate",
    ),
    Flag::text(
        "issuer-key-filename",
        "issuer.key",
        "file of the issuer key",
    ),
    Flag::duration(
        "ca-ttl",
        "8760h",
        "life of an issuer that sentry makes, and of a root whose key is not kept",
    ),
    Flag::bool(
        "keep-root-key",
        "false",
        "store the private key of a root that sentry makes, so that the issuer rotates alone",
    ),
    Flag::duration("root-ttl", "87600h", "life of a root whose key is kept"),
    Flag::bool(
        "allow-control-plane-identities",
        "false",
        "let anyone have the name of a control-plane service (standalone)",
    ),
    Flag::text(
        "port-file",
        "",
        "file that holds the port while sentry serves; locked, and sentry ends when it is removed",
    ),
    Flag::text(
        "clients-file",
        "",
        "file on which clients hold a shared lock; sentry ends when there is none for --linger",
    ),
    Flag::duration(
        "linger",
        "10m",
        "how long sentry stays after its last client, with --clients-file",
    ),
    Flag::text("log-level", "info", "debug, info, warn, error or fatal"),
    Flag::text(
        "log-file",
        "",
        "append the log to this file instead of stdout",
    ),
    Flag::bool("log-as-json", "false", "log JSON objects instead of text"),
    Flag::bool("enable-metrics", "true", "serve metrics"),
    Flag::int("metrics-port", "9090", "port of the metrics endpoint"),
    Flag::text(
        "metrics-listen-address",
        "0.0.0.0",
        "address of the metrics endpoint",
    ),
    Flag::text(
        "kubeconfig",
        "",
        "path of a kubeconfig, used outside of pods; empty means $HOME/.kube/config (kubernetes)",
    ),
    Flag::bool(
        "allow-legacy-audience",
        "false",
        "accept tokens for the audience dapr.io/sentry of sidecars before 1.13 too (kubernetes)",
    ),
    Flag::bool("jwt-enabled", "false", "issue JWTs beside certificates"),
    Flag::text(
        "jwt-key-filename",
        "jwt.key",
        "absolute path of the JWT signing key; other values stand for the default in the credentials folder",
    ),
    Flag::text(
        "jwks-filename",
        "jwks.json",
        "absolute path of the JWT key set; other values stand for the default in the credentials folder",
    ),
    Flag::text(
        "jwt-issuer",
        "",
        "issuer claim of JWTs; empty leaves it out",
    ),
    Flag::text(
        "jwt-signing-algorithm",
        "RS256",
        "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA; must fit the key",
    ),
    Flag::text(
        "jwt-key-id",
        "",
        "ID of the JWT signing key; empty takes its thumbprint",
    ),
    Flag::duration("jwt-ttl", "24h", "life of JWTs, at least 1m"),
    Flag::bool(
        "oidc-enabled",
        "false",
        "serve OIDC discovery; needs jwt-enabled",
    ),
    Flag::int("oidc-server-listen-port", "9080", "port of OIDC discovery"),
    Flag::text(
        "oidc-server-listen-address",
        "localhost",
        "address of OIDC discovery; empty means all",
    ),
    Flag::bool(
        "oidc-server-tls-enabled",
        "true",
        "TLS for OIDC discovery; needs certificate and key",
    ),
    Flag::text(
        "oidc-server-tls-cert-file",
        "",
        "certificate chain of OIDC discovery; awaited if it is not there yet",
    ),
    Flag::text(
        "oidc-server-tls-key-file",
        "",
        "private key of OIDC discovery; awaited if it is not there yet",
    ),
    Flag::text(
        "oidc-jwks-uri",
        "",
        "URI of the key set to advertise, in the place of the own one",
    ),
    Flag::text("oidc-path-prefix", "", "prefix of the OIDC paths"),
    Flag::list(
        "oidc-allowed-hosts",
        "",
        "hosts that OIDC discovery answers for; empty or * means any",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_names_every_flag() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");
        let guide = std::fs::read_to_string(path).unwrap();
        let own = guide.split("### Sentry's flags").nth(1).unwrap();
        let own = own.split("\n#").next().unwrap();
        for flag in TABLE {
            let name = format!("`--{}`", flag.name);
            assert!(own.contains(&name), "{name}");
        }
    }
}

//! What a sidecar's command line says about it.
//!
//! Pure. Reads the argument vector as it is (CH13: arguments with spaces stay whole), leniently: a sidecar of any
//! version must be listed.

use std::collections::BTreeMap;

use ironside_chassis::args::{parse_bool, parse_quantity};

/// The flags of a sidecar that matter to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vector {
    /// `--app-id`.
    pub app_id: String,
    /// `--dapr-http-port`.
    pub http_port: u16,
    /// `--dapr-grpc-port`.
    pub grpc_port: u16,
    /// `--app-port`, 0 without an app.
    pub app_port: u16,
    /// `--enable-metrics`.
    pub metrics_enabled: bool,
    /// `--unix-domain-socket`.
    pub unix_domain_socket: String,
    /// `--dapr-listen-addresses`.
    pub listen_addresses: String,
    /// `--max-body-size`, in bytes.
    pub max_body: i64,
    /// `--read-buffer-size`, in bytes.
    pub read_buffer: i64,
    /// `--resources-path`, each of them.
    pub resources_paths: Vec<String>,
    /// `--config`, each of them.
    pub configurations: Vec<String>,
}

// === impl Vector ===

impl Vector {
    /// Reads the words of a command line, the program's name first.
    pub(crate) fn read(words: &[String]) -> Self {
        let flags = flags(words);
        let text = |name: &str| flags.get(name).copied().unwrap_or_default().to_owned();
        let port = |name: &str, default| {
            flags
                .get(name)
                .and_then(|value| value.parse().ok())
                .unwrap_or(default)
        };
        let size = |name: &str, default| {
            flags
                .get(name)
                .and_then(|value| parse_quantity(value).ok())
                .unwrap_or(default)
        };
        Self {
            app_id: text("app-id"),
            http_port: port("dapr-http-port", 3500),
            grpc_port: port("dapr-grpc-port", 50_001),
            app_port: port("app-port", 0),
            metrics_enabled: flags
                .get("enable-metrics")
                .is_none_or(|value| parse_bool(value).unwrap_or(true)),
            unix_domain_socket: text("unix-domain-socket"),
            listen_addresses: text("dapr-listen-addresses"),
            max_body: size("max-body-size", 4 << 20),
            read_buffer: size("read-buffer-size", 4 << 10),
            resources_paths: all(words, "resources-path"),
            configurations: all(words, "config"),
        }
    }
}

/// Flags by name, the last of each.
fn flags(words: &[String]) -> BTreeMap<&str, &str> {
    pairs(words).into_iter().collect()
}

/// Every value of a flag that may be repeated, or hold several with commas between them.
fn all(words: &[String], wanted: &str) -> Vec<String> {
    let values = pairs(words).into_iter().filter(|(name, _)| *name == wanted);
    let values = values.flat_map(|(_, value)| value.split(','));
    let values = values.filter(|value| !value.is_empty());
    values.map(str::to_owned).collect()
}

/// Flags in their order: `--flag value`, `--flag=value` or `--flag` alone, with one dash or two.
fn pairs(words: &[String]) -> Vec<(&str, &str)> {
    let mut flags = Vec::new();
    let mut words = words.iter().skip(1).map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let Some(name) = flag_name(word) else {
            continue;
        };
        if let Some((name, value)) = name.split_once('=') {
            flags.push((name, value));
            continue;
        }
        let value = words
            .next_if(|next| flag_name(next).is_none())
            .unwrap_or_default();
        flags.push((name, value));
    }
    flags
}

/// The name in a word that is a flag; `-1` is a value.
fn flag_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Vector {
        Vector::read(&line.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read_in_every_spelling() {
        let vector = read(&[
            "daprd",
            "-app-id",
            "a b",
            "--dapr-http-port=3501",
            "--enable-mtls",
            "--app-max-concurrency",
            "-1",
            "--dapr-grpc-port",
            "5000",
            "--enable-metrics=false",
            "--max-body-size",
            "8Mi",
            "--resources-path",
            "a,b",
            "--resources-path=c",
            "--config",
            "x.yaml",
        ]);
        assert_eq!(vector.app_id, "a b");
        assert_eq!(
            (vector.http_port, vector.grpc_port, vector.app_port),
            (3501, 5000, 0)
        );
        assert!(!vector.metrics_enabled);
        assert_eq!((vector.max_body, vector.read_buffer), (8 << 20, 4096));
        assert_eq!(vector.resources_paths, ["a", "b", "c"]);
        assert_eq!(vector.configurations, ["x.yaml"]);
    }

    #[test]
    fn what_is_not_said_has_the_sidecars_default() {
        let vector = read(&["daprd", "--app-id", "x", "--unix-domain-socket", "/tmp/a b"]);
        assert_eq!((vector.http_port, vector.grpc_port), (3500, 50_001));
        assert!(vector.metrics_enabled);
        assert_eq!(vector.unix_domain_socket, "/tmp/a b");
        assert_eq!(read(&["daprd"]).app_id, "");
    }
}

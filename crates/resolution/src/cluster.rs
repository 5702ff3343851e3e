//! The names under which a cluster's DNS carries apps.
//!
//! Owns their spelling (service-invocation 6.2): the headless Service `<app id>-dapr` of the app's namespace, or the
//! template that the configuration has instead. Text from a caller becomes labels of a name or is refused: it can
//! neither add a domain of its own nor leave the cluster's. Refuses to ask anybody.

use std::fmt::Write as _;

use ironside_identity::{AppId, Namespace};

/// Where clusters keep their names unless they were told otherwise.
pub const DEFAULT_DOMAIN: &str = "cluster.local";

/// How the place of an app is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Box<[Part]>,
    /// The name is whole: no search list applies to it.
    is_absolute: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Id,
    Namespace,
    Port,
}

/// A name to ask for, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The name; one that is whole ends in a dot.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A pair of braces that is not closed.
    #[error("template {0:?} has an action that is not closed")]
    Open(Box<str>),
    /// An action that is no field.
    #[error("template action {0:?} is none of .ID, .Namespace, .Port, .Data")]
    Action(Box<str>),
    /// There is no port at the end.
    #[error("template {0:?} does not end in a port")]
    NoPort(Box<str>),
}

/// Why an app has no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A part of it cannot be written in a name.
    #[error("{0:?} is no name that DNS can carry")]
    Name(Box<str>),
    /// What stands where the port should be.
    #[error("{0:?} does not end in a port")]
    Port(Box<str>),
}

/// Bytes; RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;
/// Bytes, without the root; RFC 1035 section 2.3.4.
const MAX_NAME: usize = 253;

// === impl Pattern ===

impl Pattern {
    /// The headless Services of a cluster with this domain.
    #[must_use]
    pub fn services(domain: &str) -> Self {
        let domain = domain.trim_matches('.');
        let text = |text: &str| Part::Text(text.into());
        Self {
            parts: [
                Part::Id,
                text("-dapr."),
                Part::Namespace,
                text(&format!(".svc.{domain}:")),
                Part::Port,
            ]
            .into(),
            is_absolute: true,
        }
    }

    /// Reads a template: text with `{{.ID}}`, `{{.Namespace}}`, `{{.Port}}` and `{{.Data}}`, which is empty.
    ///
    /// # Errors
    /// [`PatternError`] for any other action, and for a template that does not end in a port.
    pub fn parse(template: &str) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let open = || PatternError::Open(template.into());
            let (action, after) = after.split_once("}}").ok_or_else(open)?;
            let trimmed = action.strip_prefix('-');
            let before = trimmed.map_or(before, |_| before.trim_end());
            let action = trimmed.unwrap_or(action);
            let bare = action.strip_suffix('-');
            let after = bare.map_or(after, |_| after.trim_start());
            parts.extend((!before.is_empty()).then(|| Part::Text(before.into())));
            match bare.unwrap_or(action).trim() {
                ".ID" => parts.push(Part::Id),
                ".Namespace" => parts.push(Part::Namespace),
                ".Port" => parts.push(Part::Port),
                ".Data" => {}
                other => return Err(PatternError::Action(other.into())),
            }
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.into())));
        let has_port = match parts.last() {
            Some(Part::Port) => true,
            Some(Part::Text(text)) => text
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
            Some(Part::Id | Part::Namespace) | None => false,
        };
        if !has_port {
            return Err(PatternError::NoPort(template.into()));
        }
        Ok(Self {
            parts: parts.into(),
            is_absolute: false,
        })
    }

    /// Where the sidecar of an app is asked for; `port` is the caller's own internal port.
    ///
    /// # Errors
    /// [`PlaceError`] if app ID or namespace cannot be labels, or the whole is no name.
    pub fn place(
        &self,
        app: &AppId,
        namespace: &Namespace,
        port: u16,
    ) -> Result<Place, PlaceError> {
        for label in [app.as_str(), namespace.as_str()] {
            if !is_label(label) {
                return Err(PlaceError::Name(label.into()));
            }
        }
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Id => text.push_str(app.as_str()),
                Part::Namespace => text.push_str(namespace.as_str()),
                // Writing to a String cannot fail.
                Part::Port => drop(write!(text, "{port}")),
            }
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
            None => (text.as_str(), None),
        };
        let port = port.ok_or_else(|| PlaceError::Port(text.as_str().into()))?;
        if !is_name(host) {
            return Err(PlaceError::Name(host.into()));
        }
        let dot = if self.is_absolute { "." } else { "" };
        Ok(Place {
            host: format!("{host}{dot}").into(),
            port,
        })
    }
}

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_name(host: &str) -> bool {
    let bare = host.strip_suffix('.').unwrap_or(host);
    bare.len() <= MAX_NAME && bare.split('.').all(is_label)
}

// === impl Place ===

impl Place {
    /// The name as messages show it, without the closing dot.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pattern: &Pattern, app: &str, namespace: &str) -> Result<String, PlaceError> {
        let (app, namespace) = (
            AppId::parse(app).unwrap(),
            Namespace::parse(namespace).unwrap(),
        );
        let place = pattern.place(&app, &namespace, 50002)?;
        Ok(format!("{} {}", place.host, place.port))
    }

    /// Service-invocation 6.2; the dot keeps the search list of `/etc/resolv.conf` away.
    #[test]
    fn services_have_absolute_names() {
        let pattern = Pattern::services("cluster.local");
        assert_eq!(
            place(&pattern, "orders", "shop").unwrap(),
            "orders-dapr.shop.svc.cluster.local. 50002"
        );
        let other = Pattern::services(".corp.example.");
        assert_eq!(
            place(&other, "a", "b").unwrap(),
            "a-dapr.b.svc.corp.example. 50002"
        );
    }

    #[test]
    fn templates_are_read() {
        for (template, want) in [
            ("{{.ID}}.{{.Namespace}}:{{.Port}}", "orders.shop 50002"),
            (
                "{{ .ID }}-x.{{ .Namespace }}.svc:80",
                "orders-x.shop.svc 80",
            ),
            ("a {{- .ID -}} b:{{.Data}}{{.Port}}", "aordersb 50002"),
            ("{{.ID}}.example.com.:443", "orders.example.com. 443"),
        ] {
            let pattern = Pattern::parse(template).unwrap();
            assert_eq!(
                place(&pattern, "orders", "shop").unwrap(),
                want,
                "{template}"
            );
        }
        for template in [
            "",
            "{{.ID}}",
            "{{.ID}}:x",
            "{{.ID:1",
            "{{.Name}}:1",
            "{{if .ID}}:1",
            "{{.Port}}.{{.ID}}",
        ] {
            assert!(Pattern::parse(template).is_err(), "{template}");
        }
    }

    /// A caller writes the target: it stays a label.
    #[test]
    fn a_target_adds_no_domain() {
        let pattern = Pattern::services("cluster.local");
        for (app, namespace) in [
            ("a", "evil.example"),
            ("a/b", "n"),
            ("a:1", "n"),
            ("a\0", "n"),
            ("ä", "n"),
            ("a", ""),
            ("a", "*"),
        ] {
            let refused = place(&pattern, app, namespace);
            assert!(
                matches!(refused, Err(PlaceError::Name(_))),
                "{app} {namespace}"
            );
        }
        let long = "x".repeat(59);
        assert!(
            place(&pattern, &long, "n").is_err(),
            "the Service's name is too long"
        );
        assert!(place(&pattern, &"x".repeat(58), "n").is_ok());
    }
}

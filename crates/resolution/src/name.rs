//! The names under which multicast DNS carries an app.
//!
//! Owns their spelling (service-invocation 6.3): the bare app ID is the service type, an instance
//! is `<host name>:<pid>`, and everything lies under `local.`. Refuses to know the wire format of
//! a name; the sidecar's responder turns the labels into one.

use ironside_identity::AppId;

/// The name that lists the service types of a network.
pub const SERVICE_TYPES: &str = "_services._dns-sd._udp.local.";

const DOMAIN: &str = "local";
/// Bytes; RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;
/// Bytes on the wire, length bytes and the root included; RFC 1035 section 2.3.4.
const MAX_NAME: usize = 255;

/// A name of labels that fit on the wire, written with its closing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(Box<str>);

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A part between two dots is empty or longer than 63 bytes.
    #[error("{0:?} has a label that is empty or longer than 63 bytes")]
    Label(Box<str>),
    /// More than 255 bytes on the wire.
    #[error("{0:?} is longer than 255 bytes")]
    TooLong(Box<str>),
}

/// The three names of one announced app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `<app-id>.local.`: what browsers ask for.
    pub service: DnsName,
    /// `<host name>:<pid>.<app-id>.local.`: this very sidecar.
    pub instance: DnsName,
    /// `<host name>.local.`: what the addresses hang on.
    pub host: DnsName,
}

// === impl Names ===

impl Names {
    /// The names of a sidecar of `app` that runs as `pid` on a machine called `host_name`.
    ///
    /// # Errors
    /// [`NameError`] if one of them does not fit on the wire.
    pub fn new(app: &AppId, host_name: &str, pid: u32) -> Result<Self, NameError> {
        let host_name = host_name.trim_matches('.');
        let short = host_name.strip_suffix(".local").unwrap_or(host_name);
        let service = service(app)?;
        Ok(Self {
            instance: DnsName::parse(&format!("{host_name}:{pid}.{}", service.as_str()))?,
            host: DnsName::parse(&format!("{short}.{DOMAIN}."))?,
            service,
        })
    }
}

/// The name that a browser of `app` asks for.
///
/// # Errors
/// [`NameError`] if the app ID does not fit into a label.
pub fn service(app: &AppId) -> Result<DnsName, NameError> {
    DnsName::parse(&format!("{app}.{DOMAIN}."))
}

// === impl DnsName ===

impl DnsName {
    /// Parses dotted text; the closing dot may be missing.
    ///
    /// # Errors
    /// [`NameError`], which repeats the text.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &str| (1..=MAX_LABEL).contains(&label.len());
        if !bare.split('.').all(fits) {
            return Err(NameError::Label(text.into()));
        }
        if bare.len().saturating_add(2) > MAX_NAME {
            return Err(NameError::TooLong(text.into()));
        }
        Ok(Self(format!("{bare}.").into()))
    }

    /// The text with its closing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, first to last, without the root.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.').filter(|label| !label.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("valid id")
    }

    /// Fact: service-invocation 6.3, rows service name, instance, SRV.
    #[test]
    fn names_are_those_of_the_reference() {
        let names = Names::new(&app("appB"), "rig", 4711).expect("fits");
        assert_eq!(names.service.as_str(), "appB.local.");
        assert_eq!(names.instance.as_str(), "rig:4711.appB.local.");
        assert_eq!(names.host.as_str(), "rig.local.");
        assert_eq!(service(&app("appB")), Ok(names.service));
    }

    #[test]
    fn host_names_with_dots_become_several_labels() {
        let names = Names::new(&app("a"), "rig.example.com.", 1).expect("fits");
        assert_eq!(names.host.as_str(), "rig.example.com.local.");
        assert_eq!(names.instance.labels().count(), 5);
        let local = Names::new(&app("a"), "mac.local", 1).expect("fits");
        assert_eq!(local.host.as_str(), "mac.local.");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert!(service(&app(&"x".repeat(63))).is_ok());
        assert!(matches!(
            service(&app(&"x".repeat(64))),
            Err(NameError::Label(_))
        ));
        assert!(matches!(
            Names::new(&app("a"), "", 1),
            Err(NameError::Label(_))
        ));
        let long = [
            "x".repeat(62),
            "y".repeat(62),
            "z".repeat(62),
            "w".repeat(50),
        ]
        .join(".");
        assert!(matches!(
            Names::new(&app("a"), &long, 1_000_000),
            Err(NameError::TooLong(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn parsed_names_fit_on_the_wire(text in ".{0,300}") {
            if let Ok(name) = DnsName::parse(&text) {
                let wire: usize = name.labels().map(|label| label.len() + 1).sum();
                proptest::prop_assert!(wire < 255);
                proptest::prop_assert!(name.labels().all(|label| label.len() <= 63));
            }
        }
    }
}

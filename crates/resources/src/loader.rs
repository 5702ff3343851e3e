//! The files of the resource folders become resources, warnings and errors.
//!
//! Pure: names and bytes in, a [`Loaded`] out; listing folders and saying
//! things aloud is the sidecar's part. Order of the rules: shape, name,
//! namespace, duplicates, scope. Resources of other building blocks are
//! accepted with one warning each. Source: process-interface 6.2, 8.

use crate::component::Category;
use crate::{Component, HttpEndpoint, resiliency, yaml};

mod manifest;
mod outcome;
mod policy;

pub use manifest::Kind;
pub use outcome::{LoadError, Loaded, Reason, ResiliencyFailure, Untyped, Warning};
pub use policy::{PolicyFailure, PolicyFlaw};

use manifest::{Envelope, KindError};

/// A file of a resource folder.
#[derive(Clone, Copy, Debug)]
pub struct ResourceFile<'a> {
    /// Its name, for warnings; the ending decides whether it is read.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// Which resources are for this sidecar.
#[derive(Clone, Copy, Debug)]
pub struct Loader<'a> {
    /// Namespace of the sidecar; an empty one selects nothing.
    pub namespace: &'a str,
    /// The app, for scopes.
    pub app_id: &'a str,
    /// Component types not to load: `type` or `type/version` (`components.deny`).
    pub deny: &'a [String],
}

/// Returns whether a file of this name is read: `.yaml` or `.yml`, any case.
#[must_use]
pub fn is_yaml_name(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| {
        ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml")
    })
}

// === impl Loader ===

impl Loader<'_> {
    /// Reads the files, in the order given.
    #[must_use]
    pub fn load<'a>(&self, files: impl IntoIterator<Item = ResourceFile<'a>>) -> Loaded {
        let mut run = Run {
            loader: self,
            loaded: Loaded::default(),
            accepted: Vec::new(),
        };
        for file in files {
            run.file(file);
        }
        run.loaded
    }
}

/// Where a document stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: &'a str,
    /// Lines of the file before the document.
    line: u64,
}

/// One pass over the files.
struct Run<'a> {
    loader: &'a Loader<'a>,
    loaded: Loaded,
    /// Kind, name and log name of what passed all rules so far.
    accepted: Vec<(Kind, String, String)>,
}

impl Run<'_> {
    fn file(&mut self, file: ResourceFile<'_>) {
        if !is_yaml_name(file.name) {
            return self.warn(file.name, Reason::NotYaml);
        }
        let Ok(text) = std::str::from_utf8(file.bytes) else {
            if policy::is_mentioned(file.bytes) {
                return self.policy_failure(file.name, "", PolicyFlaw::NotText);
            }
            return self.warn(file.name, Reason::NotText);
        };
        for (line, document) in yaml::numbered_documents(text) {
            let place = Place {
                file: file.name,
                line,
            };
            if policy::is_too_large(document) {
                let bytes = document.len();
                self.policy_failure(file.name, "", PolicyFlaw::TooLarge { bytes });
                continue;
            }
            if let Err(reason) = self.document(place, document) {
                self.refused(place, document, reason);
            }
        }
    }

    /// What cannot be read is left out, unless it may be a rule of access control.
    fn refused(&mut self, place: Place<'_>, document: &str, reason: Reason) {
        let is_unread = matches!(reason, Reason::Unreadable(_));
        if is_unread && policy::is_mentioned(document.as_bytes()) {
            return self.unreadable_policy(place, document);
        }
        self.warn(place.file, reason);
    }

    fn warn(&mut self, file: &str, reason: Reason) {
        let file = file.into();
        self.loaded.warnings.push(Warning { file, reason });
    }

    /// Takes one document through the rules; an error is the reason why it was left out.
    fn document(&mut self, place: Place<'_>, document: &str) -> Result<(), Reason> {
        let Some(envelope) = yaml::decode::<Envelope>(document).map_err(Reason::Unreadable)? else {
            return Ok(());
        };
        let kind = match envelope.kind() {
            Ok(kind) => kind,
            // Manifests of other programs may lie in the folder.
            Err(KindError::Foreign) => return Ok(()),
            Err(KindError::ApiVersion {
                kind: Kind::AccessControl,
                want,
            }) => {
                let found = envelope.api_version.into();
                let flaw = PolicyFlaw::ApiVersion { found, want };
                self.policy_failure(place.file, &envelope.metadata.name, flaw);
                return Ok(());
            }
            Err(KindError::ApiVersion { kind, want }) => {
                return Err(Reason::ApiVersion {
                    kind,
                    name: envelope.metadata.name.into(),
                    found: envelope.api_version.into(),
                    want,
                });
            }
        };
        if let Some(flaw) = name_flaw(&envelope.metadata.name) {
            if kind == Kind::AccessControl {
                self.policy_failure(place.file, &envelope.metadata.name, PolicyFlaw::Name(flaw));
                return Ok(());
            }
            let name = envelope.metadata.name.into();
            return Err(Reason::Name { kind, name, flaw });
        }
        if self.is_elsewhere(&envelope.metadata.namespace) {
            return Ok(());
        }
        if kind == Kind::AccessControl {
            self.access_control(place, &envelope, document);
            return Ok(());
        }
        self.resource(place, kind, envelope, document)
    }

    fn is_elsewhere(&self, namespace: &str) -> bool {
        let own = self.loader.namespace;
        !own.is_empty() && !namespace.is_empty() && namespace != own
    }

    fn resource(
        &mut self,
        place: Place<'_>,
        kind: Kind,
        envelope: Envelope,
        document: &str,
    ) -> Result<(), Reason> {
        match kind {
            Kind::Component => self.component(envelope.component(document)?),
            Kind::HttpEndpoint => self.http_endpoint(envelope.http_endpoint(document)?),
            Kind::Resiliency => {
                self.resiliency(place, &envelope, document);
                Ok(())
            }
            Kind::Configuration => {
                let resource = self.untyped(kind, envelope, document)?;
                self.loaded.configurations.extend(resource);
                Ok(())
            }
            Kind::AccessControl
            | Kind::Subscription
            | Kind::McpServer
            | Kind::WorkflowAccessPolicy => {
                let name = envelope.metadata.name;
                if !self.accepts(kind, &name, &name, &envelope.scopes) {
                    return Ok(());
                }
                Err(Reason::OtherBlock {
                    kind,
                    name: name.into(),
                })
            }
        }
    }

    /// A bad one is no reason to stop, and none to take the good half of it.
    fn resiliency(&mut self, place: Place<'_>, envelope: &Envelope, document: &str) {
        let name = &envelope.metadata.name;
        if !self.accepts(Kind::Resiliency, name, name, &envelope.scopes) {
            return;
        }
        match resiliency::decode(document) {
            Ok(resource) => self.loaded.resiliencies.push(resource),
            Err(error) => self.loaded.resiliency_failures.push(ResiliencyFailure {
                file: place.file.into(),
                name: name.as_str().into(),
                error,
            }),
        }
    }

    fn untyped(
        &mut self,
        kind: Kind,
        envelope: Envelope,
        document: &str,
    ) -> Result<Option<Untyped>, Reason> {
        let resource = envelope.untyped(document)?;
        let accepted = self.accepts(kind, &resource.name, &resource.name, &resource.scopes);
        Ok(accepted.then_some(resource))
    }

    fn component(&mut self, component: Component) -> Result<(), Reason> {
        let log_name = component.log_name().to_string();
        if !self.accepts(
            Kind::Component,
            &component.name,
            &log_name,
            &component.scopes,
        ) {
            return Ok(());
        }
        if self.is_denied(&component) {
            return Err(Reason::Denied(log_name.into()));
        }
        match component.category() {
            Category::HttpMiddleware => self.loaded.components.push(component),
            Category::Other => {
                let (kind, name) = (Kind::Component, log_name.into());
                return Err(Reason::OtherBlock { kind, name });
            }
            Category::Unknown => return self.incorrect_type(component),
        }
        Ok(())
    }

    fn incorrect_type(&mut self, component: Component) -> Result<(), Reason> {
        let error = LoadError::IncorrectType {
            name: component.name.into(),
            found: component.spec.kind.into(),
        };
        if component.spec.ignore_errors {
            return Err(Reason::Tolerated(Box::new(error)));
        }
        self.loaded.errors.push(error);
        Ok(())
    }

    fn is_denied(&self, component: &Component) -> bool {
        let kind = &component.spec.kind;
        self.loader
            .deny
            .iter()
            .any(|entry| match entry.split_once('/') {
                Some((denied, version)) => {
                    denied.eq_ignore_ascii_case(kind)
                        && version.eq_ignore_ascii_case(component.version())
                }
                None => entry.eq_ignore_ascii_case(kind),
            })
    }

    fn http_endpoint(&mut self, endpoint: HttpEndpoint) -> Result<(), Reason> {
        let problems = endpoint.problems();
        if !problems.is_empty() {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Reason::Endpoint {
                name: endpoint.name.into(),
                problems: problems.join(", ").into(),
            });
        }
        if self.accepts(
            Kind::HttpEndpoint,
            &endpoint.name,
            &endpoint.name,
            &endpoint.scopes,
        ) {
            self.loaded.http_endpoints.push(endpoint);
        }
        Ok(())
    }

    /// The last two rules: no second one of a name, and a scope that holds the app.
    fn accepts(&mut self, kind: Kind, name: &str, log_name: &str, scopes: &[String]) -> bool {
        let same = |known: &&(Kind, String, String)| known.0 == kind && known.1 == name;
        if let Some((_, _, existing)) = self.accepted.iter().find(same) {
            self.loaded.errors.push(LoadError::Duplicate {
                kind,
                name: log_name.into(),
                existing: existing.as_str().into(),
            });
            return false;
        }
        if !scopes.is_empty() && !scopes.iter().any(|app| app == self.loader.app_id) {
            return false;
        }
        self.accepted
            .push((kind, name.to_owned(), log_name.to_owned()));
        true
    }
}

/// A name becomes a part of paths.
fn name_flaw(name: &str) -> Option<&'static str> {
    match name {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        _ if name.contains('/') => Some("may not contain '/'"),
        _ if name.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

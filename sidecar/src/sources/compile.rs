//! From manifests to [`Live`]: which handlers, endpoints, lists and settings are in force.
//!
//! Pure: manifests, configuration and environment in, one value and its warnings out, or the reason why the
//! whole is unusable. Owns the rules of process-interface 8 for components and of service-invocation 5.5 for
//! pipelines. Refuses to read files: `disk.rs` does.

use std::{collections::HashMap, sync::Arc};

use ironside_identity::TrustDomain;
use ironside_resources::{
    Component, Configuration, EnvAccess, HttpEndpoint, NameValue, configuration as spec,
    http_endpoint::TlsDocument, loader::Loaded,
};
use ironside_telemetry::metrics::ComponentFailure;

use super::{
    access::{self, AccessError},
    cluster::Withheld,
    resiliency,
    stream::Streamed,
    traces::{self, TraceError},
};
use crate::{
    api::{
        access::{ApiAccess, Rule},
        metadata::ComponentView,
    },
    config::Config,
    live::{Live, PolicySnapshot},
    middleware::{Handler, HandlerError, Pipeline, Settings, Tools},
    outbound::external::{Endpoint, EndpointError, EndpointTls},
    server::{access_log::AccessLog, cors::Cors},
};

/// What live state is compiled from.
pub(crate) struct Inputs<'a> {
    /// The merged `--config` files.
    pub(crate) configuration: &'a Configuration,
    /// What the resource directories hold.
    pub(crate) loaded: &'a Loaded,
    /// What the start said.
    pub(crate) config: &'a Config,
    /// Of the own app.
    pub(crate) domain: &'a TrustDomain,
    /// For `envRef`, and the variables of OpenTelemetry.
    pub(crate) env: &'a EnvAccess<'a>,
    /// Components that are refused or not told yet: a handler that names one answers 503 in its place.
    pub(crate) withheld: &'a Withheld,
    /// What the operator says.
    pub(crate) streamed: &'a Streamed,
    /// The policies in force, whose state goes on.
    pub(crate) policies: Option<&'a ironside_resiliency::Table>,
    /// What handlers are built with.
    pub(crate) tools: &'a Tools<'a>,
}

/// Live state and what a person should know about it.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The state.
    pub(crate) live: Live,
    /// Log names of the components that are in service.
    pub(crate) components: Vec<String>,
    /// Names of those that are not, and why.
    pub(crate) failed: Vec<(Box<str>, ComponentFailure)>,
    /// What was left out, one line each.
    pub(crate) warnings: Vec<String>,
    /// What cannot be used and does not stop the rest, one line each.
    pub(crate) errors: Vec<String>,
}

/// Why the whole is unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// The folders contradict themselves.
    #[error("failed to load components: {0}")]
    Load(String),
    /// A component cannot be used as written.
    #[error(
        "process component {name} error: [INIT_COMPONENT_FAILURE]: initialization error occurred for {log_name}: {cause}; correct the component, or set spec.ignoreErrors: true to run without it"
    )]
    Component {
        /// Its name.
        name: Box<str>,
        /// Its name as log lines call it.
        log_name: Box<str>,
        /// What is wrong.
        #[source]
        cause: HandlerError,
    },
    /// A pipeline needs a type that is not offered.
    #[error(
        "{pipeline} names component {log_name}: {cause}; take the handler out of the pipeline, or set spec.ignoreErrors: true on the component to run without it"
    )]
    NotOffered {
        /// `httpPipeline` or `appHttpPipeline`.
        pipeline: &'static str,
        /// The component.
        log_name: Box<str>,
        /// What is wrong.
        #[source]
        cause: HandlerError,
    },
    /// The Configuration cannot be used as written.
    #[error("error loading configuration: {0}")]
    Configuration(#[from] spec::ConfigProblem),
    /// Exporters of traces.
    #[error("failed to setup tracing: {0}")]
    Traces(#[from] TraceError),
    /// Rules of access control.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Compiles the whole.
///
/// # Errors
/// [`CompileError`] for the first thing that must not be left out.
pub(crate) fn compile(inputs: &Inputs<'_>) -> Result<Compiled, CompileError> {
    let Inputs {
        configuration,
        loaded,
        config,
        domain,
        env,
        tools: _,
        withheld,
        streamed,
        policies,
    } = inputs;
    if let Some(problem) = configuration.problems().into_iter().next() {
        return Err(problem.into());
    }
    if let Some(errors) = loaded.component_errors() {
        return Err(CompileError::Load(errors));
    }
    let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    warnings.extend(loaded.other_errors());
    let traces = traces::compile(configuration, config.app_id.as_str(), env, &mut warnings)?;
    let (policy, notes) = access::compile(configuration, loaded, config, domain, streamed)?;
    warnings.extend(notes);
    let handlers = handlers(inputs, &mut warnings)?;
    let mut pipeline = |which, wanted| pipeline(which, wanted, &handlers, withheld, &mut warnings);
    let http_pipeline = pipeline("httpPipeline", configuration.http_pipeline())?;
    let app_pipeline = pipeline("appHttpPipeline", configuration.app_http_pipeline())?;
    let resiliency = resiliency::compile(loaded, config, *policies);
    warnings.extend(resiliency.warnings);
    let live = Live {
        api: api_access(configuration),
        cors: Cors::parse(&config.allowed_origins),
        http_pipeline,
        app_pipeline,
        endpoints: endpoints(&loaded.http_endpoints, env, &mut warnings),
        policy: Arc::new(policy),
        // Whoever publishes it says which one it is.
        snapshot: PolicySnapshot::default(),
        trace: traces.sampling,
        export: traces.export,
        access_log: access_log(configuration, config),
        components: handlers.iter().filter_map(Candidate::view).collect(),
        resiliency: resiliency.table,
        inbound: configuration.inbound(),
        resiliencies: resiliency.names,
        features: configuration
            .enabled_features()
            .into_iter()
            .map(Into::into)
            .collect(),
        // Whoever knows where the manifests come from says so.
        generations: Vec::new(),
    };
    let components = handlers
        .iter()
        .filter(|c| c.built.is_ok())
        .map(|c| c.component.log_name().to_string())
        .collect();
    let failed = handlers.iter().filter_map(Candidate::failure).collect();
    Ok(Compiled {
        live,
        components,
        failed,
        warnings,
        errors: resiliency.errors,
    })
}

fn api_access(configuration: &Configuration) -> ApiAccess {
    let rule = |rule: &spec::ApiRule| Rule {
        name: rule.name.as_str().into(),
        version: rule.version.as_str().into(),
        protocol: rule.protocol.as_str().into(),
    };
    let rules = |list: Option<&Vec<spec::ApiRule>>| -> Vec<Rule> {
        list.into_iter().flatten().map(rule).collect()
    };
    let api = configuration.spec.api.as_ref();
    ApiAccess::compile(
        &rules(api.and_then(|api| api.allowed.as_ref())),
        &rules(api.and_then(|api| api.denied.as_ref())),
    )
}

fn access_log(configuration: &Configuration, config: &Config) -> AccessLog {
    let spec::ApiLogging {
        enabled,
        obfuscate_urls,
        omit_health_checks,
    } = configuration.api_logging();
    AccessLog {
        enabled: config.api_logging.or(enabled).unwrap_or(false),
        obfuscate_urls: obfuscate_urls.unwrap_or(false),
        omit_health_checks: omit_health_checks.unwrap_or(false),
    }
}

/// A component that a pipeline may name, and what became of it.
struct Candidate<'a> {
    component: &'a Component,
    built: Result<Arc<Handler>, HandlerError>,
}

impl Candidate<'_> {
    fn failure(&self) -> Option<(Box<str>, ComponentFailure)> {
        let why = match self.built.as_ref().err()? {
            HandlerError::NotOffered(_) => ComponentFailure::Creation,
            HandlerError::Missing(_) | HandlerError::Invalid { .. } => ComponentFailure::Init,
        };
        Some((self.component.name.as_str().into(), why))
    }

    fn view(&self) -> Option<ComponentView> {
        self.built.as_ref().ok()?;
        Some(ComponentView {
            name: self.component.name.as_str().into(),
            kind: self.component.spec.kind.as_str().into(),
            version: self.component.version().into(),
        })
    }

    fn answers_to(&self, handler: &spec::Handler) -> bool {
        self.component.name == handler.name
            && self.component.spec.kind.eq_ignore_ascii_case(&handler.kind)
            && self.component.version() == handler.version()
    }
}

/// Builds every component. One that is not offered is an error only where a pipeline names it.
fn handlers<'a>(
    inputs: &Inputs<'a>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Candidate<'a>>, CompileError> {
    let mut all = Vec::new();
    for component in &inputs.loaded.components {
        let log_name = component.log_name().to_string();
        let settings = settings(component, inputs.env, warnings);
        let built = Handler::build(&component.spec.kind, &settings, inputs.tools);
        match (&built, component.spec.ignore_errors) {
            (Ok(_), _) => {}
            (Err(cause), true) => {
                warnings.push(format!(
                    "Failed to init component {log_name}: {cause}: ignored because of ignoreErrors"
                ));
            }
            (Err(cause @ HandlerError::NotOffered(_)), false) => {
                warnings.push(format!("component {log_name}: {cause}"));
            }
            (Err(_), false) => {}
        }
        match built {
            Err(cause @ (HandlerError::Missing(_) | HandlerError::Invalid { .. }))
                if !component.spec.ignore_errors =>
            {
                let (name, log_name) = (component.name.as_str().into(), log_name.into());
                return Err(CompileError::Component {
                    name,
                    log_name,
                    cause,
                });
            }
            built => all.push(Candidate {
                component,
                built: built.map(Arc::new),
            }),
        }
    }
    Ok(all)
}

fn settings(component: &Component, env: &EnvAccess<'_>, warnings: &mut Vec<String>) -> Settings {
    let mut value =
        |item: &NameValue| resolved(item, env, &component.log_name().to_string(), warnings);
    component
        .spec
        .metadata
        .iter()
        .map(|item| (item.name.clone(), value(item)))
        .collect()
}

/// A value from wherever it lies; one that cannot be had is empty and a warning (process-interface 6.5).
fn resolved(
    item: &NameValue,
    env: &EnvAccess<'_>,
    owner: &str,
    warnings: &mut Vec<String>,
) -> String {
    item.resolve(env).unwrap_or_else(|cause| {
        warnings.push(format!("{owner}: {}: {cause}", item.name));
        String::new()
    })
}

fn pipeline(
    which: &'static str,
    wanted: &[spec::Handler],
    candidates: &[Candidate<'_>],
    withheld: &Withheld,
    warnings: &mut Vec<String>,
) -> Result<Pipeline, CompileError> {
    let mut handlers = Vec::new();
    for handler in wanted {
        // A handler whose component is not there is picked up when it appears. Where it may be one that admits
        // callers, nothing passes in its place.
        let Some(candidate) = candidates.iter().find(|c| c.answers_to(handler)) else {
            if withheld.may_hold(&handler.name) {
                warnings.push(format!(
                    "{which} names component {}, which is not there yet or cannot be used: what passes the pipeline is answered with status 503 until it can be",
                    handler.name
                ));
                handlers.push(Arc::new(Handler::Withheld));
            }
            continue;
        };
        match &candidate.built {
            Ok(built) => handlers.push(Arc::clone(built)),
            Err(_) if candidate.component.spec.ignore_errors => {}
            Err(HandlerError::NotOffered(kind)) => {
                return Err(CompileError::NotOffered {
                    pipeline: which,
                    log_name: candidate.component.log_name().to_string().into(),
                    cause: HandlerError::NotOffered(kind.clone()),
                });
            }
            // Refused when it was built.
            Err(HandlerError::Missing(_) | HandlerError::Invalid { .. }) => {}
        }
    }
    Ok(Pipeline::new(handlers))
}

/// Endpoints that can be called; the others are warnings, as in the reference.
fn endpoints(
    list: &[HttpEndpoint],
    env: &EnvAccess<'_>,
    warnings: &mut Vec<String>,
) -> HashMap<Box<str>, Arc<Endpoint>> {
    let mut endpoints = HashMap::new();
    for manifest in list {
        match endpoint(manifest, env, warnings) {
            Ok(endpoint) => {
                endpoints.insert(manifest.name.as_str().into(), Arc::new(endpoint));
            }
            Err(cause) => warnings.push(format!(
                "HTTPEndpoint {} is skipped: {cause}",
                manifest.name
            )),
        }
    }
    endpoints
}

fn endpoint(
    manifest: &HttpEndpoint,
    env: &EnvAccess<'_>,
    warnings: &mut Vec<String>,
) -> Result<Endpoint, EndpointError> {
    let owner = format!("HTTPEndpoint {}", manifest.name);
    let mut header = |item: &NameValue| {
        let value = resolved(item, env, &owner, warnings);
        (Box::from(item.name.as_str()), Box::from(value))
    };
    let headers: Vec<(Box<str>, Box<str>)> =
        manifest.spec.headers.iter().map(&mut header).collect();
    let tls = manifest.spec.client_tls.as_ref();
    let text = |document: Option<&TlsDocument>| {
        document
            .map(TlsDocument::text)
            .filter(|text| !text.is_empty())
    };
    let root_ca = text(tls.and_then(|tls| tls.root_ca.as_ref()));
    let certificate = text(tls.and_then(|tls| tls.certificate.as_ref()));
    let private_key = text(tls.and_then(|tls| tls.private_key.as_ref()));
    let tls = EndpointTls {
        root_ca: root_ca.as_deref(),
        certificate: certificate.as_deref(),
        private_key: private_key.as_deref(),
    };
    Endpoint::new(&manifest.spec.base_url, &headers, &tls)
}

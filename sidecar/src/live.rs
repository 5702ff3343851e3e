//! What may change while the process runs, as one value.
//!
//! `sources/` compile a whole new [`Live`] from Configuration and resource files and publish it over a
//! `watch` channel; a request takes the `Arc` once and sees all of an update or none of it. Listeners,
//! connections and calls stay.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use ironside_resources::{Configuration, configuration::InboundLimits};
use ironside_telemetry::Sampling;

use crate::{
    api::access::ApiAccess, api::metadata::ComponentView, middleware::Pipeline,
    outbound::external::Endpoint, server::access_log::AccessLog, server::cors::Cors,
    traces::Export,
};

/// The state that requests read.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// Which API groups answer.
    pub(crate) api: ApiAccess,
    /// CORS rules of the HTTP API.
    pub(crate) cors: Cors,
    /// Handlers around the HTTP API.
    pub(crate) http_pipeline: Pipeline,
    /// Handlers around HTTP calls to the app and to external targets.
    pub(crate) app_pipeline: Pipeline,
    /// HTTPEndpoint resources by name.
    pub(crate) endpoints: HashMap<Box<str>, Arc<Endpoint>>,
    /// Who may call what here.
    pub(crate) policy: Arc<ironside_policy::PolicySet>,
    /// Which state of it this is.
    pub(crate) snapshot: PolicySnapshot,
    /// What holds for outgoing calls.
    pub(crate) resiliency: Arc<ironside_resiliency::Table>,
    /// How much the app takes in.
    pub(crate) inbound: InboundLimits,
    /// What happens to trace headers.
    pub(crate) trace: Sampling,
    /// Where spans are sent; `None` for nowhere.
    pub(crate) export: Option<Arc<Export>>,
    /// What the API log holds.
    pub(crate) access_log: AccessLog,
    /// Loaded components, for the metadata API.
    pub(crate) components: Vec<ComponentView>,
    /// Names of loaded Resiliency resources, for the metadata API.
    pub(crate) resiliencies: Vec<Box<str>>,
    /// Features that are on, for the metadata API.
    pub(crate) features: Vec<Box<str>>,
    /// Which generation of each object of a cluster this is, for the metadata API.
    pub(crate) generations: Vec<Generation>,
}

/// An object of a cluster that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Its kind, as manifests say.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: Box<str>,
    /// `metadata.generation`.
    pub(crate) generation: i64,
}

/// Which state of the rules is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicySnapshot {
    /// Its number: for files the states that were published, from 1; for a stream its snapshot.
    pub(crate) number: u64,
    /// Since when.
    pub(crate) since: SystemTime,
}

impl Default for PolicySnapshot {
    fn default() -> Self {
        Self {
            number: 0,
            since: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Default for Live {
    fn default() -> Self {
        Self {
            api: ApiAccess::default(),
            cors: Cors::default(),
            http_pipeline: Pipeline::default(),
            app_pipeline: Pipeline::default(),
            endpoints: HashMap::new(),
            policy: Arc::default(),
            snapshot: PolicySnapshot::default(),
            resiliency: Arc::default(),
            inbound: Configuration::default().inbound(),
            trace: Sampling::PassThrough,
            export: None,
            access_log: AccessLog::default(),
            components: Vec::new(),
            resiliencies: Vec::new(),
            features: Vec::new(),
            generations: Vec::new(),
        }
    }
}

//! The kind Configuration: how a process behaves.
//!
//! Owns the schema ([`Spec`] and its parts), the reading of `--config` files
//! ([`load`]) and the values in force where a key is absent. Every key is
//! optional here, because files are laid over one another; the methods of
//! [`Configuration`] give the defaults. What an access rule or a sampling rate
//! means is decided elsewhere. Source: process-interface 6.1.

use thiserror::Error;

mod check;
mod inbound;
mod load;
mod merge;
mod metric;
mod spec;

pub use inbound::{DEFAULT_QUEUE_SIZE, Inbound, InboundLimits, InboundQueue, InboundRate};
pub use load::{ConfigError, ConfigFile, from_json, load};
pub use metric::{Metric, MetricHttp, MetricLabel, MetricRule};
pub use spec::{
    AccessControl, Api, ApiLogging, ApiRule, AppPolicy, Components, Feature, Handler, Logging,
    Mtls, NameResolution, Operation, Otel, OtelHeader, Pipeline, SecretScope, Secrets, Selector,
    SelectorField, Spec, TokenValidator, Tracing, Zipkin,
};

/// A configuration as it is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// `spec` of all files, merged.
    pub spec: Spec,
}

/// A configuration that can be read, but not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigProblem {
    /// The exporter speaks two protocols only.
    #[error("invalid protocol {0} provided for Otel endpoint")]
    OtelProtocol(Box<str>),
    /// A secret store is scoped twice.
    #[error("{0} storeName is repeated in secrets configuration")]
    SecretStoreTwice(Box<str>),
    /// An access word that is neither of the two.
    #[error("defaultAccess {0} can be either allow or deny")]
    SecretAccess(Box<str>),
    /// A bound on what the app takes in that cannot be.
    #[error("spec.inbound.{key}: {flaw}")]
    Inbound {
        /// The key below `spec.inbound`.
        key: &'static str,
        /// What is wrong, and what would do.
        flaw: Box<str>,
    },
}

/// Features that are on unless a file names them: process-interface 6.1.
pub const DEFAULT_FEATURES: [&str; 2] = [HOT_RELOAD, "WorkflowsRemoteActivityReminder"];
/// The feature of live reload.
pub const HOT_RELOAD: &str = "HotReload";
/// `accessControl.defaultAction` where the key is absent.
pub const DEFAULT_ACTION: &str = "allow";
/// `accessControl.trustDomain` where the key is absent.
pub const DEFAULT_TRUST_DOMAIN: &str = "public";

// === impl Configuration ===

impl Configuration {
    /// Returns the handlers around the HTTP API, outermost first.
    #[must_use]
    pub fn http_pipeline(&self) -> &[Handler] {
        handlers(self.spec.http_pipeline.as_ref())
    }

    /// Returns the handlers around HTTP calls to the app, outermost first.
    #[must_use]
    pub fn app_http_pipeline(&self) -> &[Handler] {
        handlers(self.spec.app_http_pipeline.as_ref())
    }

    /// Returns the metric section in force: `metrics` over `metric`, enabled by default.
    #[must_use]
    pub fn metric(&self) -> Metric {
        let older = self.spec.metric.clone().unwrap_or_default();
        let newer = self.spec.metrics.clone().unwrap_or_default();
        let mut metric = Metric {
            enabled: newer.enabled.or(older.enabled).or(Some(true)),
            record_error_codes: newer.record_error_codes.or(older.record_error_codes),
            http: newer.http.or(older.http),
            latency_distribution_buckets: newer
                .latency_distribution_buckets
                .or(older.latency_distribution_buckets),
            rules: newer.rules.or(older.rules),
        };
        // An empty list of buckets means the default ones.
        if metric
            .latency_distribution_buckets
            .as_ref()
            .is_some_and(Vec::is_empty)
        {
            metric.latency_distribution_buckets = None;
        }
        metric
    }

    /// Returns the access-control section with its defaults filled in.
    #[must_use]
    pub fn access_control(&self) -> AccessControl {
        let mut section = self.spec.access_control.clone().unwrap_or_default();
        section
            .default_action
            .get_or_insert_with(|| DEFAULT_ACTION.to_owned());
        section
            .trust_domain
            .get_or_insert_with(|| DEFAULT_TRUST_DOMAIN.to_owned());
        section
    }

    /// Returns the names of the features that are on: those of the files, then the defaults
    /// that no file names.
    #[must_use]
    pub fn enabled_features(&self) -> Vec<&str> {
        let listed = self.spec.features.as_deref().unwrap_or_default();
        let unnamed = |name: &&str| !listed.iter().any(|feature| feature.name == **name);
        let on = listed.iter().filter(|feature| feature.enabled);
        on.map(|feature| feature.name.as_str())
            .chain(DEFAULT_FEATURES.into_iter().filter(unnamed))
            .collect()
    }

    /// Returns whether the feature `name` is on.
    #[must_use]
    pub fn is_feature_enabled(&self, name: &str) -> bool {
        self.enabled_features().contains(&name)
    }

    /// Returns the component types not to load.
    #[must_use]
    pub fn denied_components(&self) -> &[String] {
        let components = self.spec.components.as_ref();
        components
            .map(|components| components.deny.as_deref().unwrap_or_default())
            .unwrap_or_default()
    }

    /// Returns the section on API logging; all off where absent.
    #[must_use]
    pub fn api_logging(&self) -> ApiLogging {
        let logging = self.spec.logging.clone().unwrap_or_default();
        logging.api_logging.unwrap_or_default()
    }

    /// Returns the bounds on what the app takes in; what cannot be used counts as absent.
    #[must_use]
    pub fn inbound(&self) -> InboundLimits {
        let section = self.spec.inbound.clone().unwrap_or_default();
        inbound::read(&section, &mut Vec::new())
    }

    /// Returns everything that makes the configuration unusable.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        check::problems(&self.spec)
    }
}

fn handlers(pipeline: Option<&Pipeline>) -> &[Handler] {
    pipeline
        .and_then(|pipeline| pipeline.handlers.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! The series of this process, and the port that serves them.
//!
//! Owns what the metric section of the Configuration means for a start; it is not reloaded, because series
//! that change their labels break the queries of whoever watches them.

use std::{sync::Arc, time::Duration};

use ironside_chassis::{Tasks, health::Health, metrics_server};
use ironside_resources::configuration::Metric;
use ironside_telemetry::metrics::{Metrics, PathPatterns, PatternError, Rules, Settings};
use tracing::{error, info};

use super::{LOG, ports::take_one, start::StartError};
use crate::{config::Config, sources::disk::Snapshot};

/// The series of this process, and the port that serves them.
pub(super) async fn metrics(
    config: &Config,
    snapshot: &Snapshot,
    health: &Health,
    tasks: &Tasks,
) -> Result<Arc<Metrics>, StartError> {
    let metrics = Arc::new(series(config, &snapshot.configuration.metric())?);
    let exporter = health.register("metrics-exporter");
    exporter.ready();
    // Nobody restarts this port in place, so one that is taken is not waited for.
    let Some((address, port)) = &config.listen.metrics else {
        return Ok(metrics);
    };
    let (listener, local) = take_one("metrics", address, *port, Duration::ZERO).await?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    info!(target: LOG, "metrics server started on {local}/");
    let (exposed, owner) = (Arc::clone(&metrics), tasks.clone());
    tasks.spawn("metrics", async move {
        metrics_server::serve(listener, move || exposed.exposition(), &owner).await;
        drop(exporter);
    });
    Ok(metrics)
}

/// The families, as the metric section of the Configuration says.
fn series(config: &Config, metric: &Metric) -> Result<Metrics, StartError> {
    if metric.enabled == Some(false) {
        return Ok(Metrics::disabled());
    }
    let http = metric.http.clone().unwrap_or_default();
    let patterns = PathPatterns::compile(http.path_matching.as_deref().unwrap_or_default());
    let joined = |problems: Vec<PatternError>| {
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let settings = Settings {
        increased_cardinality: http.increased_cardinality.unwrap_or(true),
        exclude_verbs: http.exclude_verbs.unwrap_or(false),
        record_error_codes: metric.record_error_codes.unwrap_or(false),
        latency_buckets_ms: metric
            .latency_distribution_buckets
            .clone()
            .unwrap_or_default(),
        path_matching: patterns.map_err(|problems| StartError::PathMatching(joined(problems)))?,
        rules: rules(metric),
    };
    Ok(Metrics::new(config.app_id.as_str(), settings))
}

/// The rules that change labels. One whose expression is none is left out and said: the reference measures nothing
/// then.
fn rules(metric: &Metric) -> Rules {
    let mut rules = Rules::default();
    for rule in metric.rules.iter().flatten() {
        for label in &rule.labels {
            for (replacement, expression) in &label.regex {
                let added = rules.add(&rule.name, &label.name, expression, replacement);
                if let Err(problem) = added {
                    error!(target: LOG, err = %problem, "a metric rule is left out");
                }
            }
        }
    }
    rules
}

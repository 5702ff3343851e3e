//! What a sidecar in a cluster says of the objects that the operator sent.
//!
//! A series is an object in force or a kind, so there are as many as the namespace has objects for this app.
//! Source: kubernetes 3.10.

use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::family::{Families, Latest};

type Gauges = Family<Vec<(&'static str, String)>, Gauge>;

#[derive(Debug)]
pub(super) struct ClusterFamilies {
    connected: Latest,
    generations: Gauges,
    refused: Gauges,
}

// === impl ClusterFamilies ===

impl ClusterFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        Self {
            connected: families.latest(
                MetricType::Gauge,
                "runtime_operator_connected",
                "Whether there is a connection to the operator",
            ),
            generations: families.gauges(
                "runtime_resource_generation",
                "The generation of an object of the cluster that is in force",
            ),
            refused: families.gauges(
                "runtime_resources_refused",
                "The number of objects of the cluster whose newest version cannot be used",
            ),
        }
    }

    pub(super) fn connected(&self, is_connected: bool) {
        self.connected.set(u64::from(is_connected));
    }

    pub(super) fn generations<'a>(&self, all: impl Iterator<Item = (&'static str, &'a str, i64)>) {
        // Those that are gone go from the exposition, too.
        self.generations.clear();
        for (kind, name, generation) in all {
            let labels = vec![("kind", kind.to_owned()), ("name", name.to_owned())];
            self.generations
                .get_or_create_owned(&labels)
                .set(generation);
        }
    }

    pub(super) fn refused(&self, kind: &'static str, count: usize) {
        let labels = vec![("kind", kind.to_owned())];
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.refused.get_or_create_owned(&labels).set(count);
    }
}

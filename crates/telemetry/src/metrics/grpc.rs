//! The families of gRPC servers and clients.
//!
//! Byte counts exist for unary RPCs only. Source: resiliency-observability 3.3.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::bounded::{Bounded, Overflow};
use super::family::{Count, Counts, Families, Histograms, Measure};
use super::whole_millis;
use super::words::grpc_code_name;

/// Series of a family; methods of proxied calls are any text.
const MAX_SERIES: usize = 2000;
/// The label of all further ones.
const OTHER: &str = "_other";

/// An RPC that ended.
#[derive(Clone, Copy, Debug)]
pub struct Rpc<'a> {
    /// Full method, with the leading slash.
    pub method: &'a str,
    /// Status code.
    pub code: i32,
    /// From the first byte of the request to the end.
    pub latency: Duration,
    /// Bytes of the message received; absent for streams.
    pub received_bytes: Option<u64>,
    /// Bytes of the message sent; absent for streams.
    pub sent_bytes: Option<u64>,
}

#[derive(Debug)]
pub(super) struct GrpcFamilies {
    server: Side,
    client: Side,
    probes: Counts,
    probe_latency: Histograms,
}

/// The four families of one side.
#[derive(Debug)]
struct Side {
    completed: Counts,
    latency: Histograms,
    received: Histograms,
    sent: Histograms,
    ended: Bounded<&'static str, (Count, Histogram)>,
    received_series: Bounded<(), Histogram>,
    sent_series: Bounded<(), Histogram>,
}

// === impl GrpcFamilies ===

impl GrpcFamilies {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        let probe = &["grpc_client_status"];
        Self {
            server: Side::server(families),
            client: Side::client(families),
            probes: families.counts(
                "grpc_io_healthprobes_completed_count",
                "Count of completed health probes",
                probe,
            ),
            probe_latency: families.histograms(
                Measure::Latency,
                "grpc_io_healthprobes_roundtrip_latency",
                "Time between first byte of health probes sent to last byte of response received, or terminal error",
                probe,
            ),
        }
    }

    pub(super) fn served(&self, rpc: &Rpc<'_>) {
        self.server.ended(rpc);
    }

    pub(super) fn called(&self, rpc: &Rpc<'_>) {
        self.client.ended(rpc);
    }

    pub(super) fn probed(&self, code: i32, latency: Duration) {
        let status = [grpc_code_name(code)];
        self.probes.series(&status).inc();
        self.probe_latency
            .series(&status)
            .observe(whole_millis(latency));
    }
}

// === impl Side ===

impl Side {
    fn server(families: &mut Families<'_>) -> Self {
        let by_method = &["grpc_server_method"];
        let by_both = &["grpc_server_method", "grpc_server_status"];
        let governors = (
            families.governor("grpc_io_server_completed_rpcs"),
            families.governor("grpc_io_server_received_bytes_per_rpc"),
            families.governor("grpc_io_server_sent_bytes_per_rpc"),
        );
        Self::new(
            families.counts(
                "grpc_io_server_completed_rpcs",
                "Count of RPCs by method and status",
                by_both,
            ),
            families.histograms(
                Measure::Latency,
                "grpc_io_server_server_latency",
                "Time between first byte of request received to last byte of response sent, or terminal error",
                by_both,
            ),
            families.histograms(
                Measure::Size,
                "grpc_io_server_received_bytes_per_rpc",
                "Total bytes received across all messages per RPC",
                by_method,
            ),
            families.histograms(
                Measure::Size,
                "grpc_io_server_sent_bytes_per_rpc",
                "Total bytes sent in across all response messages per RPC",
                by_method,
            ),
            governors,
        )
    }

    fn client(families: &mut Families<'_>) -> Self {
        let by_method = &["grpc_client_method"];
        let by_both = &["grpc_client_method", "grpc_client_status"];
        let governors = (
            families.governor("grpc_io_client_completed_rpcs"),
            families.governor("grpc_io_client_received_bytes_per_rpc"),
            families.governor("grpc_io_client_sent_bytes_per_rpc"),
        );
        Self::new(
            families.counts(
                "grpc_io_client_completed_rpcs",
                "Count of RPCs by method and status",
                by_both,
            ),
            families.histograms(
                Measure::Latency,
                "grpc_io_client_roundtrip_latency",
                "Time between first byte of request sent to last byte of response received, or terminal error",
                by_both,
            ),
            families.histograms(
                Measure::Size,
                "grpc_io_client_received_bytes_per_rpc",
                "Total bytes received across all response messages per RPC",
                by_method,
            ),
            families.histograms(
                Measure::Size,
                "grpc_io_client_sent_bytes_per_rpc",
                "Total bytes sent across all request messages per RPC",
                by_method,
            ),
            governors,
        )
    }

    fn new(
        completed: Counts,
        latency: Histograms,
        received: Histograms,
        sent: Histograms,
        governors: (Overflow, Overflow, Overflow),
    ) -> Self {
        Self {
            completed,
            latency,
            received,
            sent,
            ended: Bounded::new(MAX_SERIES, (OTHER, OTHER), governors.0),
            received_series: Bounded::new(MAX_SERIES, (OTHER, ()), governors.1),
            sent_series: Bounded::new(MAX_SERIES, (OTHER, ()), governors.2),
        }
    }

    fn ended(&self, rpc: &Rpc<'_>) {
        let status = grpc_code_name(rpc.code);
        let make = |method: &str, status: &'static str| {
            let labels = [method, status];
            (self.completed.series(&labels), self.latency.series(&labels))
        };
        let measure = |(completed, latency): &(Count, Histogram)| {
            completed.inc();
            latency.observe(whole_millis(rpc.latency));
        };
        self.ended.with(rpc.method, status, make, measure);
        size(
            &self.received_series,
            &self.received,
            rpc.method,
            rpc.received_bytes,
        );
        size(&self.sent_series, &self.sent, rpc.method, rpc.sent_bytes);
    }
}

fn size(series: &Bounded<(), Histogram>, family: &Histograms, method: &str, bytes: Option<u64>) {
    let Some(bytes) = bytes else { return };
    #[expect(
        clippy::cast_precision_loss,
        reason = "a size histogram is not exact above 2^52"
    )]
    let bytes = bytes as f64;
    let make = |method: &str, ()| family.series(&[method]);
    series.with(method, (), make, |series| series.observe(bytes));
}

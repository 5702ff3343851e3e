//! Every query of every board and rule, asked of real programs.

use tokio::sync::OnceCell;

use crate::{
    control_plane, data_plane, families, files,
    series::{Page, Rare},
};

/// A root that is replaced takes two lives of a certificate, an authority that fails takes its end, a family that is
/// full takes thousands of calls, and a file that cannot be written takes a disk that is full.
pub(crate) const RARE: &[Rare] = &[
    Rare {
        name: "dapr_runtime_metrics_overflow_total",
        labels: &["app_id", "metric"],
        source: "crates/telemetry/src/metrics/family.rs",
        registered: "\"runtime_metrics_overflow_total\"",
    },
    Rare {
        name: "dapr_runtime_access_log_dropped_total",
        labels: &[],
        source: "crates/telemetry/src/metrics/access.rs",
        registered: "\"runtime_access_log_dropped_total\"",
    },
    Rare {
        name: "dapr_sentry_rotation_steps_total",
        labels: &["step"],
        source: "sentry/src/metrics.rs",
        registered: "\"rotation_steps\"",
    },
    Rare {
        name: "dapr_sentry_servercert_issue_failed_total",
        labels: &["reason"],
        source: "sentry/src/metrics.rs",
        registered: "\"servercert_issue_failed\"",
    },
];

/// What the boards that the reference publishes ask for, as far as it concerns calls (chapter 5 of the sheet).
const PUBLISHED: [&str; 23] = [
    "dapr_runtime_component_loaded{namespace=\"shop\"}",
    "process_start_time_seconds{service=~\"shop-dapr\"}",
    "process_virtual_memory_bytes{service=~\"shop-dapr\"}",
    "histogram_quantile(0.95, sum(rate(dapr_http_server_latency_bucket{app_id=\"shop\"}[5m])) by (le, app_id, method, path))",
    "sum(rate(dapr_http_server_response_count{app_id=\"shop\"}[5m])) by (app_id, method, path)",
    "sum(rate(dapr_grpc_io_server_server_latency_bucket{grpc_server_method=~\".*.Dapr/.*\"}[5m])) by (le, grpc_server_method)",
    "sum(rate(dapr_grpc_io_server_completed_rpcs{grpc_server_method=~\".*.Dapr/.*\"}[5m])) by (grpc_server_method)",
    "sum(rate(dapr_http_client_roundtrip_latency_bucket[5m])) by (le, app_id, method, path)",
    "sum(rate(dapr_http_client_completed_count[5m])) by (app_id, method, path)",
    "sum(rate(dapr_grpc_io_client_roundtrip_latency_bucket{grpc_client_method=~\".*.AppCallback/.*\"}[5m])) by (le, grpc_client_method)",
    "sum(rate(dapr_grpc_io_client_completed_rpcs{grpc_client_method=~\".*.AppCallback/.*\"}[5m])) by (grpc_client_method)",
    "sum(dapr_runtime_mtls_init_total{app_id=\"shop\"}) by (app_id)",
    "sum(dapr_runtime_mtls_workload_cert_rotated_total{app_id=\"shop\"}) by (app_id)",
    "sum(dapr_runtime_mtls_workload_cert_rotated_fail_total{app_id=\"cart\"}) by (app_id, reason)",
    "process_start_time_seconds{app=~\"dapr-sentry|dapr-sidecar-injector|dapr-operator\"}",
    "dapr_injector_sidecar_injection_requests_total",
    "dapr_injector_sidecar_injection_succeeded_total",
    "min(dapr_sentry_issuercert_expiry_timestamp) - time()",
    "dapr_sentry_cert_sign_request_received_total",
    "dapr_sentry_cert_sign_success_total",
    "sum(dapr_sentry_cert_sign_failure_total) by (reason)",
    "dapr_sentry_issuercert_changed_total",
    "dapr_sentry_servercert_issue_failed_total",
];

/// What real programs expose, scraped once for all tests.
async fn pages() -> &'static [Page] {
    static PAGES: OnceCell<Vec<Page>> = OnceCell::const_new();
    let scrape = || async {
        let (sidecars, control) = tokio::join!(data_plane::scrape(), control_plane::scrape());
        let mut pages = sidecars.unwrap();
        pages.extend(control.unwrap());
        pages
    };
    PAGES.get_or_init(scrape).await
}

/// D-01, D-02: panels draw, drop-downs are filled, alerts can fire.
#[tokio::test]
async fn every_query_has_an_answer() {
    let pages = pages().await;
    files::ask_all(pages, RARE);
    files::ask_these(&PUBLISHED, pages, RARE);
}

/// Chapter 3 of the sheet and 6.3: nothing is missing, nothing is unknown, and types, labels, units and buckets are
/// as they are written there.
#[tokio::test]
async fn every_family_is_as_the_sheet_has_it() {
    let wrong = families::judge(pages().await);
    assert!(
        wrong.is_empty(),
        "{} families:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

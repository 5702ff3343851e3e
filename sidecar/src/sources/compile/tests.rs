//! Parts of the compilation that need no files.

use super::*;

fn configuration(yaml: &str) -> Configuration {
    let file = spec::ConfigFile {
        path: "c.yaml",
        bytes: yaml.as_bytes(),
    };
    spec::load([file], |_| None).unwrap()
}

/// Fact: resiliency-observability 2.1.
#[test]
fn the_sampling_rate_is_read_with_its_exporters() {
    for (yaml, sampling) in [
        ("spec: {}", Sampling::PassThrough),
        ("spec: {tracing: {samplingRate: 0}}", Sampling::Off),
        (
            "spec: {tracing: {samplingRate: \"0.5\"}}",
            Sampling::ParentBased(0.5),
        ),
        (
            "spec: {tracing: {stdout: true}}",
            Sampling::ParentBased(0.0001),
        ),
        (
            "spec: {tracing: {zipkin: {endpointAddress: \"http://z\"}}}",
            Sampling::ParentBased(0.0001),
        ),
        (
            "spec: {tracing: {zipkin: {endpointAddress: \"\"}}}",
            Sampling::PassThrough,
        ),
    ] {
        assert_eq!(
            super::sampling(&configuration(yaml), None),
            sampling,
            "{yaml}"
        );
    }
}

#[test]
fn sections_without_effect_are_named_once() {
    let yaml = "spec: {tracing: {stdout: true}, accessControl: {defaultAction: deny}}";
    let lines = unused(&configuration(yaml), None);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        unused(&configuration("spec: {}"), None),
        Vec::<String>::new()
    );
}

/// Fact: process-interface 2.2, `OTEL_EXPORTER_OTLP_*`.
#[test]
fn an_exporter_of_the_environment_samples_everything_unless_a_rate_is_set() {
    for (yaml, sampling) in [
        ("spec: {}", Sampling::ParentBased(1.0)),
        (
            "spec: {tracing: {samplingRate: \"0.5\"}}",
            Sampling::ParentBased(0.5),
        ),
        ("spec: {tracing: {samplingRate: \"0\"}}", Sampling::Off),
        (
            "spec: {tracing: {stdout: true}}",
            Sampling::ParentBased(0.0001),
        ),
    ] {
        let got = super::sampling(&configuration(yaml), Some("http://otel"));
        assert_eq!(got, sampling, "{yaml}");
    }
}

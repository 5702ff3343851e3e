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
        assert_eq!(super::sampling(&configuration(yaml)), sampling, "{yaml}");
    }
}

#[test]
fn sections_without_effect_are_named_once() {
    let yaml = "spec: {tracing: {stdout: true}, accessControl: {defaultAction: deny}}";
    let lines = unused(&configuration(yaml), &Loaded::default());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        unused(&configuration("spec: {}"), &Loaded::default()),
        Vec::<String>::new()
    );
}

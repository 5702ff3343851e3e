//! Templates and what they mean, row by row.

use std::collections::BTreeSet;

use super::*;
use crate::command::run::template::model::parse;

/// Resolves a template that lies in `/t`, on a machine that has these paths.
fn resolved(text: &str, paths: &[&str]) -> anyhow::Result<Vec<TemplateApp>> {
    let paths: BTreeSet<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let exists = |path: &Path| paths.contains(path);
    let home = Home::under(Path::new("/home"));
    resolve(
        parse(text).unwrap(),
        &Place {
            base: Path::new("/t"),
            user: Some(Path::new("/home/me")),
            home: Some(&home),
            exists: &exists,
        },
    )
}

fn one(text: &str, paths: &[&str]) -> TemplateApp {
    resolved(text, paths).unwrap().remove(0)
}

fn refused(text: &str) -> String {
    resolved(text, &["/t/a"]).unwrap_err().to_string()
}

/// Fact: CL-63.
#[test]
fn errors_name_the_key() {
    for (text, expected) in [
        ("apps: [{appDirPath: a}]", "version"),
        ("version: 0\napps: [{appDirPath: a}]", "version"),
        ("version: 1", "No apps to run"),
        ("version: 1\napps: []", "No apps to run"),
        ("version: 1\napps: [{appID: x}]", "appDirPath"),
        (
            "version: 1\napps: [{appDirPath: missing}]",
            "appDirPath: the path /t/missing does not exist",
        ),
        (
            "version: 1\napps: [{appDirPath: a, configFilePath: c}]",
            "configFilePath: the path /t/a/c does not exist",
        ),
        (
            "version: 1\napps: [{appDirPath: a, resourcesPaths: [r]}]",
            "resourcesPaths",
        ),
        (
            "version: 1\napps: [{appDirPath: a, appLogDestination: tape}]",
            "invalid log destination type: tape",
        ),
        (
            "version: 1\napps: [{appDirPath: a, daprdLogDestination: tape}]",
            "daprdLogDestination",
        ),
        (
            "version: 1\napps: [{appDirPath: a, containerImagePullPolicy: x}]",
            "containerImagePullPolicy",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// Fact: CL-64, cli-and-clients 1.9 "Resources precedence".
#[test]
fn resources_come_from_the_nearest_place() {
    let all = [
        "/t/a",
        "/t/a/own",
        "/t/a/.dapr/resources",
        "/t/common",
        "/home/.dapr/components",
    ];
    let with_own = "version: 1\ncommon: {resourcesPaths: [common]}\napps: [{appDirPath: a, resourcesPaths: [own]}]";
    let with_common = "version: 1\ncommon: {resourcesPath: common}\napps: [{appDirPath: a}]";
    let plain = "version: 1\napps: [{appDirPath: a}]";
    for (text, paths, expected) in [
        (with_own, &all[..], Some("/t/a/own")),
        (with_common, &all, Some("/t/a/.dapr/resources")),
        (
            with_common,
            &["/t/a", "/t/common", "/home/.dapr/components"],
            Some("/t/common"),
        ),
        (
            plain,
            &["/t/a", "/home/.dapr/components"],
            Some("/home/.dapr/components"),
        ),
        (plain, &["/t/a"], None),
    ] {
        let expected: Vec<PathBuf> = expected.into_iter().map(PathBuf::from).collect();
        assert_eq!(one(text, paths).spec.resources, expected, "{text}");
    }
}

/// Fact: CL-64, cli-and-clients 1.9 "Config precedence".
#[test]
fn the_configuration_comes_from_the_nearest_place() {
    let with_own =
        "version: 1\ncommon: {configFilePath: c}\napps: [{appDirPath: a, configFilePath: own}]";
    let with_common = "version: 1\ncommon: {configFilePath: c}\napps: [{appDirPath: a}]";
    let plain = "version: 1\napps: [{appDirPath: a}]";
    for (text, paths, expected) in [
        (
            with_own,
            &["/t/a", "/t/c", "/t/a/own", "/t/a/.dapr/config.yaml"][..],
            Some("/t/a/own"),
        ),
        (
            with_common,
            &["/t/a", "/t/c", "/t/a/.dapr/config.yaml"],
            Some("/t/a/.dapr/config.yaml"),
        ),
        (
            with_common,
            &["/t/a", "/t/c", "/home/.dapr/config.yaml"],
            Some("/t/c"),
        ),
        (
            plain,
            &["/t/a", "/home/.dapr/config.yaml"],
            Some("/home/.dapr/config.yaml"),
        ),
        (plain, &["/t/a"], None),
    ] {
        assert_eq!(
            one(text, paths).spec.config.as_deref(),
            expected.map(Path::new),
            "{text}"
        );
    }
}

/// Fact: CL-65, CH8.
#[test]
fn an_app_can_switch_a_common_value_off() {
    let text = "
version: 1
common:
  env: {DEBUG: true, N: 9083, V: 1.50}
  enableApiLogging: true
  appMaxConcurrency: 4
  logLevel: debug
apps:
- appDirPath: a
  env: {DEBUG: false, EMPTY: }
  enableApiLogging: false
  appMaxConcurrency: 0
- appDirPath: a
";
    let mut apps = resolved(text, &["/t/a"]).unwrap();
    let (second, first) = (apps.remove(1).spec, apps.remove(0).spec);
    let pairs = |spec: &AppSpec| -> Vec<String> {
        spec.environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    };
    assert_eq!(pairs(&first), ["DEBUG=false", "EMPTY=", "N=9083", "V=1.50"]);
    assert_eq!(
        (first.api_logging, first.app_max_concurrency),
        (Some(false), 0)
    );
    assert_eq!(first.log_level, "debug");
    assert_eq!(pairs(&second), ["DEBUG=true", "N=9083", "V=1.50"]);
    assert_eq!(
        (second.api_logging, second.app_max_concurrency),
        (Some(true), 4)
    );
}

#[test]
fn what_is_absent_has_its_default() {
    let TemplateApp {
        spec,
        folder,
        app_log,
        daprd_log,
        container,
    } = one("version: 1\napps: [{appDirPath: ./a/}]", &["/t/a"]);
    assert_eq!(folder, Path::new("/t/a"));
    assert_eq!(
        (app_log, daprd_log),
        (Destination::FileAndConsole, Destination::File)
    );
    let expected = Container {
        image: String::new(),
        pull_policy: "Always".to_owned(),
        has_service: false,
    };
    assert_eq!(container, expected);
    let expected = AppSpec {
        app_id: "a".to_owned(),
        folder: Some("/t/a".into()),
        home: Some(Home::under(Path::new("/home"))),
        ..AppSpec::default()
    };
    assert_eq!(spec, expected);
}

#[test]
fn old_keys_and_tilde_paths_are_read() {
    let text = "
version: 1
common: {daprHTTPMaxRequestSize: 8}
apps:
- {appDirPath: ~/a, appID: x, daprHTTPReadBufferSize: 16, runtimePath: rt, command: [node, app.js, 5]}
";
    let spec = one(text, &["/home/me/a", "/home/me/a/rt"]).spec;
    assert_eq!(
        (spec.max_body_size.as_str(), spec.read_buffer_size.as_str()),
        ("8Mi", "16Ki")
    );
    assert_eq!(spec.home, Some(Home::under(Path::new("/home/me/a/rt"))));
    assert_eq!(spec.command, ["node", "app.js", "5"]);
}

/// Fact: CL-67.
#[test]
fn unknown_keys_are_found_with_their_lines() {
    let text = "
version: 1
nmae: x
common:
  logLevl: debug
apps:
- appDirPath: a
  appPrt: 80
";
    let found: Vec<(String, u64)> = parse(text)
        .unwrap()
        .unknown
        .into_iter()
        .map(|one| (one.key, one.line))
        .collect();
    let expected = [("nmae", 3), ("logLevl", 5), ("appPrt", 8)];
    assert_eq!(found, expected.map(|(key, line)| (key.to_owned(), line)));
}

/// Fact: cli-and-clients 1.9 "`resourcesPaths`".
#[test]
fn a_plain_string_is_no_list() {
    assert!(parse("version: 1\napps: [{appDirPath: a, resourcesPaths: r}]").is_err());
}

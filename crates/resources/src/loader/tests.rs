//! Every row of process-interface 6.2 and 8 that files can show.

use proptest::prelude::*;

use super::*;

const OWN: Loader<'static> = Loader {
    namespace: "",
    app_id: "web",
    deny: &[],
};

fn load_with(loader: Loader<'_>, files: &[(&str, &str)]) -> Loaded {
    loader.load(files.iter().map(|(name, text)| ResourceFile {
        name,
        bytes: text.as_bytes(),
    }))
}

fn load(text: &str) -> Loaded {
    load_with(OWN, &[("a.yaml", text)])
}

fn manifest(kind: &str, rest: &str) -> String {
    format!("apiVersion: dapr.io/v1alpha1\nkind: {kind}\n{rest}\n---\n")
}

fn component(name: &str, kind: &str, rest: &str) -> String {
    manifest(
        "Component",
        &format!("metadata: {{name: {name}}}\nspec: {{type: {kind}, version: v1}}\n{rest}"),
    )
}

fn middleware(name: &str, rest: &str) -> String {
    component(name, "middleware.http.uppercase", rest)
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded
        .components
        .iter()
        .map(|component| component.name.as_str())
        .collect()
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_component_is_read() {
    let loaded = load(
        "apiVersion: dapr.io/v1alpha1\n\
         kind: Component\n\
         metadata:\n  name: alias\n  namespace: prod\n\
         spec:\n  type: middleware.http.routeralias\n  version: v1\n  ignoreErrors: true\n\
         \x20 initTimeout: 10s\n  metadata:\n  - name: routes\n    value: '{\"/a\": \"/b\"}'\n\
         \x20 - name: max\n    value: 10\n\
         auth:\n  secretStore: local\n\
         scopes: [web, api]\n",
    );
    assert_eq!(loaded.warnings, []);
    let [component] = loaded.components.as_slice() else {
        panic!("{loaded:?}")
    };
    assert_eq!(component.namespace, "prod");
    assert_eq!(
        component.log_name().to_string(),
        "alias (middleware.http.routeralias/v1)"
    );
    assert!(component.spec.ignore_errors);
    assert_eq!(component.init_timeout().to_string(), "10s");
    assert_eq!(
        component.property("routes").unwrap().text(),
        "{\"/a\": \"/b\"}"
    );
    assert_eq!(component.property("max").unwrap().text(), "10");
    assert_eq!(component.secret_store, "local");
    assert_eq!(component.scopes, ["web", "api"]);
}

#[test]
fn only_yaml_files_are_read() {
    for (name, want) in [
        ("a.yaml", true),
        ("a.yml", true),
        ("A.YAML", true),
        ("b.Yml", true),
        ("a.yaml.bak", false),
        ("yaml", false),
        ("a.json", false),
        ("README", false),
    ] {
        assert_eq!(is_yaml_name(name), want, "{name}");
    }
    let loaded = load_with(
        OWN,
        &[
            ("a.txt", &middleware("a", "")),
            ("b.YML", &middleware("b", "")),
        ],
    );
    assert_eq!(names(&loaded), ["b"]);
    assert_eq!(
        warnings(&loaded),
        ["a.txt: not a YAML file, it will not be loaded"]
    );
}

#[test]
fn bytes_that_are_no_text_are_a_warning() {
    let file = ResourceFile {
        name: "a.yaml",
        bytes: b"kind: \xff",
    };
    let loaded = OWN.load([file]);
    assert_eq!(
        warnings(&loaded),
        ["a.yaml: not UTF-8 text, it will not be loaded"]
    );
}

#[test]
fn a_bad_document_does_not_take_the_others_with_it() {
    let text = middleware("a", "") + "kind: [\n---\n" + &middleware("b", "");
    let loaded = load(&text);
    assert_eq!(names(&loaded), ["a", "b"]);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(matches!(loaded.warnings[0].reason, Reason::Unreadable(_)));
    let text =
        manifest("Component", "metadata: {name: x}\nspec: [not, a, map]") + &middleware("b", "");
    let loaded = load(&text);
    assert_eq!(names(&loaded), ["b"]);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn documents_above_64_kib_are_read() {
    let long = format!("x: {}", "y".repeat(100_000));
    let text = middleware("a", &long) + &middleware("b", "");
    assert_eq!(names(&load(&text)), ["a", "b"]);
}

#[test]
fn foreign_documents_are_silent_and_old_versions_are_not() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\n\
                kind: Component\n---\n\
                apiVersion: dapr.io/v1alpha1\nkind: component\n---\n\
                # nothing\n---\n\
                apiVersion: dapr.io/v1\nkind: Component\nmetadata: {name: x}\n";
    let loaded = load(text);
    assert_eq!(loaded.components, []);
    assert_eq!(
        warnings(&loaded),
        [
            "a.yaml: Component \"x\" is skipped: apiVersion \"dapr.io/v1\" is not \"dapr.io/v1alpha1\""
        ]
    );
}

#[test]
fn names_that_cannot_be_paths_are_skipped() {
    for (name, flaw) in [
        ("'.'", "may not be '.'"),
        ("'..'", "may not be '..'"),
        ("a/b", "may not contain '/'"),
        ("'a%b'", "may not contain '%'"),
    ] {
        let loaded = load(&middleware(name, ""));
        assert_eq!(loaded.components, [], "{name}");
        assert!(warnings(&loaded)[0].ends_with(flaw), "{loaded:?}");
    }
    assert_eq!(names(&load(&middleware("123", ""))), ["123"]);
    assert_eq!(names(&load(&middleware("''", ""))), [""]);
    assert_eq!(names(&load(&middleware("a.b", ""))), ["a.b"]);
}

#[test]
fn a_namespace_selects_only_when_both_have_one() {
    let of = |namespace: &str| {
        manifest(
            "Component",
            &format!(
                "metadata: {{name: n{namespace}, namespace: '{namespace}'}}\nspec: {{type: middleware.http.x}}"
            ),
        )
    };
    let text = of("") + &of("prod") + &of("test");
    let table: &[(&str, &[&str])] = &[
        ("", &["n", "nprod", "ntest"]),
        ("prod", &["n", "nprod"]),
        ("other", &["n"]),
    ];
    for (namespace, want) in table {
        let loaded = load_with(Loader { namespace, ..OWN }, &[("a.yaml", &text)]);
        assert_eq!(names(&loaded), *want, "{namespace}");
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn scopes_select_the_app() {
    let text = middleware("all", "scopes: []")
        + &middleware("absent", "scopes:")
        + &middleware("own", "scopes: [api, web]")
        + &middleware("not", "scopes: [api, WEB]");
    assert_eq!(names(&load(&text)), ["all", "absent", "own"]);
}

/// Fact: process-interface 6.2, row Duplicates.
#[test]
fn duplicates_are_named_in_the_reference_words() {
    let text = component("a", "state.redis", "")
        + &component("a", "middleware.http.uppercase", "")
        + &component("b", "state.redis", "")
        + &component("b", "pubsub.kafka", "");
    let loaded = load(&text);
    assert_eq!(
        loaded.component_errors().unwrap(),
        "duplicate definition of Component name a (middleware.http.uppercase/v1) \
         with existing a (state.redis/v1)\n\
         duplicate definition of Component name b (pubsub.kafka/v1) \
         with existing b (state.redis/v1)"
    );
    assert_eq!(loaded.other_errors(), None);
}

#[test]
fn duplicates_are_tested_after_namespace_and_before_scope() {
    let other = "scopes: [other]";
    // The first was out of scope, so the second is the first.
    assert_eq!(
        load(&(middleware("a", other) + &middleware("a", ""))).errors,
        []
    );
    // The second would be out of scope, but its name is taken.
    assert_eq!(
        load(&(middleware("a", "") + &middleware("a", other)))
            .errors
            .len(),
        1
    );
    let elsewhere = middleware("a", "").replace("name: a", "name: a, namespace: test");
    let loader = Loader {
        namespace: "prod",
        ..OWN
    };
    let loaded = load_with(loader, &[("a.yaml", &(middleware("a", "") + &elsewhere))]);
    assert_eq!(
        (loaded.errors.as_slice(), names(&loaded)),
        ([].as_slice(), vec!["a"])
    );
}

#[test]
fn kinds_have_names_of_their_own_across_files() {
    let endpoint = manifest(
        "HTTPEndpoint",
        "metadata: {name: a}\nspec: {baseUrl: 'http://x'}",
    );
    let loaded = load_with(
        OWN,
        &[
            ("a.yaml", &middleware("a", "")),
            ("b.yaml", &endpoint),
            ("c.yaml", &endpoint),
        ],
    );
    assert_eq!(
        (loaded.components.len(), loaded.http_endpoints.len()),
        (1, 1)
    );
    assert_eq!(loaded.component_errors(), None);
    assert_eq!(
        loaded.other_errors().unwrap(),
        "duplicate definition of HTTPEndpoint name a with existing a"
    );
}

/// Fact: process-interface 8, one warning for each.
#[test]
fn other_building_blocks_are_accepted_with_one_warning_each() {
    let text = component("store", "state.redis", "")
        + &component("bus", "pubsub.redis", "")
        + &component("far", "state.redis", "scopes: [other]")
        + &manifest("MCPServer", "metadata: {name: m}")
        + &manifest("WorkflowAccessPolicy", "metadata: {name: w}")
        + "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {name: s}\n";
    let loaded = load(&text);
    assert_eq!(loaded.components, []);
    assert_eq!(loaded.errors, []);
    let what = [
        "Component store (state.redis/v1)",
        "Component bus (pubsub.redis/v1)",
        "MCPServer m",
        "WorkflowAccessPolicy w",
        "Subscription s",
    ];
    let want = what.map(|what| {
        format!("a.yaml: {what} belongs to a building block that is not supported: ignored")
    });
    assert_eq!(warnings(&loaded), want);
}

#[test]
fn a_type_of_no_building_block_is_an_error_unless_it_may_fail() {
    let loaded = load(&component("a", "stat.redis", ""));
    assert_eq!(
        loaded.component_errors().unwrap(),
        "process component a error: incorrect type stat.redis"
    );
    let tolerant = manifest(
        "Component",
        "metadata: {name: a}\nspec: {type: stat.redis, ignoreErrors: true}",
    );
    let loaded = load(&tolerant);
    assert_eq!(loaded.errors, []);
    assert_eq!(
        warnings(&loaded),
        [
            "a.yaml: process component a error: incorrect type stat.redis: ignored because of ignoreErrors"
        ]
    );
}

#[test]
fn denied_types_are_not_loaded() {
    let text = middleware("a", "") + &component("b", "middleware.http.bearer", "");
    for (deny, want) in [
        ("middleware.http.uppercase", "b"),
        ("Middleware.HTTP.Uppercase/V1", "b"),
        ("middleware.http.bearer/v1", "a"),
    ] {
        let deny = [deny.to_owned()];
        let loaded = load_with(Loader { deny: &deny, ..OWN }, &[("a.yaml", &text)]);
        assert_eq!(names(&loaded), [want]);
        assert_eq!(loaded.warnings.len(), 1);
    }
    let deny = ["middleware.http.uppercase/v2".to_owned()];
    assert_eq!(
        names(&load_with(
            Loader { deny: &deny, ..OWN },
            &[("a.yaml", &text)]
        )),
        ["a", "b"]
    );
}

#[test]
fn resiliency_is_read_and_configuration_kept_as_written() {
    let text = manifest(
        "Resiliency",
        "metadata: {name: r}\nspec: {policies: {timeouts: {t: 5s}}}\nscopes: [web]",
    ) + &manifest("Resiliency", "metadata: {name: far}\nscopes: [other]")
        + &manifest(
            "Configuration",
            "metadata: {name: c}\nspec: {mtls: {enabled: true}}",
        );
    let loaded = load(&text);
    assert_eq!(loaded.warnings, []);
    let [resiliency] = loaded.resiliencies.as_slice() else {
        panic!("{loaded:?}")
    };
    assert_eq!(resiliency.name, "r");
    let timeout = resiliency.policies.timeouts["t"];
    assert_eq!(timeout, Some(std::time::Duration::from_secs(5)));
    assert_eq!(loaded.configurations[0].name, "c");
}

/// R-20, R-25, R-27, R-38, R-50, R-67: one that cannot be used is named with everything that is wrong, the others
/// are used, and one for other apps is not looked at.
#[test]
fn a_resiliency_that_cannot_be_used_is_a_failure() {
    let text = manifest(
        "Resiliency",
        "metadata: {name: bad}\nspec:\n  policies:\n    timeouts: {t: abc}\n    retries:\n      r:\n        policy: linear\n        matching: {httpStatusCodes: 11, gRPCStatusCodes: 400}\n    circuitBreakers: {c: {trip: ((}}",
    ) + &manifest("Resiliency", "metadata: {name: good}\nspec: {targets: {}}")
        + &manifest(
            "Resiliency",
            "metadata: {name: far}\nspec: 5\nscopes: [other]",
        );
    let loaded = load(&text);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.resiliencies.len(), 1);
    assert_eq!(loaded.resiliencies[0].name, "good");
    let [failure] = loaded.resiliency_failures.as_slice() else {
        panic!("{loaded:?}")
    };
    assert_eq!(&*failure.file, "a.yaml");
    assert_eq!(
        failure.to_string(),
        "Could not read resiliency policy bad: \
         /spec/policies/timeouts/t: time: invalid duration \"abc\": write 500ms, 5s or 1m30s, or a whole number of milliseconds; \
         /spec/policies/retries/r/policy: \"linear\" is no kind of retry: write constant or exponential; \
         /spec/policies/retries/r/matching/httpStatusCodes: code 11 is out of range: HTTP statuses are 100 to 599; \
         /spec/policies/retries/r/matching/gRPCStatusCodes: code 400 is out of range: gRPC codes are 0 to 16; \
         /spec/policies/circuitBreakers/c/trip: expected a count, a number or `(` at position 2, found the end"
    );
}

#[test]
fn an_endpoint_that_cannot_be_used_is_skipped() {
    let text = manifest(
        "HTTPEndpoint",
        "metadata: {name: bad}\nspec: {clientTLS: {renegotiation: x}}",
    ) + &manifest(
        "HTTPEndpoint",
        "metadata: {name: good}\nspec:\n  version: v1\n  baseUrl: https://x\n  headers:\n  - {name: k, value: 5}",
    );
    let loaded = load(&text);
    assert_eq!(loaded.http_endpoints.len(), 1);
    assert_eq!(loaded.http_endpoints[0].spec.headers[0].text(), "5");
    let text = &warnings(&loaded)[0];
    assert!(
        text.starts_with("a.yaml: HTTPEndpoint \"bad\" is skipped: spec.baseUrl is missing, "),
        "{text}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_loaded_or_warned_about(bytes: Vec<u8>) {
        let _no_panic = OWN.load([ResourceFile { name: "x.yaml", bytes: &bytes }]);
    }

    #[test]
    fn any_manifest_is_loaded_or_warned_about(
        head in "(apiVersion: dapr.io/v1alpha1\nkind: (Component|HTTPEndpoint|Resiliency)\n)?",
        body in "((metadata|spec|scopes|auth):( [a-z\\[{]?|\n  (name|type|baseUrl|metadata): [a-z0-9'{\\[]{0,4})\n){0,5}"
    ) {
        let text = format!("{head}{body}");
        let _no_panic = OWN.load([ResourceFile { name: "x.yaml", bytes: text.as_bytes() }]);
    }
}

const ACCESS: &str = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {name: a}\nspec: {defaultAction: deny}\n";

fn policies(loader: &Loader<'_>, files: &[(&str, &[u8])]) -> (Vec<String>, Vec<String>) {
    let files = files
        .iter()
        .map(|(name, bytes)| ResourceFile { name, bytes });
    let loaded = loader.load(files);
    let objects = loaded.access_controls.into_iter();
    let failures = loaded.policy_failures.iter();
    (
        objects.map(|object| object.name).collect(),
        failures.map(ToString::to_string).collect(),
    )
}

fn loader() -> Loader<'static> {
    Loader {
        namespace: "shop",
        app_id: "orders",
        deny: &[],
    }
}

/// Fact: F10; M10 and K195 of the selection.
#[test]
fn access_controls_of_this_app_and_namespace_are_taken() {
    let elsewhere = ACCESS.replace("{name: a}", "{name: b, namespace: other}");
    let scoped = ACCESS.replace("{name: a}", "{name: c}\nscopes: [cart]");
    let ours = ACCESS.replace("{name: a}", "{name: d, namespace: shop}\nscopes: [orders]");
    let text = [ACCESS, &elsewhere, &scoped, &ours].join("---\n");
    let (objects, failures) = policies(&loader(), &[("p.yaml", text.as_bytes())]);
    assert_eq!(objects, ["a", "d"]);
    assert_eq!(failures, [""; 0]);
    // Without NAMESPACE an object of any namespace applies.
    let anywhere = Loader {
        namespace: "",
        ..loader()
    };
    let (objects, _) = policies(&anywhere, &[("p.yaml", text.as_bytes())]);
    assert_eq!(objects, ["a", "b", "d"]);
}

/// Fact: F10: what may be a policy is never left out with a warning.
#[test]
fn a_policy_that_cannot_be_used_is_a_failure() {
    let doubled = format!("{ACCESS}---\n{ACCESS}");
    let key = format!("a: 1\n---\n{ACCESS}more: 1\n");
    let problem = format!(
        "# first\n---\n{}",
        ACCESS.replace(
            "defaultAction: deny",
            "policies: [{appId: a.b, namespace: c}]"
        )
    );
    let version = ACCESS.replace("v1alpha1", "v1");
    let name = ACCESS.replace("name: a", "name: a/b");
    let unclosed = ACCESS.replace("deny}", "deny");
    let twisted = ACCESS
        .replace("scopes", "x")
        .replace("metadata: {name: a}", "metadata: [a]");
    for (text, want) in [
        (
            doubled.as_bytes(),
            "p.yaml: AccessControl \"a\": a second definition",
        ),
        (key.as_bytes(), "p.yaml: AccessControl \"a\": "),
        (
            problem.as_bytes(),
            "p.yaml: AccessControl \"a\": line 6: /spec/policies/0/appId: invalid app id",
        ),
        (
            version.as_bytes(),
            "p.yaml: AccessControl \"a\": apiVersion \"dapr.io/v1\"",
        ),
        (
            name.as_bytes(),
            "p.yaml: AccessControl \"a/b\": its name may not",
        ),
        (unclosed.as_bytes(), "p.yaml: "),
        (twisted.as_bytes(), "p.yaml: "),
        (b"kind: AccessControl\xff", "p.yaml: not UTF-8 text"),
    ] {
        let (_, failures) = policies(&loader(), &[("p.yaml", text)]);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].starts_with(want), "{} / {want}", failures[0]);
    }
    let (_, failures) = policies(&loader(), &[("p.yaml", key.as_bytes())]);
    assert!(failures[0].contains("line 7"), "{failures:?}");
}

/// Fact: issue, part E: documents without the word follow the loader's rule.
#[test]
fn other_broken_documents_do_not_touch_policy() {
    let text = format!("kind: [\n---\n{ACCESS}");
    let (objects, failures) = policies(&loader(), &[("p.yaml", text.as_bytes())]);
    assert_eq!((objects.len(), failures.len()), (1, 0));
}

/// Bad input: a document beyond what an operator could send is refused unread; others may be as long as they like.
#[test]
fn a_policy_that_is_too_large_is_refused_unread() {
    let comment = "# nothing\n".repeat(250_000);
    let text = format!("{ACCESS}{comment}");
    let (objects, failures) = policies(&loader(), &[("p.yaml", text.as_bytes())]);
    assert!(objects.is_empty());
    let want = format!(
        "p.yaml: {} bytes are more than the 2097152 that a document of access control may have",
        text.len()
    );
    assert_eq!(failures, [want]);
    // Its neighbours in the file are read.
    let two = format!(
        "{ACCESS}---\n{}---\n{comment}",
        ACCESS.replace("{name: a}", "{name: b}")
    );
    let (objects, failures) = policies(&loader(), &[("p.yaml", two.as_bytes())]);
    assert_eq!((objects.len(), failures.len()), (2, 0));
}

/// Bad input: aliases that multiply end long before memory does.
#[test]
fn a_bomb_of_aliases_is_an_unreadable_policy() {
    let mut bomb = format!("{ACCESS}a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for at in 1..9 {
        let refer = format!("*a{}, ", at - 1).repeat(9);
        bomb += &format!("a{at}: &a{at} [{refer}]\n");
    }
    let (objects, failures) = policies(&loader(), &[("p.yaml", bomb.as_bytes())]);
    assert!(objects.is_empty());
    assert_eq!(failures.len(), 1, "{failures:?}");
    let spec = bomb
        .replace("spec: {defaultAction: deny}\n", "")
        .replace("a8:", "spec:");
    let (_, failures) = policies(&loader(), &[("p.yaml", spec.as_bytes())]);
    assert_eq!(failures.len(), 1, "{failures:?}");
}

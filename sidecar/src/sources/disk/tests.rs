//! Files in a temporary folder: the first load and what it refuses.

use std::fs;

use ironside_chassis::{Clock, Tasks};
use ironside_telemetry::metrics::ComponentFailure;
use tempfile::TempDir;

use super::*;
use crate::config::{
    flags::Given,
    validate::{Machine, startup},
};

/// A temporary folder with manifests.
pub(in crate::sources) struct Folder(TempDir);

impl Folder {
    pub(in crate::sources) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(in crate::sources) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(in crate::sources) fn disk(&self, words: &[&str], env: Environment) -> Disk {
        let words = ["--app-id", "appa"]
            .into_iter()
            .chain(words.iter().copied());
        let given = Given::parse(words.map(Into::into)).unwrap();
        let machine = Machine {
            address: [127, 0, 0, 1].into(),
            hostname: "rig".into(),
            is_root: false,
        };
        let config = startup(&given, &env, machine).unwrap().config;
        let clock = Clock::system();
        let keys = KeySource::new(&Tasks::new(), &clock);
        Disk::new(Arc::new(config), env, clock, keys)
    }

    pub(in crate::sources) fn remove(&self, name: &str) {
        fs::remove_file(self.0.path().join(name)).unwrap();
    }

    pub(in crate::sources) fn resources(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

pub(in crate::sources) fn endpoint(name: &str, url: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata:\n  name: {name}\nspec:\n  baseUrl: {url}\n"
    )
}

pub(in crate::sources) fn component(name: &str, kind: &str, rest: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n{rest}"
    )
}

fn read(disk: &Disk) -> Result<Compiled, String> {
    let snapshot = disk.read().map_err(|err| err.to_string())?;
    disk.compile(&snapshot, &Streamed::Absent, None)
        .map_err(|err| err.to_string())
}

#[test]
fn the_first_load_compiles_what_is_there() {
    let (folder, other) = (Folder::new(), Folder::new());
    folder.write("ep.yaml", &endpoint("ep", "http://127.0.0.1:6050"));
    folder.write(
        "upper.yml",
        &component("upper", "middleware.http.uppercase", ""),
    );
    folder.write("state.yaml", &component("st", "state.redis", ""));
    folder.write(
        "filter.yaml",
        &component("filter", "middleware.http.wasm", ""),
    );
    folder.write("note.txt", "not read");
    let config = other.write(
        "config.yaml",
        "spec:\n  appHttpPipeline:\n    handlers:\n    - name: upper\n      type: middleware.http.uppercase\n  \
         api:\n    denied:\n    - name: ${WHAT}\n      version: v1.0\n      protocol: http\n  tracing:\n    samplingRate: \"1\"\n",
    );
    let env = Environment::from([("WHAT", "metadata")]);
    let words = [
        "--resources-path",
        folder.resources(),
        "--config",
        config.to_str().unwrap(),
    ];
    let Compiled {
        live,
        components,
        failed,
        warnings,
        errors,
    } = read(&folder.disk(&words, env)).unwrap();
    assert_eq!(
        live.endpoints
            .keys()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        ["ep"]
    );
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!live.app_pipeline.is_empty() && live.http_pipeline.is_empty());
    assert_eq!(components, ["upper (middleware.http.uppercase/v1)"]);
    let failed: Vec<_> = failed.iter().map(|(name, why)| (&**name, *why)).collect();
    assert_eq!(failed, [("filter", ComponentFailure::Creation)]);
    assert_eq!(
        live.components.len(),
        1,
        "other building blocks are not listed"
    );
    assert!(
        warnings
            .iter()
            .any(|line| line.contains("st (state.redis/v1)")),
        "{warnings:?}"
    );
    let metadata = crate::api::access::Group {
        key: "v1/metadata",
        route: "v1.0/metadata",
    };
    assert!(!live.api.allows_http(metadata));
}

/// Fact: process-interface 6.1, 6.2, 10 row 13.
#[test]
fn what_cannot_be_used_at_the_start_says_why() {
    let folder = Folder::new();
    let words = ["--resources-path", "/no/such/dir"];
    assert!(
        read(&folder.disk(&words, Environment::default()))
            .unwrap_err()
            .starts_with("failed to load components: open /no/such/dir")
    );
    let words = ["--config", "/no/such/file"];
    assert!(
        read(&folder.disk(&words, Environment::default()))
            .unwrap_err()
            .starts_with("error loading configuration: open /no/such/file")
    );
    folder.write(
        "a.yaml",
        &component("same", "middleware.http.uppercase", ""),
    );
    folder.write(
        "b.yaml",
        &component("same", "middleware.http.uppercase", ""),
    );
    let words = ["--resources-path", folder.resources()];
    let err = read(&folder.disk(&words, Environment::default())).unwrap_err();
    assert!(
        err.contains("duplicate definition of Component name same"),
        "{err}"
    );
}

#[test]
fn a_pipeline_that_names_an_unknown_type_stops_unless_errors_are_ignored() {
    let folder = Folder::new();
    let config = folder.write(
        "config.yaml.conf",
        "spec:\n  httpPipeline:\n    handlers:\n    - name: o\n      type: middleware.http.oauth2\n    - name: gone\n      type: middleware.http.uppercase\n",
    );
    let words = [
        "--resources-path",
        folder.resources(),
        "--config",
        config.to_str().unwrap(),
    ];
    let disk = folder.disk(&words, Environment::default());
    assert!(
        read(&disk).unwrap().live.http_pipeline.is_empty(),
        "missing components are skipped"
    );
    folder.write("o.yaml", &component("o", "middleware.http.oauth2", ""));
    let err = read(&disk).map(|_| ()).unwrap_err();
    assert!(
        err.contains("httpPipeline names component o (middleware.http.oauth2/v1)"),
        "{err}"
    );
    folder.write(
        "o.yaml",
        &component("o", "middleware.http.oauth2", "  ignoreErrors: true\n"),
    );
    assert!(read(&disk).is_ok());
}

#[test]
fn a_bad_setting_stops_unless_errors_are_ignored() {
    let folder = Folder::new();
    let disk = folder.disk(
        &["--resources-path", folder.resources()],
        Environment::default(),
    );
    folder.write(
        "c.yaml",
        &component("c", "middleware.http.routerchecker", ""),
    );
    let err = read(&disk).map(|_| ()).unwrap_err();
    assert!(err.contains("'rule' is required"), "{err}");
    folder.write(
        "c.yaml",
        &component(
            "c",
            "middleware.http.routerchecker",
            "  ignoreErrors: true\n",
        ),
    );
    assert!(
        read(&disk)
            .unwrap()
            .warnings
            .iter()
            .any(|line| line.contains("ignoreErrors"))
    );
}

#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.yaml"), "kind: Component").unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("b.yaml")).unwrap();
    let listed = list(folder.path()).unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["a.yaml"]);
}

/// A file that nobody can look into may hold the rule that keeps somebody out (fact F10).
#[test]
fn a_file_that_is_too_large_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let big = fs::File::create(folder.path().join("rules.yaml")).unwrap();
    big.set_len(MAX_FILE + 1).unwrap();
    let error = list(folder.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("rules.yaml: it is larger than 16 MiB"),
        "{error}"
    );
}

/// Fact M7: the app itself is who has its trust domain too, and only that one is spared by the objects.
#[test]
fn objects_spare_the_app_of_the_own_trust_domain_only() {
    use ironside_identity::SpiffeId;
    use ironside_policy::{Caller, Operation, Verb};

    let folder = Folder::new();
    let rules = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {name: p}\nspec: {defaultAction: deny}\n";
    folder.write("p.yaml", rules);
    let words = ["--resources-path", folder.resources()];
    let disk = || folder.disk(&words, Environment::default());
    let is_allowed = |disk: &Disk, domain: &str| {
        let id = SpiffeId::parse(&format!("spiffe://{domain}/ns/default/appa")).unwrap();
        let policy = read(disk).unwrap().live.policy;
        let operation = Operation::invoke("x", Verb::Get);
        policy.decide(Caller::Peer(&id), &operation).is_allowed()
    };
    let ours = disk().within(TrustDomain::parse("corp").unwrap());
    assert!(is_allowed(&ours, "corp"));
    assert!(!is_allowed(&ours, "public"));
    assert!(is_allowed(&disk(), "public"), "the default");
}

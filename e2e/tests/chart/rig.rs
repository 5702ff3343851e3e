//! Helm, and what it rendered.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use ironside_resources::yaml;
use serde_json::Value;

/// The namespace of the release.
pub(crate) const NAMESPACE: &str = "dapr-system";

/// The objects of a render.
pub(crate) struct Render {
    pub(crate) text: String,
    pub(crate) objects: Vec<Value>,
}

pub(crate) fn root() -> PathBuf {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR"));
    e2e.parent().unwrap().to_path_buf()
}

/// Calls Helm with values in YAML.
pub(crate) fn helm(arguments: &[&str], values: &str) -> Output {
    #[expect(
        clippy::disallowed_methods,
        reason = "the recipe says where the Helm is that it built"
    )]
    let given = std::env::var_os("IRONSIDE_HELM").map(PathBuf::from);
    let helm = given.or_else(|| ironside_e2e::k8s::built("helm"));
    let helm = helm.expect("no IRONSIDE_HELM, and none is built: cargo xtask e2e chart");
    let mut child = Command::new(helm)
        .args(arguments)
        .args(["--values", "-"])
        .current_dir(root().join("charts/ironside"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(values.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn template(values: &str) -> Output {
    // Helm by itself renders for the version that it was built with.
    let version = ["--kube-version", "1.34.0"];
    let release = ["template", "ironside", ".", "--namespace", NAMESPACE];
    helm(&[&release[..], &version].concat(), values)
}

/// Renders with these values, and with images as the recipe builds them unless they say otherwise.
pub(crate) fn render(values: &str) -> Render {
    let values = format!("global: {{registry: r.test, tag: e2e}}\n---\n{values}");
    // Helm reads one document; later keys are laid over earlier ones here.
    let values = merged(&values).to_string();
    let output = template(&values);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{values}: {wrong}");
    let text = String::from_utf8(output.stdout).unwrap();
    let objects = yaml::documents(&text)
        .filter_map(|document| yaml::decode::<Value>(document).unwrap())
        .collect();
    Render { text, objects }
}

/// What Helm says when it refuses to render.
pub(crate) fn refused(values: &str) -> String {
    let values = format!("global: {{registry: r.test, tag: e2e}}\n---\n{values}");
    let values = merged(&values).to_string();
    let output = template(&values);
    assert!(!output.status.success(), "{values}");
    assert!(output.stdout.is_empty(), "{values}");
    String::from_utf8(output.stderr).unwrap()
}

fn merged(text: &str) -> Value {
    let mut whole = Value::Null;
    for document in yaml::documents(text) {
        let values = yaml::decode::<Value>(document).unwrap();
        lay(&mut whole, values.unwrap_or_default());
    }
    whole
}

fn lay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (below, above) => *below = above,
    }
}

// === impl Render ===

impl Render {
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    pub(crate) fn object(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    pub(crate) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects
            .iter()
            .filter(move |object| object["kind"] == kind)
    }

    /// The pod template of a Deployment.
    pub(crate) fn pod(&self, name: &str) -> &Value {
        &self.object("Deployment", name)["spec"]["template"]
    }

    /// Its first container.
    pub(crate) fn main(&self, name: &str) -> &Value {
        &self.pod(name)["spec"]["containers"][0]
    }

    /// Its arguments.
    pub(crate) fn args(&self, name: &str) -> Vec<&str> {
        let args = self.main(name)["args"].as_array().unwrap();
        args.iter().map(|arg| arg.as_str().unwrap()).collect()
    }

    /// Its variables with values written outright.
    pub(crate) fn env(&self, name: &str) -> BTreeMap<&str, &str> {
        let env = self.main(name)["env"].as_array().unwrap();
        env.iter()
            .filter_map(|one| Some((one["name"].as_str()?, one["value"].as_str()?)))
            .collect()
    }
}

//! The project's sample app in pods: its manifest, and orders to it over its control port.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::Place;

/// The control port: none of a sidecar's.
const CONTROL: u16 = 9191;

/// A Deployment of the sample app.
#[derive(Clone, Debug)]
pub struct Sample {
    name: String,
    replicas: u16,
    protocol: &'static str,
    annotations: BTreeMap<String, String>,
    arguments: Vec<String>,
    image: String,
}

impl Sample {
    /// One replica that speaks HTTP on port 8080.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            replicas: 1,
            protocol: "http",
            annotations: BTreeMap::new(),
            arguments: Vec::new(),
            image: super::image("sample"),
        }
    }

    /// The same under a sidecar, with the app ID that is the Deployment's name.
    #[must_use]
    pub fn with_sidecar(name: &str) -> Self {
        Self::new(name)
            .annotation("dapr.io/enabled", "true")
            .annotation("dapr.io/app-id", name)
            .annotation("dapr.io/app-port", "8080")
    }

    /// Another number of replicas.
    #[must_use]
    pub fn replicas(mut self, replicas: u16) -> Self {
        self.replicas = replicas;
        self
    }

    /// How the app speaks: `http`, `https`, `h2c`, `grpc` or `grpcs`.
    #[must_use]
    pub fn protocol(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self
    }

    /// An annotation of the pods.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same, classic or native: a container beside the app, or one that starts before it and ends after it.
    #[must_use]
    pub fn native(self, is_native: bool) -> Self {
        self.annotation("dapr.io/enable-native-sidecar", &is_native.to_string())
    }

    /// A further argument of `sample serve`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Another image.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        self.image = image.to_owned();
        self
    }

    /// The labels by which its pods are found.
    #[must_use]
    pub fn labels(&self) -> String {
        format!("app={}", self.name)
    }

    /// The Deployment.
    #[must_use]
    pub fn manifest(&self) -> Value {
        let labels = json!({"app": self.name});
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--name={}", self.name),
            format!("--protocol={}", self.protocol),
        ];
        arguments.extend(self.arguments.iter().cloned());
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": self.annotations},
                    "spec": {
                        "containers": [{
                            "name": "app",
                            "image": self.image,
                            "imagePullPolicy": super::pull_policy(),
                            "args": arguments,
                            "ports": [{"containerPort": 8080}, {"containerPort": CONTROL}],
                            "readinessProbe": {
                                "httpGet": {"path": "/healthz", "port": CONTROL},
                                "periodSeconds": 1,
                            },
                            "securityContext": {
                                "runAsNonRoot": true,
                                "allowPrivilegeEscalation": false,
                                "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]},
                                "seccompProfile": {"type": "RuntimeDefault"},
                            },
                        }],
                    },
                },
            },
        })
    }
}

impl Place {
    /// Applies a sample app and waits until it is ready.
    ///
    /// # Errors
    /// If it is refused or not ready in time.
    pub async fn start(&self, sample: &Sample) -> Result<()> {
        self.apply(&sample.manifest().to_string())?;
        self.rolled_out(&sample.name).await.map(drop)
    }

    /// Lets a pod's sample app make one call, and returns its outcome: `e2e/sample/README.md`.
    ///
    /// # Errors
    /// If the app cannot be asked, or does not understand the call.
    pub async fn call(&self, pod: &str, call: &Value) -> Result<Value> {
        self.order(pod, Request::post("/call"), Some(call)).await
    }

    /// Starts a load in a pod.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn start_load(&self, pod: &str, load: &Value) -> Result<()> {
        self.order(pod, Request::put("/load"), Some(load))
            .await
            .map(drop)
    }

    /// The account of a load so far.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn load(&self, pod: &str) -> Result<Value> {
        self.order(pod, Request::get("/load"), None).await
    }

    /// Ends a load and returns its account.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn end_load(&self, pod: &str) -> Result<Value> {
        self.order(pod, Request::delete("/load"), None).await
    }

    /// Requests that a pod's app got, by path.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn counts(&self, pod: &str) -> Result<Value> {
        self.order(pod, Request::get("/counts"), None).await
    }

    async fn order(
        &self,
        pod: &str,
        request: http::request::Builder,
        body: Option<&Value>,
    ) -> Result<Value> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(Bytes::from(body))?;
        let answer = self.request(pod, CONTROL, request).await?;
        let value = answer.json()?;
        ensure!(answer.status.is_success(), "{}: {value}", answer.status);
        Ok(value)
    }
}

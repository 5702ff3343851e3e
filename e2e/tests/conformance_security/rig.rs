//! The programs of these tests: a Sentry over a CA that the test holds, a caller `web`, callees with their probes.
//!
//! The test signs certificates itself, so a crafted peer is as genuine as a sidecar. A probe records everything
//! that reaches an app; what it counts as a hit on a path is how the most obliging app would read it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Sentry, Sidecar, Spec, World, ports};
use ironside_proto::common::{InvokeRequest, InvokeResponse};
use ironside_testkit::{
    certs::Ca,
    grpc::{BareClient, Exchange, GrpcApp, GrpcClient},
    http::{Answer, HttpApp},
    tls,
};
use prost::Message as _;

/// What the app of a callee speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    Http,
    Grpc,
}

/// How the rules are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `Configuration.spec.accessControl`.
    Block,
    /// An AccessControl file.
    Object,
}

/// Both apps, both forms.
pub(crate) const ALL: [(App, Form); 4] = [
    (App::Http, Form::Block),
    (App::Http, Form::Object),
    (App::Grpc, Form::Block),
    (App::Grpc, Form::Object),
];

/// The identity of the caller.
pub(crate) const WEB: &str = "spiffe://public/ns/default/web";

/// A Sentry, and a caller that has no app.
pub(crate) struct Mesh {
    pub(crate) web: Sidecar,
    pub(crate) ca: Ca,
    pub(crate) sentry: Sentry,
    pub(crate) world: World,
}

impl Mesh {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(|spec| spec).await
    }

    /// The same with additions to the caller.
    pub(crate) async fn start_with(add: impl Fn(Spec) -> Spec) -> Result<Self> {
        let (world, ca) = (World::new(), Ca::new());
        let credentials = world.path().join("credentials");
        fs::create_dir_all(&credentials)?;
        for (name, text) in [
            ("ca.crt", ca.root_pem()),
            ("issuer.crt", ca.issuer_pem()),
            ("issuer.key", ca.issuer_key_pem()),
        ] {
            fs::write(credentials.join(name), text)?;
        }
        let sentry = Sentry::start_at(&world, credentials, ports::free(), "").await?;
        let web = add(Spec::new("web").mtls(&sentry)).start(&world).await?;
        Ok(Self {
            web,
            ca,
            sentry,
            world,
        })
    }

    /// Starts callees of these names under one policy; all come up at once.
    pub(crate) async fn callees(
        &self,
        name: &str,
        kinds: &[(App, Form)],
        policy: &str,
    ) -> Result<Vec<Callee>> {
        let mut callees = Vec::new();
        for (app, form) in kinds {
            let name = format!("{name}-{app:?}-{form:?}").to_lowercase();
            let ruled = |spec| ruled(spec, *form, policy);
            callees.push(self.launch(&name, *app, ruled).await?);
        }
        ready(&mut callees).await?;
        Ok(callees)
    }

    /// One without any policy for each app.
    pub(crate) async fn open_callees(&self) -> Result<Vec<Callee>> {
        let mut callees = vec![
            self.launch("open-http", App::Http, |spec| spec).await?,
            self.launch("open-grpc", App::Grpc, |spec| spec).await?,
        ];
        ready(&mut callees).await?;
        Ok(callees)
    }

    /// One callee, with any additions.
    pub(crate) async fn callee(
        &self,
        name: &str,
        app: App,
        add: impl FnOnce(Spec) -> Spec,
    ) -> Result<Callee> {
        let mut callee = self.launch(name, app, add).await?;
        callee.sidecar.healthy("/v1.0/healthz").await?;
        Ok(callee)
    }

    async fn launch(&self, name: &str, app: App, add: impl FnOnce(Spec) -> Spec) -> Result<Callee> {
        let probe = Probe::start(app).await?;
        let protocol = match app {
            App::Http => "http",
            App::Grpc => "grpc",
        };
        let spec = Spec::new(name).app(probe.port()).protocol(protocol);
        let sidecar = add(spec.mtls(&self.sentry)).launch(&self.world);
        Ok(Callee { sidecar, probe })
    }

    /// A connection to a callee's internal port by the holder of a certificate for `id`.
    pub(crate) async fn peer(&self, id: &str, callee: &Callee) -> Result<GrpcClient> {
        let io = tls::dial(callee.sidecar.internal(), self.ca.svid(id).issue()).await?;
        Ok(GrpcClient::over(io, "localhost").await?)
    }

    /// The same, with header blocks written by hand.
    pub(crate) async fn bare_peer(&self, id: &str, callee: &Callee) -> Result<BareClient> {
        let io = tls::dial(callee.sidecar.internal(), self.ca.svid(id).issue()).await?;
        Ok(BareClient::over(io).await?)
    }
}

async fn ready(callees: &mut [Callee]) -> Result<()> {
    for callee in callees {
        callee.sidecar.healthy("/v1.0/healthz").await?;
    }
    Ok(())
}

/// Adds a policy, given as one line of YAML below `spec`.
pub(crate) fn ruled(spec: Spec, form: Form, policy: &str) -> Spec {
    match form {
        Form::Block => spec.configure(&format!("  accessControl: {policy}\n")),
        Form::Object => spec.resource("policy.yaml", &object("policy", policy)),
    }
}

/// An AccessControl document.
pub(crate) fn object(name: &str, policy: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: {name}}}\nspec: {policy}\n"
    )
}

/// An entry for the caller; `more` follows after a comma.
pub(crate) fn entry(more: &str) -> String {
    format!("{{appId: web, namespace: default, trustDomain: public{more}}}")
}

/// A sidecar whose app is a probe.
pub(crate) struct Callee {
    pub(crate) sidecar: Sidecar,
    pub(crate) probe: Probe,
}

impl Callee {
    pub(crate) fn id(&self) -> &str {
        self.sidecar.app_id()
    }

    pub(crate) fn app(&self) -> App {
        match self.probe {
            Probe::Http(_) => App::Http,
            Probe::Grpc(_) => App::Grpc,
        }
    }

    /// How policy names a denied call of the caller.
    pub(crate) fn denial(operation: &str, verb: &str) -> String {
        format!(
            "access control policy has denied access to id: {WEB} operation: {operation} verb: {verb}"
        )
    }
}

/// An app that lets everything in and keeps count.
pub(crate) enum Probe {
    Http(HttpApp),
    Grpc(GrpcApp),
}

impl Probe {
    async fn start(app: App) -> Result<Self> {
        Ok(match app {
            App::Http => Self::Http(HttpApp::start(|_| Answer::text("ok")).await?),
            App::Grpc => Self::Grpc(GrpcApp::start(|call| Box::pin(welcome(call))).await?),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Http(app) => app.port(),
            Self::Grpc(app) => app.port(),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        match self {
            Self::Http(app) => app.connections(),
            Self::Grpc(app) => app.connections(),
        }
    }

    /// What arrived since the last look.
    pub(crate) fn hits(&self) -> Vec<Hit> {
        match self {
            Self::Http(app) => app
                .take()
                .into_iter()
                .map(|seen| Hit {
                    verb: seen.method().to_owned(),
                    path: seen.path().to_owned(),
                    headers: seen.head.headers,
                })
                .collect(),
            Self::Grpc(app) => app
                .take()
                .into_iter()
                .map(|seen| {
                    let invoked = seen.path().ends_with("/OnInvoke");
                    let message = seen.messages.first().map(Vec::as_slice).unwrap_or_default();
                    let request = InvokeRequest::decode(message).unwrap_or_default();
                    Hit {
                        verb: String::new(),
                        path: if invoked {
                            request.method
                        } else {
                            seen.path().to_owned()
                        },
                        headers: seen.headers,
                    }
                })
                .collect(),
        }
    }
}

async fn welcome(mut call: Exchange) {
    let invoked = call.path().ends_with("/OnInvoke");
    let message = call.message().await.unwrap_or_default();
    call.begin_reply(&[]);
    match invoked {
        true => call.reply(&InvokeResponse::default().encode_to_vec()),
        false => call.reply(&message),
    }
    call.end(0, "", &[]);
}

/// A request at an app.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Hit {
    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether an app that decodes, cleans and folds whatever it gets would come to `path`, or below it.
    pub(crate) fn may_be(&self, path: &str) -> bool {
        let mut text = self.path.split('?').next().unwrap_or_default().to_owned();
        for _ in 0..5 {
            let bytes = percent_decoded(&text);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let text = text.replace('\\', "/").to_ascii_lowercase();
        let mut kept: Vec<&str> = Vec::new();
        for segment in text.split('/') {
            match segment.split(';').next().unwrap_or_default() {
                "" | "." => {}
                ".." => drop(kept.pop()),
                other => kept.push(other),
            }
        }
        kept.first() == Some(&path.trim_start_matches('/'))
    }
}

/// Decodes each `%XX` once.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(hex.unwrap_or(*first));
        rest = match hex {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    out
}

/// Compares two values.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, want: T, found: T) -> Result<()> {
    ensure!(want == found, "{what}: expected {want:?}, found {found:?}");
    Ok(())
}

/// The only element.
pub(crate) fn only<T: std::fmt::Debug>(mut list: Vec<T>) -> Result<T> {
    ensure!(list.len() == 1, "one was expected: {list:?}");
    list.pop().context("one is there")
}

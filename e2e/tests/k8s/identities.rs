//! Identities that are not the asker's: tokens of the cluster, shown to its Sentry by somebody else or for something
//! else, get no certificate.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Waker, Poll},
};

use anyhow::{Context as _, Result, ensure};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ironside_e2e::k8s::{self, Machine, Place, Sample};
use ironside_identity::{SpiffeId, TrustBundle};
use ironside_proto::sentry::{
    SignCertificateRequest, ca_client::CaClient, sign_certificate_request::TokenValidator,
};
use ironside_testkit::certs::now;
use ironside_transport::{MinTls, connect_one_sided};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, ServiceAccount},
};
use kube::api::PostParams;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::json;
use tonic::{Code, Status};

use crate::breaking::{CONTROL, SENTRY, kubectl};

/// Sentry's own name, which its tokens are for.
const AUDIENCE: &str = "spiffe://cluster.local/ns/dapr-system/dapr-sentry";

/// One HTTP/2 connection under a generated client.
#[derive(Clone)]
struct Service(SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Service {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Waker<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// What somebody claims to be.
struct Claim<'a> {
    token: String,
    namespace: &'a str,
    app: &'a str,
}

/// Asks the cluster's Sentry for a certificate.
async fn sign(place: &Place, claim: Claim<'_>) -> Result<Result<(), Status>> {
    let control = place.beside(CONTROL);
    let map = control.api::<ConfigMap>().get("dapr-trust-bundle").await?;
    let data = map.data.unwrap_or_default();
    let pem = data.get("ca.crt").context("roots are published")?;
    let bundle = Arc::new(TrustBundle::from_pem(pem.as_bytes())?);
    let pod = control.pod(&format!("app={SENTRY}")).await?;
    let mut forward = control.api::<Pod>().portforward(&pod, &[50001]).await?;
    let stream = forward.take_stream(50001).context("the forwarded port")?;
    let sentry = SpiffeId::parse(AUDIENCE)?;
    let tls = connect_one_sided(stream, &sentry, bundle, Arc::new(now), MinTls::default()).await?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
    let (sender, connection) = handshake.await?;
    let origin = http::Uri::from_static("https://sentry");
    let mut client = CaClient::with_origin(Service(sender), origin);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&KeyPair::generate()?)?.pem()?;
    let request = SignCertificateRequest {
        id: claim.app.to_owned(),
        token: claim.token,
        namespace: claim.namespace.to_owned(),
        certificate_signing_request: csr.into_bytes().into(),
        token_validator: TokenValidator::Kubernetes.into(),
        ..SignCertificateRequest::default()
    };
    tokio::select! {
        answer = client.sign_certificate(request) => Ok(answer.map(drop)),
        ended = connection => anyhow::bail!("the connection ended: {ended:?}"),
    }
}

/// A token of an account of this namespace, for an audience, bound to a pod or to nothing.
async fn token(place: &Place, account: &str, audience: &str, pod: Option<&str>) -> Result<String> {
    let bound = match pod {
        Some(name) => {
            let found = place
                .api::<Pod>()
                .get(name)
                .await
                .context("the bound pod")?;
            Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name.to_owned()),
                uid: found.metadata.uid,
            })
        }
        None => None,
    };
    let wish = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            bound_object_ref: bound,
            expiration_seconds: Some(600),
        },
        ..TokenRequest::default()
    };
    let accounts = place.api::<ServiceAccount>();
    let made = accounts
        .create_token_request(account, &PostParams::default(), &wish)
        .await;
    let status = made.context("a token")?.status.context("a token")?;
    Ok(status.token)
}

/// Somebody is refused, for a reason in these words.
async fn refused(place: &Place, what: &str, claim: Claim<'_>, words: &str) -> Result<()> {
    let status = match sign(place, claim).await? {
        Ok(()) => anyhow::bail!("{what}: got a certificate"),
        Err(status) => status,
    };
    ensure!(
        status.code() == Code::PermissionDenied,
        "{what}: {status:?}"
    );
    ensure!(
        status.message().contains(words),
        "{what}: {}",
        status.message()
    );
    Ok(())
}

async fn forged(_machine: &Machine, place: &Place) -> Result<()> {
    let namespace = place.namespace();
    place.start(&Sample::with_sidecar("honest")).await?;
    let pod = place.pod("app=honest").await?;
    let fresh = async || token(place, "default", AUDIENCE, Some(&pod)).await;
    let claim = |token: String, namespace, app| Claim {
        token,
        namespace,
        app,
    };

    let own = sign(place, claim(fresh().await?, namespace, "honest")).await?;
    ensure!(own.is_ok(), "the pod's own identity: {own:?}");
    let replay = claim(fresh().await?, namespace, "other");
    refused(place, "another app's identity", replay, "app-id mismatch").await?;
    let foreign = claim(fresh().await?, "kube-system", "honest");
    refused(place, "a foreign namespace", foreign, "namespace mismatch").await?;
    for program in ["dapr-operator", "dapr-sentry", "dapr-injector"] {
        let program = claim(fresh().await?, namespace, program);
        refused(place, "an identity of the control plane", program, "").await?;
    }
    let elsewhere = token(place, "default", "https://elsewhere", Some(&pod)).await?;
    let elsewhere = claim(elsewhere, namespace, "honest");
    refused(place, "a token for somebody else", elsewhere, "").await?;
    let unbound = token(place, "default", AUDIENCE, None).await?;
    let unbound = claim(unbound, namespace, "honest");
    refused(place, "a token of no pod", unbound, "").await?;
    let torn = fresh().await?.chars().rev().collect();
    refused(
        place,
        "no token at all",
        claim(torn, namespace, "honest"),
        "",
    )
    .await?;

    // O-S6: the account lists which apps its pods may be.
    let list = "dapr.io/allowed-app-ids=other,another";
    kubectl(place, &["annotate", "serviceaccount", "default", list])?;
    let unlisted = async || {
        let claim = claim(fresh().await.ok()?, namespace, "honest");
        sign(place, claim).await.ok()?.err()
    };
    let status = place
        .until("the list of the account counts", unlisted)
        .await?;
    ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    ensure!(
        status.message().contains("dapr.io/allowed-app-ids"),
        "{}",
        status.message()
    );
    let list = "dapr.io/allowed-app-ids=other, honest";
    kubectl(
        place,
        &["annotate", "--overwrite", "serviceaccount", "default", list],
    )?;
    let listed = async || {
        let claim = claim(fresh().await.ok()?, namespace, "honest");
        sign(place, claim).await.ok()?.ok()
    };
    place.until("the longer list counts", listed).await?;

    // A token that outlives its pod is worth nothing.
    let kept = fresh().await?;
    kubectl(place, &["delete", "deployment", "honest"])?;
    kubectl(
        place,
        &["delete", "pod", &pod, "--force", "--grace-period=0"],
    )?;
    let dead = async || {
        let claim = claim(kept.clone(), namespace, "honest");
        sign(place, claim).await.ok()?.err()
    };
    let status = place
        .until("the token of a dead pod is refused", dead)
        .await?;
    ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    Ok(())
}

/// TM1, O-S6: token replay, foreign namespace, the control plane's names, other audiences, unlisted app IDs, dead pods.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn forged_identities_get_no_certificate() {
    let name = "identities::forged_identities_get_no_certificate";
    k8s::test_on_own(name, &[], forged).await;
}

/// A sidecar whose app the account does not list: the pod waits, and says why.
async fn unlisted(_machine: &Machine, place: &Place) -> Result<()> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "narrow", "annotations": {"dapr.io/allowed-app-ids": "other"}},
    });
    place.apply(&account.to_string())?;
    let mut manifest = Sample::with_sidecar("greedy").manifest();
    manifest["spec"]["template"]["spec"]["serviceAccountName"] = "narrow".into();
    place.apply(&manifest.to_string())?;
    let told = async || {
        let pod = place.pod("app=greedy").await.ok()?;
        let log = place.logs(&pod, "daprd").await.ok()?;
        log.contains("dapr.io/allowed-app-ids").then_some(())
    };
    place
        .until("the sidecar says why it gets no certificate", told)
        .await?;
    let list = "dapr.io/allowed-app-ids=greedy";
    kubectl(
        place,
        &["annotate", "--overwrite", "serviceaccount", "narrow", list],
    )?;
    place.rolled_out("greedy").await.map(drop)
}

/// O-S6 as the user meets it.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn a_pod_of_an_account_that_does_not_list_its_app_waits() {
    let name = "identities::a_pod_of_an_account_that_does_not_list_its_app_waits";
    k8s::test_on_own(name, &[], unlisted).await;
}

/// A pod that no node ever starts: it has an identity all the same.
fn idle(name: &str, annotations: &serde_json::Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "schedulingGates": [{"name": "test.example.org/never"}],
            "containers": [{"name": "app", "image": "ironside.test/sample:e2e", "securityContext": {
                "runAsNonRoot": true, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            }}],
        },
    })
    .to_string()
}

/// Asks with a fresh token of a pod until it is refused in these words: Sentry learns of new pods by a watch.
async fn pretends(place: &Place, pod: &str, app: &str, words: &str) -> Result<()> {
    let namespace = place.namespace();
    let look = async || {
        let token = token(place, "default", AUDIENCE, Some(pod)).await.ok()?;
        let claim = Claim {
            token,
            namespace,
            app,
        };
        match sign(place, claim).await.ok()? {
            // That ends the wait as well: no further look may hide it.
            Ok(()) => Some(None),
            Err(status) if status.message().contains(words) => Some(Some(status)),
            Err(_) => None,
        }
    };
    let what = format!("{pod} in {namespace} is refused: {words}");
    let status = place.until(&what, look).await?;
    let status = status.with_context(|| format!("{pod} as {app}: got a certificate"))?;
    ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    Ok(())
}

async fn pretenders(_machine: &Machine, place: &Place) -> Result<()> {
    let part = json!({"dapr.io/control-plane": "operator"});
    place.apply(&idle("outside", &part))?;
    pretends(place, "outside", "dapr-operator", "is not allowed").await?;

    let control = place.beside(CONTROL);
    let cases = [
        (
            json!({"dapr.io/app-id": "dapr-operator"}),
            "is reserved for the control plane",
        ),
        (
            json!({"dapr.io/control-plane": "operator", "dapr.io/app-id": "dapr-operator"}),
            "cannot have annotation 'dapr.io/app-id'",
        ),
        (
            json!({"dapr.io/control-plane": "everything"}),
            "unknown control plane service",
        ),
    ];
    for (index, (annotations, words)) in cases.iter().enumerate() {
        let name = format!("inside-{index}");
        control.apply(&idle(&name, annotations))?;
        let outcome = pretends(&control, &name, "dapr-operator", words).await;
        kubectl(&control, &["delete", "pod", &name, "--grace-period=0"])?;
        outcome?;
    }

    // K037: a token belongs to one pod, not to a name.
    let twin = json!({"dapr.io/app-id": "twin"});
    let namespace = place.namespace();
    let claim = |token: &str| Claim {
        token: token.to_owned(),
        namespace,
        app: "twin",
    };
    let accepted = async |token: &str| {
        let look = async || sign(place, claim(token)).await.ok()?.ok();
        place.until("the pod's own token counts", look).await
    };
    place.apply(&idle("twin", &twin))?;
    let first = token(place, "default", AUDIENCE, Some("twin")).await?;
    accepted(&first).await?;
    kubectl(
        place,
        &["delete", "pod", "twin", "--force", "--grace-period=0"],
    )?;
    place.apply(&idle("twin", &twin))?;
    let second = token(place, "default", AUDIENCE, Some("twin")).await?;
    accepted(&second).await?;
    let late = async || sign(place, claim(&first)).await.ok()?.err();
    let status = place
        .until("the token of the former pod is refused", late)
        .await?;
    ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    Ok(())
}

/// TM2, TM4, K037, K038, K040: annotations make no pod the control plane, and a pod of the same name is another one.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn annotations_make_nobody_the_control_plane() {
    let name = "identities::annotations_make_nobody_the_control_plane";
    k8s::test_on_own(name, &[], pretenders).await;
}

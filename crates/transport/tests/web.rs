//! The TLS of webhooks, as an API server speaks it.
#![cfg(test)]

use ironside_testkit::certs::{Ca, now};
use ironside_transport::{Identity, OneSidedTlsServer, provider};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

const NAME: &str = "dapr-sidecar-injector.dapr-system.svc";

/// Shakes hands as a client of these versions that offers these protocols; returns what was agreed on.
async fn shake(
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> (ProtocolVersion, Option<String>) {
    let ca = Ca::new();
    let leaf = ca.svid("spiffe://cluster.local/ns/dapr-system/dapr-injector");
    let leaf = leaf.and_dns(NAME).algorithm(&rcgen::PKCS_ECDSA_P256_SHA256);
    let identity = Identity {
        svid: Arc::new(leaf.svid()),
        bundle: Arc::new(ca.bundle()),
        generation: 1,
    };
    let (_publish, identity) = watch::channel(Some(Arc::new(identity)));
    let server = OneSidedTlsServer::web(identity, Arc::new(now));
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(ca.root_pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(provider());
    let config = config.with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(NAME).unwrap();
    let (accepted, connected) = tokio::join!(server.accept(theirs), connector.connect(name, ours));
    let (accepted, _connected) = (accepted.unwrap(), connected.unwrap());
    let session = accepted.get_ref().1;
    let protocol = session.alpn_protocol();
    let protocol = protocol.map(|name| String::from_utf8(name.to_vec()).unwrap());
    (session.protocol_version().unwrap(), protocol)
}

/// Fact: kubernetes.md 2.2: TLS 1.2 stays allowed, and the certificate names the Service.
#[tokio::test]
async fn webhooks_speak_https_to_old_and_new_servers() {
    let (old, new) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let agreed = |protocol: &str| Some(protocol.to_owned());
    let (v1_2, v1_3) = (ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3);
    assert_eq!(
        shake(&[new], &["h2", "http/1.1"]).await,
        (v1_3, agreed("h2"))
    );
    assert_eq!(
        shake(&[old], &["http/1.1"]).await,
        (v1_2, agreed("http/1.1"))
    );
    assert_eq!(shake(&[old, new], &[]).await, (v1_3, None));
}

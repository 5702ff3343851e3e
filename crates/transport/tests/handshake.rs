//! Handshakes over an in-memory pipe: one that succeeds, and every kind that must not.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use ironside_identity::{AppId, Namespace, TrustBundle, VerifiedPeer, VerifyError};
use ironside_testkit::certs::{Ca, Leaf, now};
use ironside_transport::{
    AcceptError, ConnectError, ExpectedPeer, Identity, IdentityRx, MinTls, Now, OneSidedTlsServer,
    TlsClient, TlsServer, provider,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;

const CALLER: &str = "spiffe://public/ns/default/caller";
const CALLEE: &str = "spiffe://public/ns/default/callee";
const HOUR: Duration = Duration::from_secs(3600);

fn identity(leaf: Leaf<'_>, bundle: TrustBundle, generation: u64) -> Arc<Identity> {
    Arc::new(Identity {
        svid: Arc::new(leaf.svid()),
        bundle: Arc::new(bundle),
        generation,
    })
}

fn fixed(leaf: Leaf<'_>, bundle: TrustBundle) -> IdentityRx {
    watch::channel(Some(identity(leaf, bundle, 1))).1
}

fn clock() -> Now {
    Arc::new(now)
}

fn at(instant: SystemTime) -> Now {
    Arc::new(move || instant)
}

fn callee() -> ExpectedPeer {
    ExpectedPeer {
        namespace: Namespace::default(),
        app_id: AppId::parse("callee").unwrap(),
    }
}

type Accepted = Result<VerifiedPeer, AcceptError>;
type Connected = Result<(VerifiedPeer, u64), ConnectError>;

/// Both sides shake hands; the pair is returned, and each side that succeeded sends one byte to the other.
async fn shake(server: &TlsServer, client: &TlsClient) -> (Accepted, Connected) {
    let (near, far) = duplex(4096);
    let accept = async {
        let (mut stream, peer) = server.accept(far).await?;
        drop(stream.write_all(b"x").await);
        drop(stream.flush().await);
        drop(stream.read_u8().await);
        Ok(peer)
    };
    let connect = async {
        let (mut stream, peer, generation) = client.connect(near, &callee()).await?;
        stream.write_all(b"x").await.map_err(ConnectError::Io)?;
        stream.flush().await.map_err(ConnectError::Io)?;
        // In TLS 1.3 a client learns of its refusal with the first bytes it reads.
        stream.read_u8().await.map_err(ConnectError::Io)?;
        Ok((peer, generation))
    };
    tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(accept, connect)
    })
    .await
    .unwrap()
}

/// A client with the given leaf calls a good server.
async fn call_with(ca: &Ca, leaf: Leaf<'_>) -> (Accepted, Connected) {
    let server = TlsServer::new(fixed(ca.svid(CALLEE), ca.bundle()), clock());
    // The client side trusts the CA, whatever it shows itself.
    shake(&server, &TlsClient::new(fixed(leaf, ca.bundle()), clock())).await
}

/// A good client calls a server with the given leaf.
async fn call_to(ca: &Ca, leaf: Leaf<'_>) -> Connected {
    let server = TlsServer::new(fixed(leaf, ca.bundle()), clock());
    shake(
        &server,
        &TlsClient::new(fixed(ca.svid(CALLER), ca.bundle()), clock()),
    )
    .await
    .1
}

#[tokio::test]
async fn two_sidecars_know_each_other() {
    let ca = Ca::new();
    let (accepted, connected) = call_with(&ca, ca.svid(CALLER)).await;
    assert_eq!(accepted.unwrap().id.to_string(), CALLER);
    let (peer, generation) = connected.unwrap();
    assert_eq!((peer.id.to_string().as_str(), generation), (CALLEE, 1));
}

/// Fact: security.md 2.5: the path counts, the trust domain does not.
#[tokio::test]
async fn a_callee_of_another_trust_domain_is_the_callee() {
    let ca = Ca::new();
    let (peer, _) = call_to(&ca, ca.svid("spiffe://elsewhere/ns/default/callee"))
        .await
        .unwrap();
    assert_eq!(peer.id.trust_domain().as_str(), "elsewhere");
}

/// Fact: security.md K089; text of golden 32.
#[tokio::test]
async fn another_app_or_namespace_is_not_the_callee() {
    let ca = Ca::new();
    for id in [
        "spiffe://public/ns/default/mallory",
        "spiffe://public/ns/other/callee",
    ] {
        let refused = call_to(&ca, ca.svid(id)).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("unexpected SPIFFE ID: \"{id}\"")
        );
    }
}

/// Fact: security.md K082, K083, K086, K087.
#[tokio::test]
async fn bad_certificates_are_refused_by_the_server() {
    let ca = Ca::new();
    let stranger = Ca::new();
    let refused = |outcome: (Accepted, Connected)| match outcome.0 {
        Err(AcceptError::Peer(refusal)) => {
            assert!(outcome.1.is_err(), "the client must learn of it");
            refusal
        }
        other => panic!("{other:?}"),
    };
    // The caller's clock is behind, so that it still believes in its own certificate.
    let valid = (now() - 2 * HOUR, now() + HOUR);
    let aged = Ca::builder()
        .root_valid(valid.0, valid.1)
        .issuer_valid(valid.0, valid.1)
        .build();
    let server = TlsServer::new(
        fixed(aged.svid(CALLEE).valid(valid.0, valid.1), aged.bundle()),
        clock(),
    );
    let old = aged.svid(CALLER).valid(valid.0, now() - HOUR / 2);
    let client = TlsClient::new(fixed(old, aged.bundle()), at(now() - HOUR));
    let outcome = shake(&server, &client).await;
    assert!(matches!(refused(outcome), VerifyError::Expired { .. }));
    let future = ca.svid(CALLER).valid(now() + HOUR / 2, now() + HOUR);
    assert!(matches!(
        refused(call_with(&ca, future).await),
        VerifyError::NotYetValid { .. }
    ));
    assert!(matches!(
        refused(call_with(&ca, stranger.svid(CALLER)).await),
        VerifyError::Untrusted { .. }
    ));
    assert!(matches!(
        refused(call_with(&ca, ca.svid(CALLER).self_signed()).await),
        VerifyError::Untrusted { .. }
    ));
    assert!(matches!(
        refused(call_with(&ca, ca.svid(CALLER).authority()).await),
        VerifyError::SigningLeaf { .. }
    ));
}

#[tokio::test]
async fn bad_certificates_are_refused_by_the_client() {
    let ca = Ca::new();
    let stranger = Ca::new();
    let refused = |connected: Connected| match connected {
        Err(ConnectError::Peer(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let old = ca.svid(CALLEE).valid(now() - HOUR, now() - HOUR / 2);
    assert!(matches!(
        refused(call_to(&ca, old).await),
        VerifyError::Expired { .. }
    ));
    assert!(matches!(
        refused(call_to(&ca, stranger.svid(CALLEE)).await),
        VerifyError::Untrusted { .. }
    ));
    assert!(matches!(
        refused(call_to(&ca, ca.svid(CALLEE).authority()).await),
        VerifyError::SigningLeaf { .. }
    ));
    let expired_root = Ca::builder()
        .root_valid(now() - 2 * HOUR, now() - HOUR)
        .build();
    let refusal = refused(call_to(&expired_root, expired_root.svid(CALLEE)).await);
    assert!(matches!(refusal, VerifyError::AnchorNotValid { .. }));
}

#[tokio::test]
async fn an_own_identity_is_needed_and_must_be_valid() {
    let ca = Ca::new();
    let nobody = || watch::channel(None).1;
    let server = TlsServer::new(nobody(), clock());
    assert!(matches!(
        server.accept(duplex(64).0).await,
        Err(AcceptError::NoIdentity)
    ));
    let client = TlsClient::new(nobody(), clock());
    assert!(matches!(
        client.connect(duplex(64).0, &callee()).await,
        Err(ConnectError::NoIdentity)
    ));
    let expired = fixed(
        ca.svid(CALLER).valid(now() - HOUR, now() - HOUR / 2),
        ca.bundle(),
    );
    let client = TlsClient::new(expired, clock());
    assert!(matches!(
        client.connect(duplex(64).0, &callee()).await,
        Err(ConnectError::OwnExpired { .. })
    ));
}

/// Fact: security.md O-C7.
#[tokio::test]
async fn the_control_plane_is_no_callee() {
    let ca = Ca::new();
    let client = TlsClient::new(fixed(ca.svid(CALLER), ca.bundle()), clock());
    let expect = ExpectedPeer {
        namespace: Namespace::default(),
        app_id: AppId::parse("dapr-sentry").unwrap(),
    };
    let refused = client.connect(duplex(64).0, &expect).await;
    assert!(matches!(refused, Err(ConnectError::ControlPlane { .. })));
}

#[tokio::test]
async fn a_new_generation_is_used_by_the_next_handshake() {
    let (old, new) = (Ca::new(), Ca::new());
    let both = old.bundle().merge(&new.bundle());
    let (tx, rx) = watch::channel(Some(identity(old.svid(CALLEE), both.clone(), 1)));
    let server = TlsServer::new(rx, clock());
    let client = TlsClient::new(fixed(old.svid(CALLER), both.clone()), clock());
    let shown = async || shake(&server, &client).await.1.unwrap().0.chain[0].clone();
    let first = shown().await;
    assert_eq!(shown().await, first);
    tx.send_replace(Some(identity(new.svid(CALLEE), both, 2)));
    assert_ne!(shown().await, first);
}

/// Fact: security.md 2.8 (callee off, caller on), golden 32.
#[tokio::test]
async fn plaintext_peers_are_told_apart() {
    let ca = Ca::new();
    let server = TlsServer::new(fixed(ca.svid(CALLEE), ca.bundle()), clock());
    let (mut near, far) = duplex(4096);
    let greet = async {
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
    };
    let (accepted, ()) = tokio::join!(async { server.accept(far).await.map(drop) }, greet);
    assert!(
        matches!(accepted, Err(AcceptError::Plaintext)),
        "{accepted:?}"
    );

    let client = TlsClient::new(fixed(ca.svid(CALLER), ca.bundle()), clock());
    let (near, mut far) = duplex(4096);
    far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let refused = client.connect(near, &callee()).await.map(drop).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "tls: first record does not look like a TLS handshake"
    );
}

#[tokio::test(start_paused = true)]
async fn silent_peers_are_given_up() {
    let ca = Ca::new();
    let server = TlsServer::new(fixed(ca.svid(CALLEE), ca.bundle()), clock());
    let (_near, far) = duplex(64);
    assert!(matches!(
        server.accept(far).await,
        Err(AcceptError::Timeout { .. })
    ));
    let client = TlsClient::new(fixed(ca.svid(CALLER), ca.bundle()), clock());
    let (near, _far) = duplex(4096);
    assert!(matches!(
        client.connect(near, &callee()).await,
        Err(ConnectError::Timeout { .. })
    ));
}

/// A client that is not ours, with the given settings and no certificate.
async fn odd_client(
    io: DuplexStream,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&[u8]],
) {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let name = ServerName::try_from("callee").unwrap();
    if let Ok(mut stream) = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await
    {
        drop(stream.read_u8().await);
    }
}

/// Fact: security.md K085, O-C1.
#[tokio::test]
async fn tls_1_2_is_refused_unless_allowed() {
    let ca = Ca::new();
    let run = async |min_tls| {
        let server =
            OneSidedTlsServer::new(fixed(ca.svid(CALLEE), ca.bundle()), clock()).min_tls(min_tls);
        let (near, far) = duplex(4096);
        let tls12 = [&rustls::version::TLS12];
        let client = odd_client(near, &tls12, &[b"h2"]);
        tokio::join!(async { server.accept(far).await.map(drop) }, client).0
    };
    let refused = run(MinTls::V1_3).await;
    assert!(
        matches!(refused, Err(AcceptError::Handshake(_))),
        "{refused:?}"
    );
    assert!(run(MinTls::V1_2).await.is_ok());
}

/// Fact: security.md K061, K082.
#[tokio::test]
async fn no_certificate_and_no_h2_are_refused() {
    let ca = Ca::new();
    let tls13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let mutual = TlsServer::new(fixed(ca.svid(CALLEE), ca.bundle()), clock());
    let (near, far) = duplex(4096);
    let client = odd_client(near, tls13, &[b"h2"]);
    let refused = tokio::join!(async { mutual.accept(far).await.map(drop) }, client).0;
    let no_certificate = rustls::Error::NoCertificatesPresented;
    assert!(
        matches!(&refused, Err(AcceptError::Handshake(e)) if *e == no_certificate),
        "{refused:?}"
    );

    for alpn in [&[][..], &[&b"http/1.1"[..]][..]] {
        let one_sided = OneSidedTlsServer::new(fixed(ca.svid(CALLEE), ca.bundle()), clock());
        let (near, far) = duplex(4096);
        let client = odd_client(near, tls13, alpn);
        let refused = tokio::join!(async { one_sided.accept(far).await.map(drop) }, client).0;
        assert!(matches!(refused, Err(AcceptError::NoAlpn)), "{refused:?}");
    }
}

/// Fact: security.md K085, 2.10: no ticket is offered, so no check can be skipped.
#[tokio::test]
async fn no_tickets_are_sent() {
    let ca = Ca::new();
    let server = OneSidedTlsServer::new(fixed(ca.svid(CALLEE), ca.bundle()), clock());
    let (near, far) = duplex(4096);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let accept = async {
        let mut stream = server.accept(far).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
    };
    let connect = async {
        let name = ServerName::try_from("callee").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, near).await.unwrap();
        stream.read_u8().await.unwrap();
        stream.get_ref().1.tls13_tickets_received()
    };
    assert_eq!(tokio::join!(accept, connect).1, 0);
}

/// Believes every server: what is tested is the other side.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

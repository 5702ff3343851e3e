//! TLS for tests: in front of a fake app, self-signed, and if wanted with a demand for client certificates; and
//! for a crafted peer, which shows any certificate and takes any.

#![expect(
    clippy::expect_used,
    reason = "a certificate that cannot be made is a failed test"
)]

use std::{io, sync::Arc};

use rcgen::{CertifiedKey, KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    certs::Issued,
    http::{app::Wrap, client::Io},
};

/// Connects to a port of 127.0.0.1 as the holder of `issued`, speaking `h2`; whoever answers is believed.
///
/// # Errors
/// When nobody listens, or the other side refuses the handshake at once. With TLS 1.3 it may do so later: at the
/// first read.
pub async fn dial(port: u16, issued: Issued) -> io::Result<impl Io + 'static> {
    dial_as(port, Some(issued), Version::Any).await
}

/// Which TLS versions a crafted peer offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// All there are.
    Any,
    /// 1.2 alone.
    Only12,
}

/// As [`dial`], without a certificate if there is none.
///
/// # Errors
/// As [`dial`].
pub async fn dial_as(
    port: u16,
    issued: Option<Issued>,
    version: Version,
) -> io::Result<impl Io + 'static> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let anyone = Anyone(provider.signature_verification_algorithms);
    let versions = match version {
        Version::Any => rustls::ALL_VERSIONS,
        Version::Only12 => &[&rustls::version::TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider has these versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anyone));
    let mut config = match issued {
        Some(Issued { chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(io::Error::other)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a legal name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Believes every server.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A self-signed certificate with its key, valid for `localhost` and 127.0.0.1.
pub struct SelfSigned(CertifiedKey<KeyPair>);

impl Default for SelfSigned {
    fn default() -> Self {
        Self::new()
    }
}

impl SelfSigned {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        Self(rcgen::generate_simple_self_signed(names).expect("names are legal"))
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.0.cert.pem()
    }

    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.0.signing_key.serialize_pem()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.cert.der().clone()
    }

    /// Wraps the connections of an app; with `client`, only callers that show that certificate get through.
    #[must_use]
    pub fn wrap(&self, protocols: &[&str], client: Option<&Self>) -> Arc<Wrap> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions");
        let builder = match client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(client.certificate())
                    .expect("a certificate is a root");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
            }
        };
        let key =
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.signing_key.serialize_der()));
        let mut config = builder
            .with_single_cert(vec![self.certificate()], key)
            .expect("the key fits");
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Arc::new(move |stream| {
            let accept = acceptor.accept(stream);
            Box::pin(async move { Ok(Box::new(accept.await?) as Box<dyn Io>) })
        })
    }
}

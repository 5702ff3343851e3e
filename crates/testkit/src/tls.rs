//! TLS in front of a fake app: self-signed, and if wanted with a demand for client certificates.

#![expect(
    clippy::expect_used,
    reason = "a certificate that cannot be made is a failed test"
)]

use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::http::{app::Wrap, client::Io};

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

//! An HTTPEndpoint resource: what of it is needed for calls, checked once.
//!
//! Owns its base URL, its headers and its TLS settings, and the errors that name the field at fault. Calls nobody.

use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue, Uri};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::client::{config_builder, system_roots};

/// The TLS side of an HTTPEndpoint, as PEM text.
#[derive(Debug, Default)]
pub(crate) struct EndpointTls<'a> {
    /// Roots to verify against instead of the system's.
    pub(crate) root_ca: Option<&'a str>,
    /// Client certificate chain.
    pub(crate) certificate: Option<&'a str>,
    /// Its key.
    pub(crate) private_key: Option<&'a str>,
}

/// Why an HTTPEndpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// The base URL is none.
    #[error("spec.baseUrl {url:?} is no http:// or https:// URL: {cause}")]
    BaseUrl {
        /// What was written.
        url: Box<str>,
        /// What is wrong with it.
        cause: Box<str>,
    },
    /// A header that no request can carry.
    #[error("spec.headers entry {0:?} is no valid HTTP header")]
    Header(Box<str>),
    /// A PEM text that holds nothing usable.
    #[error("spec.clientTLS.{field}: {cause}")]
    Pem {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        cause: Box<str>,
    },
    /// Certificate and key come together or not at all.
    #[error("spec.clientTLS: certificate and privateKey must be given together")]
    HalfPair,
    /// The parts do not make a TLS client.
    #[error("spec.clientTLS: {0}")]
    Tls(Box<str>),
}

/// An HTTPEndpoint resource, ready for calls.
pub(crate) struct Endpoint {
    written: Box<str>,
    pub(super) base: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) tls: Option<ClientConfig>,
}

impl Endpoint {
    /// Checks and prepares a resource.
    ///
    /// # Errors
    /// [`EndpointError`] names the field.
    pub(crate) fn new(
        base_url: &str,
        headers: &[(Box<str>, Box<str>)],
        tls: &EndpointTls<'_>,
    ) -> Result<Self, EndpointError> {
        let invalid = |cause: &str| EndpointError::BaseUrl {
            url: base_url.into(),
            cause: cause.into(),
        };
        let base: Uri = base_url
            .parse()
            .map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.authority().is_none() {
            return Err(invalid("scheme and host are needed"));
        }
        let headers = headers
            .iter()
            .map(|(name, value)| parse_header(name, value))
            .collect::<Result<_, _>>()?;
        let plain = tls.root_ca.is_none() && tls.certificate.is_none() && tls.private_key.is_none();
        let tls = if plain {
            None
        } else {
            Some(endpoint_tls(tls)?)
        };
        Ok(Self {
            written: base_url.into(),
            base,
            headers,
            tls,
        })
    }
}

impl Endpoint {
    /// The base URL as written.
    pub(crate) const fn base(&self) -> &str {
        &self.written
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), EndpointError> {
    let invalid = || EndpointError::Header(name.into());
    let value = HeaderValue::from_str(value).map_err(|_invalid| invalid())?;
    Ok((name.parse().map_err(|_invalid| invalid())?, value))
}

fn endpoint_tls(tls: &EndpointTls<'_>) -> Result<ClientConfig, EndpointError> {
    let roots = match tls.root_ca {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("rootCA", pem)? {
                roots
                    .add(certificate)
                    .map_err(|error| pem_error("rootCA", &error))?;
            }
            Arc::new(roots)
        }
        None => system_roots(),
    };
    let builder = config_builder()
        .map_err(|error| EndpointError::Tls(error.to_string().into()))?
        .with_root_certificates(roots);
    match (tls.certificate, tls.private_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates("certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| pem_error("privateKey", &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| EndpointError::Tls(error.to_string().into()))
        }
        _ => Err(EndpointError::HalfPair),
    }
}

fn certificates(
    field: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| pem_error(field, &error))?;
    if found.is_empty() {
        return Err(EndpointError::Pem {
            field,
            cause: "holds no PEM certificate".into(),
        });
    }
    Ok(found)
}

fn pem_error(field: &'static str, cause: &dyn fmt::Display) -> EndpointError {
    EndpointError::Pem {
        field,
        cause: cause.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_endpoint_is_refused_by_field() {
        for (base, tls, text) in [
            (
                "ftp://x",
                EndpointTls::default(),
                "spec.baseUrl \"ftp://x\"",
            ),
            ("/x", EndpointTls::default(), "spec.baseUrl \"/x\""),
            (
                "https://x",
                EndpointTls {
                    root_ca: Some("nonsense"),
                    ..EndpointTls::default()
                },
                "spec.clientTLS.rootCA",
            ),
            (
                "https://x",
                EndpointTls {
                    private_key: Some("k"),
                    ..EndpointTls::default()
                },
                "spec.clientTLS: certificate",
            ),
        ] {
            let error = Endpoint::new(base, &[], &tls).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let header = Endpoint::new(
            "http://x",
            &[("a b".into(), "c".into())],
            &EndpointTls::default(),
        );
        assert!(header.unwrap_err().to_string().contains("\"a b\""));
    }
}

//! The kind HTTPEndpoint: an outside address that is invoked by name.
//!
//! Owns the schema and the checks a file can fail by itself. TLS material is
//! not parsed and nothing is dialled. Source: service-invocation 1.6,
//! process-interface 6.4.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::value::spell;
use crate::{NameValue, SecretKeyRef, yaml};

/// An outside address with a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpEndpoint {
    /// `metadata.name`; what a caller writes as target.
    pub name: String,
    /// `metadata.namespace`; empty when absent.
    pub namespace: String,
    /// `spec`.
    pub spec: HttpEndpointSpec,
    /// `auth.secretStore`; empty when absent.
    pub secret_store: String,
    /// The apps it is for; empty means all.
    pub scopes: Vec<String>,
}

/// Where an endpoint is and how it is called.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpEndpointSpec {
    /// Scheme, host and path prefix.
    #[serde(deserialize_with = "yaml::null_default")]
    pub base_url: String,
    /// Headers set on every request.
    #[serde(deserialize_with = "yaml::list")]
    pub headers: Vec<NameValue>,
    /// TLS of the client.
    #[serde(rename = "clientTLS")]
    pub client_tls: Option<ClientTls>,
}

/// Certificates for the way to an endpoint.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientTls {
    /// Roots that are trusted instead of the system's; PEM.
    #[serde(rename = "rootCA")]
    pub root_ca: Option<TlsDocument>,
    /// The client's certificate; PEM.
    pub certificate: Option<TlsDocument>,
    /// The certificate's key; PEM.
    pub private_key: Option<TlsDocument>,
    /// Renegotiation as written; TLS 1.3 knows none, but a wrong word is refused.
    #[serde(deserialize_with = "yaml::null_default")]
    pub renegotiation: String,
}

/// A PEM text, given outright or by secret.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsDocument {
    /// The text.
    pub value: Option<Value>,
    /// A key of a secret instead of the text.
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// What is wrong with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointProblem {
    /// No address.
    #[error("spec.baseUrl is missing")]
    NoBaseUrl,
    /// A word that is none of the three.
    #[error("spec.clientTLS.renegotiation: {0:?} is none of Never, OnceAsClient, FreelyAsClient")]
    Renegotiation(Box<str>),
    /// A key, and nothing it belongs to.
    #[error("spec.clientTLS.privateKey is given without a certificate")]
    KeyWithoutCertificate,
    /// A certificate that cannot be used.
    #[error("spec.clientTLS.certificate is given without a privateKey")]
    CertificateWithoutKey,
}

// === impl HttpEndpoint ===

impl HttpEndpoint {
    /// Returns everything that is wrong with the manifest.
    #[must_use]
    pub fn problems(&self) -> Vec<EndpointProblem> {
        let mut problems = Vec::new();
        if self.spec.base_url.is_empty() {
            problems.push(EndpointProblem::NoBaseUrl);
        }
        if let Some(tls) = &self.spec.client_tls {
            tls.collect(&mut problems);
        }
        problems
    }
}

// === impl ClientTls ===

impl ClientTls {
    fn collect(&self, problems: &mut Vec<EndpointProblem>) {
        let known = ["", "Never", "OnceAsClient", "FreelyAsClient"];
        if !known.contains(&self.renegotiation.as_str()) {
            let word = self.renegotiation.as_str().into();
            problems.push(EndpointProblem::Renegotiation(word));
        }
        match (is_given(&self.certificate), is_given(&self.private_key)) {
            (false, true) => problems.push(EndpointProblem::KeyWithoutCertificate),
            (true, false) => problems.push(EndpointProblem::CertificateWithoutKey),
            (true, true) | (false, false) => {}
        }
    }
}

fn is_given(document: &Option<TlsDocument>) -> bool {
    document
        .as_ref()
        .is_some_and(|document| document.secret_key_ref.is_some() || !document.text().is_empty())
}

// === impl TlsDocument ===

impl TlsDocument {
    /// Returns the text given outright; empty when it lies in a secret.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.as_ref().map(spell).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: &str) -> Vec<String> {
        let spec = yaml::decode(spec).unwrap().unwrap();
        let endpoint = HttpEndpoint {
            spec,
            ..HttpEndpoint::default()
        };
        endpoint
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// KC-06: an empty `clientTLS`, as it is written and as the API server stores it, is no trouble.
    #[test]
    fn all_problems_are_reported() {
        let table: &[(&str, &[&str])] = &[
            ("{baseUrl: 'http://x'}", &[]),
            ("{baseUrl: x, clientTLS: {}}", &[]),
            ("{baseUrl: x, clientTLS: {renegotiation: Never}}", &[]),
            ("{baseUrl: 'http://x', version: v1, headers:}", &[]),
            ("{headers: []}", &["spec.baseUrl is missing"]),
            (
                "{baseUrl: x, clientTLS: {rootCA: {value: pem}, renegotiation: Never}}",
                &[],
            ),
            (
                "{baseUrl: x, clientTLS: {renegotiation: OnceAsClient}}",
                &[],
            ),
            (
                "{baseUrl: x, clientTLS: {certificate: {value: c}, privateKey: {secretKeyRef: {name: k}}}}",
                &[],
            ),
            (
                "{baseUrl: x, clientTLS: {privateKey: {value: k}}}",
                &["spec.clientTLS.privateKey is given without a certificate"],
            ),
            (
                "{clientTLS: {certificate: {value: c}, renegotiation: always}}",
                &[
                    "spec.baseUrl is missing",
                    "spec.clientTLS.renegotiation: \"always\" is none of Never, OnceAsClient, FreelyAsClient",
                    "spec.clientTLS.certificate is given without a privateKey",
                ],
            ),
        ];
        for (spec, want) in table {
            assert_eq!(problems(spec), *want, "{spec}");
        }
    }

    #[test]
    fn pem_texts_keep_their_lines() {
        let spec = "baseUrl: x\nclientTLS:\n  rootCA:\n    value: |\n      -----BEGIN\n      x\n";
        let spec: HttpEndpointSpec = yaml::decode(spec).unwrap().unwrap();
        let root = spec.client_tls.unwrap().root_ca.unwrap();
        assert_eq!(root.text(), "-----BEGIN\nx\n");
    }
}

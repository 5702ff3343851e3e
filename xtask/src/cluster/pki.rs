//! Certificates and kubeconfigs of one cluster: one authority, one certificate for each part.
//!
//! Everything lives as long as the cluster's folder. Names and organisations are those that Kubernetes' own roles
//! are bound to; nothing here grants anything.

use std::fs;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::{folder::Folder, network};

/// Names and addresses under which the API server is called.
const API_SERVER: [&str; 7] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    network::API_SERVICE,
    "127.0.0.1",
    network::NODE,
];

/// Clients: file, common name, organisation.
const CLIENTS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "ironside-admin", Some("system:masters")),
    ("api-to-kubelet", "kube-apiserver", Some("system:masters")),
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        None,
    ),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("kubelet", "system:node:node1", Some("system:nodes")),
];

/// Makes all of them, and a kubeconfig for each client inside the machine.
///
/// # Errors
/// If the folder cannot be written to.
pub(crate) fn make(folder: &Folder) -> Result<()> {
    let authority = authority(folder)?;
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let api = subject(&API_SERVER, "kube-apiserver", None, server.clone())?;
    issue(folder, &authority, "apiserver", api)?;
    let node = [network::NODE, network::NODE_NAME];
    let node = subject(&node, network::NODE_NAME, None, server)?;
    issue(folder, &authority, "node", node)?;
    for (file, name, organisation) in CLIENTS {
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let params = subject(&[], name, organisation, client)?;
        issue(folder, &authority, file, params)?;
        let inside = kubeconfig(folder, "https://127.0.0.1:6443", file);
        folder.write(&folder.etc(&format!("{file}.kubeconfig")), &inside)?;
    }
    let tokens = key()?;
    folder.write(&folder.pki("tokens.key"), &tokens.serialize_pem())?;
    folder.write(&folder.pki("tokens.pub"), &tokens.public_key_pem())
}

/// A kubeconfig for `client` that calls the API server at `server`.
///
/// It names the files of this folder, so it is good as long as the cluster is.
pub(crate) fn kubeconfig(folder: &Folder, server: &str, client: &str) -> String {
    let path = |name: &str| folder.pki(name).display().to_string();
    let authority = path("ca.crt");
    let certificate = path(&format!("{client}.crt"));
    let key = path(&format!("{client}.key"));
    let name = format!("ironside-{}", folder.name());
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         clusters:\n- name: {name}\n  cluster:\n    server: {server}\n    certificate-authority: {authority}\n\
         users:\n- name: {client}\n  user:\n    client-certificate: {certificate}\n    client-key: {key}\n\
         contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {client}\n"
    )
}

fn authority(folder: &Folder) -> Result<Issuer<'static, KeyPair>> {
    let mut params = subject_of("ironside-cluster", None)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = key()?;
    let certificate = params.self_signed(&key).context("certificate authority")?;
    folder.write(&folder.pki("ca.crt"), &certificate.pem())?;
    folder.write(&folder.pki("ca.key"), &key.serialize_pem())?;
    Ok(Issuer::new(params, key))
}

fn subject_of(name: &str, organisation: Option<&str>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("certificate")?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organisation) = organisation {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organisation);
    }
    Ok(params)
}

fn subject(
    hosts: &[&str],
    name: &str,
    organisation: Option<&str>,
    purpose: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = subject_of(name, organisation)?;
    params.subject_alt_names = CertificateParams::new(hosts)
        .with_context(|| format!("names of {name}"))?
        .subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    Ok(params)
}

fn issue(
    folder: &Folder,
    authority: &Issuer<'static, KeyPair>,
    file: &str,
    params: CertificateParams,
) -> Result<()> {
    let key = key()?;
    let certificate = params
        .signed_by(&key, authority)
        .with_context(|| format!("certificate {file}"))?;
    folder.write(&folder.pki(&format!("{file}.crt")), &certificate.pem())?;
    let path = folder.pki(&format!("{file}.key"));
    folder.write(&path, &key.serialize_pem())?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, private).with_context(|| format!("{}", path.display()))
}

fn key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("key")
}

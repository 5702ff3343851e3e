//! The certificate that discovery shows, which somebody else makes and renews.
//!
//! Owns waiting for its two files, and following them: another pair is verified and swapped in place, a bad one is
//! reported and the old one kept. TLS 1.2 at least, as readers of such documents are of every age.

use crate::config::OidcTls;
use ironside_identity::pem::{self, PemError};
use ironside_transport::{FileWatch, provider};
use rustls::ServerConfig;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The logger of this part.
pub(super) const SCOPE: &str = "dapr.sentry.oidc";
/// Files that are not there are looked for this often (security 1.10).
const POLL: Duration = Duration::from_secs(5);
/// Files count as written after this pause.
const SETTLE: Duration = Duration::from_millis(500);

/// The configuration in effect; none until there is a certificate.
pub(crate) type Published = watch::Sender<Option<Arc<ServerConfig>>>;

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("{}: {cause}", path.display())]
    Pem { path: PathBuf, cause: PemError },
    #[error("certificate {} and key {}: {cause}", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        cause: rustls::Error,
    },
}

/// Waits for the files, publishes what they hold, and follows them; for ever.
pub(crate) async fn follow(files: OidcTls, publish: Published) {
    let paths = vec![files.certificate.clone(), files.key.clone()];
    let mut watch = FileWatch::new(paths, SETTLE);
    let mut told: Option<String> = None;
    loop {
        let waiting = publish.borrow().is_none();
        match load(&files) {
            Ok(config) => {
                match waiting {
                    true => info!(target: SCOPE, "TLS certificate of the OIDC HTTP server loaded"),
                    false => {
                        info!(target: SCOPE, "TLS certificate of the OIDC HTTP server changed; reloading")
                    }
                }
                publish.send_replace(Some(Arc::new(config)));
                told = None;
            }
            Err(cause) => {
                let cause = cause.to_string();
                if told.as_ref() != Some(&cause) {
                    match waiting {
                        true => {
                            warn!(target: SCOPE, "Waiting for the TLS certificate of the OIDC HTTP server: {cause}")
                        }
                        false => {
                            error!(target: SCOPE, "TLS certificate cannot be used, the old one stays in effect: {cause}")
                        }
                    }
                }
                told = Some(cause);
            }
        }
        let waiting = publish.borrow().is_none();
        tokio::select! {
            () = watch.changed() => {}
            () = tokio::time::sleep(POLL), if waiting => {}
        }
    }
}

fn load(files: &OidcTls) -> Result<ServerConfig, TlsError> {
    let OidcTls { certificate, key } = files;
    let named = |path: &Path| {
        let path = path.to_owned();
        move |cause| TlsError::Pem { path, cause }
    };
    let chain = pem::certificates(&read(certificate)?).map_err(named(certificate))?;
    let private = pem::private_key(&read(key)?).map_err(named(key))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        });
    let mut config = config.map_err(|cause| TlsError::Pair {
        certificate: certificate.clone(),
        key: key.clone(),
        cause,
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|cause| TlsError::Read {
        path: path.to_owned(),
        cause,
    })
}

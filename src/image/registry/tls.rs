//! Whom we believe: the host's own list of authorities, and those that `certs.d` names for one registry.
//!
//! See it: `openssl s_client -connect HOST:443 -showcerts`. Read: docker's "Verify repository client with certificates".

use std::path::Path;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::settings::{Endpoint, Scheme};
use crate::error::{Doing, Error, Result};

/// Where distributions keep the list, in one file.
const SYSTEM: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// What TLS with this server takes.
///
/// # Errors
/// NotFound, Invalid for a file that holds no certificate.
pub fn config(endpoint: &Endpoint) -> Result<TlsConfig> {
    let mut builder = TlsConfig::builder().disable_verification(endpoint.trust.skip_verify);
    if !endpoint.schemes.contains(&Scheme::Https) {
        return Ok(builder.build());
    }
    let mut authorities = system();
    for file in &endpoint.trust.authorities {
        let found = certificates(file)?;
        if found.is_empty() {
            return Err(Error::invalid(format!("read the authorities of {}", endpoint.host), format!("{} holds no certificate", file.display())));
        }
        authorities.extend(found);
    }
    if !authorities.is_empty() {
        builder = builder.root_certs(RootCerts::new_with_certs(&authorities));
    }
    if let Some((certificate, key)) = &endpoint.trust.client {
        let doing = || format!("read {}", key.display());
        let key = PrivateKey::from_pem(&std::fs::read(key).doing(doing)?).map_err(|e| Error::invalid(doing(), e.to_string()))?;
        builder = builder.client_cert(Some(ClientCert::new_with_certs(&certificates(certificate)?, key)));
    }
    Ok(builder.build())
}

/// The host's own list; without one, ureq's copy of Mozilla's is taken.
fn system() -> Vec<Certificate<'static>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let mut files = named.into_iter().chain(SYSTEM.iter().map(std::path::PathBuf::from));
    files.find_map(|file| certificates(&file).ok().filter(|found| !found.is_empty())).unwrap_or_default()
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let bytes = std::fs::read(file).doing(|| format!("read {}", file.display()))?;
    let certificate = |item| if let Ok(PemItem::Certificate(certificate)) = item { Some(certificate) } else { None };
    Ok(parse_pem(&bytes).filter_map(certificate).collect())
}

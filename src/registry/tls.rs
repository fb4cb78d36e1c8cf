//! TLS: with a certificate of one's own, or one that is made on the spot.
//!
//! Nobody has signed the one that is made here but itself: clients trust it when it stands in their `certs.d`. It is kept beside the engine's
//! other things, not with the images, which are copied and given away; a new one is made when the machine's addresses are others.
//!
//! See it: `openssl s_client -connect localhost:5000 </dev/null | openssl x509 -noout -text`. Read: docker's certs.d, x509v3_config(5).

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use crate::error::{Doing, Error, Result};
use crate::image::digest::Digest;
use crate::image::durable::{make_dir, write_whole};

/// What is needed to speak TLS.
pub struct Tls {
    /// In PEM, as clients keep it.
    pub certificate: String,
    pub acceptor: TlsAcceptor,
}

impl Tls {
    /// With a certificate (and those that signed it) and a key, in PEM.
    ///
    /// # Errors
    /// NotFound; Invalid for files without them, and for a key of another certificate.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Tls> {
        let read = |path: &Path| fs::read_to_string(path).doing(|| format!("read {}", path.display()));
        Tls::of(read(certificate)?, &read(key)?)
            .map_err(|why| Error::invalid(format!("use the certificate {} with the key {}", certificate.display(), key.display()), why))
    }

    /// With a certificate for these names and addresses: the one in `folder`, or a new one.
    ///
    /// # Errors
    /// EACCES, ENOSPC.
    pub fn made(folder: &Path, hosts: &[String]) -> Result<Tls> {
        let (certificate, key, made_for) = (folder.join("cert.pem"), folder.join("key.pem"), folder.join("hosts"));
        let wanted = hosts.join("\n");
        if fs::read_to_string(&made_for).ok().as_ref() == Some(&wanted)
            && let Ok(tls) = Tls::of_files(&certificate, &key)
        {
            return Ok(tls);
        }
        let (certificate_pem, key_pem) = make(hosts).map_err(|why| Error::invalid("make a certificate", why))?;
        make_dir(folder, 0o700)?;
        // Last what says that the others are whole.
        let _ = fs::remove_file(&made_for);
        write_whole(&key, key_pem.as_bytes())?;
        write_whole(&certificate, certificate_pem.as_bytes())?;
        write_whole(&made_for, wanted.as_bytes())?;
        Tls::of(certificate_pem, &key_pem).map_err(|why| Error::invalid("use the certificate", why))
    }

    fn of(certificate: String, key: &str) -> Result<Tls, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        if chain.is_empty() {
            return Err("there is no certificate in it".into());
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| format!("the key: {e}"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(|e| e.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { certificate, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// The certificate's SHA-256, by which people compare it over the telephone.
    pub fn fingerprint(&self) -> String {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).map(|der| der.to_vec()).unwrap_or_default();
        let digest = Digest::of(&der);
        let pairs: Vec<&str> = digest.hex().as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok()).collect();
        pairs.join(":").to_uppercase()
    }
}

/// A certificate and its key, in PEM.
fn make(hosts: &[String]) -> Result<(String, String), String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "onggi registry");
    let name = |host: &String| match host.parse::<IpAddr>() {
        Ok(address) => Some(SanType::IpAddress(address)),
        Err(_) => host.as_str().try_into().ok().map(SanType::DnsName),
    };
    params.subject_alt_names = hosts.iter().filter_map(name).collect();
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
    Ok((certificate.pem(), key.serialize_pem()))
}

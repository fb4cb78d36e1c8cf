//! What clients have to be told, so that they pull from here: each in its own file and words.
//!
//! Read: dockerd(8) "insecure-registries", containers-registries.conf(5), docker's certs.d.

use std::net::{IpAddr, SocketAddr};

use super::addresses;

/// How a registry is reached.
#[derive(Debug, Clone)]
pub struct Reached {
    /// `192.168.0.10:5000`
    pub hosts: Vec<String>,
    pub is_tls: bool,
    /// The registry behind it.
    pub mirror_of: Option<String>,
}

impl Reached {
    /// A registry that listens there: under the machine's addresses, when it listens at all of them.
    pub fn at(address: SocketAddr, is_tls: bool, mirror_of: Option<String>) -> Reached {
        let port = address.port();
        let mut hosts: Vec<String> = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => addresses::own().iter().map(|own| format!("{}:{port}", own.address)).collect(),
            IpAddr::V6(ip) if ip.is_unspecified() => addresses::own().iter().map(|own| format!("{}:{port}", own.address)).collect(),
            _ => vec![address.to_string()],
        };
        if hosts.is_empty() {
            hosts.push(format!("127.0.0.1:{port}"));
        }
        Reached { hosts, is_tls, mirror_of }
    }

    /// The address that is shown first.
    pub fn host(&self) -> &str {
        self.hosts.first().map_or("", String::as_str)
    }

    pub fn url(&self, host: &str) -> String {
        format!("{}://{host}", if self.is_tls { "https" } else { "http" })
    }

    /// Docker's `/etc/docker/daemon.json`.
    pub fn for_docker(&self) -> String {
        let host = self.host();
        let mut keys = Vec::new();
        if !self.is_tls {
            keys.push(format!("\"insecure-registries\": [\"{host}\"]"));
        }
        // Docker knows mirrors of the Hub only.
        if self.mirror_of.as_deref() == Some("docker.io") {
            keys.push(format!("\"registry-mirrors\": [\"{}\"]", self.url(host)));
        }
        match keys.is_empty() {
            true => format!("the certificate as /etc/docker/certs.d/{host}/ca.crt"),
            false if self.is_tls => {
                format!("{{{}}} in /etc/docker/daemon.json, the certificate as /etc/docker/certs.d/{host}/ca.crt", keys.join(", "))
            }
            false => format!("{{{}}} in /etc/docker/daemon.json", keys.join(", ")),
        }
    }

    /// Podman's, skopeo's and buildah's `registries.conf`.
    pub fn for_podman(&self) -> Vec<String> {
        let (host, insecure) = (self.host(), !self.is_tls);
        let mut lines = match &self.mirror_of {
            Some(registry) => vec![
                "[[registry]]".to_string(),
                format!("location = \"{registry}\""),
                "[[registry.mirror]]".to_string(),
                format!("location = \"{host}\""),
                format!("insecure = {insecure}"),
            ],
            None => Vec::new(),
        };
        if insecure || self.mirror_of.is_none() {
            lines.extend(["[[registry]]".to_string(), format!("location = \"{host}\""), format!("insecure = {insecure}")]);
        }
        if self.is_tls {
            lines.push(format!("# and the certificate as /etc/containers/certs.d/{host}/ca.crt"));
        }
        lines
    }

    pub fn for_onggi(&self) -> String {
        let host = self.host();
        let trust = if self.is_tls { format!(", with the certificate as /etc/onggi/certs.d/{host}/ca.crt") } else { String::new() };
        format!("onggi registry use {}{trust}", self.url(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_told_in_its_own_words() {
        let plain = Reached::at("192.0.2.7:5000".parse().unwrap(), false, Some("docker.io".into()));
        assert_eq!(
            plain.for_docker(),
            r#"{"insecure-registries": ["192.0.2.7:5000"], "registry-mirrors": ["http://192.0.2.7:5000"]} in /etc/docker/daemon.json"#
        );
        assert!(plain.for_podman().contains(&"location = \"docker.io\"".to_string()));
        assert_eq!(plain.for_onggi(), "onggi registry use http://192.0.2.7:5000");
        let tls = Reached::at("[::1]:5000".parse().unwrap(), true, None);
        assert_eq!(tls.for_docker(), "the certificate as /etc/docker/certs.d/[::1]:5000/ca.crt");
        assert_eq!(tls.for_onggi(), "onggi registry use https://[::1]:5000, with the certificate as /etc/onggi/certs.d/[::1]:5000/ca.crt");
    }
}

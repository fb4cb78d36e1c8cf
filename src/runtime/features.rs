//! What this runtime can do, for callers that ask before they write a config.
//!
//! Read: features.md and features-linux.md of the OCI runtime specification.

use serde_json::{Value, json};

use super::spec::{NamespaceKind, OCI_VERSION};
use super::{capabilities, labels, mount_options, seccomp};

/// The features document.
pub fn features() -> Value {
    let namespaces: Vec<&str> = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"].to_vec();
    debug_assert_eq!(namespaces.len(), NamespaceKind::ALL.len());
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options::known(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities::names(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS,
                "operators": seccomp::OPERATORS,
                "archs": seccomp::ARCHITECTURES,
                "knownFlags": seccomp::FLAGS,
                "supportedFlags": seccomp::FLAGS,
            },
            "apparmor": { "enabled": labels::apparmor_is_on() },
            "selinux": { "enabled": labels::selinux_is_on() },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
        "annotations": { "org.onggi.version": env!("CARGO_PKG_VERSION") },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

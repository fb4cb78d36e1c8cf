//! `linux.sysctl`: kernel settings that belong to a namespace of the container. Any other would change the host's.
//!
//! See it: `ls /proc/P/root/proc/sys`. Read: sysctl(8), namespaces(7), ipc_namespaces(7).

use super::kernel_files::KernelFiles;
use super::spec::{Linux, NamespaceKind};
use crate::error::{Error, Result};
use crate::sys::{Reason, because};

static SYSCTL: Reason = Reason {
    id: "sysctl.write",
    en: "kernel settings of the container's own namespaces",
    ko: "컨테이너 자기 네임스페이스의 커널 설정",
    see: "nsenter -t {P} -a sysctl -a",
};

const IPC: &[&str] =
    &["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"];

/// Refuses every setting whose namespace the container doesn't have for itself: (JSON path, reason).
///
/// # Errors
/// The first such setting.
pub fn check(linux: &Linux) -> std::result::Result<(), (String, String)> {
    for name in linux.sysctl.keys() {
        let path = format!("linux.sysctl[{name:?}]");
        let dotted = dotted(name);
        let Some(kind) = namespace_of(&dotted) else {
            return Err((path, "it belongs to no namespace: it would change the host".into()));
        };
        // A part that is only slashes was only dots before: `..` would lead out of /proc/sys.
        if dotted.split('.').any(|part| part.trim_matches('/').is_empty()) {
            return Err((path, "it is no name of a setting".into()));
        }
        if !linux.namespaces.iter().any(|n| n.kind == kind) {
            return Err((path, format!("it needs a {} namespace in linux.namespaces, or it would change the host", kind.file())));
        }
    }
    Ok(())
}

fn namespace_of(dotted: &str) -> Option<NamespaceKind> {
    match dotted {
        "kernel.hostname" | "kernel.domainname" => Some(NamespaceKind::Uts),
        _ if IPC.contains(&dotted) || dotted.starts_with("fs.mqueue.") => Some(NamespaceKind::Ipc),
        _ if dotted.starts_with("net.") => Some(NamespaceKind::Network),
        _ if dotted.starts_with("user.") => Some(NamespaceKind::User),
        _ => None,
    }
}

/// `net/ipv4/conf/eth0.1/forwarding` and `net.ipv4.conf.eth0/1.forwarding` name the same setting (sysctl.d(5)): if the first
/// separator is a slash, dots are part of names.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|i| &name[i..=i]) {
        Some("/") => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_string(),
    }
}

/// Writes them, in the container's namespaces, before the user is changed.
///
/// # Errors
/// ENOENT for a setting that this kernel doesn't have, EINVAL for its value.
pub fn apply(linux: &Linux, files: &KernelFiles) -> Result<()> {
    if linux.sysctl.is_empty() {
        return Ok(());
    }
    because(&SYSCTL);
    for (name, value) in &linux.sysctl {
        let file: String = dotted(name)
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect();
        files.write(&format!("sys/{file}"), value).map_err(|e| Error::sys(format!("set linux.sysctl[{name:?}] to {value:?}"), e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::spec::Namespace;

    fn refused(name: &str, kinds: &[NamespaceKind]) -> Option<String> {
        let mut linux = Linux::default();
        linux.sysctl.insert(name.into(), "1".into());
        linux.namespaces = kinds.iter().map(|&kind| Namespace { kind, path: None }).collect();
        check(&linux).err().map(|(_, reason)| reason)
    }

    #[test]
    fn only_settings_of_the_containers_own_namespaces_are_taken() {
        assert_eq!(refused("net.ipv4.ip_forward", &[NamespaceKind::Network]), None);
        assert_eq!(refused("net/ipv4/ip_forward", &[NamespaceKind::Network]), None);
        assert!(refused("net.ipv4.ip_forward", &[]).is_some());
        assert!(refused("kernel.panic", &[NamespaceKind::Uts, NamespaceKind::Ipc]).is_some());
        assert!(refused("vm.swappiness", &NamespaceKind::ALL).is_some());
        assert!(refused("net/../kernel/panic", &NamespaceKind::ALL).is_some());
        assert!(refused("net/ipv4/../../kernel/panic", &NamespaceKind::ALL).is_some());
    }
}

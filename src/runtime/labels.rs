//! Labels of the two security modules that mark processes by name: AppArmor and SELinux.
//!
//! A profile or label is written into `/proc/self/attr/…/exec` and takes hold at execve(2). The file is opened in a `/proc` that we
//! made ourselves: in the container's, somebody could have put another file in its place, and a write that seems to succeed would
//! leave the program unconfined (CVE-2019-16884, CVE-2025-52881).
//!
//! See it: `cat /proc/P/attr/current`. Read: apparmor(7), selinux(8), proc_pid_attr(5).

use std::path::Path;

use super::kernel_files::KernelFiles;
use super::spec::Process;
use crate::error::{Class, Error, Result};
use crate::sys::{Reason, because};

static LABEL: Reason = Reason {
    id: "labels.exec",
    en: "from execve on, the security module holds the program to this profile",
    ko: "execve부터 보안 모듈이 이 프로파일로 프로그램을 묶는다",
    see: "cat /proc/{P}/attr/current",
};

/// Whether the kernel enforces AppArmor profiles.
pub fn apparmor_is_on() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Whether the kernel has SELinux.
pub fn selinux_is_on() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Refuses, before anything is made, a label that this kernel could not honour.
///
/// # Errors
/// Unsupported.
pub fn check(process: &Process) -> Result<()> {
    if let Some(profile) = wanted(&process.apparmor_profile)
        && !apparmor_is_on()
    {
        return Err(Error::new(Class::Unsupported, format!("apply process.apparmorProfile {profile:?}"), "AppArmor is not enabled in this kernel"));
    }
    if let Some(label) = wanted(&process.selinux_label)
        && !selinux_is_on()
    {
        return Err(Error::new(Class::Unsupported, format!("apply process.selinuxLabel {label:?}"), "SELinux is not enabled in this kernel"));
    }
    Ok(())
}

/// Writes what shall hold from execve(2) on.
///
/// # Errors
/// ENOENT for a profile that isn't loaded, EACCES.
pub fn apply(process: &Process, files: &KernelFiles) -> Result<()> {
    if let Some(profile) = wanted(&process.apparmor_profile) {
        because(&LABEL);
        let doing = || format!("apply process.apparmorProfile {profile:?}");
        // The file of its own exists since Linux 5.8; before that the modules shared one.
        let place = if Path::new("/sys/module/apparmor").exists() { "self/attr/apparmor/exec" } else { "self/attr/exec" };
        files.write(place, &format!("exec {profile}")).map_err(|e| Error::sys(doing(), e))?;
    }
    if let Some(label) = wanted(&process.selinux_label) {
        because(&LABEL);
        files.write("self/attr/exec", label).map_err(|e| Error::sys(format!("apply process.selinuxLabel {label:?}"), e))?;
    }
    Ok(())
}

fn wanted(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|text| !text.is_empty() && *text != "unconfined")
}

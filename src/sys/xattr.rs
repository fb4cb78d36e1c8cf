//! Extended attributes: named bytes on a file. Overlay keeps "this folder hides the ones below" in one, file capabilities are another.
//!
//! A file is named by its folder's descriptor and its name there, and a link is never followed: `/proc/self/fd/N/name`.
//!
//! See it: `getfattr -d -m - FILE`. Read: xattr(7), lsetxattr(2), lgetxattr(2), llistxattr(2).

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use super::c_string;
use super::call::{SysResult, call};

/// lsetxattr(2).
///
/// # Errors
/// ENOTSUP (the file system has none of this kind), EPERM (`trusted.` in a user namespace, `user.` on what is no file or folder), ENOSPC.
pub fn set(dir: BorrowedFd, name: &Path, key: &str, value: &[u8]) -> SysResult<()> {
    let (path_c, key_c) = (path_of(dir, name)?, c_string(key)?);
    call(
        "lsetxattr",
        || format!("{}, {key}, {} bytes, 0", path_c.to_string_lossy(), value.len()),
        // SAFETY: two valid C strings, pointer and length of one live slice.
        || unsafe { libc::lsetxattr(path_c.as_ptr(), key_c.as_ptr(), value.as_ptr().cast(), value.len(), 0) as _ },
    )?;
    Ok(())
}

/// lgetxattr(2).
///
/// # Errors
/// ENODATA when the file has none of this name, ENOTSUP.
pub fn value(dir: BorrowedFd, name: &Path, key: &str) -> SysResult<Vec<u8>> {
    let (path_c, key_c) = (path_of(dir, name)?, c_string(key)?);
    // The kernel's own limit for one value (XATTR_SIZE_MAX).
    let mut room = vec![0u8; 65536];
    let length = call(
        "lgetxattr",
        || format!("{}, {key}", path_c.to_string_lossy()),
        // SAFETY: two valid C strings, pointer and length of live room.
        || unsafe { libc::lgetxattr(path_c.as_ptr(), key_c.as_ptr(), room.as_mut_ptr().cast(), room.len()) as _ },
    )?;
    room.truncate(length as usize);
    Ok(room)
}

/// llistxattr(2): the names.
///
/// # Errors
/// ENOTSUP.
pub fn names(dir: BorrowedFd, name: &Path) -> SysResult<Vec<String>> {
    let path_c = path_of(dir, name)?;
    // XATTR_LIST_MAX.
    let mut room = vec![0u8; 65536];
    let length = call(
        "llistxattr",
        || path_c.to_string_lossy().into_owned(),
        // SAFETY: a valid C string, pointer and length of live room.
        || unsafe { libc::llistxattr(path_c.as_ptr(), room.as_mut_ptr().cast(), room.len()) as _ },
    )?;
    room.truncate(length as usize);
    Ok(room.split(|&b| b == 0).filter(|n| !n.is_empty()).map(|n| String::from_utf8_lossy(n).into_owned()).collect())
}

/// The folder by its descriptor, which no rename and no link can bend; the name itself by name, because `l…xattr` must not follow it.
fn path_of(dir: BorrowedFd, name: &Path) -> SysResult<CString> {
    c_string(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

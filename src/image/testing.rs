//! For the tests of this folder: a directory that is gone at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!("onggi-image-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether this process may mount; says so when it may not.
pub fn may_mount() -> bool {
    let may = crate::sys::mount::fsopen("tmpfs").is_ok();
    if !may {
        println!("skipped: fsopen(2) needs CAP_SYS_ADMIN");
    }
    may
}

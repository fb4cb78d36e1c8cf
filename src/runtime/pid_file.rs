//! `--pid-file`: a container's first process, told to whoever started it.

use std::path::Path;

use crate::error::{Doing, Error, Result};

/// Whoever waits for the file finds it whole.
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let doing = || format!("write the PID file {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::invalid(doing(), "it is no file"))?;
    let new = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    std::fs::write(&new, pid.to_string()).doing(doing)?;
    std::fs::rename(&new, path).doing(doing)
}

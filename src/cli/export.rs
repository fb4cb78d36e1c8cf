//! `export`: the archive goes to standard output or into a file, which is there whole or not at all.
//!
//! Read: docker export(1).

use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::engine::files::export;
use crate::engine::home::Home;
use crate::engine::names;
use crate::error::{Doing, Error, Result};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Container: its name, or (the beginning of) its ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Writes a container's files as a tar archive.
///
/// # Errors
/// Invalid for a terminal; NotFound; ENOSPC.
pub fn export(args: &ExportArgs) -> Result<u8> {
    let home = Home::open()?;
    let record = || names::find(&home, &args.container);
    let Some(file) = &args.output else {
        if std::io::stdout().is_terminal() {
            let why = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
            return Err(Error::invalid(format!("export {}", args.container), why));
        }
        let record = record()?;
        return super::to_stdout(|out| export::export(&home, &record, out));
    };
    let doing = || format!("export {} to {}", args.container, file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::metadata(folder).map_err(|_| Error::invalid(doing(), format!("invalid output path: directory {folder:?} does not exist")))?;
    if std::fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return Err(Error::invalid(doing(), format!("invalid output path: {file:?} must be a regular file")));
    }
    let record = record()?;
    // Aside first: a file of this name that was there stays until the new one is whole.
    let new = folder.join(format!(".{}.{}", file.file_name().unwrap_or_default().display(), std::process::id()));
    let out = File::options().write(true).create_new(true).mode(0o600).open(&new).doing(doing)?;
    let written = export::export(&home, &record, BufWriter::with_capacity(256 << 10, &out));
    let kept = written.and_then(|()| std::fs::rename(&new, file).doing(doing));
    kept.inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })?;
    Ok(0)
}

//! `onggi man`: the manual's pages, made from the same words as `--help`.
//!
//! See it: `onggi man /tmp/pages; man /tmp/pages/onggi-run.1`. Read: man-pages(7).

use std::path::PathBuf;

use clap::{Args, Command};

use super::oci::quiet_pipe;
use crate::error::{Doing, Result};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  onggi man ~/.local/share/man/man1; man onggi-run")]
pub struct ManArgs {
    /// The folder for all pages; without one, the first page is printed
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints the first page, or writes all of them.
///
/// # Errors
/// ENOENT, EACCES, ENOSPC.
pub fn man(args: &ManArgs, mut command: Command) -> Result<u8> {
    command.build();
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).doing(|| "make the page".into())?;
        return std::io::Write::write_all(&mut std::io::stdout(), &page).or_else(quiet_pipe).map(|()| 0);
    };
    std::fs::create_dir_all(folder).doing(|| format!("make {}", folder.display()))?;
    clap_mangen::generate_to(command, folder).doing(|| format!("write the pages into {}", folder.display()))?;
    Ok(0)
}

//! `onggi doctor`: what this machine can do, each line yes or no, with the remedy for a no.

use std::io::Write;

use clap::Args;
use colored::Colorize;

use super::oci::{print_json, quiet_pipe};
use crate::engine::home::Home;
use crate::error::Result;
use crate::inspect::host;

/// Say what this machine can do for containers, and the remedy for what it can't
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Prints the findings: 1 when no container can run here.
///
/// # Errors
/// NotFound without a home.
pub fn doctor(args: &DoctorArgs) -> Result<u8> {
    let findings = host::findings(&Home::find()?.data);
    let broken = findings.iter().any(|finding| finding.needed && !finding.yes);
    if args.json {
        print_json(&findings)?;
        return Ok(u8::from(broken));
    }
    let mut out = std::io::stdout().lock();
    let printed = findings.iter().try_for_each(|finding| {
        let answer = if finding.yes { "yes".green() } else { "no ".yellow() };
        writeln!(out, "{answer}  {}  {}", finding.name, format!("({})", finding.seen).dimmed())?;
        if finding.yes { Ok(()) } else { writeln!(out, "     → {}", finding.remedy) }
    });
    printed.or_else(quiet_pipe)?;
    Ok(u8::from(broken))
}

//! `diff`: a letter and a path for each file that is not as it was.
//!
//! Read: docker diff(1).

use clap::Args;

use super::say;
use crate::engine::files::diff::{self, Kind};
use crate::engine::home::Home;
use crate::engine::names;
use crate::error::Result;

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Container: its name, or (the beginning of) its ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Prints what a container changed: A added, C changed, D deleted.
///
/// # Errors
/// NotFound.
pub fn diff(args: &DiffArgs) -> Result<u8> {
    let home = Home::open()?;
    for change in diff::changes(&home, &names::find(&home, &args.container)?)? {
        let letter = match change.kind {
            Kind::Changed => 'C',
            Kind::Added => 'A',
            Kind::Deleted => 'D',
        };
        say(format_args!("{letter} {}", change.path.display()))?;
    }
    Ok(0)
}

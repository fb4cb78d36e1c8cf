//! `commit`: arguments, and the new image's ID.
//!
//! Read: docker commit(1).

use clap::Args;

use super::say;
use crate::engine::files::commit::{self, Choices};
use crate::engine::home::Home;
use crate::engine::names;
use crate::error::Result;

#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Who made it: "Kim <kim@example.com>"
    #[arg(short, long)]
    author: Option<String>,
    /// What it is for
    #[arg(short, long)]
    message: Option<String>,
    /// An instruction of a Dockerfile for its settings: CMD, ENV, EXPOSE …; may be given again
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Freeze the container meanwhile [default: true]
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: Option<bool>,
    /// Container: its name, or (the beginning of) its ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name: REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Makes an image and prints its ID.
///
/// # Errors
/// Those of [`commit`].
pub fn commit(args: CommitArgs) -> Result<u8> {
    let home = Home::open()?;
    let record = names::find(&home, &args.container)?;
    let choices = Choices { author: args.author, message: args.message, changes: args.change, pause: args.pause };
    say(commit::commit(&home, &record, args.name.as_deref(), &choices)?)
}

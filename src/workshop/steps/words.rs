//! The words of the command line that the steps from 06 on understand.
//!
//! See it: `step-06 --help`, `step-06 run --help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::Hooks;
use crate::cli::limits::LimitArgs;

// What is asked for; `More` are the options that a step adds. The documentation is what `--help` says.
/// Run containers, and look after them
#[derive(Parser)]
#[command(infer_long_args = true)]
pub enum Request<More: Args> {
    /// Run a command in a container
    Run(Box<Run<More>>),
    #[command(flatten)]
    Later(Later),
}

/// What is asked for once there are containers.
#[derive(Subcommand)]
pub enum Later {
    /// List the containers
    Ps,
    /// Show what a container has written
    Logs { name: String },
    /// End a container: SIGTERM, and SIGKILL for who doesn't listen
    Stop {
        /// Seconds between the two
        #[arg(short, long, default_value_t = 10)]
        time: u16,
        name: String,
    },
    /// Remove a container that has ended
    Rm { name: String },
}

#[derive(Args)]
pub struct Run<More: Args> {
    #[command(flatten)]
    pub more: More,
    /// Leave it to its monitor, and come back
    #[arg(short, long)]
    pub detach: bool,
    #[arg(long)]
    pub name: Option<String>,
    /// Remove it when it has ended
    #[arg(long)]
    pub rm: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// An image in the OCI's layout: a folder, or an archive of one
    pub image: PathBuf,
    /// What to run instead of what the image says
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// No options more.
#[derive(Args)]
pub struct Nothing {}

impl Hooks for Nothing {}

//! `onggi-book`: the book's editions, built, served, checked and tried.
//!
//! Try it: `cargo run -p onggi-book -- serve`

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use onggi_book::{chapter, chapters, check, edition, pages, root, run, serve, terminal, twins};

/// Builds and checks the book
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Book {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write both editions to target/book
    Build,
    /// Build, and show the book on this machine's loopback address until Ctrl-C; a change is there at the next look
    Serve {
        #[arg(long, default_value_t = 3000)]
        port: u16,
    },
    /// Read all that can be wrong without running anything: twins, links, listings, pictures, the map of the notes
    Check,
    /// Type the commands of chapters and compare what they print; as root
    Run {
        /// Beginnings of file names: 04, 07a; all without
        chapters: Vec<String>,
        /// Write what they print into both editions
        #[arg(long)]
        record: bool,
        /// The folder of `onggi` and the steps; this program's own otherwise
        #[arg(long)]
        bin: Option<std::path::PathBuf>,
    },
    /// Note that each section and its twin say the same: after both were changed
    Twins {
        /// Sections that were changed in one language only and need no change in the other: 04_overlay.md#see
        #[arg(long)]
        only_one: Vec<String>,
    },
    /// Draw what a terminal shows after a command: book/pictures/terminal.en.svg is made so
    Terminal {
        out: std::path::PathBuf,
        #[arg(long, default_value = "en")]
        lang: String,
        /// So many lines of it
        #[arg(long, default_value_t = 30)]
        lines: usize,
        /// What is typed
        typed: String,
    },
    /// Print a chapter as the renderers get it
    Expand {
        /// The beginning of its file name
        chapter: String,
        #[arg(long, default_value = "en")]
        lang: String,
    },
}

fn main() -> ExitCode {
    let root = root();
    let done = match Book::parse().command {
        Command::Build => edition::build(&root, &root.join("target/book")).map(|place| println!("{}", place.display())),
        Command::Serve { port } => serve::serve(&root, port),
        Command::Check => found(&check::check(&root)),
        Command::Run { chapters, record, bin } => run::run(&root, bin.as_deref(), &chapters, record).and_then(|wrong| found(&wrong)),
        Command::Twins { only_one } => twins::record(&root, &only_one),
        Command::Terminal { out, lang, lines, typed } => {
            let own = std::env::current_exe().unwrap_or_default();
            terminal::picture(&root, own.parent().unwrap_or(&root), &out, &lang, lines, &typed)
        }
        Command::Expand { chapter: name, lang } => expand(&root, &lang, &name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("onggi-book: {why}");
            ExitCode::FAILURE
        }
    }
}

fn expand(root: &std::path::Path, lang: &str, name: &str) -> Result<(), String> {
    let file = chapters(root, lang)?.into_iter().find(|file| file.starts_with(name)).ok_or_else(|| format!("there is no chapter {name}"))?;
    print!("{}", pages::expand(root, lang, &chapter(root, lang, &file)?)?);
    Ok(())
}

fn found(wrong: &[String]) -> Result<(), String> {
    match wrong {
        [] => Ok(()),
        some => Err(format!("{} things are wrong\n{}", some.len(), some.join("\n"))),
    }
}

//! `onggi logs`: what a container has said, its standard output on ours and its standard error on ours.
//!
//! Read: docker-logs(1).

use std::io::{BufWriter, ErrorKind, Write};
use std::time::SystemTime;

use clap::Args;

use super::human;
use crate::engine::home::Home;
use crate::engine::log::follow::Follow;
use crate::engine::log::reader::{self, Wanted};
use crate::engine::log::{Entry, Stream};
use crate::engine::{names, record};
use crate::error::{Class, Error, Result};

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Wait for more, until the container has ended
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines; `all` shows all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", hide_default_value = true, allow_negative_numbers = true, value_parser = tail)]
    tail: Tail,
    /// What was said at this time or later: 2026-11-21T10:00:00, seconds since 1970, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// What was said until this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Begin each line with the time at which it was said
    #[arg(short, long)]
    timestamps: bool,
    /// Show what else is known of each line, which is nothing with the drivers that there are
    #[arg(long)]
    details: bool,
    /// Container: its name, or (the beginning of) its ID
    container: String,
}

#[derive(Debug, Clone, Copy)]
struct Tail(Option<u64>);

fn tail(text: &str) -> std::result::Result<Tail, String> {
    match text.parse::<i64>() {
        // Docker takes a negative number for all.
        Ok(number) => Ok(Tail(u64::try_from(number).ok())),
        Err(_) if text == "all" => Ok(Tail(None)),
        Err(_) => Err("it is neither a number nor all".into()),
    }
}

/// Shows the log; who closes our output early has seen enough.
///
/// # Errors
/// NotFound; Invalid for a time that is none; Unsupported for a container that keeps no log.
pub fn logs(args: &LogsArgs) -> Result<u8> {
    let now = SystemTime::now();
    let time = |option, text: &Option<String>| text.as_deref().map(|text| human::moment(option, text, now)).transpose();
    let wanted = Wanted { tail: args.tail.0, since: time("--since", &args.since)?, until: time("--until", &args.until)? };
    let home = Home::open()?;
    let record = names::find(&home, &args.container)?;
    if !record::definition(&home, &record.id)?.request.log.kept {
        let why = "configured logging driver does not support reading";
        return Err(Error::new(Class::Unsupported, format!("show the log of {}", record.name), why)
            .hint("it was created with --log-driver none: nothing was kept"));
    }
    let mut output = Output::new(args);
    let mut was_closed = false;
    let mut take = |entry: Option<&Entry>| {
        let shown = match entry {
            Some(entry) => output.show(entry),
            None => output.flush(),
        };
        shown.inspect_err(|e| was_closed |= e.kind() == ErrorKind::BrokenPipe)
    };
    let mark = home.running(&record.id);
    let lives = || mark.exists() && record::load(&home, &record.id).is_ok_and(|record| record.is_attended());
    let follow = args.follow.then_some(Follow { lives: &lives, mark: Some(&mark), until: None });
    let done = reader::read(&home.log(&record.id), &wanted, follow, &mut take);
    if was_closed { Ok(0) } else { done.map(|()| 0) }
}

/// Both outputs, each in blocks; when the stream changes, the other is written first, so that on a terminal the order is right.
struct Output {
    out: BufWriter<std::io::Stdout>,
    err: BufWriter<std::io::Stderr>,
    last: Stream,
    timestamps: bool,
    details: bool,
}

const BLOCK: usize = 64 << 10;

impl Output {
    fn new(args: &LogsArgs) -> Output {
        let (out, err) = (BufWriter::with_capacity(BLOCK, std::io::stdout()), BufWriter::with_capacity(BLOCK, std::io::stderr()));
        Output { out, err, last: Stream::Stdout, timestamps: args.timestamps, details: args.details }
    }

    fn show(&mut self, entry: &Entry) -> std::io::Result<()> {
        if entry.stream != self.last {
            self.flush()?;
            self.last = entry.stream;
        }
        let to: &mut dyn Write = match entry.stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        };
        if entry.lost > 0 {
            return writeln!(to, "onggi: {} bytes of the output are missing here: there was no room on the disk", entry.lost);
        }
        if self.timestamps {
            write!(to, "{} ", reader::timestamp(entry))?;
        }
        if self.details {
            to.write_all(b" ")?;
        }
        to.write_all(&entry.text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

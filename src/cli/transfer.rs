//! How far the layers of an image are that come or go.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::bars::{self, Bars};
use crate::engine::interrupt::interruptible;
use crate::error::Result;
use crate::image::registry::{Tell, Told};
use crate::sys::fd;
use crate::sys::terminal::{self, Size};

/// Where the progress is shown: `pull` and `push` tell it on standard output, `run` leaves that to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    Stdout,
    Stderr,
}

impl Where {
    /// Says a line there.
    ///
    /// # Errors
    /// ENOSPC, EIO.
    pub fn tell(self, line: impl std::fmt::Display) -> Result<()> {
        match self {
            Where::Stdout => super::images::tell(line),
            // Nobody listens to us any more: no reason not to go on.
            Where::Stderr => {
                let _ = writeln!(std::io::stderr(), "{line}");
                Ok(())
            }
        }
    }

    fn write(self, text: &str) {
        let _ = match self {
            Where::Stdout => std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()),
            Where::Stderr => std::io::stderr().write_all(text.as_bytes()),
        };
    }

    /// The size of the terminal there; None when there is none that one can move about on.
    fn size(self) -> Option<Size> {
        let able = std::env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb");
        let end = fd::standard(if self == Where::Stdout { 1 } else { 2 });
        let size = terminal::size(end).ok().filter(|_| able)?;
        // A serial line says nothing of its size.
        Some(if size.rows == 0 || size.columns == 0 { Size { rows: 24, columns: 80 } } else { size })
    }
}

/// Does the work and shows how far it is: on a terminal by lines that change, elsewhere by each word once. Ctrl-C ends it.
///
/// # Errors
/// Those of the work; Interrupted.
pub fn show<T>(doing: &str, quiet: bool, place: Where, work: impl FnOnce(Tell) -> Result<T>) -> Result<T> {
    let shown: Mutex<Shown> = Mutex::new(if place.size().is_some() { Shown::Bars(Bars::default()) } else { Shown::Words(BTreeSet::new()) });
    let tell = |told: Told| {
        if quiet {
            return;
        }
        // Held until it is written: frames must not mix.
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        place.write(&match &mut *shown {
            Shown::Bars(bars) => {
                let size = place.size().unwrap_or(Size { rows: 24, columns: 80 });
                bars.change(told.layer, told.state, size, Instant::now()).unwrap_or_default()
            }
            Shown::Words(said) => match bars::word(&told.state).map(|word| format!("{}: {word}\n", told.layer)) {
                Some(line) if said.insert(line.clone()) => line,
                _ => String::new(),
            },
        });
    };
    let catch_up = || {
        if let Shown::Bars(bars) = &mut *shown.lock().unwrap_or_else(PoisonError::into_inner)
            && let Some(size) = place.size()
        {
            place.write(&bars.catch_up(size, Instant::now()).unwrap_or_default());
        }
    };
    let done = interruptible(doing, || {
        std::thread::scope(|scope| {
            let (is_doing, done) = mpsc::channel::<()>();
            if place.size().is_some() && !quiet {
                scope.spawn(move || {
                    while done.recv_timeout(bars::NUMBERS) == Err(RecvTimeoutError::Timeout) {
                        catch_up()
                    }
                });
            }
            let worked = work(&tell);
            drop(is_doing);
            worked
        })
    });
    if let (Shown::Bars(mut bars), Some(size)) = (shown.into_inner().unwrap_or_else(PoisonError::into_inner), place.size())
        && !quiet
    {
        place.write(&bars.end(size));
    }
    done
}

/// What was shown by now.
enum Shown {
    Bars(Bars),
    Words(BTreeSet<String>),
}

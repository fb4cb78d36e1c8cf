//! The layers of an image on a terminal: a line for each, written over as it comes nearer to its end, in Docker's words.
//!
//! ```text
//! a2abf6c4d29d: Pull complete
//! 5f70bf18a086: Downloading [=============>                     ]  1.2MB/3.1MB
//! ```
//! The cursor always waits at the beginning of the line below, visible: whatever ends this program, the shell goes on there. When the
//! window is lower than the layers are many, finished ones scroll away first, and of the others as many are shown as fit.
//!
//! See it: `onggi pull nginx | cat -v` shows none of this; `script -c 'onggi pull nginx' log; cat -v log` does. Read: console_codes(4).

use std::fmt::Write;
use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthStr;

use super::human;
use crate::image::registry::State;
use crate::sys::terminal::Size;

/// Numbers change this often at most, and words this often.
pub const NUMBERS: Duration = Duration::from_millis(100);
const WORDS: Duration = Duration::from_millis(20);

const LONGEST_BAR: usize = 52;
const SHORTEST_BAR: usize = 12;

/// What is on the screen.
#[derive(Default)]
pub struct Bars {
    layers: Vec<(String, State)>,
    /// The width of each line above the cursor that may be written over.
    drawn: Vec<usize>,
    last: Option<Instant>,
    /// A layer is further than the screen shows.
    is_behind: bool,
}

impl Bars {
    /// Takes a layer's new state: what is to be written to a terminal of this size, if anything is due by now.
    pub fn change(&mut self, layer: &str, state: State, size: Size, now: Instant) -> Option<String> {
        let is_number = matches!(state, State::Downloading { .. } | State::Extracting { .. } | State::Pushing { .. });
        match self.layers.iter_mut().find(|(known, _)| known == layer) {
            Some((_, old)) if !follows(old, &state) => return None,
            Some((_, old)) => *old = state,
            None => self.layers.push((layer.to_string(), state)),
        }
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= if is_number { NUMBERS } else { WORDS });
        self.is_behind = true;
        if is_due { self.catch_up(size, now) } else { None }
    }

    /// What is to be written when nothing new was told for a while: the last news may not have been due when they came.
    pub fn catch_up(&mut self, size: Size, now: Instant) -> Option<String> {
        std::mem::take(&mut self.is_behind).then(|| {
            self.last = Some(now);
            self.frame(size)
        })
    }

    /// All lines as they are at the end, to stay.
    pub fn end(&mut self, size: Size) -> String {
        let all = usize::MAX;
        let text = self.frame_of(all, size.columns);
        self.layers.clear();
        self.drawn.clear();
        text
    }

    fn frame(&mut self, size: Size) -> String {
        // One line is the cursor's.
        self.frame_of(usize::from(size.rows).saturating_sub(1).max(1), size.columns)
    }

    /// Writes over what is there: first what stays and won't be written over again, then the rest.
    fn frame_of(&mut self, room: usize, columns: u16) -> String {
        let mut text = self.back(columns);
        while self.layers.len() > room
            && let Some(at) = self.layers.iter().position(|(_, state)| is_end(state))
        {
            let (layer, state) = self.layers.remove(at);
            let _ = writeln!(text, "\x1b[K{}", line(&layer, &state, columns));
        }
        let hidden = match self.layers.len() > room {
            true => self.layers.len() - (room - 1),
            false => 0,
        };
        let mut lines: Vec<String> = self.layers[..self.layers.len() - hidden].iter().map(|(layer, state)| line(layer, state, columns)).collect();
        if hidden > 0 {
            lines.push(cut(&format!("… and {hidden} more"), columns));
        }
        self.drawn = lines.iter().map(|line| line.width()).collect();
        for line in lines {
            let _ = writeln!(text, "\x1b[K{line}");
        }
        text + "\x1b[J"
    }

    /// To the beginning of the first line that may be written over. A window that was made narrower has broken long lines in two.
    fn back(&self, columns: u16) -> String {
        let rows = |width: &usize| width.div_ceil(usize::from(columns.max(1))).max(1);
        match self.drawn.iter().map(rows).sum::<usize>() {
            0 => "\r".into(),
            up => format!("\r\x1b[{up}A"),
        }
    }
}

/// Whether a state is news after another one. A layer is unpacked while it still comes; shown is the one that it waits for.
fn follows(old: &State, new: &State) -> bool {
    match new {
        _ if is_end(old) => false,
        State::Extracting { .. } => matches!(old, State::DownloadComplete | State::Extracting { .. }),
        State::Downloading { .. } | State::Verifying | State::DownloadComplete => !matches!(old, State::Extracting { .. }),
        _ => true,
    }
}

/// Whether nothing comes after it.
fn is_end(state: &State) -> bool {
    matches!(state, State::PullComplete | State::AlreadyExists | State::Pushed | State::LayerAlreadyExists | State::MountedFrom(_))
}

fn line(layer: &str, state: &State, columns: u16) -> String {
    let (word, done, total) = match state {
        State::Downloading { done, total } => ("Downloading", *done, *total),
        State::Extracting { done, total } => ("Extracting", *done, *total),
        State::Pushing { done, total } => ("Pushing", *done, *total),
        state => return cut(&format!("{layer}: {}", word(state).unwrap_or_default()), columns),
    };
    let done = if total > 0 { done.min(total) } else { done };
    let numbers = match total {
        0 => format!("{:>8}", human::size(done)),
        total => format!("{:>8}/{}", human::size(done), human::size(total)),
    };
    let start = format!("{layer}: {word} ");
    let room = usize::from(columns).saturating_sub(start.len() + numbers.len() + 2).min(LONGEST_BAR);
    match bar(done, total, room) {
        Some(bar) => cut(&format!("{start}{bar} {numbers}"), columns),
        None => cut(&format!("{start}{numbers}"), columns),
    }
}

/// `[====>     ]`, so wide with its brackets; None where there is no room or no end to be near to.
fn bar(done: u64, total: u64, width: usize) -> Option<String> {
    if total == 0 || width < SHORTEST_BAR {
        return None;
    }
    let inner = width - 3;
    let full = (inner as u128 * u128::from(done) / u128::from(total)) as usize;
    Some(format!("[{}>{}]", "=".repeat(full), " ".repeat(inner - full)))
}

/// What fits on one line. All of it is ASCII but for names, and these have been checked.
fn cut(text: &str, columns: u16) -> String {
    // The last column stays free: some terminals go to the next line when it is written.
    text.chars().take(usize::from(columns).saturating_sub(1)).collect()
}

/// Docker's word for a state; None for one that is told by a bar only.
pub fn word(state: &State) -> Option<String> {
    Some(match state {
        State::Preparing => "Preparing".into(),
        State::Waiting => "Waiting".into(),
        State::PullingFsLayer => "Pulling fs layer".into(),
        State::Verifying => "Verifying Checksum".into(),
        State::DownloadComplete => "Download complete".into(),
        State::PullComplete => "Pull complete".into(),
        State::AlreadyExists => "Already exists".into(),
        State::Retrying { seconds } => format!("Retrying in {seconds} second{}", if *seconds == 1 { "" } else { "s" }),
        State::Pushed => "Pushed".into(),
        State::LayerAlreadyExists => "Layer already exists".into(),
        State::MountedFrom(repository) => format!("Mounted from {repository}"),
        State::Downloading { .. } | State::Extracting { .. } | State::Pushing { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Size = Size { rows: 24, columns: 120 };

    /// What a terminal shows after having got all of this: enough of one for what is written here.
    fn shown(texts: &[String], columns: usize) -> Vec<String> {
        let (mut lines, mut at) = (vec![String::new()], 0);
        let text = texts.concat();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\r' => {}
                '\n' => {
                    at += 1;
                    if at == lines.len() {
                        lines.push(String::new());
                    }
                }
                '\x1b' => {
                    let code: String = std::iter::from_fn(|| rest.next_if(|c| *c == '[' || c.is_ascii_digit())).collect();
                    match rest.next() {
                        Some('A') => at -= code[1..].parse::<usize>().unwrap(),
                        Some('K') => lines[at].clear(),
                        Some('J') => {
                            lines.truncate(at + 1);
                            lines[at].clear();
                        }
                        other => panic!("{other:?}"),
                    }
                }
                c => lines[at].push(c),
            }
        }
        assert!(lines.iter().all(|line| line.chars().count() < columns), "{lines:#?}");
        assert_eq!(lines.pop().unwrap(), "", "the cursor is on a line of its own");
        lines
    }

    #[test]
    fn each_layer_has_a_line_that_changes() {
        let mut bars = Bars::default();
        let mut now = Instant::now();
        let mut texts = Vec::new();
        for (layer, state) in [
            ("aaaaaaaaaaaa", State::PullingFsLayer),
            ("bbbbbbbbbbbb", State::AlreadyExists),
            ("aaaaaaaaaaaa", State::Downloading { done: 1_000_000, total: 2_000_000 }),
            ("aaaaaaaaaaaa", State::Extracting { done: 5, total: 2_000_000 }),
        ] {
            now += Duration::from_secs(1);
            texts.extend(bars.change(layer, state, WIDE, now));
        }
        let half = format!("aaaaaaaaaaaa: Downloading [{}>{}]      1MB/2MB", "=".repeat(24), " ".repeat(25));
        assert_eq!(shown(&texts, 120), [half.as_str(), "bbbbbbbbbbbb: Already exists"]);
        for state in [State::DownloadComplete, State::Extracting { done: 3_000_000, total: 2_000_000 }, State::PullComplete, State::Verifying] {
            now += Duration::from_secs(1);
            texts.extend(bars.change("aaaaaaaaaaaa", state, WIDE, now));
        }
        texts.push(bars.end(WIDE));
        assert_eq!(shown(&texts, 120), ["aaaaaaaaaaaa: Pull complete", "bbbbbbbbbbbb: Already exists"]);
    }

    #[test]
    fn what_comes_too_often_is_not_written() {
        let mut bars = Bars::default();
        let now = Instant::now();
        assert!(bars.change("a", State::Waiting, WIDE, now).is_some());
        for at in 1..50 {
            let state = State::Downloading { done: at, total: 100 };
            assert!(bars.change("a", state, WIDE, now + Duration::from_millis(at)).is_none());
        }
        assert!(bars.end(WIDE).contains("49B/100B"));
    }

    #[test]
    fn more_layers_than_rows_scroll_and_all_are_there_at_the_end() {
        let low = Size { rows: 6, columns: 80 };
        let mut bars = Bars::default();
        let mut now = Instant::now();
        let mut texts = Vec::new();
        for state in [State::PullingFsLayer, State::DownloadComplete, State::PullComplete] {
            for at in 0..20 {
                now += Duration::from_secs(1);
                let text = bars.change(&format!("{at:012}"), state.clone(), low, now).unwrap();
                // It never goes up further than the window is high.
                let up = text.strip_prefix("\r\x1b[").and_then(|rest| rest.split_once('A')).map_or(0, |(up, _)| up.parse::<usize>().unwrap());
                assert!(up < 6, "{text:?}");
                texts.push(text);
                assert!(state != State::PullingFsLayer || at < 5 || shown(&texts, 80)[4] == format!("… and {} more", at - 3));
            }
        }
        texts.push(bars.end(low));
        let mut lines = shown(&texts, 80);
        lines.sort();
        assert_eq!(lines, (0..20).map(|at| format!("{at:012}: Pull complete")).collect::<Vec<_>>());
    }

    #[test]
    fn a_narrow_window_has_a_short_bar_or_none() {
        let state = State::Pushing { done: 30_000_000, total: 100_000_000 };
        let at = |columns: u16| line("aaaaaaaaaaaa", &state, columns);
        assert_eq!(at(60), "aaaaaaaaaaaa: Pushing [=====>              ]     30MB/100MB");
        assert_eq!(at(44), "aaaaaaaaaaaa: Pushing     30MB/100MB");
        assert_eq!(at(20), "aaaaaaaaaaaa: Pushi");
        assert_eq!(line("aaaaaaaaaaaa", &State::Downloading { done: 7, total: 0 }, 80), "aaaaaaaaaaaa: Downloading       7B");
        assert_eq!(at(1), "");
    }

    #[test]
    fn a_window_made_narrower_has_more_lines_to_go_up() {
        let mut bars = Bars::default();
        let now = Instant::now();
        bars.change("aaaaaaaaaaaa", State::Downloading { done: 1, total: 2 }, WIDE, now);
        let text = bars.change("aaaaaaaaaaaa", State::DownloadComplete, Size { rows: 24, columns: 40 }, now + NUMBERS).unwrap();
        assert!(text.starts_with("\r\x1b[3A"), "{text:?}");
    }
}

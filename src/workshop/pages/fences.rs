//! Which lines of a Markdown text stand inside a fenced block. Read: <https://spec.commonmark.org/0.31.2/#fenced-code-blocks>.

/// A line, its number from 1, and where it stands.
pub struct Line<'a> {
    pub number: usize,
    pub text: &'a str,
    pub fence: Fence<'a>,
}

/// How a line stands to fenced blocks.
#[derive(Clone, Copy, Default)]
pub struct Fence<'a> {
    /// It opens or closes one.
    pub is_fence: bool,
    /// It is inside one.
    pub inside: bool,
    /// What the block's first line says behind the backticks.
    pub info: &'a str,
    opens: bool,
}

impl Fence<'_> {
    pub fn opens(&self) -> bool {
        self.opens
    }

    pub fn opens_console(&self) -> bool {
        self.opens && self.info.split(',').next() == Some("console")
    }
}

/// The text's lines. Fences may stand in quotes and lists, as they are indented there.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut open: Option<(usize, &str)> = None;
    text.lines().enumerate().map(move |(at, text)| {
        let bare = text.trim_start_matches([' ', '>']);
        let ticks = bare.len() - bare.trim_start_matches('`').len();
        let rest = bare[ticks..].trim();
        let fence = match open {
            None if ticks >= 3 && !rest.contains('`') => {
                open = Some((ticks, rest));
                Fence { is_fence: true, opens: true, info: rest, inside: false }
            }
            Some((opened, info)) if ticks >= opened && rest.is_empty() => {
                open = None;
                Fence { is_fence: true, info, ..Fence::default() }
            }
            Some((_, info)) => Fence { inside: true, info, ..Fence::default() },
            None => Fence::default(),
        };
        Line { number: at + 1, text, fence }
    })
}

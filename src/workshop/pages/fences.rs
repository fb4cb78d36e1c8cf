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

/// A part of a chapter: from a heading to the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its address in the page; `top` for the chapter's own heading.
    pub id: String,
    pub title: String,
    /// All its lines, the heading too.
    pub text: String,
}

/// A chapter cut at its headings. One without an ID goes on with the section before.
pub fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section { id: "top".into(), ..Section::default() }];
    for line in lines(text) {
        let heading = line.text.trim_start_matches('#').trim();
        if !line.fence.inside && !line.fence.is_fence && line.text.starts_with('#') {
            match (id(line.text), sections.last_mut()) {
                (Some(id), _) => {
                    let title = heading.rsplit_once("{#").map_or(heading, |(title, _)| title.trim());
                    sections.push(Section { id: id.into(), title: title.into(), text: String::new() });
                }
                (None, Some(top)) if top.title.is_empty() => top.title = heading.into(),
                _ => {}
            }
        }
        if let Some(section) = sections.last_mut() {
            section.text.push_str(line.text);
            section.text.push('\n');
        }
    }
    sections
}

/// `## Title {#id}`
pub fn id(heading: &str) -> Option<&str> {
    heading.trim_end().strip_suffix('}')?.rsplit_once("{#").map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins_and_code_has_no_headings() {
        let text = "# T\nlead\n## A thing {#a}\none\n```sh\n## no heading {#x}\n```\n### B {#b}\ntwo\n";
        let found = sections(text);
        let names: Vec<_> = found.iter().map(|section| (section.id.as_str(), section.title.as_str(), section.text.lines().count())).collect();
        assert_eq!(names, [("top", "T", 2), ("a", "A thing", 5), ("b", "B", 2)]);
    }
}

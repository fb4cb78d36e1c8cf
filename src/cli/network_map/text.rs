//! The map as text: lines and boxes of Unicode's "Box Drawing", in the columns of a terminal.

use colored::Colorize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::model::{Bridge, Cable, Container, Map};

/// Narrower, boxes would have no room; wider, lines are hard to follow.
const NARROWEST: usize = 60;
const WIDEST: usize = 110;

/// The whole map; each line ends with a newline and fits in `width` columns, if these are not fewer than sixty.
pub fn draw(map: &Map, width: usize) -> String {
    let mut page = Page { width: width.clamp(NARROWEST, WIDEST), text: String::new() };
    let forwarding = if map.host.forwarding { "passes packets on" } else { "passes no packets on: ip_forward is 0" };
    page.line("", &format!("host {} · net:[{}] · {forwarding}", map.host.name, map.host.namespace), Tone::Title);
    page.line("│", "", Tone::Plain);
    let ways = map.host.ways();
    for way in &ways {
        page.branch("├─ ", "│  ", way, Tone::Plain);
    }
    if ways.is_empty() {
        page.branch("├─ ", "│  ", "no default route: there is no way out", Tone::Note);
    }
    for (at, bridge) in map.networks.iter().enumerate() {
        page.line("│", "", Tone::Plain);
        page.network(map, bridge, at + 1 == map.networks.len());
    }
    for container in map.elsewhere() {
        page.line("", "", Tone::Plain);
        page.line("", &format!("{}  {}  {}", container.name, container.where_else(), container.namespace()), Tone::Plain);
        container.ports.iter().for_each(|port| page.line("   ", &port.line(), Tone::Plain));
        container.notes.iter().for_each(|note| page.branch("  ! ", "    ", note, Tone::Note));
    }
    if !map.unknown.is_empty() {
        page.line("", "", Tone::Plain);
        map.unknown.iter().for_each(|note| page.branch("! ", "  ", note, Tone::Note));
    }
    page.text
}

#[derive(Clone, Copy, PartialEq)]
enum Tone {
    Plain,
    Title,
    Network,
    Note,
}

struct Page {
    width: usize,
    text: String,
}

impl Page {
    /// A line in its tone, cut to the page.
    fn line(&mut self, lead: &str, text: &str, tone: Tone) {
        let text = cut(text, self.width.saturating_sub(lead.width()));
        // No white space at a line's end.
        self.text.push_str(if text.is_empty() { lead.trim_end() } else { lead });
        self.text.push_str(&match tone {
            Tone::Plain => text,
            Tone::Title => text.bold().to_string(),
            Tone::Network => text.cyan().bold().to_string(),
            Tone::Note => text.yellow().to_string(),
        });
        self.text.push('\n');
    }

    /// A text that goes on below its beginning.
    fn branch(&mut self, first: &str, next: &str, text: &str, tone: Tone) {
        for (at, part) in wrap(text, self.width - first.width()).iter().enumerate() {
            self.line(if at == 0 { first } else { next }, part, tone);
        }
    }

    fn network(&mut self, map: &Map, bridge: &Bridge, last: bool) {
        let (corner, rail) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let mut title = format!("{} {}  network {}", bridge.link, bridge.addresses.join(" "), bridge.name);
        if !bridge.kind().is_empty() {
            title += &format!(" ({})", bridge.kind());
        }
        self.branch(corner, rail, &title, Tone::Network);
        for note in &bridge.notes {
            self.branch(&format!("{rail}! "), &format!("{rail}  "), note, Tone::Note);
        }
        let members: Vec<_> = map.on(&bridge.name).collect();
        for (at, (container, cable)) in members.iter().enumerate() {
            self.member(rail, container, cable, at + 1 == members.len());
        }
    }

    /// A container's box, with the cable that leads to it.
    fn member(&mut self, rail: &str, container: &Container, cable: &Cable, last: bool) {
        let plug = format!("{} ═══ {}", cable.outside, cable.inside);
        let (above, at, below) =
            (format!("{rail}│  "), format!("{rail}{}─ ", if last { "└" } else { "├" }), format!("{rail}{}  ", if last { " " } else { "│" }));
        let blank = " ".repeat(plug.width());
        let room = self.width - above.width() - plug.width();
        let others: Vec<&str> = container.cables.iter().filter(|other| other.network != cable.network).map(|other| &*other.network).collect();
        let title = if others.is_empty() { container.name.clone() } else { format!("{}, also on {}", container.name, others.join(", ")) };
        self.line(&format!("{above}{blank}"), &border('┌', &title, '┐', room), Tone::Plain);
        for (number, (text, tone)) in self.facts(container, cable, room - 4).into_iter().enumerate() {
            let lead = if number == 0 { format!("{at}{plug}┤ ") } else { format!("{below}{blank}│ ") };
            let padding = " ".repeat(room - 4 - text.width());
            let text = if tone == Tone::Note { text.yellow().to_string() } else { text };
            self.text.push_str(&format!("{lead}{text}{padding} │\n"));
        }
        self.line(&format!("{below}{blank}"), &border('└', &container.namespace(), '┘', room), Tone::Plain);
    }

    fn facts(&self, container: &Container, cable: &Cable, room: usize) -> Vec<(String, Tone)> {
        let mut facts = Vec::new();
        let mut add = |text: &str, tone| facts.extend(wrap(text, room).into_iter().map(|part| (part, tone)));
        add(&format!("{}  {}", cable.addresses.join(" "), cable.mac), Tone::Plain);
        if !cable.names.is_empty() {
            add(&format!("names: {}", cable.names.join(", ")), Tone::Plain);
        }
        if container.way_in().is_some_and(|way_in| way_in.network == cable.network) {
            container.ports.iter().for_each(|port| add(&format!("port {}", port.line()), Tone::Plain));
            container.notes.iter().for_each(|note| add(&format!("! {note}"), Tone::Note));
        }
        add(&cable.traffic(), Tone::Plain);
        cable.notes.iter().for_each(|note| add(&format!("! {note}"), Tone::Note));
        facts
    }
}

/// `┌─ web ─────┐`
fn border(left: char, title: &str, right: char, width: usize) -> String {
    let title = cut(title, width.saturating_sub(6));
    format!("{left}─ {title} {}{right}", "─".repeat(width.saturating_sub(5 + title.width())))
}

/// The text, or as much of its beginning as there is room for, and a sign that it goes on.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let mut used = 1;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used <= width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Lines of at most `width` columns, broken between words; a word that is longer is cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_fits_and_says_so_in_korean_too() {
        assert_eq!(
            (cut("옹기장수", 8), cut("옹기장수", 7), cut("jar", 3), cut("jars", 3)),
            ("옹기장수".into(), "옹기장…".into(), "jar".into(), "ja…".into())
        );
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert!(wrap(&"옹기 ".repeat(30), 11).iter().all(|line| line.width() <= 11));
        assert_eq!(border('┌', "옹기", '┐', 12).width(), 12);
    }
}

//! The map as a picture: SVG of its own, without a script or a file beside it; no letter is smaller than 14 pixels.
//!
//! Read: the SVG specification, <https://www.w3.org/TR/SVG2/>.

use std::fmt::Write;

use super::model::Map;
use super::place::{self, Boxed, LINE, Lane, MARGIN, Picture};

/// A lane's line and the ground of its head.
const COLOURS: [(&str, &str); 6] =
    [("#1b6ca8", "#e3eff8"), ("#b5541c", "#faeade"), ("#2f7a3f", "#e2f2e4"), ("#7a3f86", "#f2e6f5"), ("#8a6d00", "#f6f0d6"), ("#a8324a", "#f9e3e7")];

const STYLE: &str = "text{font-family:'DejaVu Sans Mono','Noto Sans Mono CJK KR',Menlo,Consolas,monospace;font-size:14px;fill:#222}\
.t{font-size:16px;font-weight:bold}.h{font-size:18px;font-weight:bold}.q{fill:#666}.n{fill:#b00020;font-weight:bold}";

/// The whole picture.
pub fn draw(map: &Map) -> String {
    let picture = place::place(map);
    let mut svg = String::new();
    let (width, height) = (picture.width.ceil(), picture.height.ceil());
    svg += &format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n");
    svg += &format!(
        "<title>{}</title>\n<style>{STYLE}</style>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fffdf8\"/>\n",
        escape(&format!("onggi network map of {}", map.host.name))
    );
    host(&mut svg, map, &picture);
    for (at, lane) in picture.lanes.iter().enumerate() {
        bar(&mut svg, lane, at, &picture);
    }
    for boxed in &picture.boxes {
        container(&mut svg, boxed, &picture);
    }
    for (at, note) in picture.notes.1.iter().enumerate() {
        text(&mut svg, MARGIN, picture.notes.0 + at as f32 * LINE, "n", note);
    }
    svg + "</svg>\n"
}

fn host(svg: &mut String, map: &Map, picture: &Picture) {
    let (right, bottom) = picture.frame;
    rect(svg, (MARGIN, MARGIN, right - MARGIN, bottom - MARGIN), "rx=\"10\" fill=\"#f6f4ec\" stroke=\"#8a8470\" stroke-width=\"2\"");
    text(svg, MARGIN * 2.0, MARGIN + 28.0, "h", &format!("host {}", map.host.name));
    text(
        svg,
        MARGIN * 2.0,
        MARGIN + 50.0,
        "q",
        &format!("net:[{}]{}", map.host.namespace, if map.host.forwarding { "" } else { ", ip_forward is 0" }),
    );
    let ways = map.host.ways();
    if ways.is_empty() {
        text(svg, MARGIN * 2.0, MARGIN + 50.0 + LINE, "n", "no default route: there is no way out");
    }
    for (at, way) in ways.iter().enumerate() {
        text(svg, MARGIN * 2.0, MARGIN + 50.0 + LINE * (at + 1) as f32, "", &format!("⇅ {way}"));
    }
    let outward: Vec<f32> = picture.lanes.iter().filter(|lane| lane.way_out).map(middle).collect();
    if let (Some(last), false) = (outward.last(), ways.is_empty()) {
        let y = picture.uplinks + 14.0;
        let x = MARGIN * 2.0 + 4.0;
        line(svg, (x, picture.uplinks - 4.0), (x, y), "stroke=\"#8a8470\" stroke-width=\"2\"");
        line(svg, (x, y), (*last, y), "stroke=\"#8a8470\" stroke-width=\"2\"");
    }
}

fn bar(svg: &mut String, lane: &Lane, at: usize, picture: &Picture) {
    let (colour, ground) = COLOURS[at % COLOURS.len()];
    let (top, bottom) = picture.heads;
    let x = middle(lane);
    if lane.way_out && picture.uplinks > 0.0 {
        let dash = if lane.nat { " stroke-dasharray=\"6 4\"" } else { "" };
        line(svg, (x, picture.uplinks + 14.0), (x, top), &format!("stroke=\"#8a8470\" stroke-width=\"2\"{dash}"));
        text(svg, x + 8.0, top - 12.0, "q", if lane.nat { "NAT" } else { "" });
    }
    rect(svg, (lane.x, top, lane.width, bottom - top), &format!("rx=\"6\" fill=\"{ground}\" stroke=\"{colour}\" stroke-width=\"2\""));
    for (number, words) in lane.lines.iter().enumerate() {
        text(svg, lane.x + 12.0, top + LINE * (number + 1) as f32, if number == 0 { "t" } else { "" }, words);
    }
    if lane.end > bottom {
        line(svg, (x, bottom), (x, lane.end), &format!("stroke=\"{colour}\" stroke-width=\"8\" stroke-linecap=\"round\""));
    }
}

fn container(svg: &mut String, boxed: &Boxed, picture: &Picture) {
    let (x, width) = picture.column;
    let dash = if boxed.has_cable { "" } else { " stroke-dasharray=\"6 4\"" };
    for words in &boxed.lines {
        if let Some((lane, said)) = &words.plug {
            let (colour, _) = COLOURS[lane % COLOURS.len()];
            let (y, from) = (words.y - 5.0, middle(&picture.lanes[*lane]));
            // A light border, where it passes over other bars.
            line(svg, (from + 8.0, y), (x, y), "stroke=\"#f6f4ec\" stroke-width=\"9\"");
            line(svg, (from, y), (x, y), &format!("stroke=\"{colour}\" stroke-width=\"3\""));
            let _ = writeln!(svg, "<circle cx=\"{from}\" cy=\"{y}\" r=\"7\" fill=\"#fff\" stroke=\"{colour}\" stroke-width=\"3\"/>");
            text(svg, picture.frame.0 - place::PLUGS + 20.0, y - 6.0, "q", said);
        }
    }
    rect(svg, (x, boxed.y, width, boxed.height), &format!("rx=\"8\" fill=\"#ffffff\" stroke=\"#444\" stroke-width=\"2\"{dash}"));
    text(svg, x + 16.0, boxed.y + 26.0, "t", &boxed.title);
    let _ =
        writeln!(svg, "<text x=\"{}\" y=\"{}\" class=\"q\" text-anchor=\"end\">{}</text>", x + width - 14.0, boxed.y + 26.0, escape(&boxed.aside));
    for words in &boxed.lines {
        text(svg, x + 16.0, words.y, if words.is_note { "n" } else { "" }, &words.text);
    }
}

fn middle(lane: &Lane) -> f32 {
    lane.x + lane.width / 2.0
}

fn text(svg: &mut String, x: f32, y: f32, class: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\" xml:space=\"preserve\">{}</text>", escape(words));
}

/// Left, top, width, height.
fn rect(svg: &mut String, (x, y, width, height): (f32, f32, f32, f32), look: &str) {
    let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {look}/>");
}

fn line(svg: &mut String, from: (f32, f32), to: (f32, f32), look: &str) {
    let _ = writeln!(svg, "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" {look}/>", from.0, from.1, to.0, to.1);
}

/// What XML reads as itself; control characters, which it refuses, are left out.
fn escape(words: &str) -> String {
    let letters = words.chars().filter(|letter| !letter.is_control());
    letters.fold(String::new(), |mut safe, letter| {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            letter => safe.push(letter),
        }
        safe
    })
}

//! Where everything of the picture goes: bridges side by side as lanes, containers one below the other to their right, so that a cable is
//! one level line. Those of the rightmost lane stand at the top: its bar ends before cables of other lanes would have to cross it.

use unicode_width::UnicodeWidthStr;

use super::model::{Bridge, Container, Map};
use super::text::{cut, wrap};

/// Pixels of one column of text: a little more than a monospaced letter of 14 and of 16 pixels has.
pub const SMALL: f32 = 8.6;
pub const LARGE: f32 = 9.8;
/// From one line of text to the next.
pub const LINE: f32 = 22.0;
pub const MARGIN: f32 = 24.0;
/// The names of the host's ends of the cables stand here.
pub const PLUGS: f32 = 270.0;
/// Columns of a container's box at most.
const COLUMNS: usize = 58;
/// Columns of a container's name at most: its namespace stands beside it.
const TITLE: usize = 30;
/// Columns of a lane's head at most.
const HEAD: usize = 26;

pub struct Picture {
    pub width: f32,
    pub height: f32,
    /// Lower border of the uplinks' row.
    pub uplinks: f32,
    /// Upper and lower border of the lanes' heads.
    pub heads: (f32, f32),
    pub lanes: Vec<Lane>,
    pub boxes: Vec<Boxed>,
    /// The host's frame, from the margin to here.
    pub frame: (f32, f32),
    /// Left border of the containers, and how wide they are.
    pub column: (f32, f32),
    /// Where the notes begin, and their lines.
    pub notes: (f32, Vec<String>),
}

/// A bridge.
pub struct Lane {
    pub x: f32,
    pub width: f32,
    pub lines: Vec<String>,
    /// Where its bar ends: at its last cable.
    pub end: f32,
    pub way_out: bool,
    pub nat: bool,
}

/// A container.
pub struct Boxed {
    pub y: f32,
    pub height: f32,
    pub title: String,
    pub aside: String,
    pub lines: Vec<Line>,
    pub has_cable: bool,
}

/// A line in a container's box; a cable ends at it.
pub struct Line {
    pub y: f32,
    pub text: String,
    pub is_note: bool,
    /// The lane that the cable comes from, and what is said of its end there.
    pub plug: Option<(usize, String)>,
}

pub fn place(map: &Map) -> Picture {
    let mut lanes = Vec::new();
    let mut x = MARGIN * 2.0;
    for bridge in &map.networks {
        let lines = head(bridge);
        let widest = lines.iter().map(|line| line.width()).max().unwrap_or(0) as f32;
        let width = (widest * SMALL + 28.0).max(lines[0].width() as f32 * LARGE + 28.0);
        lanes.push(Lane { x, width, lines, end: 0.0, way_out: !bridge.internal && bridge.present, nat: bridge.masquerade });
        x += width + 20.0;
    }
    let ways = map.host.ways();
    let host = [ways.iter().map(|way| way.width()).max().unwrap_or(0), map.host.name.width() + 40].into_iter().max().unwrap_or(0) as f32;
    let frame_right = (x + PLUGS).max(host * SMALL + MARGIN * 4.0);
    let uplinks = MARGIN + 56.0 + ways.len().max(1) as f32 * LINE + 8.0;
    let head_top = uplinks + 50.0;
    let tallest = lanes.iter().map(|lane| lane.lines.len()).max().unwrap_or(0) as f32;
    let heads = (head_top, head_top + tallest * LINE + 14.0);
    let mut y = heads.1 + 24.0;
    let mut boxes = Vec::new();
    for container in ordered(map) {
        let boxed = boxed(map, container, y);
        y += boxed.height + 18.0;
        boxes.push(boxed);
    }
    for line in boxes.iter().flat_map(|boxed| &boxed.lines) {
        if let Some((lane, ..)) = &line.plug {
            lanes[*lane].end = lanes[*lane].end.max(line.y - 5.0);
        }
    }
    let columns = boxes.iter().map(columns).max().unwrap_or(0) as f32;
    let column = (frame_right + 40.0, columns * SMALL + 36.0);
    let width = column.0 + if boxes.is_empty() { 0.0 } else { column.1 } + MARGIN;
    let bottom = y.max(heads.1 + 24.0);
    let all = map.networks.iter().flat_map(|bridge| bridge.notes.iter().map(|note| format!("{}: {note}", bridge.name)));
    let notes: Vec<String> =
        all.chain(map.unknown.iter().cloned()).flat_map(|note| wrap(&format!("! {note}"), (width / SMALL) as usize - 8)).collect();
    let height = bottom + MARGIN + notes.len() as f32 * LINE + if notes.is_empty() { 0.0 } else { LINE };
    Picture { width, height, uplinks, heads, lanes, boxes, frame: (frame_right, bottom), column, notes: (bottom + MARGIN + LINE, notes) }
}

fn head(bridge: &Bridge) -> Vec<String> {
    let mut lines = vec![cut(&bridge.name, HEAD), bridge.link.clone()];
    lines.extend(bridge.addresses.iter().cloned());
    lines.extend(Some(bridge.kind()).filter(|kind| !kind.is_empty()).into_iter().flat_map(|kind| wrap(&kind, HEAD)));
    lines
}

/// The rightmost lane's containers first; those that are on no lane last.
fn ordered(map: &Map) -> Vec<&Container> {
    let lane = |container: &Container| container.cables.iter().filter_map(|cable| lane_of(map, &cable.network)).max();
    let mut all: Vec<&Container> = map.containers.iter().collect();
    all.sort_by(|a, b| lane(b).cmp(&lane(a)).then(a.cables.len().cmp(&b.cables.len())).then(a.name.cmp(&b.name)));
    all
}

fn lane_of(map: &Map, network: &str) -> Option<usize> {
    map.networks.iter().position(|bridge| bridge.name == network)
}

fn boxed(map: &Map, container: &Container, top: f32) -> Boxed {
    let mut lines: Vec<Line> = Vec::new();
    let mut y = top + 30.0;
    let mut add = |text: &str, is_note, mut plug: Option<(usize, String)>| {
        for text in wrap(text, COLUMNS) {
            y += LINE;
            lines.push(Line { y, text, is_note, plug: plug.take() });
        }
    };
    for cable in &container.cables {
        let said = format!("{} ↓{} ↑{}", cable.outside, super::model::amount(cable.received), super::model::amount(cable.sent));
        let plug = lane_of(map, &cable.network).map(|lane| (lane, said));
        add(&format!("{}  {}  {}", cable.inside, cable.addresses.join(" "), cable.mac), false, plug);
        if !cable.names.is_empty() {
            add(&format!("names: {}", cable.names.join(", ")), false, None);
        }
        cable.notes.iter().for_each(|note| add(&format!("! {note}"), true, None));
    }
    if container.cables.is_empty() {
        add(&container.where_else(), false, None);
    }
    container.ports.iter().for_each(|port| add(&format!("port {}", port.line()), false, None));
    container.notes.iter().for_each(|note| add(&format!("! {note}"), true, None));
    let aside = container.namespace();
    Boxed { y: top, height: y + 12.0 - top, title: cut(&container.name, TITLE), aside, lines, has_cable: !container.cables.is_empty() }
}

/// How many columns of small letters a box needs; its title is larger, and has its namespace beside it.
fn columns(boxed: &Boxed) -> usize {
    let title = (boxed.title.width() as f32 * LARGE / SMALL).ceil() as usize + 3 + boxed.aside.width();
    boxed.lines.iter().map(|line| line.text.width()).max().unwrap_or(0).max(title)
}

//! Pictures of made-up towns: nothing lies on anything else, all is in the picture, every letter is large enough.
//!
//! See one: `ONGGI_PICTURES=/tmp cargo test --lib network_map`.

use unicode_width::UnicodeWidthStr;

use super::model::{Bridge, Cable, Container, Host, Map, Port, Traffic, Uplink};
use super::place::{self, LARGE, MARGIN, Picture, SMALL};
use super::svg;

fn bridge(name: &str, at: u8, internal: bool) -> Bridge {
    let (link, addresses) = (format!("og-0123456789a{at}"), vec![format!("172.{at}.0.1/24")]);
    Bridge { name: name.into(), link, present: true, addresses, internal, masquerade: true, open: true, has_names: true, ..Bridge::default() }
}

fn container(at: usize, name: &str, networks: &[&str]) -> Container {
    let cable = |(number, network): (usize, &&str)| Cable {
        network: network.to_string(),
        outside: format!("veth01234{at:02}"),
        inside: format!("eth{number}"),
        addresses: vec![format!("172.30.{number}.{at}/24"), format!("fd00:{number}::{at}/64")],
        mac: "02:42:ac:1e:00:02".into(),
        names: vec![name.into(), format!("{name}-alias")],
        received: Traffic { bytes: 123_456_789, packets: 1000 },
        sent: Traffic { bytes: 99_999, packets: 1 },
        ..Cable::default()
    };
    let ports = vec![Port { host: "0.0.0.0:8080".into(), container: "80/tcp".into(), connections: Some(12) }];
    let cables = networks.iter().enumerate().map(cable).collect();
    Container { name: name.into(), pid: 4242 + at as i32, namespace: 4_026_532_712, cables, ports, ..Container::default() }
}

fn town(networks: Vec<Bridge>, containers: Vec<Container>) -> Map {
    let uplink = Uplink { link: "eth0".into(), addresses: vec!["192.0.2.10/24".into()], gateway: "192.0.2.1".parse().ok() };
    let host = Host { name: "옹기마을".into(), namespace: 4_026_531_840, forwarding: true, uplinks: vec![uplink] };
    Map { host, networks, containers, unknown: Vec::new() }
}

fn towns() -> Vec<(&'static str, Map)> {
    let (front, back, other) = (bridge("front", 30, false), bridge("back", 31, true), bridge("a-rather-long-name-of-a-network", 17, false));
    let three = [&front, &back, &other].map(Clone::clone).to_vec();
    let names = ["front", "back", "a-rather-long-name-of-a-network"];
    let ten = (0..10).map(|at| container(at, &format!("service-{at}"), &[names[at % 3]]));
    let mut two = town(vec![front.clone(), back.clone()], vec![container(1, "웹서버-앞단", &["front", "back"]), container(2, "db", &["back"])]);
    two.containers.push(Container { name: "onhost".into(), shares: Some("host".into()), ..Container::default() });
    two.unknown.push("veth1234567 is plugged into og-0123456789a3 (front), and no container of ours is behind it".into());
    two.containers[0].cables[1].names.clear();
    vec![
        ("none", town(vec![bridge("bridge", 17, false)], Vec::new())),
        ("one", town(vec![front.clone()], vec![container(1, "옹기", &["front"])])),
        ("two", two),
        ("three", town(three.clone(), (0..3).map(|at| container(at, &format!("c{at}"), &[names[at]])).collect())),
        ("ten", town(three, ten.chain([container(10, &"long".repeat(30), &names)]).collect())),
        ("nowhere", Map::default()),
    ]
}

/// Left, top, right, bottom of every text that stands in a box or on a lane.
fn texts(picture: &Picture) -> Vec<(f32, f32, f32, f32)> {
    let mut all = Vec::new();
    let mut add = |x: f32, y: f32, columns: usize, letter: f32| all.push((x, y - 11.0, x + columns as f32 * letter, y + 3.0));
    for boxed in &picture.boxes {
        add(picture.column.0 + 16.0, boxed.y + 26.0, boxed.title.width(), LARGE);
        let aside = boxed.aside.width();
        add(picture.column.0 + picture.column.1 - 14.0 - aside as f32 * SMALL, boxed.y + 26.0, aside, SMALL);
        for line in &boxed.lines {
            add(picture.column.0 + 16.0, line.y, line.text.width(), SMALL);
            if let Some((_, said)) = &line.plug {
                add(picture.frame.0 - place::PLUGS + 20.0, line.y - 11.0, said.width(), SMALL);
            }
        }
    }
    for lane in &picture.lanes {
        for (at, words) in lane.lines.iter().enumerate() {
            add(lane.x + 12.0, picture.heads.0 + place::LINE * (at + 1) as f32, words.width(), if at == 0 { LARGE } else { SMALL });
        }
    }
    all
}

#[test]
fn nothing_lies_on_anything_else_and_all_is_in_the_picture() {
    for (name, map) in towns() {
        let picture = place::place(&map);
        let texts = texts(&picture);
        for (at, one) in texts.iter().enumerate() {
            assert!(one.0 >= MARGIN && one.2 <= picture.width - 8.0 && one.3 <= picture.height, "{name}: {one:?} is outside");
            let meets = |other: &&(f32, f32, f32, f32)| one.0 < other.2 && other.0 < one.2 && one.1 < other.3 && other.1 < one.3;
            assert_eq!(texts[..at].iter().find(meets), None, "{name}: {one:?}");
        }
        for pair in picture.boxes.windows(2) {
            assert!(pair[0].y + pair[0].height < pair[1].y, "{name}: boxes touch");
        }
        for pair in picture.lanes.windows(2) {
            assert!(pair[0].x + pair[0].width < pair[1].x, "{name}: lanes touch");
        }
        let said = texts.iter().filter(|text| text.2 > picture.frame.0 && text.0 < picture.frame.0);
        assert_eq!(said.count(), 0, "{name}: a text crosses the host's frame");
    }
}

#[test]
fn a_lane_ends_before_cables_of_others_would_have_to_cross_it() {
    let (_, map) = towns().into_iter().find(|(name, _)| *name == "three").unwrap();
    let picture = place::place(&map);
    for line in picture.boxes.iter().flat_map(|boxed| &boxed.lines) {
        let Some((lane, _)) = &line.plug else { continue };
        let crossed = picture.lanes[lane + 1..].iter().filter(|other| other.end > line.y);
        assert_eq!(crossed.count(), 0, "the cable at {}", line.y);
    }
}

#[test]
fn a_picture_is_xml_with_large_letters_and_needs_no_other_file() {
    for (name, map) in towns() {
        let mut map = map;
        map.host.name = "<a&b>\u{7}".into();
        let picture = svg::draw(&map);
        if let Some(folder) = std::env::var_os("ONGGI_PICTURES") {
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.svg")), &picture).unwrap();
        }
        assert!(picture.contains("&lt;a&amp;b&gt;") && !picture.contains('\u{7}'), "{name}");
        assert!(!picture.contains("href") && !picture.contains("NaN") && !picture.contains("inf\""), "{name}");
        let sizes = picture.split("font-size:").skip(1).filter_map(|rest| rest.split("px").next()?.parse::<u32>().ok());
        assert!(sizes.min() >= Some(14), "{name}");
        for tag in ["text", "svg", "style", "title"] {
            let opened = picture.matches(&format!("<{tag} ")).count() + picture.matches(&format!("<{tag}>")).count();
            assert_eq!(opened, picture.matches(&format!("</{tag}>")).count(), "{name}: {tag}");
        }
    }
}

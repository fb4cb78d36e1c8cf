//! `onggi events`: what is done to containers, images, networks and volumes, as it happens.
//!
//! Read: docker-events(1).

use std::io::{ErrorKind, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::filter::Filters;
use super::human;
use super::template::Template;
use crate::clock;
use crate::engine::events::{self, Event};
use crate::engine::home::Home;
use crate::engine::log::follow::Follow;
use crate::error::{Doing, Result};
use crate::sys::time;

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// What happened at this time or later: 2026-11-21T10:00:00, seconds since 1970, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// What happens until this time, and not longer
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Only events of a kind: container=web, event=start, image=base, label=tier=web, type=container, network=, volume=, scope=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// `json`, or a Go template such as '{{.Action}} {{.Actor.Attributes.name}}'
    #[arg(long)]
    format: Option<String>,
}

/// Shows what happened since `--since`, and what happens until `--until`, or until Ctrl-C.
///
/// # Errors
/// Invalid for a filter, a template or a time that is none.
pub fn events(args: &EventsArgs) -> Result<u8> {
    let now = SystemTime::now();
    let time = |option, text: &Option<String>| text.as_deref().map(|text| human::moment(option, text, now)).transpose();
    let (since, until) = (time("--since", &args.since)?, time("--until", &args.until)?);
    let filters = Filters::parse(&args.filter, &["container", "event", "image", "label", "network", "scope", "type", "volume"])?;
    let format = match args.format.as_deref().map(str::trim) {
        None | Some("") => Format::Line,
        Some("json" | "{{json .}}" | "{{ json . }}") => Format::Json,
        Some(text) => Format::Template(Template::parse(text)?),
    };
    let home = Home::open()?;
    let mut out = std::io::stdout().lock();
    let mut take = |event: Option<&Event>| {
        let Some(event) = event.filter(|event| fits(&filters, event)) else { return Ok(true) };
        let line = format.line(event)?;
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => written.doing(|| "write to standard output".into()).map(|()| true),
        }
    };
    // Without --since and with an --until that is over, Docker shows nothing, too.
    let follow = Follow { lives: &|| true, mark: None, until };
    events::read(&home, since.unwrap_or(now), &follow, &mut take).map(|()| 0)
}

/// How an event is shown.
enum Format {
    Line,
    Json,
    Template(Template),
}

impl Format {
    fn line(&self, event: &Event) -> Result<String> {
        match self {
            Format::Line => Ok(text(event)),
            Format::Json => Ok(serde_json::to_string(event).unwrap_or_default()),
            Format::Template(template) => template.execute(&json!({
                "Status": event.status, "ID": event.id, "From": event.from, "Type": event.kind, "Action": event.action,
                "Actor": event.actor, "Scope": event.scope, "Time": event.time, "TimeNano": event.nanoseconds,
            })),
        }
    }
}

/// Docker's line: time, kind, action, ID and attributes.
fn text(event: &Event) -> String {
    let mut line = format!("{} {} {} {}", local(event.moment()), event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let attributes: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

/// A time on the local clock, as RFC 3339.
fn local(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let (offset, _) = time::local_zone(seconds);
    let ahead = std::time::Duration::from_secs(offset.unsigned_abs());
    let shown = if offset < 0 { moment.checked_sub(ahead) } else { moment.checked_add(ahead) };
    let text = clock::rfc3339(shown.unwrap_or(moment));
    match offset {
        0 => text,
        _ => format!("{}{}{:02}:{:02}", &text[..text.len() - 1], if offset < 0 { '-' } else { '+' }, offset.abs() / 3600, offset.abs() / 60 % 60),
    }
}

/// Whether all that was asked for is so.
fn fits(filters: &Filters, event: &Event) -> bool {
    let attribute = |key: &str| event.actor.attributes.get(key).map_or("", String::as_str);
    let is = |kind: &str, value: &str| event.kind == kind && (attribute("name") == value || event.actor.id.starts_with(value));
    let labels = event.actor.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    // An image without a tag is any of its tags.
    let image = |value: &str, text: &str| text == value || text.strip_prefix(value).is_some_and(|rest| rest.starts_with(':'));
    filters.any("type", |value| event.kind == value)
        && filters.any("event", |value| event.action == value || event.action.split(':').next() == Some(value))
        && filters.any("scope", |value| event.scope == value)
        && filters.any("container", |value| !value.is_empty() && (is("container", value.trim_start_matches('/')) || attribute("container") == value))
        && filters.any("network", |value| !value.is_empty() && is("network", value))
        && filters.any("volume", |value| !value.is_empty() && is("volume", value))
        && filters.any("image", |value| {
            image(value, &event.actor.id) || image(value, attribute("image")) || image(value, attribute("name")) && event.kind == "image"
        })
        && filters.labels(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits_one(filter: &str, event: &Event) -> bool {
        fits(&Filters::parse(&[filter.into()], &["container", "event", "image", "label", "type"]).unwrap(), event)
    }

    #[test]
    fn a_filter_keeps_what_it_names() {
        let pairs = [("image", "base:1"), ("name", "web"), ("tier", "front")].map(|(key, value)| (key.to_string(), value.to_string()));
        let event = Event::new("container", "exec_create: sh", "abcdef", pairs);
        for filter in
            ["container=web", "container=abc", "event=exec_create", "image=base", "image=base:1", "label=tier", "label=tier=front", "type=container"]
        {
            assert!(fits_one(filter, &event), "{filter}");
        }
        for filter in ["container=we", "container=b", "event=exec", "image=bas", "label=tier=back", "type=image"] {
            assert!(!fits_one(filter, &event), "{filter}");
        }
    }
}

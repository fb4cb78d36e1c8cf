//! `onggi inspect`: all that is known of containers, images and volumes, in Docker's JSON.
//!
//! Read: docker-inspect(1).

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::template::Template;
use super::{complain, image_look, say, volume};
use crate::engine::describe::{self, Description};
use crate::engine::home::Home;
use crate::engine::{names, networks, sweep};
use crate::error::{Class, Doing, Error, Result};
use crate::image::store::Store;

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// How to show it: json, or a Go template such as '{{.State.Status}}'
    #[arg(short, long, value_name = "FORM")]
    format: Option<String>,
    /// Show how much the container has written, too
    #[arg(short, long)]
    size: bool,
    /// Only things of this kind: container, image, network, volume
    #[arg(long, value_name = "KIND", value_parser = ["container", "image", "network", "volume"])]
    r#type: Option<String>,
    /// Container, image, network or volume: its name, or (the beginning of) its ID
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Prints what is known of each; those that aren't there are told, and make the exit code 1.
///
/// # Errors
/// Invalid for a template that asks for what isn't there.
pub fn inspect(args: &InspectArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let store = Store::open(&home.data)?;
    let found = args.names.iter().map(|name| match args.r#type.as_deref() {
        Some("image") => image(&store, name),
        Some("network") => network(&home, name),
        Some("volume") => volume(&home, name, args.format.as_deref()),
        Some(_) => container(&home, name, args.size),
        // A container is what people mean first.
        None => match container(&home, name, args.size) {
            Err(e) if e.class == Class::NotFound => match image(&store, name) {
                Err(e) if e.class == Class::NotFound => match network(&home, name) {
                    Err(e) if e.class == Class::NotFound => volume(&home, name, args.format.as_deref()),
                    found => found,
                },
                found => found,
            },
            found => found,
        },
    });
    print(found, args.format.as_deref())
}

/// What can be inspected. Fields in Docker's order.
#[derive(Serialize)]
#[serde(untagged)]
enum Object {
    Container(Box<Description>),
    Image(Value),
    Network(Box<networks::describe::Description>),
    Volume(Value),
}

fn container(home: &Home, name: &str, size: bool) -> Result<Object> {
    let record = names::find(home, name).map_err(|e| if e.class == Class::NotFound { no_such(name) } else { e })?;
    describe::describe(home, &record, size).map(|description| Object::Container(Box::new(description)))
}

fn image(store: &Store, name: &str) -> Result<Object> {
    image_look::facts(store, name).map(Object::Image).map_err(|e| if e.class == Class::NotFound { no_such(name) } else { e })
}

fn network(home: &Home, name: &str) -> Result<Object> {
    let found = networks::network::find(home, name).and_then(|network| networks::describe::network(home, &network));
    found.map(|network| Object::Network(Box::new(network))).map_err(|e| if e.class == Class::NotFound { no_such(name) } else { e })
}

fn volume(home: &Home, name: &str, format: Option<&str>) -> Result<Object> {
    volume::facts(home, name, format).map(Object::Volume).map_err(|e| if e.class == Class::NotFound { no_such(name) } else { e })
}

/// Prints objects as one JSON list, as JSON a line, or each by a template. Those that aren't there are told at the end.
///
/// # Errors
/// Invalid for a template that asks for what isn't there.
pub fn print<T: Serialize>(objects: impl Iterator<Item = Result<T>>, format: Option<&str>) -> Result<u8> {
    let template = match format {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let mut listed = Vec::new();
    let mut missing = Vec::new();
    for object in objects {
        match (object, &template) {
            (Err(e), _) => missing.push(e),
            (Ok(object), Some(template)) => drop(say(template.execute(&value(&object)?)?)?),
            (Ok(object), None) => listed.push(object),
        }
    }
    match format {
        None => drop(say(pretty(&listed)?)?),
        Some("json") => drop(listed.iter().try_for_each(|object| say(serde_json::to_string(object).unwrap_or_default()).map(drop))),
        Some(_) => {}
    }
    missing.iter().for_each(complain);
    Ok(u8::from(!missing.is_empty()))
}

/// Docker's words, which scripts look for.
fn no_such(name: &str) -> Error {
    Error::new(Class::NotFound, format!("inspect {name}"), format!("No such object: {name}"))
        .hint("`onggi ps -a` lists the containers that there are, `onggi images` the images, `onggi volume ls` the volumes")
}

fn value(object: &impl Serialize) -> Result<Value> {
    serde_json::to_value(object).map_err(|e| Error::new(Class::System, "describe it", e.to_string()))
}

/// JSON with Docker's four spaces.
fn pretty(listed: &impl Serialize) -> Result<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    listed
        .serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        .map_err(std::io::Error::from)
        .doing(|| "describe it".into())?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

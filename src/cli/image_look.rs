//! `image inspect` and `history`: what an image is, and how it came to be.
//!
//! Read: docker image inspect(1), docker history(1).

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::complain;
use super::human;
use super::images::{listed, repository, tell};
use super::table::{self, Column, Listing};
use super::template::Template;
use crate::error::Result;
use crate::image::digest::ChainId;
use crate::image::manifest::{ContainerConfig, History, ImageConfig};
use crate::image::store::Store;
use crate::image::{list, snapshot};

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Names, IDs or beginnings of IDs
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
    /// A template for each image, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// A name, an ID or the beginning of an ID
    #[arg(value_name = "IMAGE")]
    name: String,
    /// Show everything in full
    #[arg(long)]
    no_trunc: bool,
    /// Only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Sizes and times as people say them
    #[arg(short = 'H', long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// A template for each line, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// `image inspect`
///
/// # Errors
/// Invalid for a template; images that aren't there are told, and the exit code is 1.
pub fn inspect(store: &Store, args: &InspectArgs) -> Result<u8> {
    let template = args.format.as_deref().filter(|format| *format != "json").map(Template::parse).transpose()?;
    let (mut found, mut code) = (Vec::new(), 0);
    for name in &args.names {
        match facts(store, name) {
            Ok(facts) => found.push(facts),
            Err(e) => {
                complain(&e);
                code = 1;
            }
        }
    }
    match template {
        Some(template) => found.iter().try_for_each(|facts| tell(template.execute(facts)?))?,
        None if args.format.is_some() => found.iter().try_for_each(tell)?,
        None => tell(indented(&found))?,
    }
    Ok(code)
}

/// All about an image, in Docker's words.
///
/// # Errors
/// NotFound, Invalid when the store is damaged.
pub fn facts(store: &Store, name: &str) -> Result<Value> {
    let image = listed(store, name, "inspect the image")?;
    let config: ImageConfig = store.read_json(&image.id)?;
    let chain = ChainId::stack(&config.rootfs.diff_ids);
    let folder = |chain: &ChainId| snapshot::dir(store, chain).display().to_string();
    let lower: Vec<String> = chain.iter().rev().skip(1).map(folder).collect();
    let mut digests: Vec<String> = image.names.iter().map(|(name, manifest)| format!("{}@{manifest}", repository(name))).collect();
    digests.dedup();
    Ok(json!({
        "Id": image.id,
        "RepoTags": image.names.iter().filter(|(name, _)| name.tag.is_some()).map(|(name, _)| name.familiar()).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Parent": "",
        "Comment": config.history.last().and_then(|last| last.comment.clone()).unwrap_or_default(),
        "Created": image.created,
        "DockerVersion": "",
        "Author": config.author.clone().unwrap_or_default(),
        "Config": settings(&config.config),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": chain.last().map(folder).unwrap_or_default(), "LowerDir": lower.join(":")}},
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": {"digest": image.manifests.first()},
    }))
}

/// The settings with all of Docker's fields: scripts ask for them whether they are set or not.
fn settings(config: &ContainerConfig) -> Value {
    let or_null = |value: Value| match &value {
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.is_empty() => Value::Null,
        _ => value,
    };
    let mut all = json!({
        "Hostname": "", "Domainname": "", "User": config.user, "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": or_null(json!(config.env)), "Cmd": or_null(json!(config.cmd)),
        "Image": "", "Volumes": or_null(json!(config.volumes)), "WorkingDir": config.working_dir,
        "Entrypoint": or_null(json!(config.entrypoint)), "OnBuild": or_null(json!(config.on_build)), "Labels": or_null(json!(config.labels)),
    });
    let set = [
        ("ExposedPorts", (!config.exposed_ports.is_empty()).then(|| json!(config.exposed_ports))),
        ("StopSignal", config.stop_signal.as_ref().map(|signal| json!(signal))),
        ("StopTimeout", config.stop_timeout.map(|seconds| json!(seconds))),
        ("Healthcheck", config.healthcheck.as_ref().map(|check| json!(check))),
        ("Shell", (!config.shell.is_empty()).then(|| json!(config.shell))),
    ];
    for (key, value) in set {
        if let Some(value) = value {
            all[key] = value;
        }
    }
    all
}

/// `history`
///
/// # Errors
/// NotFound; Invalid for a template.
pub fn history(store: &Store, args: &HistoryArgs) -> Result<u8> {
    let image = listed(store, &args.name, "show the history of")?;
    let config: ImageConfig = store.read_json(&image.id)?;
    let mut sizes = ChainId::stack(&config.rootfs.diff_ids).into_iter().map(|chain| list::layer_size(store, &chain));
    let mut steps: Vec<(History, u64)> = Vec::new();
    for step in &config.history {
        let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        steps.push((step.clone(), size));
    }
    // An image may say nothing of its layers.
    steps.extend(sizes.map(|size| (History::default(), size)));
    let short = |text: &str| if args.no_trunc { text.to_string() } else { ellipsis(text, 45) };
    let row = |(at, (step, size)): (usize, &(History, u64))| {
        let id = if args.no_trunc { image.id.as_str() } else { image.id.short() };
        let created = step.created.clone().unwrap_or_default();
        let since = human::ago(&created);
        json!({
            "ID": if at == 0 { id } else { "<missing>" },
            "CreatedSince": if args.human { since } else { created.clone() },
            "CreatedAt": created,
            "CreatedBy": short(&step.created_by.clone().unwrap_or_default().replace('\t', " ")),
            "Size": if args.human { human::size(*size) } else { size.to_string() },
            "Comment": step.comment.clone().unwrap_or_default(),
        })
    };
    let rows = steps.iter().rev().enumerate().map(row).collect();
    let since = if args.human { "CREATED" } else { "CREATED AT" };
    let columns = [("IMAGE", "ID"), (since, "CreatedSince"), ("CREATED BY", "CreatedBy"), ("SIZE", "Size"), ("COMMENT", "Comment")];
    let columns = columns.map(|(header, field)| Column { header, field }).to_vec();
    let listing = Listing { columns, headers: &[("CreatedAt", "CREATED AT")], rows };
    table::print(&listing, args.format.as_deref(), args.quiet.then_some("ID"))?;
    Ok(0)
}

pub fn ellipsis(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_string(),
    }
}

/// JSON as Docker prints it, four spaces a level.
fn indented(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, serde_json::ser::PrettyFormatter::with_indent(b"    "));
    // Values of JSON are written as they are: there is nothing that could fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&bytes).into_owned()
}

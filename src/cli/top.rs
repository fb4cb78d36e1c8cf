//! `onggi top`: a container's processes; `onggi port`: what it publishes.
//!
//! Read: docker-top(1), docker-port(1).

use clap::Args;

use super::{say, table};
use crate::engine::home::Home;
use crate::engine::record::Port;
use crate::engine::{names, sweep, top};
use crate::error::{Class, Error, Result};

#[derive(Debug, Args)]
pub struct TopArgs {
    /// Container: its name, or (the beginning of) its ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of ps, such as -o pid,cmd [default: -ef]
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// docker's columns of `top` are this wide at least.
const NARROWEST: usize = 20;

/// Prints the processes of a container.
///
/// # Errors
/// Conflict when it doesn't run.
pub fn top(args: &TopArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let processes = top::top(&names::find(&home, &args.container)?, &args.options)?;
    let lines = std::iter::once(&processes.titles).chain(&processes.rows).map(|cells| cells.join("\t")).collect();
    say(table::columns(lines, NARROWEST).trim_end_matches('\n'))
}

#[derive(Debug, Args)]
pub struct PortArgs {
    /// Container: its name, or (the beginning of) its ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// A port inside, such as 80 or 53/udp
    #[arg(value_name = "PORT")]
    port: Option<String>,
}

/// Prints the published ports of a container, or where one of them is published.
///
/// # Errors
/// NotFound for a port that isn't published.
pub fn port(args: &PortArgs) -> Result<u8> {
    let home = Home::open()?;
    sweep::sweep(&home)?;
    let record = names::find(&home, &args.container)?;
    let mut published = if record.is_active() { record.state.ports } else { Vec::new() };
    published.sort_by_key(|port| (port.container, port.protocol, port.host));
    let name = |port: &Port| format!("{}/{}", port.container, port.protocol);
    let wanted = args.port.as_ref().map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
    if let Some(port) = wanted.as_ref().filter(|wanted| !published.iter().any(|port| name(port) == **wanted)) {
        let asked = args.port.as_deref().unwrap_or_default();
        let why = format!("No public port '{asked}' published for {}", args.container);
        return Err(Error::new(Class::NotFound, format!("find the port {port}"), why));
    }
    for port in &published {
        match &wanted {
            None => drop(say(format_args!("{} -> {}", name(port), port.host))?),
            Some(wanted) if *wanted == name(port) => drop(say(port.host)?),
            Some(_) => {}
        }
    }
    Ok(0)
}

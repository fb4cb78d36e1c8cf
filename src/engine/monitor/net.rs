//! The network of one life of a container, from the monitor's side: the host's ports that it holds, the names that it answers for.
//!
//! See it: `ls -l /proc/MONITOR/fd`, `ss -ltnup`. Read: ip(7), resolv.conf(5), network_namespaces(7).

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::PollFlags;

use crate::engine::etc_files::{self, Resolver};
use crate::engine::home::Home;
use crate::engine::networks::attach::Arrival;
use crate::engine::networks::ground::{self, Ground};
use crate::engine::networks::live::{self, Endpoint, Who};
use crate::engine::networks::names::Zone;
use crate::engine::networks::network;
use crate::engine::networks::{attach, ports};
use crate::engine::record::{self, Definition, Record};
use crate::engine::request::{NetworkMode, Request};
use crate::error::{Class, Error, Result};
use crate::network::dns::{self, Server};
use crate::network::nat;
use crate::network::ports::Held;
use crate::network::proxy::{self, Way};
use crate::sys::process;

/// What the monitor has open for a container's network.
pub struct Net {
    held: Vec<Held>,
    /// Those that copy for held ports, begun by the first who came.
    proxy: Option<OwnedFd>,
    server: Option<Server>,
    zone: Option<Zone>,
    endpoints: Vec<Endpoint>,
    /// Where the bridges are. An ordinary user's ground stays as long as somebody has it.
    ground: Option<Ground>,
    /// What its user has to be told.
    pub warnings: Vec<String>,
}

impl Net {
    /// Takes the host's ports: a port that is taken is said before anything is made.
    ///
    /// # Errors
    /// Conflict for a port, with its holder.
    pub fn begin(home: &Home, record: &Record, definition: &Definition) -> Result<Net> {
        let held = if record.network == NetworkMode::Own { ports::hold(home, record, definition)? } else { Vec::new() };
        Ok(Net { held, proxy: None, server: None, zone: None, endpoints: Vec::new(), ground: None, warnings: Vec::new() })
    }

    /// Puts the container, whose first process waits, on its networks.
    ///
    /// # Errors
    /// Those of [`attach::attach`]; nothing is left behind.
    pub fn join(&mut self, home: &Home, record: &Record, request: &Request, hostname: Option<&str>, resolver: &Resolver, pid: i32) -> Result<()> {
        if record.network != NetworkMode::Own {
            return Ok(());
        }
        let namespace = attach::namespace_of(pid)?;
        let who = Who { id: &record.id, name: &record.name, hostname };
        let ground = self.ground.insert(ground::get(home)?);
        let arrival = Arrival { who, wanted: &record.networks, namespace: namespace.as_fd(), ports: &self.held };
        self.endpoints = attach::attach(home, ground, &arrival)?;
        if ground.namespace().is_none() {
            let links = self.endpoints.iter().filter_map(|endpoint| network::load(home, &endpoint.network).ok()).map(|network| network.link);
            // Who may not look at others' rules goes without.
            self.warnings = nat::warnings(&links.collect::<Vec<_>>()).unwrap_or_default();
        }
        etc_files::write_hosts(home, record, request, &self.endpoints)?;
        self.answer_names(home, record, resolver, namespace.as_fd())
    }

    fn answer_names(&mut self, home: &Home, record: &Record, resolver: &Resolver, namespace: BorrowedFd) -> Result<()> {
        let Some(upstream) = &resolver.upstream else { return Ok(()) };
        let Some(ground) = &self.ground else { return Ok(()) };
        let opened = ground.open(|| dns::redirect::open(namespace).map(|(udp, tcp)| vec![udp.into(), tcp.into()]))?;
        let [udp, tcp] = <[OwnedFd; 2]>::try_from(opened)
            .map_err(|_| Error::new(Class::System, "answer the container's questions for names", "its sockets were lost on the way"))?;
        self.server = Some(Server::new(udp.into(), tcp.into(), upstream.clone(), resolver.forwards)?);
        self.zone = Some(Zone::of(home, record));
        Ok(())
    }

    /// Its networks have changed while it runs.
    ///
    /// # Errors
    /// ENOENT when it has just ended.
    pub fn changed(&mut self, home: &Home, id: &str, definition: &Definition, pid: i32) -> Result<()> {
        let record = record::load(home, id)?;
        self.endpoints = live::of_container(home, id)?;
        if self.ground.is_none() {
            self.ground = Some(ground::get(home)?);
        }
        let resolver = etc_files::resolver(home, &definition.request, &record)?;
        etc_files::rewrite(home, &record, &definition.request, &self.endpoints, &resolver)?;
        match self.server {
            None => self.answer_names(home, &record, &resolver, attach::namespace_of(pid)?.as_fd())?,
            Some(_) => self.zone = Some(Zone::of(home, &record)),
        }
        self.lead_ports(home, &record, definition)
    }

    /// Its ports lead to where it is now. Without a way out there are none.
    fn lead_ports(&mut self, home: &Home, record: &Record, definition: &Definition) -> Result<()> {
        match ports::leads_out(home, record) {
            true if self.held.is_empty() => self.held = ports::hold(home, record, definition)?,
            true => {}
            false => self.held.clear(),
        }
        self.end_proxy();
        attach::republish(home, record, &self.held)
    }

    /// The ports as `ps` shows them.
    pub fn ports(&self) -> Vec<record::Port> {
        self.held.iter().map(|held| record::Port { host: held.address, container: held.container, protocol: held.protocol }).collect()
    }

    /// What is to be waited for.
    pub fn waits(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut waits: Vec<_> = self.server.iter().flat_map(|server| server.waits()).collect();
        match &self.proxy {
            // Its end: it was killed.
            Some(proxy) => waits.push((proxy.as_fd(), PollFlags::POLLIN)),
            None => waits.extend(self.held.iter().map(|held| (held.socket.as_fd(), PollFlags::POLLIN))),
        }
        waits
    }

    /// When to look again, whatever happens.
    pub fn due(&self) -> Option<Instant> {
        self.server.as_ref().and_then(|server| server.due())
    }

    /// Does what can be done.
    pub fn ready(&mut self) {
        if let (Some(server), Some(zone)) = (&mut self.server, &mut self.zone) {
            server.ready(&mut || zone.names());
        }
        if self.proxy.as_ref().is_some_and(|proxy| !matches!(process::try_wait(proxy.as_fd()), Ok(None))) {
            self.proxy = None;
        }
        if self.proxy.is_none() && self.somebody_calls() {
            // A failure is the caller's: whoever connects again tries again.
            self.proxy = self.begin_proxy().ok();
        }
    }

    /// What is due because nothing came.
    pub fn on_time(&mut self) {
        self.server.iter_mut().for_each(Server::on_time);
    }

    fn somebody_calls(&self) -> bool {
        use nix::poll::{PollFd, PollTimeout, poll};
        let mut fds: Vec<PollFd> = self.held.iter().map(|held| PollFd::new(held.socket.as_fd(), PollFlags::POLLIN)).collect();
        !fds.is_empty() && poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn begin_proxy(&self) -> Result<OwnedFd> {
        let mut ways = Vec::new();
        for held in &self.held {
            if let Some(to) = ports::target(&self.endpoints, held) {
                ways.push(Way { socket: ports::share(held)?, protocol: held.protocol, to: SocketAddr::new(to, held.container) });
            }
        }
        proxy::begin(ways, self.ground.as_ref().and_then(Ground::namespace))
    }

    /// Lets go of everything: the ports are free before anybody hears of the container's end, and no socket of ours keeps its namespace.
    pub fn end(&mut self) {
        self.held.clear();
        self.server = None;
        self.zone = None;
        self.end_proxy();
    }

    fn end_proxy(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            let _ = process::pidfd_send_signal(proxy.as_fd(), libc::SIGKILL);
            let _ = process::wait(proxy.as_fd());
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.end();
    }
}

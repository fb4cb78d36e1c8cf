//! The end of the way: from the bridge into the receiver's namespace, past its own rules, to a program that listens.
//!
//! Read: proc_pid_net(5), nft(8) on the hook `input`.

use std::net::{IpAddr, SocketAddr};

use super::hops::{Onward, Walk};
use super::{Answer, Hop};
use crate::engine::networks::live::Endpoint;
use crate::error::Result;
use crate::inspect::network as facts;
use crate::inspect::network_proof as proof;
use crate::inspect::sockets;
use crate::network::nat;
use crate::network::ports::Protocol;

impl Walk<'_> {
    /// From the bridge into the receiver's namespace.
    pub(super) fn enter(&mut self, other: &Endpoint, at: IpAddr) -> Result<Onward> {
        let own_cable = self.hops.iter().any(|hop| hop.name == "cable" && hop.seen.contains(&other.link));
        if !own_cable && self.cable(other)?.is_none() {
            return Ok(Onward::End);
        }
        let Some((pid, inside)) = self.world.pid_of(other).and_then(|pid| Some((pid, facts::of(pid).ok()?))) else {
            return self.stop(Hop::new("cable", format!("{} has just ended", other.name), "onggi ps -a"), format!("onggi start {}", other.name));
        };
        let see = format!("nsenter -t {pid} -n ip address show {}", other.inside);
        let link = inside.link(&other.inside).cloned();
        let Some(link) = link.filter(|link| link.up) else {
            let hop = Hop::new("cable", format!("{} is down inside {}", other.inside, other.name), see);
            return self.stop(hop, format!("nsenter -t {pid} -n ip link set {} up", other.inside));
        };
        let Some(cidr) = inside.addresses_of(link.index).into_iter().find(|cidr| cidr.address == at) else {
            let prefix = other.addresses.iter().find(|cidr| cidr.address == at).map_or(32, |cidr| cidr.prefix);
            let hop = Hop::new("cable", format!("{} inside {} has lost its address {at}", other.inside, other.name), see);
            return self.stop(hop, format!("nsenter -t {pid} -n ip address add {at}/{prefix} dev {}", other.inside));
        };
        let back = self.hops.first().and_then(|_| self.answer_to());
        if let Some(back) = back.filter(|back| back.is_ipv4() == at.is_ipv4())
            && facts::way_of(pid, back)?.is_none()
        {
            let hop = Hop::new(
                "route",
                format!("{} has no way back to {back}: no answer leaves it", other.name),
                format!("nsenter -t {pid} -n ip route get {back}"),
            );
            let subnet = format!("{}/{}", cidr.network(), cidr.prefix);
            return self.stop(hop, format!("nsenter -t {pid} -n ip route add {subnet} dev {}   (or: onggi restart {})", other.inside, other.name));
        }
        Ok(Onward::Program { pid, whose: other.name.clone(), at })
    }

    /// The sender's address, as the receiver sees it.
    fn answer_to(&self) -> Option<IpAddr> {
        let way = facts::way_of(self.world.pid, self.to).ok().flatten()?;
        way.source
    }

    /// In the receiver's namespace: filters of its own, and a program that listens.
    pub(super) fn arrive(&mut self, pid: i32, whose: &str, at: IpAddr) -> Result<()> {
        let filters = proof::inside(pid, || nat::filters(true).unwrap_or_default())?;
        if !filters.is_empty() {
            let hop =
                Hop::new("filter", format!("{whose} has rules of its own: {}", filters.join(", ")), format!("nsenter -t {pid} -n nft list ruleset"));
            self.pass(hop.unknown("when the proof fails, it is they"));
        }
        let protocol = self.protocol;
        let inside = if whose == "the host" { String::new() } else { format!("nsenter -t {pid} -n ") };
        let see = format!("{inside}ss -{}ln", if protocol == Protocol::Tcp { "t" } else { "u" });
        let all = sockets::listening(pid, protocol)?;
        let open = |socket: &&SocketAddr| sockets::takes(socket, at);
        let Some(port) = self.port else {
            let found = all.iter().find(open);
            self.port = found.map(SocketAddr::port);
            let seen = found.map_or_else(
                || format!("nobody listens for {protocol} in {whose}"),
                |found| format!("no port was asked for: {found}/{protocol} is one of {whose}"),
            );
            let answer = if found.is_some() { Answer::Passes } else { Answer::Nobody };
            self.pass(Hop { answer, ..Hop::new("listener", seen, see) });
            return Ok(());
        };
        if let Some(found) = all.iter().filter(|socket| socket.port() == port).find(open) {
            self.pass(Hop::new("listener", format!("{found}/{protocol} in {whose}"), see));
            return Ok(());
        }
        let same: Vec<String> = all.iter().filter(|socket| socket.port() == port).map(ToString::to_string).collect();
        let others: Vec<String> = all.iter().filter(open).map(|socket| socket.port().to_string()).collect();
        let (seen, remedy) = match (&same[..], &others[..]) {
            ([], []) => {
                (format!("nobody listens on port {port}/{protocol} in {whose}"), format!("onggi logs {whose} may say why its program doesn't"))
            }
            ([], others) => (format!("nobody listens on port {port}/{protocol} in {whose}; somebody does on {}", others.join(", ")), String::new()),
            (same, _) => (
                format!("in {whose} port {port}/{protocol} is open at {} only", same.join(", ")),
                "have the program listen on 0.0.0.0, so that others than itself reach it".to_string(),
            ),
        };
        let remedy = if whose == "the host" { String::new() } else { remedy };
        self.pass(Hop { answer: Answer::Nobody, remedy, ..Hop::new("listener", seen, see) });
        Ok(())
    }
}

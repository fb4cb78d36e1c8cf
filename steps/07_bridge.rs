//! Containers have a network: a cable from each to a bridge, addresses, the host's address for what goes out, and published ports.
//!
//! Try it: `step-07 run -d --name web -p 8080:80 base.tar httpd -f -p 80 -h /etc; curl 10.77.0.1:8080/os-release; step-07 stop web`
//! See it: `ip -d link`, `bridge link`, `nft list ruleset`, `nsenter -t PID -n ip route`
//! Read: rtnetlink(7), netlink(7), veth(4), bridge(8), nft(8) "NAT STATEMENTS"

#[path = "06_container.rs"]
#[allow(dead_code)] // its `main`
pub mod container;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use clap::Args;
use container::NAME;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::unistd::Pid;
use onggi::error::{Class, Doing, Error, Result};
use onggi::network::nft::expression::{Base, Expression, Meta};
use onggi::network::nft::set::ifname;
use onggi::network::nft::{self, Batch, Hook, Place};
use onggi::runtime::users;
use onggi::sys::namespace::within_network;
use onggi::workshop::steps::{self, Hooks};

/// The switch that all containers of the steps are plugged into; its own end is their way out.
const BRIDGE: &str = "steps0";
const GATEWAY: [u8; 4] = [10, 77, 0, 1];

// What libc lacks of <linux/if_link.h> and <linux/veth.h>.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// To make something, and not to find it there already.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// What this step adds to a container.
#[derive(Args)]
pub struct Network {
    /// Lead a port of the host to one of the container, HOST:CONTAINER
    #[arg(short, long, value_parser = port)]
    publish: Vec<(u16, u16)>,
    #[arg(skip)]
    endpoint: Option<Endpoint>,
}

fn main() {
    steps::main(NAME, container::act::<Network>)
}

/// `8080:80`
fn port(text: &str) -> std::result::Result<(u16, u16), String> {
    let number = |text: &str| text.parse().ok().filter(|port| *port > 0);
    let both = text.split_once(':').and_then(|(host, container)| Some((number(host)?, number(container)?)));
    both.ok_or_else(|| "it is not HOST:CONTAINER, two numbers from 1 to 65535".into())
}

impl Hooks for Network {
    fn create_runtime(&mut self, child: Pid) -> Result<()> {
        if users::in_user_namespace() {
            let refused = Error::new(Class::Denied, "publish a port", "the host's network is root's; chapter 12a has a way");
            return if self.publish.is_empty() { Ok(()) } else { Err(refused) };
        }
        let endpoint = Endpoint::connect(child, &self.publish)?;
        let inside = File::open(format!("/proc/{child}/ns/net")).doing(|| "open the container's network namespace".into())?;
        let settled = within_network(inside.as_fd(), || endpoint.settle()).doing(|| "enter the container's network".into())?;
        settled.doing(|| "give the container its address".into())?;
        self.endpoint = Some(endpoint);
        Ok(())
    }

    /// The loopback device. An ordinary user's container has no other: there is a bridge for who is root of the host's network.
    fn create_container(&self, _root: BorrowedFd) -> Result<()> {
        let lo = if_nametoindex("lo").and_then(|lo| request(libc::RTM_NEWLINK, 0, &[link(lo, libc::IFF_UP)]));
        lo.doing(|| "switch the loopback device on".into())
    }

    fn poststop(&mut self) {
        self.endpoint = None;
    }
}

/// A container's place in the network: number N has the cable `steps0.N` and the address 10.77.0.N. Dropped, both are gone, and with the
/// last one the bridge.
struct Endpoint(u8);

impl Endpoint {
    /// Connects the network namespace of the process `pid` with the bridge, and publishes ports: the host's, and the container's.
    fn connect(pid: Pid, ports: &[(u16, u16)]) -> Result<Endpoint> {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").doing(|| "have the kernel pass on packets that are for others".into())?;
        // Dropped, should something fail, it undoes what has been done.
        let mut endpoint = Endpoint(0);
        // Who leaves last removes the bridge: nobody is to be plugged into it in that moment.
        let held = steps::hold("network")?;
        endpoint.0 = bridge().and_then(|()| cable(pid)).doing(|| format!("connect the container with the bridge {BRIDGE}"))?;
        drop(held);
        translate(endpoint.0, ports)?;
        Ok(endpoint)
    }

    /// On the container's side: the cable's end gets the address, and all that isn't near goes to the gateway.
    fn settle(&self) -> nix::Result<()> {
        give("eth0", [10, 77, 0, self.0])?;
        // struct rtmsg: family, length of the prefix (none: everywhere), …, table, origin, scope, type.
        let route = vec![libc::AF_INET as u8, 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        request(libc::RTM_NEWROUTE, NEW, &[route, attribute(libc::RTA_GATEWAY, &GATEWAY)])
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let (_held, name) = (steps::hold("network"), cable_name(self.0));
        let _ = remove(&name);
        if (2..=254).all(|number| if_nametoindex(&*cable_name(number)).is_err()) {
            let _ = remove(BRIDGE);
        }
        let mut batch = Batch::new(&name);
        batch.delete_table();
        let _ = nft::open().map(|socket| batch.commit(&socket));
    }
}

/// Makes the bridge, and gives it the gateway's address. Both may be done twice.
fn bridge() -> nix::Result<()> {
    let kind = attribute(libc::IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"bridge"));
    match request(libc::RTM_NEWLINK, NEW, &[link(0, 0), attribute(libc::IFLA_IFNAME, BRIDGE.as_bytes()), kind]) {
        Ok(()) | Err(Errno::EEXIST) => give(BRIDGE, GATEWAY),
        refused => refused,
    }
}

/// Makes a veth: a cable whose one end is plugged into the bridge, while the other, `eth0`, is in the container. Answers its number.
fn cable(pid: Pid) -> nix::Result<u8> {
    let peer = [link(0, 0), attribute(libc::IFLA_IFNAME, b"eth0"), attribute(libc::IFLA_NET_NS_PID, &pid.as_raw().to_ne_bytes())].concat();
    let data = attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer));
    let kind = attribute(libc::IFLA_LINKINFO, &[attribute(IFLA_INFO_KIND, b"veth"), data].concat());
    let master = attribute(libc::IFLA_MASTER, &if_nametoindex(BRIDGE)?.to_ne_bytes());
    for number in 2..=254 {
        let name = attribute(libc::IFLA_IFNAME, cable_name(number).as_bytes());
        match request(libc::RTM_NEWLINK, NEW, &[link(0, libc::IFF_UP), name, master.clone(), kind.clone()]) {
            // No two links have one name: so the kernel itself knows which numbers are taken.
            Err(Errno::EEXIST) => {}
            made => return made.map(|()| number),
        }
    }
    Err(Errno::EADDRNOTAVAIL)
}

fn cable_name(number: u8) -> String {
    format!("{BRIDGE}.{number}")
}

/// Gives a link an address in a network of 256, and switches it on.
fn give(name: &str, address: [u8; 4]) -> nix::Result<()> {
    let index = if_nametoindex(name)?;
    // struct ifaddrmsg: family, length of the prefix, flags, scope, index.
    let about = [[libc::AF_INET as u8, 24, 0, 0], index.to_ne_bytes()].concat();
    request(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &[about, attribute(libc::IFA_LOCAL, &address)])?;
    request(libc::RTM_NEWLINK, 0, &[link(index, libc::IFF_UP)])
}

fn remove(name: &str) -> nix::Result<()> {
    request(libc::RTM_DELLINK, 0, &[link(0, 0), attribute(libc::IFLA_IFNAME, name.as_bytes())])
}

/// One question to the kernel's network and its answer (netlink(7)): a header, the struct of this kind of message, and attributes.
fn request(kind: u16, flags: i32, parts: &[Vec<u8>]) -> nix::Result<()> {
    // The socket belongs to the network namespace in which it is opened.
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let (body, flags) = (parts.concat(), (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16);
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    // A sequence number and the sender: nothing to be told apart, as long as a socket asks once.
    message.extend([0; 8]);
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // Behind the header of the answer: 0, or an errno below zero.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        errno => Err(Errno::from_raw(-errno)),
    }
}

/// An attribute: its length, its type, its value, filled up to four bytes (`struct rtattr`, rtnetlink(7)). A value can be attributes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(value.len() as u16 + 4).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg`: which link it is about (0: its name tells), and flags, which are also the ones to be changed.
fn link(index: u32, flags: i32) -> Vec<u8> {
    [0, index, flags as u32, flags as u32].map(u32::to_ne_bytes).concat()
}

/// The rules of one container, in a table of its own (nft(8), "NAT STATEMENTS"): what it sends into the world has the host's address as its
/// source, and what comes to a published port of the host has the container's address as its destination.
fn translate(number: u8, ports: &[(u16, u16)]) -> Result<()> {
    let (table, bridge, own) = (cable_name(number), ifname(BRIDGE), [10, 77, 0, number]);
    let ports: Vec<_> = ports.iter().map(|(outer, inner)| (outer.to_be_bytes(), inner.to_be_bytes())).collect();
    let header = |base, offset, length| Expression::Payload { base, offset, length, word: 0 };
    let is = |value| Expression::Equal { word: 0, value };
    let ipv4 = [Expression::Meta { key: Meta::NfProto, word: 0 }, is(&[libc::NFPROTO_IPV4 as u8])];
    let mut batch = Batch::new(&table);
    batch.table();
    // Should rules be left of one who was killed, they go.
    batch.delete_table();
    batch.table();
    batch.chain("out", Some(&Hook { kind: "nat", place: Place::Postrouting, priority: 100 }));
    let outside = [Expression::Meta { key: Meta::OifName, word: 0 }, Expression::Differs { word: 0, value: &bridge }];
    batch.rule("out", "masquerade", &[&ipv4[..], &[header(Base::Network, 12, 4), is(&own)], &outside, &[Expression::Masquerade]].concat());
    for (outer, inner) in &ports {
        let to_host = [Expression::DestinationType { word: 0 }, is(&[libc::RTN_LOCAL, 0, 0, 0])];
        let tcp = [Expression::Meta { key: Meta::L4Proto, word: 0 }, is(&[libc::IPPROTO_TCP as u8]), header(Base::Transport, 2, 2), is(outer)];
        let target = [Expression::Immediate { word: 0, value: &own }, Expression::Immediate { word: 1, value: inner }];
        let change = Expression::Dnat { family: libc::NFPROTO_IPV4 as u8, address: 0, port: 1 };
        let rule = [&ipv4[..], &to_host, &tcp, &target, &[change]].concat();
        // What comes from elsewhere, and what the host's own programs send.
        for (chain, place) in [("in", Place::Prerouting), ("own", Place::Output)] {
            batch.chain(chain, Some(&Hook { kind: "nat", place, priority: -100 }));
            batch.rule(chain, "published", &rule);
        }
    }
    batch.commit(&*nft::open()?).map_err(|refusal| Error::sys("translate the container's addresses", refusal.fact))
}

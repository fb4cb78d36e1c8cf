//! Messages of multicast DNS: the questions for registries, and the answers.
//!
//! ```text
//! _onggi-registry._tcp.local           PTR   Teacher._onggi-registry._tcp.local     which registries there are
//! Teacher._onggi-registry._tcp.local   SRV   teacher.local, port 5000               where one is
//!                                      TXT   scheme=http                            and how it is spoken to
//! teacher.local                        A     192.168.0.10
//! ```
//! See it: `avahi-browse -r _onggi-registry._tcp`. Source: RFC 6762 (multicast DNS), RFC 6763 (service discovery).

use std::net::{Ipv4Addr, SocketAddrV4};

use simple_dns::rdata::{A, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, CharacterString, Label, Name, Packet, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
pub const PORT: u16 = 5353;

/// A message is no longer than this (RFC 6762, 17).
pub const LONGEST: usize = 9000;

const SERVICE: &str = "_onggi-registry._tcp.local";
/// Under this name all kinds of services are listed (RFC 6763, 9).
const ALL_SERVICES: &str = "_services._dns-sd._udp.local";

/// So long an answer may be remembered (RFC 6762, 10).
const SECONDS: u32 = 120;

/// A registry that announces itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announced {
    pub name: String,
    pub host: String,
    pub address: SocketAddrV4,
    pub is_tls: bool,
}

impl Announced {
    fn instance(&self) -> Option<Name<'_>> {
        let labels = [self.name.as_str(), "_onggi-registry", "_tcp", "local"].map(|label| Label::new(label.as_bytes()).ok());
        Some(Name::new_with_labels(&labels.into_iter().collect::<Option<Vec<_>>>()?))
    }

    fn host_name(&self) -> Option<Name<'_>> {
        let labels = [self.host.as_str(), "local"].map(|label| Label::new(label.as_bytes()).ok());
        Some(Name::new_with_labels(&labels.into_iter().collect::<Option<Vec<_>>>()?))
    }
}

/// The question for all registries. `unicast` asks for answers to the asker alone, as one does who doesn't listen at port 5353.
pub fn ask(unicast: bool) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(0);
    packet.questions.push(Question::new(Name::new(SERVICE).ok()?, QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN), unicast));
    packet.build_bytes_vec().ok()
}

/// What there is to say to a message, and whether everybody is to hear it; None when it asks for nothing of ours.
/// `legacy`: the asker is an ordinary DNS client, whose answer repeats ID and question (RFC 6762, 6.7).
pub fn reply(message: &[u8], ours: &Announced, legacy: bool) -> Option<(Vec<u8>, bool)> {
    let asked = Packet::parse(message).ok()?;
    if asked.has_flags(simple_dns::PacketFlag::RESPONSE) {
        return None;
    }
    let (instance, host) = (ours.instance()?, ours.host_name()?);
    let (service, all) = (Name::new(SERVICE).ok()?, Name::new(ALL_SERVICES).ok()?);
    let mut packet = Packet::new_reply(if legacy { asked.id() } else { 0 });
    packet.set_flags(simple_dns::PacketFlag::AUTHORITATIVE_ANSWER);
    let mut for_all = false;
    let is_known = |record: &ResourceRecord| asked.answers.iter().any(|known| known.name == record.name && known.rdata == record.rdata);
    for question in asked.questions.iter().take(32) {
        let is = |name: &Name, kinds: &[TYPE]| {
            let fits = |kind: &TYPE| question.qtype == QTYPE::TYPE(*kind) || question.qtype == QTYPE::ANY;
            same(&question.qname, name) && kinds.iter().any(fits)
        };
        let before = packet.answers.len();
        if is(&service, &[TYPE::PTR]) {
            packet.answers.extend(Some(pointer(&service, &instance)).filter(|record| !is_known(record)));
            packet.additional_records.extend([place(&instance, &host, ours, legacy), words(&instance, ours, legacy)?, address(&host, ours, legacy)]);
        }
        if is(&all, &[TYPE::PTR]) {
            packet.answers.extend(Some(pointer(&all, &service)).filter(|record| !is_known(record)));
        }
        if is(&instance, &[TYPE::SRV, TYPE::TXT]) {
            packet.answers.extend([place(&instance, &host, ours, legacy), words(&instance, ours, legacy)?]);
            packet.additional_records.push(address(&host, ours, legacy));
        }
        if is(&host, &[TYPE::A]) {
            packet.answers.push(address(&host, ours, legacy));
        }
        for_all |= packet.answers.len() > before && !question.unicast_response;
        if legacy {
            packet.questions.push(question.clone());
        }
    }
    (!packet.answers.is_empty()).then_some(())?;
    packet.build_bytes_vec_compressed().ok().map(|bytes| (bytes, for_all && !legacy))
}

/// What is said unasked at the start, and with `gone` at the end (a life of 0 seconds, RFC 6762, 10.1).
pub fn announcement(ours: &Announced, gone: bool) -> Option<Vec<u8>> {
    let (instance, host, service) = (ours.instance()?, ours.host_name()?, Name::new(SERVICE).ok()?);
    let mut packet = Packet::new_reply(0);
    packet.set_flags(simple_dns::PacketFlag::AUTHORITATIVE_ANSWER);
    let records = [pointer(&service, &instance), place(&instance, &host, ours, false), words(&instance, ours, false)?, address(&host, ours, false)];
    for mut record in records {
        record.ttl = if gone { 0 } else { SECONDS };
        packet.answers.push(record);
    }
    packet.build_bytes_vec_compressed().ok()
}

/// The registries that an answer tells of.
pub fn read(message: &[u8]) -> Vec<Announced> {
    let Ok(packet) = Packet::parse(message) else { return Vec::new() };
    let Ok(service) = Name::new(SERVICE) else { return Vec::new() };
    let records: Vec<&ResourceRecord> = packet.answers.iter().chain(&packet.additional_records).take(256).collect();
    let of = |name: &Name| records.iter().filter(|record| same(&record.name, name)).map(|record| &record.rdata).collect::<Vec<_>>();
    let mut found = Vec::new();
    for pointer in of(&service) {
        let RData::PTR(PTR(instance)) = pointer else { continue };
        let name = first_label(instance);
        let about = of(instance);
        let is_tls = about
            .iter()
            .any(|data| matches!(data, RData::TXT(text) if text.attributes().get("scheme").is_some_and(|scheme| scheme.as_deref() == Some("https"))));
        for data in &about {
            let RData::SRV(place) = data else { continue };
            let host = first_label(&place.target);
            for data in of(&place.target) {
                let RData::A(A { address }) = data else { continue };
                let address = SocketAddrV4::new(Ipv4Addr::from(*address), place.port);
                found.push(Announced { name: name.clone(), host: host.clone(), address, is_tls });
            }
        }
    }
    found
}

fn pointer<'a>(name: &Name<'a>, to: &Name<'a>) -> ResourceRecord<'a> {
    // Many may have this record: nobody's is forgotten for it.
    ResourceRecord::new(name.clone(), CLASS::IN, SECONDS, RData::PTR(PTR(to.clone())))
}

fn place<'a>(instance: &Name<'a>, host: &Name<'a>, ours: &Announced, legacy: bool) -> ResourceRecord<'a> {
    let data = SRV { priority: 0, weight: 0, port: ours.address.port(), target: host.clone() };
    only_ours(ResourceRecord::new(instance.clone(), CLASS::IN, SECONDS, RData::SRV(data)), legacy)
}

fn words<'a>(instance: &Name<'a>, ours: &Announced, legacy: bool) -> Option<ResourceRecord<'a>> {
    let scheme = if ours.is_tls { "scheme=https" } else { "scheme=http" };
    let data = TXT::new().with_char_string(CharacterString::new(scheme.as_bytes()).ok()?.into_owned());
    Some(only_ours(ResourceRecord::new(instance.clone(), CLASS::IN, SECONDS, RData::TXT(data)), legacy))
}

fn address<'a>(host: &Name<'a>, ours: &Announced, legacy: bool) -> ResourceRecord<'a> {
    let data = A { address: u32::from(*ours.address.ip()) };
    only_ours(ResourceRecord::new(host.clone(), CLASS::IN, SECONDS, RData::A(data)), legacy)
}

/// Nobody else has this record: caches forget others (the cache-flush bit, which ordinary DNS clients don't know).
fn only_ours(record: ResourceRecord<'_>, legacy: bool) -> ResourceRecord<'_> {
    record.with_cache_flush(!legacy)
}

/// Names are the same in capitals and in small letters.
fn same(one: &Name, other: &Name) -> bool {
    one.get_labels().len() == other.get_labels().len() && one.as_bytes().zip(other.as_bytes()).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

/// A name's first part.
fn first_label(name: &Name) -> String {
    name.as_bytes().next().map(|label| printable(&String::from_utf8_lossy(label))).unwrap_or_default()
}

/// A stranger's words, for a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Announced {
        Announced { name: "Room 5. 도커".into(), host: "teacher".into(), address: "10.0.0.5:5000".parse().unwrap(), is_tls: true }
    }

    #[test]
    fn a_question_is_answered_so_that_the_asker_knows_all() {
        let (bytes, for_all) = reply(&ask(true).unwrap(), &ours(), true).unwrap();
        assert_eq!((read(&bytes), for_all), (vec![ours()], false));
        let (bytes, for_all) = reply(&ask(false).unwrap(), &ours(), false).unwrap();
        assert_eq!((read(&bytes), for_all), (vec![ours()], true));
        assert_eq!(read(&announcement(&ours(), false).unwrap()), vec![ours()]);
    }

    #[test]
    fn nothing_is_said_to_answers_strangers_questions_and_rubbish() {
        let answer = reply(&ask(false).unwrap(), &ours(), false).unwrap().0;
        assert!(reply(&answer, &ours(), false).is_none());
        let mut other = Packet::new_query(1);
        other.questions.push(Question::new(Name::new("_http._tcp.local").unwrap(), QTYPE::ANY, QCLASS::ANY, false));
        assert!(reply(&other.build_bytes_vec().unwrap(), &ours(), false).is_none());
        for length in 0..answer.len() {
            let _ = (reply(&answer[..length], &ours(), true), read(&answer[..length]));
        }
    }
}

//! `--systemd-cgroup`: on a host whose PID 1 is systemd, the tree of groups is systemd's, and who wants a group asks for one.
//!
//! A *scope* is a group around processes that systemd didn't start itself; a *slice* is a folder of groups. We ask over D-Bus for a
//! transient scope with our process in it and `Delegate=yes`: from there on its inside is ours. The limits that systemd knows are
//! given to it as properties too, or it would undo them at its next look.
//!
//! See it: `systemctl status onggi-web1.scope`, `systemd-cgls`, `systemctl show onggi-web1.scope -p MemoryMax`.
//! Read: org.freedesktop.systemd1(5), systemd.scope(5), systemd.slice(5), systemd.resource-control(5),
//! <https://systemd.io/CGROUP_DELEGATION>, config-linux.md ("Cgroups path").

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dbus::{Bus, Call, Value};
use super::devices::{self, Kind};
use super::layout::below;
use super::place::{Place, Request};
use super::v2::{Size, checked_size, settings, weight_of_shares};
use crate::error::{Class, Error, Result};
use crate::runtime::spec::Resources;
use crate::sys::{Reason, because};

static UNIT: Reason = Reason {
    id: "cgroup.unit",
    en: "systemd owns the tree, so it is asked over D-Bus for a scope, and hands its inside over to us (Delegate=yes)",
    ko: "cgroup 트리의 주인은 systemd입니다. D-Bus로 스코프를 청하고 그 안쪽을 넘겨받습니다 (Delegate=yes)",
    see: "systemd-cgls",
};

/// The scope of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `onggi-web1.scope`
    pub name: String,
    /// `system.slice`
    pub slice: String,
    /// The user's own systemd, not PID 1.
    pub user: bool,
}

/// Where the container's scope will be.
///
/// # Errors
/// Unsupported where systemd doesn't run (sd_booted(3)), Invalid for a path that isn't `slice:prefix:name`.
pub fn place(request: &Request) -> Result<Place> {
    if !Path::new("/run/systemd/system").is_dir() {
        let why = "systemd does not run here: there is no /run/systemd/system";
        return Err(Error::new(Class::Unsupported, "have systemd make the container's cgroup", why).hint("leave --systemd-cgroup away"));
    }
    let unit = unit(request.cgroups_path.filter(|path| !path.is_empty()), request.id, request.rootless)?;
    let base = if unit.user { manager_group()? } else { String::new() };
    let inner = format!("{base}/{}{}", expand_slice(&unit.slice)?, unit.name);
    let mut place = Place::default();
    if let Some(hierarchy) = request.layout.unified() {
        place.unified = Some(below(&hierarchy.mount, &inner));
        place.mounts.push(hierarchy.mount.clone());
    }
    // A user's systemd has no say in v1 controllers.
    for hierarchy in request.layout.legacy().iter().filter(|_| !unit.user) {
        let dir = below(&hierarchy.mount, &inner);
        place.mounts.push(hierarchy.mount.clone());
        place.legacy.extend(hierarchy.controllers.iter().map(|name| (name.clone(), dir.clone())));
    }
    if place.dirs().is_empty() {
        let why = "a user's systemd can only be asked on a host with cgroup v2";
        return Err(Error::new(Class::Unsupported, "have systemd make the container's cgroup", why).hint("leave --systemd-cgroup away"));
    }
    place.unit = Some(unit);
    Ok(place)
}

/// `slice:prefix:name`, each of which may be empty but the name.
fn unit(path: Option<&str>, id: &str, user: bool) -> Result<Unit> {
    let path = path.map_or_else(|| format!(":onggi:{id}"), String::from);
    let wrong = |why: &str| Err(Error::invalid(format!("use the cgroupsPath {path:?} with systemd"), why));
    let [slice, prefix, name] = path.split(':').collect::<Vec<_>>()[..] else {
        return wrong("with --systemd-cgroup it must look like slice:prefix:name, as in system.slice:onggi:web1");
    };
    if name.is_empty() || path.contains('/') {
        return wrong("the name is missing, or there is a slash in it");
    }
    if name.ends_with(".slice") {
        return wrong("a container is a scope; a slice has no processes of its own");
    }
    let slice = match slice {
        "" if user => "user.slice",
        "" => "system.slice",
        other => other,
    };
    let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    Ok(Unit { name, slice: slice.into(), user })
}

/// The folders of a slice: the dashes in its name are its ancestors. `a-b.slice` is in `a.slice/a-b.slice/`; `-.slice` is the root.
///
/// # Errors
/// Invalid for a name that systemd would not take.
pub fn expand_slice(slice: &str) -> Result<String> {
    let wrong = || Error::invalid(format!("use the slice {slice:?}"), "a slice's name is words with dashes between them and ends in .slice");
    let words = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if words == "-" {
        return Ok(String::new());
    }
    if words.is_empty() || words.contains('/') || words.split('-').any(str::is_empty) {
        return Err(wrong());
    }
    let ends = words.match_indices('-').map(|(at, _)| at).chain([words.len()]);
    Ok(ends.map(|end| format!("{}.slice/", &words[..end])).collect())
}

/// A bus on which systemd answers; with it, whether it is systemd's own socket.
struct Systemd {
    bus: Bus,
    direct: bool,
}

const SYSTEMD: &str = "org.freedesktop.systemd1";

impl Systemd {
    fn connect(user: bool) -> Result<Systemd> {
        let address = |variable: &str, fallback: String| std::env::var(variable).ok().filter(|value| !value.is_empty()).unwrap_or(fallback);
        let runtime = std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{}", nix::unistd::getuid()));
        let (bus, own) = match user {
            true => (address("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={runtime}/bus")), format!("unix:path={runtime}/systemd/private")),
            false => (address("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket".into()), "unix:path=/run/systemd/private".into()),
        };
        match Bus::connect(&bus, false) {
            Ok(bus) => Ok(Systemd { bus, direct: false }),
            // A host without a bus still has systemd's own socket, for root and the user it belongs to.
            Err(first) => match Bus::connect(&own, true) {
                Ok(bus) => Ok(Systemd { bus, direct: true }),
                Err(_) => {
                    Err(first.hint("systemd is asked over D-Bus: see DBUS_SESSION_BUS_ADDRESS and XDG_RUNTIME_DIR for a user, /run/dbus for root"))
                }
            },
        }
    }

    fn call(&mut self, interface: &str, member: &str, body: Vec<Value>) -> Result<Vec<Value>> {
        let destination = if self.direct { "" } else { SYSTEMD };
        self.bus.call(Call { destination, path: "/org/freedesktop/systemd1", interface, member, body })
    }

    /// Calls what answers with a job, and waits until the job is done.
    fn job(&mut self, member: &str, body: Vec<Value>) -> Result<()> {
        if !self.direct {
            let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved',path='/org/freedesktop/systemd1'";
            let bus = "org.freedesktop.DBus";
            let matched = Call { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "AddMatch", body: vec![Value::text(rule)] };
            self.bus.call(matched)?;
            self.call("org.freedesktop.systemd1.Manager", "Subscribe", vec![])?;
        }
        let answer = self.call("org.freedesktop.systemd1.Manager", member, body)?;
        let job = answer.first().and_then(Value::as_text).unwrap_or("").to_string();
        // JobRemoved(id, job, unit, result).
        let removed = self.bus.wait_signal("JobRemoved", |body| body.get(1).and_then(Value::as_text) == Some(&job))?;
        match removed.get(3).and_then(Value::as_text) {
            Some("done") => Ok(()),
            result => {
                let why = format!("the job ended with {:?}", result.unwrap_or("nothing"));
                Err(Error::new(Class::System, format!("have systemd do {member}"), why).hint("see `journalctl -e`"))
            }
        }
    }
}

/// In which group the user's systemd itself is the root.
fn manager_group() -> Result<String> {
    let body = vec![Value::text("org.freedesktop.systemd1.Manager"), Value::text("ControlGroup")];
    let answer = Systemd::connect(true)?.call("org.freedesktop.DBus.Properties", "Get", body)?;
    Ok(answer.first().and_then(Value::as_text).unwrap_or("").to_string())
}

/// Has systemd make the scope with the process `pid` in it.
///
/// # Errors
/// Conflict when a unit of this name runs, Denied, and what systemd says.
pub fn start_unit(place: &Place, pid: i32, resources: &Resources) -> Result<()> {
    let Some(unit) = &place.unit else { return Ok(()) };
    because(&UNIT);
    let mut properties = scope_properties(unit, pid);
    properties.extend(limit_properties(place, resources)?);
    let body = vec![Value::text(&unit.name), Value::text("replace"), property_list(properties), Value::Array("(sa(sv))".into(), vec![])];
    let mut systemd = Systemd::connect(unit.user)?;
    let story = |e: Error| Error { doing: format!("have systemd make the scope {}: {}", unit.name, e.doing), ..e };
    match systemd.job("StartTransientUnit", body.clone()) {
        Err(e) if e.class == Class::Conflict => {
            // A scope of this name that failed is kept for its log; it makes way when told to.
            let _ = systemd.call("org.freedesktop.systemd1.Manager", "ResetFailedUnit", vec![Value::text(&unit.name)]);
            systemd.job("StartTransientUnit", body).map_err(story)
        }
        answer => answer.map_err(story),
    }
}

/// Tells systemd of new limits, or it would write the old ones again at its next reload.
///
/// # Errors
/// NotFound when the scope is gone, and what systemd says.
pub fn set_properties(place: &Place, resources: &Resources) -> Result<()> {
    let Some(unit) = &place.unit else { return Ok(()) };
    let properties = limit_properties(place, resources)?;
    if properties.is_empty() {
        return Ok(());
    }
    because(&UNIT);
    let body = vec![Value::text(&unit.name), Value::Bool(true), property_list(properties)];
    Systemd::connect(unit.user)?.call("org.freedesktop.systemd1.Manager", "SetUnitProperties", body).map(drop)
}

/// Stops the scope; one that is gone is fine.
///
/// # Errors
/// What systemd says; none when the group is gone and systemd can't be asked.
pub fn stop_unit(place: &Place) -> Result<()> {
    let Some(unit) = &place.unit else { return Ok(()) };
    because(&UNIT);
    let mut systemd = match Systemd::connect(unit.user) {
        Ok(systemd) => systemd,
        Err(_) if place.dirs().iter().all(|dir| !dir.exists()) => return Ok(()),
        Err(e) => return Err(e),
    };
    match systemd.job("StopUnit", vec![Value::text(&unit.name), Value::text("replace")]) {
        Err(e) if e.class != Class::NotFound => return Err(e),
        _ => {}
    }
    // Fails when there is nothing to forget, which is what we want.
    let _ = systemd.call("org.freedesktop.systemd1.Manager", "ResetFailedUnit", vec![Value::text(&unit.name)]);
    Ok(())
}

type Property = (&'static str, Value);

fn property_list(properties: Vec<Property>) -> Value {
    let one = |(name, value): Property| Value::Struct(vec![Value::text(name), value.variant()]);
    Value::Array("(sv)".into(), properties.into_iter().map(one).collect())
}

fn scope_properties(unit: &Unit, pid: i32) -> Vec<Property> {
    vec![
        ("Description", Value::text(format!("Onggi container {}", unit.name.trim_end_matches(".scope")))),
        ("Slice", Value::text(&unit.slice)),
        ("Delegate", Value::Bool(true)),
        ("PIDs", Value::Array("u".into(), vec![Value::U32(pid as u32)])),
        // Otherwise the scope would be stopped early at shutdown, before what depends on it.
        ("DefaultDependencies", Value::Bool(false)),
        // A scope that ended badly is forgotten too, and its name is free.
        ("CollectMode", Value::text("inactive-or-failed")),
        ("CPUAccounting", Value::Bool(true)),
        ("MemoryAccounting", Value::Bool(true)),
        ("IOAccounting", Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
    ]
}

/// The limits that systemd has properties for; the others are only written into the group.
fn limit_properties(place: &Place, resources: &Resources) -> Result<Vec<Property>> {
    let mut list = Vec::new();
    let size = |size: Size| match size {
        Size::Bytes(bytes) => Value::U64(bytes),
        Size::Max => Value::U64(u64::MAX),
    };
    let v2 = place.is_unified();
    if let Some(memory) = &resources.memory {
        let limit = checked_size("memory.limit", memory.limit)?;
        list.extend(limit.map(|limit| (if v2 { "MemoryMax" } else { "MemoryLimit" }, size(limit))));
        if v2 {
            list.extend(checked_size("memory.reservation", memory.reservation)?.map(|low| ("MemoryLow", size(low))));
            let now = |file: &str| Some(std::fs::read_to_string(place.unified.as_ref()?.join(file)).ok()?.trim().to_string());
            let swap = settings(&Resources { memory: Some(memory.clone()), ..Resources::default() }, &now)?;
            let swap = swap.into_iter().find(|setting| setting.file == "memory.swap.max");
            list.extend(swap.map(|swap| ("MemorySwapMax", Value::U64(swap.value.parse().unwrap_or(u64::MAX)))));
        }
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
            list.push(if v2 { ("CPUWeight", Value::U64(weight_of_shares(shares))) } else { ("CPUShares", Value::U64(shares)) });
        }
        list.extend(cpu_quota(cpu.quota, cpu.period));
        for (name, numbers) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
            if let (true, Some(numbers)) = (v2, numbers.as_deref().filter(|numbers| !numbers.is_empty())) {
                list.push((name, bit_mask(numbers)?));
            }
        }
    }
    if let Some(pids) = resources.pids.as_ref().filter(|pids| pids.limit != 0) {
        list.push(("TasksMax", Value::U64(u64::try_from(pids.limit).unwrap_or(u64::MAX))));
    }
    if !v2 && !resources.devices.is_empty() {
        // Without these, systemd's next reload would allow all devices again in v1's list.
        list.extend(device_properties(resources)?);
    }
    Ok(list)
}

/// Microseconds of CPU in a second. systemd keeps whole percents, so the number is rounded up: the exact one is in the group.
fn cpu_quota(quota: Option<i64>, period: Option<u64>) -> Vec<Property> {
    let period = period.filter(|&period| period != 0);
    let per_second = match quota {
        None | Some(0) => return period.map(|period| ("CPUQuotaPeriodUSec", Value::U64(period))).into_iter().collect(),
        Some(quota @ 1..) => (quota as u64 * 1_000_000 / period.unwrap_or(100_000)).next_multiple_of(10_000),
        Some(_) => u64::MAX,
    };
    let mut list = vec![("CPUQuotaPerSecUSec", Value::U64(per_second))];
    list.extend(period.map(|period| ("CPUQuotaPeriodUSec", Value::U64(period))));
    list
}

/// `0-1,9` as bytes with a bit for each number, the lowest first.
fn bit_mask(numbers: &str) -> Result<Value> {
    let wrong = || Error::invalid(format!("use the list {numbers:?}"), "it must look like 0-3,7");
    let mut bytes: Vec<u8> = Vec::new();
    for part in numbers.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
        for number in first..=last {
            let at = usize::from(number / 8);
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (number % 8);
        }
    }
    Ok(Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()))
}

/// systemd names devices by a node (`/dev/char/1:3`) or, for all minors, by the driver's name in /proc/devices (`char-pts`).
fn device_properties(resources: &Resources) -> Result<Vec<Property>> {
    let Some(allowed) = devices::allowed_v1(&devices::rules(&resources.devices)?)? else {
        return Ok(vec![("DevicePolicy", Value::text("auto")), ("DeviceAllow", Value::Array("(ss)".into(), vec![]))]);
    };
    let drivers = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let name = |kind: Kind, major: Option<u32>, minor: Option<u32>| {
        let word = if kind == Kind::Block { "block" } else { "char" };
        match (major, minor) {
            (None, _) => Some(format!("{word}-*")),
            (Some(major), Some(minor)) => Some(format!("/dev/{word}/{major}:{minor}")),
            (Some(major), None) => Some(format!("{word}-{}", driver(&drivers, kind == Kind::Block, major)?)),
        }
    };
    let entry = |(kind, major, minor, access): devices::Exception| {
        // A driver that isn't loaded has no name and no devices.
        Some(Value::Struct(vec![Value::text(name(kind, major, minor)?), Value::text(devices::letters(access))]))
    };
    let list = allowed.into_iter().filter_map(entry).collect();
    Ok(vec![("DevicePolicy", Value::text("strict")), ("DeviceAllow", Value::Array("(ss)".into(), list))])
}

/// `136 pts` under "Character devices:".
fn driver(drivers: &str, block: bool, major: u32) -> Option<String> {
    let (characters, blocks) = drivers.split_once("Block devices:")?;
    let part = if block { blocks } else { characters };
    part.lines().filter_map(|line| line.trim().split_once(' ')).find(|(number, _)| number.parse() == Ok(major)).map(|(_, name)| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroups::dbus::method_call;

    #[test]
    fn slices_are_folders_in_folders() {
        assert_eq!(expand_slice("system.slice").unwrap(), "system.slice/");
        assert_eq!(expand_slice("a-b-c.slice").unwrap(), "a.slice/a-b.slice/a-b-c.slice/");
        assert_eq!(expand_slice("-.slice").unwrap(), "");
        for wrong in ["a", ".slice", "-a.slice", "a--b.slice", "a-.slice", "a/b.slice"] {
            assert!(expand_slice(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_names_slice_prefix_and_name() {
        let named = |path, user| unit(path, "web1", user).map(|unit| (unit.slice, unit.name));
        assert_eq!(named(None, false), Ok(("system.slice".into(), "onggi-web1.scope".into())));
        assert_eq!(named(Some("machine.slice:docker:abc"), false), Ok(("machine.slice".into(), "docker-abc.scope".into())));
        assert_eq!(named(Some("::abc"), true), Ok(("user.slice".into(), "abc.scope".into())));
        for wrong in ["/a/b", "a:b", "a:b:", "a:b:c:d", "a:b:x/y", "a:b:c.slice"] {
            assert!(named(Some(wrong), false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_become_properties() {
        let resources = serde_json::from_value(serde_json::json!({"memory": {"limit": 100, "swap": 150, "reservation": 10},
            "cpu": {"shares": 1024, "quota": 12345, "period": 100000, "cpus": "0-1,9"}, "pids": {"limit": -1}}))
        .unwrap();
        let place = Place { unified: Some("/nowhere".into()), ..Place::default() };
        let expected = vec![
            ("MemoryMax", Value::U64(100)),
            ("MemoryLow", Value::U64(10)),
            ("MemorySwapMax", Value::U64(50)),
            ("CPUWeight", Value::U64(39)),
            ("CPUQuotaPerSecUSec", Value::U64(130_000)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("AllowedCPUs", Value::Array("y".into(), vec![Value::Byte(3), Value::Byte(2)])),
            ("TasksMax", Value::U64(u64::MAX)),
        ];
        assert_eq!(limit_properties(&place, &resources).unwrap(), expected);
    }

    #[test]
    fn the_request_has_the_signature_that_systemd_wants() {
        let unit = unit(None, "web1", false).unwrap();
        let body = vec![
            Value::text(&unit.name),
            Value::text("replace"),
            property_list(scope_properties(&unit, 42)),
            Value::Array("(sa(sv))".into(), vec![]),
        ];
        assert_eq!(body.iter().map(Value::signature).collect::<String>(), "ssa(sv)a(sa(sv))");
        let call = Call { destination: SYSTEMD, path: "/org/freedesktop/systemd1", interface: "i.i", member: "StartTransientUnit", body };
        assert!(method_call(1, &call).windows(4).any(|bytes| bytes == 42u32.to_le_bytes()));
    }

    #[test]
    fn drivers_are_found_by_their_major_number() {
        let drivers = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        assert_eq!(driver(drivers, false, 136).as_deref(), Some("pts"));
        assert_eq!(driver(drivers, true, 8).as_deref(), Some("sd"));
        assert_eq!(driver(drivers, true, 136), None);
    }

    #[test]
    fn without_systemd_there_is_one_clear_word() {
        if Path::new("/run/systemd/system").is_dir() {
            return;
        }
        let layout = super::super::Layout::Legacy(vec![]);
        let request = Request { layout: &layout, cgroups_path: None, id: "x", systemd: true, rootless: false, limits: false };
        assert_eq!(place(&request).unwrap_err().class, Class::Unsupported);
    }
}

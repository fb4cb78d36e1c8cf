//! Changing a container that is there: `pause`, `unpause`, `update`.
//!
//! See it: `cat /sys/fs/cgroup/onggi/*/{memory.max,cpu.max,cgroup.freeze}`. Read: cgroups(7).

use super::config;
use super::events;
use super::home::Home;
use super::record::{self, Record, Status};
use super::request::{Limits, Restart};
use super::{stop, sweep};
use crate::error::{Class, Error, Result};
use crate::runtime::change as runtime_change;
use crate::runtime::state::Store;

/// Stops all processes of a container where they are, or lets them go on.
///
/// # Errors
/// Conflict in another state, Unsupported without a cgroup that can.
pub fn pause(home: &Home, record: &Record, on: bool) -> Result<()> {
    let record = sweep::settle(home, record.clone())?;
    // Held, nobody starts it just now: frozen on the way to its program, it would never say that it is there, and its monitor would wait.
    let (_held, record) = record::hold(home, &record.id)?;
    let verb = if on { "pause" } else { "unpause" };
    let refuse = |why: String| Err(Error::new(Class::Conflict, format!("{verb} container {}", record.name), why));
    match (record.status(), on) {
        (Status::Running, true) | (Status::Paused, false) => {
            runtime_change::pause(&Store::open(&home.oci())?, &record.id, on)?;
            events::container(home, &record, verb, &[]);
            Ok(())
        }
        (Status::Paused, true) => refuse(format!("Container {} is already paused", record.id)),
        (Status::Running, false) => refuse(format!("Container {} is not paused", record.id)),
        (Status::Restarting, _) => refuse(format!("Container {} is restarting, wait until the container is running", record.id)),
        _ => refuse(format!("Container {} is not running", record.id)),
    }
}

/// What `update` changes; None leaves it as it is.
#[derive(Debug, Default, Clone)]
pub struct Change {
    pub limits: Limits,
    pub restart: Option<Restart>,
}

/// Changes limits and restart policy: now, when it runs, and for each start to come.
///
/// # Errors
/// EBUSY for a limit below what is used; Conflict for a policy that contradicts `--rm`.
pub fn update(home: &Home, record: &Record, change: &Change) -> Result<()> {
    let record = sweep::settle(home, record.clone())?;
    let doing = || format!("update container {}", record.name);
    if change.restart.is_some_and(|policy| policy != Restart::No) && record.remove {
        return Err(Error::new(Class::Conflict, doing(), "Restart policy cannot be updated because AutoRemove is enabled for the container"));
    }
    let (_held, mut now) = record::hold(home, &record.id)?;
    let mut definition = record::definition(home, &record.id)?;
    if now.is_active() && now.state.status == Status::Running {
        let resources = config::changed_resources(&change.limits);
        if resources != Default::default() {
            runtime_change::update(&Store::open(&home.oci())?, &record.id, &resources)?;
        }
    }
    merge(&mut definition.request.limits, &change.limits);
    if let Some(policy) = change.restart {
        (now.restart, definition.request.restart) = (policy, policy);
    }
    record::write_json(&home.container(&record.id).join("definition.json"), &definition)?;
    record::save(home, &now)?;
    events::container(home, &now, "update", &[]);
    if now.state.status == Status::Restarting {
        stop::wake(home, &record.id);
    }
    Ok(())
}

/// The old limits with the new ones over them.
fn merge(old: &mut Limits, new: &Limits) {
    old.memory = new.memory.or(old.memory);
    old.memory_swap = new.memory_swap.or(old.memory_swap);
    old.memory_reservation = new.memory_reservation.or(old.memory_reservation);
    if new.cpus.is_some() {
        // `--cpus` is a quota and a period in one word.
        (old.cpu_quota, old.cpu_period) = (None, None);
    }
    if new.cpu_quota.is_some() || new.cpu_period.is_some() {
        old.cpus = None;
    }
    old.cpus = new.cpus.or(old.cpus);
    old.cpu_shares = new.cpu_shares.or(old.cpu_shares);
    old.cpu_period = new.cpu_period.or(old.cpu_period);
    old.cpu_quota = new.cpu_quota.or(old.cpu_quota);
    old.cpuset_cpus = new.cpuset_cpus.clone().or(old.cpuset_cpus.take());
    old.cpuset_mems = new.cpuset_mems.clone().or(old.cpuset_mems.take());
    old.pids = new.pids.or(old.pids);
}

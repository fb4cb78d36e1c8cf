//! What a process has for itself, beside its group's limits: rlimits, priorities, the kernel's personality, its place when memory runs out.
//!
//! See it: `/proc/P/limits`, `chrt -p P`, `ionice -p P`, `/proc/P/oom_score_adj`. Read: prlimit(2), sched(7), ioprio_set(2), personality(2).

use super::kernel_files::KernelFiles;
use super::spec::{Linux, Process, Rlimit, Scheduler};
use crate::error::{Doing, Error, Result};
use crate::sys::sched::{self, Scheduling};
use crate::sys::{Reason, because};

static ATTRIBUTES: Reason = Reason {
    id: "attributes.set",
    en: "limits and priorities of the process itself",
    ko: "프로세스 자체의 한도와 우선순위",
    see: "cat /proc/{P}/limits",
};

/// config.md "scheduler": name, policy number of sched(7).
const POLICIES: &[(&str, u32)] =
    &[("SCHED_OTHER", 0), ("SCHED_FIFO", 1), ("SCHED_RR", 2), ("SCHED_BATCH", 3), ("SCHED_ISO", 4), ("SCHED_IDLE", 5), ("SCHED_DEADLINE", 6)];
/// sched_setattr(2).
const FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
/// ioprio_set(2).
const IO_CLASSES: &[(&str, u32)] = &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

fn number<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// Names that don't exist and values out of range: (JSON path, reason).
///
/// # Errors
/// The first.
pub fn check(process: &Process, at: &str) -> std::result::Result<(), (String, String)> {
    if let Some(scheduler) = &process.scheduler {
        if number(POLICIES, &scheduler.policy).is_none() {
            return Err((format!("{at}.scheduler.policy"), format!("{:?} is no policy of sched(7)", scheduler.policy)));
        }
        if let Some(index) = scheduler.flags.iter().position(|flag| number(FLAGS, flag).is_none()) {
            return Err((format!("{at}.scheduler.flags[{index}]"), format!("{:?} is no flag of sched_setattr(2)", scheduler.flags[index])));
        }
        if scheduler.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
            return Err((format!("{at}.scheduler.nice"), "it is not between -20 and 19".into()));
        }
        if scheduler.priority.is_some_and(|priority| !(0..=99).contains(&priority)) {
            return Err((format!("{at}.scheduler.priority"), "it is not between 0 and 99".into()));
        }
    }
    for (name, list) in process.exec_cpu_affinity.iter().flat_map(|a| [("initial", &a.initial), ("final", &a.last)]) {
        if let Some(Err(why)) = list.as_deref().filter(|list| !list.is_empty()).map(super::affinity::parse) {
            return Err((format!("{at}.execCPUAffinity.{name}"), why));
        }
    }
    if let Some(io) = &process.io_priority {
        if number(IO_CLASSES, &io.class).is_none() {
            return Err((format!("{at}.ioPriority.class"), format!("{:?} is no class of ioprio_set(2)", io.class)));
        }
        if !(0..=7).contains(&io.priority) {
            return Err((format!("{at}.ioPriority.priority"), "it is not between 0 and 7".into()));
        }
    }
    Ok(())
}

/// Sets all of them on this process, while it still has the rights to. Answers what could only be done in part.
///
/// # Errors
/// EPERM, EINVAL, with the JSON path.
pub fn apply(process: &Process, linux: &Linux, files: &KernelFiles) -> Result<Vec<String>> {
    because(&ATTRIBUTES);
    let mut warnings = Vec::new();
    for limit in &process.rlimits {
        warnings.extend(set_rlimit(limit)?);
    }
    if let Some(score) = process.oom_score_adj {
        set_oom_score(score, files)?;
    }
    if let Some(scheduler) = &process.scheduler {
        sched::sched_setattr(scheduling(scheduler)).doing(|| format!("apply process.scheduler {}", scheduler.policy))?;
    }
    if let Some(io) = &process.io_priority {
        let class = number(IO_CLASSES, &io.class).unwrap_or(0);
        sched::ioprio_set(class, io.priority as u32).doing(|| format!("apply process.ioPriority {}", io.class))?;
    }
    if let Some(personality) = &linux.personality {
        set_personality(&personality.domain, &personality.flags)?;
    }
    Ok(warnings)
}

/// Without CAP_SYS_RESOURCE a hard limit can only go down. What is asked beyond that is cut to what there is, and said.
fn set_rlimit(limit: &Rlimit) -> Result<Option<String>> {
    let resource = number(sched::RLIMITS, &limit.kind).unwrap_or(u32::MAX);
    let doing = || format!("set process.rlimits {} to {}:{}", limit.kind, limit.soft, limit.hard);
    match sched::setrlimit(resource, &limit.kind, limit.soft, limit.hard) {
        Ok(()) => Ok(None),
        Err(e) if e.errno() == nix::errno::Errno::EPERM => {
            let (_, ours) = sched::rlimit_of(0, resource).doing(doing)?;
            let (soft, hard) = (limit.soft.min(ours), limit.hard.min(ours));
            sched::setrlimit(resource, &limit.kind, soft, hard).doing(doing)?;
            Ok(Some(format!(
                "{} is {soft}:{hard} instead of {}:{}: this process may not raise limits (no CAP_SYS_RESOURCE)",
                limit.kind, limit.soft, limit.hard
            )))
        }
        Err(e) => Err(Error::sys(doing(), e)),
    }
}

fn set_oom_score(score: i32, files: &KernelFiles) -> Result<()> {
    files
        .write("self/oom_score_adj", &score.to_string())
        .doing(|| format!("set process.oomScoreAdj {score}"))
        .map_err(|e| e.hint("without CAP_SYS_RESOURCE the score can't be lower than the caller's own (proc_pid_oom_score_adj(5))"))
}

fn scheduling(scheduler: &Scheduler) -> Scheduling {
    Scheduling {
        policy: number(POLICIES, &scheduler.policy).unwrap_or(0),
        flags: scheduler.flags.iter().filter_map(|flag| number(FLAGS, flag)).sum(),
        nice: scheduler.nice.unwrap_or(0),
        priority: scheduler.priority.unwrap_or(0) as u32,
        runtime: scheduler.runtime.unwrap_or(0),
        deadline: scheduler.deadline.unwrap_or(0),
        period: scheduler.period.unwrap_or(0),
        ..Scheduling::default()
    }
}

fn set_personality(domain: &str, flags: &[String]) -> Result<()> {
    let doing = || format!("set linux.personality {domain}");
    if let Some(flag) = flags.first() {
        return Err(Error::invalid(doing(), format!("linux.personality.flags: {flag:?}: the specification defines no flags yet")));
    }
    let persona = match domain {
        "LINUX" => 0,
        "LINUX32" => 0x0008,
        _ => return Err(Error::invalid(doing(), "linux.personality.domain is LINUX or LINUX32")),
    };
    sched::personality(persona).doing(doing)
}

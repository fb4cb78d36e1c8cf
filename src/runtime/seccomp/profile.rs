//! Reads `linux.seccomp` of config.json: every word checked, each rule reduced to what a filter can ask.
//!
//! A profile says: these calls (perhaps with these arguments) get this action, the others the default. **The first rule that matches
//! decides.** (libseccomp, under runc and crun, refuses two rules that contradict each other, so no working profile depends on it.)
//!
//! Read: the OCI runtime specification, config-linux.md#seccomp; seccomp_rule_add(3).

use super::numbers::{Abi, FOREIGN, multiplexed, syscall_number};
use crate::error::{Class, Error, Result};
use crate::runtime::spec::{Seccomp, SeccompArg, SeccompRule};

/// A profile, checked.
#[derive(Debug)]
pub struct Policy<'a> {
    /// The default verdict (`SECCOMP_RET_*` with its data).
    pub default: u32,
    /// The verdict on calls newer than the profile.
    pub newer: u32,
    /// The ways of calling that are open; the first is the machine's own.
    pub abis: Vec<Abi>,
    pub rules: Vec<Rule<'a>>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
}

/// These calls, under one of these conditions, get this verdict.
#[derive(Debug)]
pub struct Rule<'a> {
    pub names: Vec<&'a str>,
    pub verdict: u32,
    /// One of these lists has to hold, with all that is in it; an empty list always holds. No list at all: a rule that changes nothing.
    pub any: Vec<Vec<Condition>>,
    /// Only for calls made this way.
    pub only: Option<Abi>,
}

impl Rule<'_> {
    pub fn unconditional(&self) -> bool {
        self.any.iter().any(|all| all.is_empty())
    }
}

/// What one argument of a call shall be.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// 0 to 5.
    pub index: u32,
    pub comparison: Comparison,
    pub value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// The bits in `mask` are those of the value.
    MaskedEqual {
        mask: u64,
    },
}

/// Checks the profile.
///
/// # Errors
/// Invalid, with the JSON path of the word that makes no sense; Unsupported on a machine whose numbers we don't know.
pub fn read(seccomp: &Seccomp) -> Result<Policy<'_>> {
    let default = action(&seccomp.default_action, seccomp.default_errno_ret, "defaultAction", "defaultErrnoRet")?;
    if default == libc::SECCOMP_RET_USER_NOTIF {
        return Err(invalid("defaultAction", "SCMP_ACT_NOTIFY would stop the very calls that tell the listener of its descriptor"));
    }
    let abis = architectures(seccomp)?;
    let mut rules = Vec::with_capacity(seccomp.syscalls.len());
    for (at, rule) in seccomp.syscalls.iter().enumerate() {
        let rule = read_rule(rule, default, &format!("syscalls[{at}]"))?;
        let doors = if abis.contains(&Abi::X86) { back_doors(&rule, default) } else { Vec::new() };
        rules.push(rule);
        rules.extend(doors);
    }
    let notifies = rules.iter().any(|rule| rule.verdict == libc::SECCOMP_RET_USER_NOTIF && !rule.any.is_empty());
    if notifies && seccomp.listener_path.as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
        return Err(invalid("listenerPath", "a rule says SCMP_ACT_NOTIFY, and there is nobody to notify"));
    }
    let flags = flags(&seccomp.flags, notifies)?;
    Ok(Policy { default, newer: newer(default), abis, rules, flags })
}

/// What a call gets that is newer than the whole profile (its number is higher than all that the profile names).
///
/// A C library tries the new call first and falls back to the old one when it hears ENOSYS, "no such call". A filter that says EPERM
/// to all it does not know breaks that: glibc 2.34 tried clone3, was refused, and no thread started in any container whose
/// profile was older than clone3. So, as in runc: newer calls do not exist. Not where the default lets calls through, or asks a
/// tracer, who can tell new calls himself.
fn newer(default: u32) -> u32 {
    match default & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_TRACE => default,
        _ => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
    }
}

/// The machine's own ABI and those listed. libseccomp puts the own one in unasked, too.
fn architectures(seccomp: &Seccomp) -> Result<Vec<Abi>> {
    let Some(native) = Abi::native() else {
        let why = format!("the numbers of {}'s system calls are not known to Onggi", std::env::consts::ARCH);
        return Err(Error::new(Class::Unsupported, "compile linux.seccomp", why));
    };
    let mut abis = vec![native];
    for (at, name) in seccomp.architectures.iter().enumerate() {
        match Abi::parse(name) {
            Some(abi) if abis.contains(&abi) => {}
            Some(abi) => abis.push(abi),
            None if FOREIGN.contains(&name.as_str()) => {}
            None => return Err(unknown(&format!("architectures[{at}]"), name, "an architecture", "SCMP_ARCH_X86_64, SCMP_ARCH_AARCH64 …")),
        }
    }
    Ok(abis)
}

fn read_rule<'a>(rule: &'a SeccompRule, default: u32, path: &str) -> Result<Rule<'a>> {
    let verdict = action(&rule.action, rule.errno_ret, &format!("{path}.action"), &format!("{path}.errnoRet"))?;
    for (at, name) in rule.names.iter().enumerate() {
        if name.is_empty() {
            return Err(invalid(&format!("{path}.names[{at}]"), "a system call has a name"));
        }
        // The process under the new filter still has to tell its parent of the listener, and writes for that: asked about its
        // write, the listener would wait for a descriptor that can only come after its answer.
        if name == "write" && verdict == libc::SECCOMP_RET_USER_NOTIF {
            return Err(invalid(&format!("{path}.names[{at}]"), "SCMP_ACT_NOTIFY can't be used for write: the listener is made known by it"));
        }
    }
    let mut conditions = Vec::with_capacity(rule.args.len());
    for (at, arg) in rule.args.iter().enumerate() {
        conditions.push(condition(arg, &format!("{path}.args[{at}]"))?);
    }
    // Conditions on several arguments must all hold. But if an argument is named twice, each condition counts alone: that is how
    // Docker's first profiles meant it, and runc and crun keep to it.
    let twice = conditions.iter().enumerate().any(|(at, one)| conditions[..at].iter().any(|other| other.index == one.index));
    let any = match () {
        // Same as the default, but its names still count for what this profile knows.
        _ if verdict == default => Vec::new(),
        _ if twice => conditions.into_iter().map(|one| vec![one]).collect(),
        _ => vec![conditions],
    };
    Ok(Rule { names: rule.names.iter().map(String::as_str).collect(), verdict, any, only: None })
}

/// The rules for `socketcall` and `ipc` that follow from a rule for the calls behind them (see [`multiplexed`]).
///
/// There, a call's arguments are behind a pointer, where no filter can look (the process could change them after the look). A rule
/// without conditions is carried over as it is. One with conditions is when it forbids, since forbidding more is safe, and is not
/// when it allows: libseccomp does carry it over, and so opened what the condition was to close (moby/moby#52494).
fn back_doors(rule: &Rule, default: u32) -> Vec<Rule<'static>> {
    if rule.any.is_empty() || !(rule.unconditional() || stricter(rule.verdict, default)) {
        return Vec::new();
    }
    let mut doors: Vec<Rule> = Vec::new();
    for (door, sub) in rule.names.iter().filter_map(|name| multiplexed(name)) {
        // The upper half of ipc's first argument is a version number.
        let mask = if door == "ipc" { 0xffff } else { u32::MAX as u64 };
        let through = vec![Condition { index: 0, comparison: Comparison::MaskedEqual { mask }, value: sub as u64 }];
        match doors.iter_mut().find(|rule| rule.names == [door]) {
            Some(rule) => rule.any.push(through),
            None => doors.push(Rule { names: vec![door], verdict: rule.verdict, any: vec![through], only: Some(Abi::X86) }),
        }
    }
    doors
}

/// Whether one action goes before the other when two filters disagree: the kernel takes the smaller, as signed numbers (seccomp(2)).
fn stricter(one: u32, other: u32) -> bool {
    let rank = |verdict: u32| (verdict & libc::SECCOMP_RET_ACTION_FULL) as i32;
    rank(one) < rank(other)
}

fn action(name: &str, errno: Option<u32>, path: &str, errno_path: &str) -> Result<u32> {
    let verdict = match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_ERRNO" => libc::SECCOMP_RET_ERRNO,
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE,
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        "SCMP_ACT_NOTIFY" => libc::SECCOMP_RET_USER_NOTIF,
        _ => {
            let known = "SCMP_ACT_KILL, KILL_THREAD, KILL_PROCESS, TRAP, ERRNO, TRACE, ALLOW, LOG, NOTIFY";
            return Err(unknown(path, name, "an action", known));
        }
    };
    // The lower 16 bits of a verdict are its data; of an errno the kernel takes what is an errno to C libraries.
    let most = match verdict {
        libc::SECCOMP_RET_ERRNO => 4095,
        libc::SECCOMP_RET_TRACE => libc::SECCOMP_RET_DATA,
        // The specification wants it refused: whoever writes it believes in an effect that it doesn't have.
        _ if errno.is_some() => return Err(invalid(errno_path, &format!("{name} gives no errno"))),
        _ => return Ok(verdict),
    };
    match errno.unwrap_or(libc::EPERM as u32) {
        errno if errno > most => Err(invalid(errno_path, &format!("{errno} is more than {most}"))),
        errno => Ok(verdict | errno),
    }
}

fn condition(arg: &SeccompArg, path: &str) -> Result<Condition> {
    if arg.index > 5 {
        return Err(invalid(&format!("{path}.index"), &format!("a system call has six arguments, 0 to 5; this is {}", arg.index)));
    }
    let (comparison, value) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (Comparison::NotEqual, arg.value),
        "SCMP_CMP_LT" => (Comparison::Less, arg.value),
        "SCMP_CMP_LE" => (Comparison::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (Comparison::Equal, arg.value),
        "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, arg.value),
        "SCMP_CMP_GT" => (Comparison::Greater, arg.value),
        "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEqual { mask: arg.value }, arg.value_two.unwrap_or(0)),
        other => return Err(unknown(&format!("{path}.op"), other, "a comparison", "SCMP_CMP_NE, LT, LE, EQ, GE, GT, MASKED_EQ")),
    };
    Ok(Condition { index: arg.index, comparison, value })
}

fn flags(names: &[String], notifies: bool) -> Result<u64> {
    let mut flags = 0;
    for (at, name) in names.iter().enumerate() {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // It says how a notified call waits; the kernel refuses it (EINVAL) where nothing is notified.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if notifies => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => {
                let known = "SECCOMP_FILTER_FLAG_TSYNC, …_LOG, …_SPEC_ALLOW, …_WAIT_KILLABLE_RECV";
                return Err(unknown(&format!("flags[{at}]"), other, "a flag", known));
            }
        };
    }
    // Nothing said: as runc, without the brake on speculative execution that old kernels put on every filtered process. What it
    // prevents, a process reading its own memory, is no border of a container.
    if names.is_empty() {
        flags |= libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    }
    if notifies {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // Both give a number back: a descriptor, or the thread that failed. The kernel wants to hear which one is meant.
        if flags & libc::SECCOMP_FILTER_FLAG_TSYNC != 0 {
            flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        }
    }
    Ok(flags)
}

/// The numbers in `abi` of the calls that a rule names. A name without a number is newer or older than this table, or from another
/// machine: passed over, as runc does, so that one profile serves many kernels.
pub fn numbers<'a>(rule: &'a Rule, abi: Abi) -> impl Iterator<Item = u32> + 'a {
    let names: &[&str] = if rule.only.is_none_or(|only| only == abi) { &rule.names } else { &[] };
    names.iter().filter_map(move |name| syscall_number(abi, name))
}

fn invalid(path: &str, why: &str) -> Error {
    Error::invalid(format!("read linux.seccomp.{path}"), why)
}

fn unknown(path: &str, word: &str, kind: &str, known: &str) -> Error {
    invalid(path, &format!("{word:?} is not {kind}")).hint(format!("known are {known}"))
}

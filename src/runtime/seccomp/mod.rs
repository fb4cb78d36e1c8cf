//! Seccomp: which system calls a container may make, compiled from `linux.seccomp` of config.json into a program for the kernel.
//!
//! ```text
//! profile (names, words)  --profile-->  policy (numbers, verdicts)  --here-->  number line  --assembler-->  classic BPF
//! ```
//!
//! For each architecture the calls' numbers form a line, cut into stretches that share a verdict. The filter finds a number's
//! stretch by halves: some 50 stretches in Docker's profile take six comparisons, where asking for 350 names in turn takes 350. Only
//! where a call's arguments matter does the filter go on to look at them.
//!
//! See it: `grep Seccomp /proc/P/status`, `onggi run --explain`. Read: seccomp(2), seccomp_unotify(2), config-linux.md#seccomp.

mod assembler;
mod default;
mod numbers;
mod profile;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use assembler::{ARCH, Assembler, Jump, Label, NUMBER};
use numbers::private;
use profile::{Policy, numbers};

use super::spec::{OCI_VERSION, Seccomp};
use crate::error::{Doing, Error, Result};
use crate::sys;
use crate::sys::seccomp::{Instruction, MAX_INSTRUCTIONS};

pub use default::default_profile;
pub use numbers::{Abi, X32_BIT, syscall_number};

/// The verdict on a call made in a way that the profile does not list: its number could mean anything, so its process ends.
/// (libseccomp says KILL here, which ends one thread, and leaves the others waiting for it.)
const BAD_ARCH: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// A filter, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u64,
}

static LOAD: sys::Reason = sys::Reason {
    id: "seccomp.load",
    en: "From now on the kernel runs our little program before each system call, and refuses what a container has no need of",
    ko: "이제부터 커널은 시스템 콜마다 우리의 작은 프로그램을 먼저 실행하고, 컨테이너에 필요 없는 호출은 거절합니다",
    see: "grep Seccomp /proc/{P}/status",
};

impl Program {
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether loading it gives a descriptor on which somebody has to answer ([`send_listener`]).
    pub fn notifies(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
    }

    /// Puts this process under the filter, for good. Every later call is judged, our own on the way to execve too: load last. Without
    /// no_new_privs that is while CAP_SYS_ADMIN is still there, before capabilities and user change.
    ///
    /// # Errors
    /// Denied when the process neither has CAP_SYS_ADMIN nor no_new_privs (an unprivileged process that filters a setuid program's
    /// calls could make it believe that it gave up its privileges); Invalid flags on old kernels; see [`sys::seccomp::set_mode_filter`].
    pub fn load(&self) -> Result<Option<OwnedFd>> {
        sys::because(&LOAD);
        sys::seccomp::set_mode_filter(&self.instructions, self.flags).doing(|| "load the seccomp filter".into()).map_err(|error| match error.class {
            crate::error::Class::Denied => error.hint("without CAP_SYS_ADMIN a filter needs process.noNewPrivileges; see seccomp(2)"),
            _ => error,
        })
    }
}

/// Compiles a profile.
///
/// # Errors
/// Invalid with the JSON path of what makes no sense, or when the rules take more instructions than the kernel does.
pub fn compile(seccomp: &Seccomp) -> Result<Program> {
    let policy = profile::read(seccomp)?;
    let mut program = Assembler::default();
    // Written from its end: first what becomes of an unknown architecture, then each known one before it, the machine's own last,
    // which makes it the first to be asked for.
    let mut entry = program.verdict(BAD_ARCH);
    for (at, abi) in policy.abis.iter().enumerate().rev() {
        // x86_64 and x32 are one architecture to the kernel, and one number line.
        if policy.abis[..at].iter().any(|before| before.audit_arch() == abi.audit_arch()) {
            continue;
        }
        let line = number_line(&policy, abi.audit_arch());
        let search = write_search(&mut program, &policy, &line);
        let search = program.load(NUMBER, search);
        entry = program.branch(Jump::Equal, abi.audit_arch(), search, entry);
    }
    let entry = program.load(ARCH, entry);
    let instructions = program.finish(entry);
    if instructions.len() > MAX_INSTRUCTIONS {
        let why = format!("its rules take {} instructions, and the kernel takes a program of {MAX_INSTRUCTIONS} (BPF_MAXINSNS)", instructions.len());
        return Err(Error::invalid("compile linux.seccomp", why).hint("conditions on arguments are what takes space, once for each architecture"));
    }
    Ok(Program { instructions, flags: policy.flags })
}

/// The numbers from `first` up to the next stretch.
#[derive(Debug, PartialEq, Eq)]
struct Stretch {
    first: u32,
    outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Verdict(u32),
    /// It depends on the arguments, of which the lower 32 bits count if `narrow`: these rules, in turn.
    Ask {
        rules: Vec<usize>,
        narrow: bool,
    },
}

/// All 2³² numbers of one architecture, cut into stretches.
fn number_line(policy: &Policy, audit_arch: u32) -> Vec<Stretch> {
    let mut line = Vec::new();
    let open = |abi: Abi| abi.audit_arch() == audit_arch && policy.abis.contains(&abi);
    if audit_arch != Abi::X86_64.audit_arch() {
        // One ABI has the whole line for itself.
        policy.abis.iter().filter(|abi| open(**abi)).for_each(|&abi| lay_out(policy, abi, 0, &mut line));
        return line;
    }
    for (abi, first) in [(Abi::X86_64, 0), (Abi::X32, X32_BIT)] {
        match open(abi) {
            true => lay_out(policy, abi, first, &mut line),
            // A profile that knows just one of both is not to be gone around by way of the other's numbers.
            false => extend(&mut line, first, Outcome::Verdict(BAD_ARCH)),
        }
    }
    // -1 has the x32 bit set, but is what a tracer puts in to have a call left out: no such call (seccomp(2), SECCOMP_RET_TRACE).
    extend(&mut line, u32::MAX, Outcome::Verdict(policy.newer));
    line
}

/// Lays the calls of one ABI on the line, whose numbers start at `first`.
fn lay_out(policy: &Policy, abi: Abi, first: u32, line: &mut Vec<Stretch>) {
    let mut calls = Vec::with_capacity(policy.rules.iter().map(|rule| rule.names.len()).sum());
    let mut newest = None;
    for (at, rule) in policy.rules.iter().enumerate() {
        for number in numbers(rule, abi) {
            if !private(number) {
                newest = newest.max(Some(number));
            }
            // A rule that changes nothing needs no place of its own, unless that is beyond the newest.
            if !rule.any.is_empty() || private(number) {
                calls.push((number, at));
            }
        }
    }
    // By number, and one number's rules in the profile's order. (One key of 64 bits: comparing pairs takes twice as long.)
    calls.sort_unstable_by_key(|&(number, rule): &(u32, usize)| (number as u64) << 32 | rule as u64);
    calls.dedup();
    // A profile that names nothing in this ABI knows no newest call either.
    let newer_from = newest.map_or(u32::MAX, |number| number + 1);
    // The first number that is not laid out yet.
    let mut free = first;
    for same in calls.chunk_by(|one, other| one.0 == other.0) {
        let number = same[0].0;
        let leading = &policy.rules[same[0].1];
        let outcome = match leading.unconditional() {
            true => Outcome::Verdict(leading.verdict),
            false => Outcome::Ask { rules: same.iter().map(|(_, rule)| *rule).collect(), narrow: abi.narrow() },
        };
        unnamed(policy, free..number, newer_from, line);
        extend(line, number, outcome);
        // `number` is from a table of calls: there is always a next one.
        free = number + 1;
    }
    unnamed(policy, free..u32::MAX, newer_from, line);
}

/// Lays out numbers that no rule names.
fn unnamed(policy: &Policy, numbers: Range<u32>, newer_from: u32, line: &mut Vec<Stretch>) {
    if numbers.start < numbers.end.min(newer_from) {
        extend(line, numbers.start, Outcome::Verdict(policy.default));
    }
    if numbers.start.max(newer_from) < numbers.end {
        extend(line, numbers.start.max(newer_from), Outcome::Verdict(policy.newer));
    }
}

/// From `first` on the outcome is this one.
fn extend(line: &mut Vec<Stretch>, first: u32, outcome: Outcome) {
    if line.last().is_none_or(|last| last.outcome != outcome) {
        line.push(Stretch { first, outcome });
    }
}

/// Writes the search for A, the call's number, on the line.
fn write_search(program: &mut Assembler, policy: &Policy, line: &[Stretch]) -> Label {
    match line {
        [] => program.verdict(policy.default),
        [Stretch { outcome: Outcome::Verdict(verdict), .. }] => program.verdict(*verdict),
        [Stretch { outcome: Outcome::Ask { rules, narrow }, .. }] => write_rules(program, policy, rules, *narrow),
        _ => {
            let (below, above) = line.split_at(line.len() / 2);
            let yes = write_search(program, policy, above);
            let no = write_search(program, policy, below);
            program.branch(Jump::AtLeast, above[0].first, yes, no)
        }
    }
}

/// Writes the rules for one call, which ask for its arguments. The first that matches decides.
fn write_rules(program: &mut Assembler, policy: &Policy, rules: &[usize], narrow: bool) -> Label {
    let mut next = program.verdict(policy.default);
    for rule in rules.iter().rev().map(|at| &policy.rules[*at]) {
        for all in rule.any.iter().rev() {
            let mut holds = program.verdict(rule.verdict);
            for condition in all.iter().rev() {
                holds = program.condition(condition, narrow, holds, next);
            }
            next = holds;
        }
    }
    next
}

/// Hands the descriptor of a filter that notifies to who listens at `path`, along with `state` (see [`process_state`]).
///
/// # Errors
/// NotFound or System when nobody listens there.
/// Source: OCI runtime specification, config-linux.md#containerprocessstate.
pub fn send_listener(listener: BorrowedFd, path: &Path, state: &serde_json::Value) -> Result<()> {
    let story = || format!("give the seccomp listener to {}", path.display());
    let hint = |error: Error| error.hint("linux.seccomp.listenerPath names a unix socket on which an agent has to be listening");
    let socket = sys::fd::connect_unix(path).doing(story).map_err(hint)?;
    sys::fd::send(socket.as_fd(), state.to_string().as_bytes(), &[listener]).doing(story)
}

/// The specification's `containerProcessState` about the process `pid` (as the host sees it): `state` is what `state` prints.
pub fn process_state(pid: i32, metadata: Option<&str>, state: serde_json::Value) -> serde_json::Value {
    let mut message = serde_json::json!({ "ociVersion": OCI_VERSION, "fds": ["seccompFd"], "pid": pid, "state": state });
    if let Some(metadata) = metadata {
        message["metadata"] = metadata.into();
    }
    message
}

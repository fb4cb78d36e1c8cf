//! The compiler against two others: an interpreter of classic BPF that runs what it wrote, and a judge who reads the profile rule by
//! rule, as a person would. For any profile and any call, both have to say the same.

use proptest::prelude::*;

use super::numbers::multiplexed;
use super::*;
use crate::runtime::spec::{SeccompArg, SeccompRule};

const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const ABIS: [(&str, Abi); 5] = [
    ("SCMP_ARCH_X86_64", Abi::X86_64),
    ("SCMP_ARCH_X86", Abi::X86),
    ("SCMP_ARCH_X32", Abi::X32),
    ("SCMP_ARCH_AARCH64", Abi::Aarch64),
    ("SCMP_ARCH_ARM", Abi::Arm),
];

/// A system call as a filter sees it (`struct seccomp_data`).
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
}

/// The call `name`, made by way of `abi`.
pub fn call(abi: Abi, name: &str, first: u64) -> Call {
    Call { arch: abi.audit_arch(), number: syscall_number(abi, name).unwrap(), args: [first, 0, 0, 0, 0, 0] }
}

/// Runs a filter: its verdict, and how many instructions that took.
pub fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let words = |offset: u32| match offset {
        0 => call.number,
        4 => call.arch,
        16..64 => (call.args[(offset as usize - 16) / 8] >> (offset % 8 * 8)) as u32,
        _ => panic!("nothing is asked of offset {offset}"),
    };
    let (mut at, mut a, mut steps) = (0, 0u32, 0);
    loop {
        let Instruction { code, jump_true, jump_false, k } = program[at];
        (at, steps) = (at + 1, steps + 1);
        let branch = |holds: bool| if holds { jump_true as usize } else { jump_false as usize };
        match code {
            0x20 => a = words(k),
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(a == k),
            0x25 => at += branch(a > k),
            0x35 => at += branch(a >= k),
            0x06 => return (k, steps),
            _ => panic!("no such instruction: {code:#x}"),
        }
    }
}

/// What the kernel checks of a program before it takes it (net/core/filter.c, `bpf_check_classic`; kernel/seccomp.c).
fn check(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= MAX_INSTRUCTIONS);
    assert_eq!(program.last().unwrap().code, 0x06, "ends in a verdict");
    for (at, instruction) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match instruction.code {
            0x20 => assert!(instruction.k.is_multiple_of(4) && instruction.k < 64),
            0x05 => assert!((instruction.k as usize) < left),
            0x15 | 0x25 | 0x35 => assert!((instruction.jump_true.max(instruction.jump_false) as usize) < left),
            0x06 | 0x54 => {}
            other => panic!("no such instruction: {other:#x}"),
        }
    }
}

/// What the profile says about a call, rule by rule.
fn judge(profile: &Seccomp, call: &Call) -> u32 {
    let open = |abi: Abi| Some(abi) == Abi::native() || profile.architectures.iter().any(|name| Abi::parse(name) == Some(abi));
    let default = verdict(&profile.default_action, profile.default_errno_ret);
    let lenient = matches!(profile.default_action.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE");
    let newer = if lenient { default } else { ENOSYS };
    let abi = ABIS.iter().map(|(_, abi)| *abi).find(|&abi| {
        open(abi) && abi.audit_arch() == call.arch && (abi == Abi::X32) == (call.arch == Abi::X32.audit_arch() && call.number >= X32_BIT)
    });
    let x86_64 = call.arch == Abi::X86_64.audit_arch() && (open(Abi::X86_64) || open(Abi::X32));
    let abi = match abi {
        _ if x86_64 && call.number == u32::MAX => return newer,
        Some(abi) => abi,
        None => return BAD_ARCH,
    };
    let wide = |value: u64| if abi.narrow() { value as u32 as u64 } else { value };
    let holds = |arg: &SeccompArg| {
        let (is, value, two) = (wide(call.args[arg.index as usize]), wide(arg.value), wide(arg.value_two.unwrap_or(0)));
        match arg.op.as_str() {
            "SCMP_CMP_NE" => is != value,
            "SCMP_CMP_LT" => is < value,
            "SCMP_CMP_LE" => is <= value,
            "SCMP_CMP_EQ" => is == value,
            "SCMP_CMP_GE" => is >= value,
            "SCMP_CMP_GT" => is > value,
            "SCMP_CMP_MASKED_EQ" => is & value == two & value,
            other => panic!("{other}"),
        }
    };
    let mut known: Vec<u32> = profile.syscalls.iter().flat_map(|rule| &rule.names).filter_map(|name| syscall_number(abi, name)).collect();
    for rule in &profile.syscalls {
        let action = verdict(&rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        let twice = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
        let matches = if twice { rule.args.iter().any(holds) } else { rule.args.iter().all(holds) };
        if matches && rule.names.iter().any(|name| syscall_number(abi, name) == Some(call.number)) {
            return action;
        }
        let stricter = ((action & 0xffff_0000) as i32) < (default & 0xffff_0000) as i32;
        if abi != Abi::X86 || !(rule.args.is_empty() || stricter) {
            continue;
        }
        for (door, sub) in rule.names.iter().filter_map(|name| multiplexed(name)) {
            let mask = if door == "ipc" { 0xffff } else { 0xffff_ffff };
            let number = syscall_number(abi, door).unwrap();
            if number == call.number && call.args[0] & mask == sub as u64 {
                return action;
            }
            known.push(number);
        }
    }
    match known.iter().filter(|number| !numbers::private(**number)).max() {
        Some(newest) if call.number > *newest && !known.contains(&call.number) => newer,
        _ => default,
    }
}

fn verdict(action: &str, errno: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("{other}"),
    }
}

const NAMES: &[&str] = &[
    "read",
    "open",
    "openat",
    "socket",
    "socketcall",
    "bind",
    "accept",
    "ipc",
    "semop",
    "msgget",
    "clone",
    "clone3",
    "personality",
    "execve",
    "ioctl",
    "rt_sigaction",
    "no_such_call",
    "mseal",
    "breakpoint",
    "set_tls",
    "epoll_wait",
    "arch_prctl",
    "stime",
    "send",
];

fn value() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 2, 5, 9, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 5, u64::MAX - 1, u64::MAX];
    prop_oneof![4 => proptest::sample::select(edges.to_vec()), 1 => any::<u64>()]
}

fn action() -> impl Strategy<Value = (String, Option<u32>)> {
    let plain = ["ALLOW", "LOG", "TRAP", "KILL", "KILL_THREAD", "KILL_PROCESS", "NOTIFY"].map(|word| format!("SCMP_ACT_{word}"));
    prop_oneof![
        3 => proptest::sample::select(plain.to_vec()).prop_map(|action| (action, None)),
        2 => proptest::option::of(0..200u32).prop_map(|errno| ("SCMP_ACT_ERRNO".to_string(), errno)),
        1 => proptest::option::of(0..200u32).prop_map(|errno| ("SCMP_ACT_TRACE".to_string(), errno)),
    ]
}

fn arg() -> impl Strategy<Value = SeccompArg> {
    let op = proptest::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0..3u32, value(), proptest::option::of(value()), op).prop_map(|(index, value, value_two, op)| SeccompArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    })
}

/// A few names, or a great many, so that jumps get long.
fn names() -> impl Strategy<Value = Vec<String>> {
    let few = proptest::collection::vec(proptest::sample::select(NAMES), 0..4).prop_map(|names| names.iter().map(|name| name.to_string()).collect());
    let many = (0..460usize, 1..9usize).prop_map(|(first, step)| {
        let calls = (first..470).step_by(step).filter_map(syscalls::x86_64::Sysno::new);
        calls.map(|call| call.name().to_string()).filter(|name| name != "write").collect()
    });
    prop_oneof![4 => few, 1 => many]
}

fn rule() -> impl Strategy<Value = SeccompRule> {
    (names(), action(), proptest::collection::vec(arg(), 0..4)).prop_map(|(names, (action, errno_ret), args)| SeccompRule {
        names,
        action,
        errno_ret,
        args,
    })
}

fn profile() -> impl Strategy<Value = Seccomp> {
    let architectures = proptest::sample::subsequence(ABIS.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), 0..=5);
    let default = action().prop_filter("no default", |(action, _)| action != "SCMP_ACT_NOTIFY");
    (default, architectures, proptest::collection::vec(rule(), 0..8)).prop_map(|((default_action, default_errno_ret), architectures, syscalls)| {
        Seccomp { default_action, default_errno_ret, architectures, syscalls, listener_path: Some("/run/agent.sock".into()), ..Seccomp::default() }
    })
}

/// A call near one that a profile could name.
fn some_call() -> impl Strategy<Value = Call> {
    let abi = proptest::sample::select(ABIS.to_vec()).prop_map(|(_, abi)| abi);
    let named = (abi, proptest::sample::select(NAMES), 0..3u32).prop_map(|(abi, name, off)| {
        let number = syscall_number(abi, name).unwrap_or(7);
        (abi.audit_arch(), (number + off).wrapping_sub(1))
    });
    let arch = proptest::sample::select(vec![0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0x1234]);
    let number = prop_oneof![0..480u32, (0..560u32).prop_map(|low| low | X32_BIT), Just(u32::MAX), Just(X32_BIT - 1), any::<u32>()];
    (prop_oneof![2 => named, 1 => (arch, number)], proptest::array::uniform6(value())).prop_map(|((arch, number), args)| Call { arch, number, args })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_filter_says_what_the_profile_says(profile in profile(), calls in proptest::collection::vec(some_call(), 40)) {
        match compile(&profile) {
            Ok(program) => {
                check(program.instructions());
                for call in calls {
                    prop_assert_eq!(run(program.instructions(), &call).0, judge(&profile, &call), "{:x?}", call);
                }
            }
            Err(error) => prop_assert!(error.one_line().contains("BPF_MAXINSNS"), "{}", error),
        }
    }

    #[test]
    fn no_profile_makes_the_compiler_panic(
        words in proptest::collection::vec("(SCMP_(ACT_ERRNO|ACT_ALLOW|CMP_EQ|ARCH_X86))?.{0,3}", 6),
        numbers in proptest::collection::vec(any::<u32>(), 3), value in any::<u64>(), repeat in 0..300usize,
    ) {
        let args = vec![SeccompArg { index: numbers[0] % 8, value, value_two: Some(!value), op: words[0].clone() }; repeat % 20];
        let rule = SeccompRule { names: vec![words[1].clone(), "read".into()], action: words[2].clone(), errno_ret: Some(numbers[1] % 5000), args };
        let profile = Seccomp {
            default_action: words[3].clone(),
            default_errno_ret: (numbers[2] % 2 == 0).then_some(numbers[2] % 5000),
            architectures: vec![words[4].clone()],
            flags: if repeat % 2 == 0 { vec![] } else { vec![words[5].clone()] },
            syscalls: vec![rule; repeat],
            ..Seccomp::default()
        };
        if let Ok(program) = compile(&profile) {
            check(program.instructions());
        }
    }
}

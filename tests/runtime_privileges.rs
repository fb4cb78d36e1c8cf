//! What a container's processes may do: the five capability sets and the system call filter, as `/proc/P/status` shows them.
//!
//! Read: capabilities(7), seccomp(2), config.md "capabilities", config-linux.md "Seccomp".

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};
use support::container::{Bench, with_user_namespace};
use support::kernel::{Process, host};

/// Numbers of capabilities(7) that the tests name.
const NUMBERS: [(&str, u32); 9] = [
    ("CAP_CHOWN", 0),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_MKNOD", 27),
];

fn bits(names: &[&str]) -> u64 {
    names.iter().map(|name| 1 << NUMBERS.iter().find(|(known, _)| known == name).unwrap().1).sum()
}

fn sets(process: Process) -> BTreeMap<&'static str, u64> {
    let keys = [("inheritable", "CapInh"), ("permitted", "CapPrm"), ("effective", "CapEff"), ("bounding", "CapBnd"), ("ambient", "CapAmb")];
    keys.into_iter().map(|(name, key)| (name, u64::from_str_radix(&process.status(key), 16).unwrap())).collect()
}

#[test]
fn root_has_exactly_the_five_sets_of_the_config() {
    let Some(bench) = Bench::new() else { return };
    let config = |spec: &mut Value, no_new_privileges: bool| {
        spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        spec["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
        });
    };
    let (few, all) = (bits(&["CAP_CHOWN", "CAP_KILL"]), bits(&["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"]));
    let told = sets(bench.waiting(|spec| config(spec, true)).process());
    assert_eq!((told["bounding"], told["permitted"], told["effective"], told["inheritable"], told["ambient"]), (all, few, few, 0, 0));
    // execve(2) of root gives the whole bounding set (capabilities(7), "Capabilities and execution of programs by root"), unless
    // no_new_privs forbids it.
    let told = sets(bench.waiting(|spec| config(spec, false)).process());
    assert_eq!((told["bounding"], told["permitted"], told["effective"], told["inheritable"], told["ambient"]), (all, all, all, 0, 0));
}

#[test]
fn a_user_has_what_is_ambient_and_nothing_else() {
    let Some(bench) = Bench::new() else { return };
    let all = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let with = bench.waiting(|spec| {
        spec["process"]["user"]["uid"] = json!(1000);
        spec["process"]["capabilities"] = json!({ "bounding": all, "permitted": all, "effective": all, "inheritable": all, "ambient": ["CAP_KILL"] });
    });
    let told = sets(with.process());
    assert_eq!((told["ambient"], told["permitted"], told["effective"]), (bits(&["CAP_KILL"]), bits(&["CAP_KILL"]), bits(&["CAP_KILL"])));
    assert_eq!((told["inheritable"], told["bounding"]), (bits(&["CAP_KILL", "CAP_NET_BIND_SERVICE"]), bits(&["CAP_KILL", "CAP_NET_BIND_SERVICE"])));
    let without = bench.waiting(|spec| {
        spec["process"]["user"]["uid"] = json!(1000);
        spec["process"]["capabilities"] = json!({ "bounding": all, "permitted": all, "effective": all });
    });
    assert_eq!((sets(without.process())["permitted"], sets(without.process())["ambient"]), (0, 0));
}

#[test]
fn without_capabilities_in_the_config_there_are_none() {
    let Some(bench) = Bench::new() else { return };
    let empty = bench.waiting(|spec| spec["process"]["capabilities"] = json!({}));
    assert!(sets(empty.process()).values().all(|set| *set == 0), "{:?}", sets(empty.process()));
    assert_eq!(empty.exec(&[], &["/bin/probe", "try", "chroot", "/"]).ok().json()["error"], "EPERM");
}

/// A capability that we don't have ourselves can't be given on: that is said, and the rest is given.
#[test]
fn a_capability_beyond_our_own_bounding_set_is_left_out_with_a_warning() {
    let Some(bench) = Bench::new() else { return };
    let wanted = ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_MKNOD"];
    let container = bench.container(|spec| {
        spec["process"]["capabilities"] = json!({ "bounding": wanted, "permitted": wanted, "effective": wanted });
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
    });
    let done = container.create_with(&[]).ok();
    container.start();
    container.seen();
    let ours = u64::from_str_radix(&host().status("CapBnd"), 16).unwrap();
    assert_eq!(sets(container.process())["bounding"], bits(&wanted) & ours);
    assert_eq!(done.err.contains("CAP_SYS_RESOURCE left out"), ours & bits(&["CAP_SYS_RESOURCE"]) == 0, "{}", done.err);
}

#[test]
fn a_capability_that_no_kernel_knows_is_left_out_with_a_warning() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| spec["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_NONSENSE"]));
    let done = container.run().ok();
    assert!(done.err.contains("CAP_NONSENSE"), "{}", done.err);
}

#[test]
fn root_of_a_user_namespace_has_its_sets_there_and_no_power_over_the_host() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        with_user_namespace(spec, 100_000);
        let all = json!(["CAP_SYS_ADMIN", "CAP_MKNOD"]);
        spec["process"]["capabilities"] = json!({ "bounding": all, "permitted": all, "effective": all });
    });
    assert_eq!(sets(container.process())["effective"], bits(&["CAP_SYS_ADMIN", "CAP_MKNOD"]));
    assert_eq!(container.exec(&[], &["/bin/probe", "try", "mknod", "/dev/shm/x", "c", "1", "3"]).ok().json()["error"], "EPERM");
}

#[test]
fn exec_gets_the_containers_sets_and_one_more_when_asked() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.waiting(|spec| {
        spec["process"]["capabilities"] = json!({ "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] });
    });
    let bounding = |options: &[&str]| container.exec(options, &["/bin/probe"]).ok().json()["capabilities"]["bounding"].clone();
    assert_eq!(bounding(&[]), format!("{:016x}", bits(&["CAP_KILL"])));
    assert_eq!(bounding(&["--cap", "CAP_CHOWN"]), format!("{:016x}", bits(&["CAP_KILL", "CAP_CHOWN"])));
}

fn filter(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], "syscalls": rules })
}

fn attempt(container: &support::container::Container, call: &[&str]) -> Value {
    container.exec(&[], &[&["/bin/probe", "try"], call].concat()).ok().json()
}

#[test]
fn the_filter_refuses_with_the_errno_of_its_rule_and_allows_the_rest() {
    let Some(bench) = Bench::new() else { return };
    for no_new_privileges in [true, false] {
        let container = bench.waiting(|spec| {
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            spec["linux"]["seccomp"] = filter(json!([
                { "names": ["chroot"], "action": "SCMP_ACT_ERRNO" },
                { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
                { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" }] },
            ]));
        });
        let process = container.process();
        assert_eq!((process.status("Seccomp"), process.status("Seccomp_filters")), ("2".into(), "1".into()));
        assert_eq!(attempt(&container, &["chroot"])["error"], "EPERM");
        assert_eq!(attempt(&container, &["clone3"])["error"], "ENOSYS");
        assert_eq!(attempt(&container, &["socket", "vsock"])["error"], "EAFNOSUPPORT");
        assert_eq!(attempt(&container, &["socket", "inet"])["errno"], 0);
        container.delete();
    }
}

#[test]
fn without_a_filter_in_the_config_there_is_none() {
    let Some(bench) = Bench::new() else { return };
    assert_eq!(bench.waiting(|_| {}).process().status("Seccomp"), "0");
}

#[test]
fn a_killing_rule_ends_the_process() {
    let Some(bench) = Bench::new() else { return };
    let container = bench.container(|spec| {
        spec["linux"]["seccomp"] = filter(json!([{ "names": ["chroot"], "action": "SCMP_ACT_KILL_PROCESS" }]));
        spec["process"]["args"] = json!(["/bin/probe", "try", "chroot"]);
    });
    assert_eq!(container.run().code, 128 + libc::SIGSYS);
}

/// config-linux.md "containerProcessState": who listens at listenerPath gets the state and the descriptor to answer on.
#[test]
fn the_listener_of_a_notifying_filter_goes_to_the_agent_with_the_state() {
    let Some(bench) = Bench::new() else { return };
    let path = bench.dir.join("agent.sock");
    let agent = UnixListener::bind(&path).unwrap();
    let receiver = std::thread::spawn(move || {
        let (stream, _) = agent.accept().unwrap();
        let (mut bytes, fds) = onggi::sys::fd::receive(stream.as_fd()).unwrap();
        let _ = (&stream).read_to_end(&mut bytes);
        (serde_json::from_slice::<Value>(&bytes).unwrap(), fds.len())
    });
    let container = bench.waiting(|spec| {
        spec["linux"]["seccomp"] = filter(json!([{ "names": ["chroot"], "action": "SCMP_ACT_NOTIFY" }]));
        spec["linux"]["seccomp"]["listenerPath"] = json!(path);
        spec["linux"]["seccomp"]["listenerMetadata"] = json!("for the agent");
    });
    let (state, descriptors) = receiver.join().unwrap();
    assert_eq!(descriptors, 1);
    assert_eq!((state["fds"].clone(), state["metadata"].clone()), (json!(["seccompFd"]), json!("for the agent")));
    assert_eq!((state["pid"].as_i64(), state["state"]["id"].as_str()), (Some(i64::from(container.process().0)), Some(&*container.id)));
    assert_eq!(state["state"]["status"], "creating");
}

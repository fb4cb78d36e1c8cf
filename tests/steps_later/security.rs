//! Step 12: what root in a container may, and what it may not.

use serde_json::Value;

use crate::place::{Place, STEPS, Step};

const STEP: &Step = &STEPS[3];

/// What the kernel says of the probe's privileges.
fn privileges(facts: &Value) -> Value {
    serde_json::json!([facts["capabilities"], facts["no_new_privs"], facts["seccomp"]])
}

#[test]
fn the_sets_are_those_of_the_engines_containers() {
    let Some(place) = Place::new() else { return };
    for options in [&[][..], &["--cap-add", "SYS_ADMIN"], &["--cap-add", "NET_ADMIN", "--cap-add", "SYS_TIME"]] {
        let words = [options, &["--security-opt", "no-new-privileges", "--network", "none", "base", "probe"]].concat();
        let engine: Value = serde_json::from_str(&place.host.shows(&words)).unwrap();
        assert_eq!(privileges(&place.facts(STEP, options)), privileges(&engine), "{options:?}");
    }
    let engine: Value = serde_json::from_str(&place.host.shows(&["--privileged", "--network", "none", "base", "probe"])).unwrap();
    assert_eq!(privileges(&place.facts(STEP, &["--privileged"])), privileges(&engine));
}

#[test]
fn calls_are_refused_with_the_engines_errno() {
    let Some(place) = Place::new() else { return };
    let calls = ["mount", "unshare-user", "clone3", "keyctl", "io_uring_setup", "ptrace", "chroot", "sethostname", "setuid 0", "personality 0"];
    for options in [&[][..], &["--cap-add", "SYS_ADMIN"], &["--privileged"]] {
        for call in calls {
            let words: Vec<&str> = ["probe", "try"].into_iter().chain(call.split(' ')).collect();
            let no_new = if options.contains(&"--privileged") { &[][..] } else { &["--security-opt", "no-new-privileges"] };
            let engine = place.host.run(&[options, no_new, &["--network", "none", "base"], &words].concat());
            let step = place.says(STEP, &[&["run", "--rm"], options, &[&place.layout], &words].concat());
            // What a call answers beside its errno may be a number that is given once.
            let errno = |out: &str| serde_json::from_str::<Value>(out).unwrap_or_else(|e| panic!("{options:?} {call}: {e}: {out}"))["errno"].clone();
            assert_eq!(errno(&step.out), errno(&engine.out), "{options:?} {call}");
        }
    }
}

#[test]
fn what_is_the_hosts_in_proc_is_covered() {
    let Some(place) = Place::new() else { return };
    let covered = |facts: &Value| -> Vec<String> {
        let points = facts["mounts"].as_array().unwrap().iter().filter_map(|mount| mount["point"].as_str());
        let mut points: Vec<String> =
            points.filter(|point| point.starts_with("/proc/") || point.starts_with("/sys/firmware")).map(str::to_string).collect();
        points.sort();
        points
    };
    let engine: Value = serde_json::from_str(&place.host.shows(&["--network", "none", "base", "probe"])).unwrap();
    assert_eq!(covered(&place.facts(STEP, &[])), covered(&engine));
    assert_eq!(covered(&place.facts(STEP, &["--privileged"])), Vec::<String>::new());
    let said = place.says(STEP, &["run", "--rm", &place.layout, "probe", "try", "write", "/proc/sys/vm/drop_caches", "0"]);
    assert!(said.out.contains("EROFS"), "{said:?}");
    place.assert_nothing_left();
}

#[test]
fn capabilities_that_do_not_exist_are_refused_in_one_line() {
    let Some(place) = Place::new() else { return };
    place.refuses(STEP, &["run", "--cap-add", "SYS_MAGIC", &place.layout, "true"], &["SYS_MAGIC"]);
    place.assert_nothing_left();
}

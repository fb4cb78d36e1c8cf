//! Our JSON against two oracles: the specification's own schemas, and the types of another crate.
//!
//! The schemas are Debian's package golang-github-opencontainers-specs-dev. Read: schema/README.md of the OCI runtime specification.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use boon::{Compiler, SchemaIndex, Schemas};
use onggi::runtime::default_spec;
use onggi::runtime::spec::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::container::Bench;

const FOLDER: &str = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";

struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn find(name: &str) -> Option<Schema> {
        let path = PathBuf::from(FOLDER).join(name);
        if !path.exists() {
            support::skip_for_want_of("golang-github-opencontainers-specs-dev is not installed");
            return None;
        }
        let mut schemas = Schemas::new();
        let index = Compiler::new().compile(path.to_str().unwrap(), &mut schemas).unwrap_or_else(|e| panic!("{e:#}"));
        Some(Schema { schemas, index })
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        self.schemas.validate(value, self.index).map_err(|e| format!("{e}\n{value:#}"))
    }
}

#[test]
fn our_default_configs_are_valid() {
    let Some(schema) = Schema::find("config-schema.json") else { return };
    for rootless in [false, true] {
        schema.check(&serde_json::to_value(default_spec::spec(rootless)).unwrap()).unwrap();
    }
}

#[test]
fn the_state_is_valid_at_each_moment() {
    let (Some(schema), Some(bench)) = (Schema::find("state-schema.json"), Bench::new()) else { return };
    let container = bench.container(|spec| {
        spec["process"]["args"] = json!(["/bin/probe", "wait"]);
        spec["annotations"] = json!({ "a": "b" });
    });
    container.create();
    schema.check(&container.state()).unwrap();
    container.start();
    schema.check(&container.state()).unwrap();
    bench.run(&["kill", &container.id, "KILL"]).ok();
    support::container::wait_for("its end", || (container.status() == "stopped").then_some(()));
    schema.check(&container.state()).unwrap();
}

/// The features document has no schema in that package; another crate has its types.
#[test]
fn features_are_what_the_other_crate_can_read() {
    let Some(bench) = Bench::new() else { return };
    let ours = bench.run(&["features"]).ok().json();
    let theirs: oci_spec::runtime::Features = serde_json::from_value(ours.clone()).unwrap();
    let again = serde_json::to_value(theirs).unwrap();
    for key in ["ociVersionMin", "ociVersionMax", "hooks", "mountOptions"] {
        assert_eq!(again[key], ours[key], "{key}");
    }
    assert_eq!(ours["linux"]["namespaces"].as_array().unwrap().len(), 8);
    for option in ["ro", "rro", "rbind", "rshared", "idmap", "nosymfollow", "tmpcopyup"] {
        assert!(ours["mountOptions"].as_array().unwrap().contains(&json!(option)), "{option}");
    }
    assert!(ours["linux"]["seccomp"]["actions"].as_array().unwrap().contains(&json!("SCMP_ACT_ERRNO")));
    assert!(ours["linux"]["capabilities"].as_array().unwrap().contains(&json!("CAP_SYS_ADMIN")));
}

/// What the schema refuses we refuse too, each of these in one line of ours.
#[test]
fn what_the_schema_refuses_is_no_config_for_us() {
    let Some(schema) = Schema::find("config-schema.json") else { return };
    let edits: [fn(&mut Value); 12] = [
        |s| drop(s.as_object_mut().unwrap().remove("ociVersion")),
        |s| drop(s["root"].as_object_mut().unwrap().remove("path")),
        |s| drop(s["mounts"][0].as_object_mut().unwrap().remove("destination")),
        |s| s["process"]["args"] = json!("sh"),
        |s| s["process"]["args"] = json!([1]),
        |s| s["process"]["terminal"] = json!("yes"),
        |s| s["process"]["user"]["uid"] = json!("root"),
        |s| s["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE" }]),
        |s| s["linux"]["namespaces"] = json!([{ "path": "/x" }]),
        |s| s["linux"]["devices"] = json!([{ "type": "c" }]),
        |s| s["linux"]["seccomp"] = json!({ "syscalls": [] }),
        |s| s["hooks"] = json!({ "prestart": [{ "args": ["x"] }] }),
    ];
    let good = serde_json::to_value(default_spec::spec(false)).unwrap();
    for edit in edits {
        let mut bad = good.clone();
        edit(&mut bad);
        assert!(schema.check(&bad).is_err(), "the schema takes {bad:#}");
        let error = onggi::runtime::bundle::parse(&bad.to_string(), "config.json".as_ref()).expect_err(&format!("we take {bad:#}"));
        assert!(!error.one_line().contains('\n'));
    }
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_]{0,8}"
}

fn path() -> impl Strategy<Value = PathBuf> {
    "(/[a-z]{1,6}){1,3}".prop_map(PathBuf::from)
}

fn mappings() -> impl Strategy<Value = Vec<IdMapping>> {
    vec((0..70_000u32, 0..70_000u32, 1..9u32).prop_map(|(container_id, host_id, size)| IdMapping { container_id, host_id, size }), 0..3)
}

fn process() -> impl Strategy<Value = Process> {
    let user = (any::<u32>(), any::<u32>(), option::of(0..0o777u32), vec(any::<u32>(), 0..3));
    let limits = vec((prop::sample::select(vec!["RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_AS"]), 0..100u64), 0..2);
    let more = (any::<bool>(), option::of(-1000..=1000i32), option::of((1..500u16, 1..500u16)));
    let caps = option::of(prop::sample::subsequence(vec!["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"], 1..=3));
    (vec(word(), 1..3), vec((word(), word()), 0..3), path(), user, limits, more, caps).prop_map(|(args, env, cwd, user, limits, more, caps)| {
        let names = caps.map(|names| names.into_iter().map(String::from).collect::<Vec<_>>());
        Process {
            args,
            env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            cwd,
            user: User { uid: user.0, gid: user.1, umask: user.2, additional_gids: user.3 },
            rlimits: limits.into_iter().map(|(kind, soft)| Rlimit { kind: kind.into(), soft, hard: soft + 1 }).collect(),
            no_new_privileges: more.0,
            oom_score_adj: more.1,
            console_size: more.2.map(|(height, width)| ConsoleSize { height, width }),
            capabilities: names.map(|set| CapabilitySets { bounding: set.clone(), permitted: set, ..CapabilitySets::default() }),
            ..Process::default()
        }
    })
}

fn mount() -> impl Strategy<Value = Mount> {
    (path(), option::of(word()), option::of(word()), vec(prop::sample::select(vec!["ro", "rbind", "nosuid", "size=1k"]), 0..3), mappings()).prop_map(
        |(destination, kind, source, options, maps)| Mount {
            destination,
            kind,
            source,
            options: options.into_iter().map(String::from).collect(),
            uid_mappings: maps.clone(),
            gid_mappings: maps,
        },
    )
}

fn hooks() -> impl Strategy<Value = Hooks> {
    let hook = || {
        vec((path(), vec(word(), 0..2), option::of(1..9i64)).prop_map(|(path, args, timeout)| Hook { path, args, env: Vec::new(), timeout }), 0..2)
    };
    (hook(), hook(), hook(), hook(), hook(), hook()).prop_map(|(prestart, create_runtime, create_container, start_container, poststart, poststop)| {
        Hooks { prestart, create_runtime, create_container, start_container, poststart, poststop }
    })
}

fn resources() -> impl Strategy<Value = Resources> {
    let memory = option::of((option::of(0..(1i64 << 40)), option::of(-1..(1i64 << 40)), option::of(0..100u64)));
    let cpu = option::of((option::of(2..9999u64), option::of(-1..99_999i64), option::of("[0-3]")));
    let rule = (any::<bool>(), option::of(prop::sample::select(vec!["a", "b", "c"])), option::of(0..300i64), option::of("r?w?m?"));
    (memory, cpu, option::of(0..9999i64), vec(rule, 0..3), btree_map("[a-z]{1,5}\\.max", "[0-9]{1,4}", 0..2)).prop_map(
        |(memory, cpu, pids, rules, unified)| Resources {
            memory: memory.map(|(limit, swap, swappiness)| Memory { limit, swap, swappiness, ..Memory::default() }),
            cpu: cpu.map(|(shares, quota, cpus)| Cpu { shares, quota, cpus, ..Cpu::default() }),
            pids: pids.map(|limit| Pids { limit }),
            devices: rules
                .into_iter()
                .map(|(allow, kind, major, access)| DeviceRule { allow, kind: kind.map(String::from), major, minor: major, access })
                .collect(),
            unified,
            ..Resources::default()
        },
    )
}

fn linux() -> impl Strategy<Value = Linux> {
    let kinds = prop::sample::subsequence(
        vec![
            NamespaceKind::User,
            NamespaceKind::Pid,
            NamespaceKind::Network,
            NamespaceKind::Mount,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Cgroup,
            NamespaceKind::Time,
        ],
        0..=8,
    );
    let device = (path(), prop::sample::select(vec!["c", "b", "p"]), 0..300i64, option::of(0..0o777u32), option::of(any::<u32>()));
    let seccomp =
        option::of(vec((vec(prop::sample::select(vec!["read", "chroot", "mount"]), 1..3), option::of(1..99u32), 0..6u32, any::<u32>()), 0..3));
    let offsets = btree_map(prop::sample::select(vec!["monotonic".to_string(), "boottime".to_string()]), (any::<i32>(), 0..999_999_999u32), 0..2);
    (kinds, mappings(), option::of(resources()), vec(device, 0..2), seccomp, offsets, vec(path(), 0..3), btree_map(word(), word(), 0..2)).prop_map(
        |(kinds, maps, resources, devices, seccomp, offsets, masked, sysctl)| Linux {
            namespaces: kinds.into_iter().map(|kind| Namespace { kind, path: None }).collect(),
            uid_mappings: maps.clone(),
            gid_mappings: maps,
            resources,
            devices: devices
                .into_iter()
                .map(|(path, kind, major, file_mode, uid)| Device { path, kind: kind.into(), major, minor: 1, file_mode, uid, gid: uid })
                .collect(),
            seccomp: seccomp.map(|rules| Seccomp {
                default_action: "SCMP_ACT_ALLOW".into(),
                syscalls: rules
                    .into_iter()
                    .map(|(names, errno_ret, index, value)| SeccompRule {
                        names: names.into_iter().map(String::from).collect(),
                        action: "SCMP_ACT_ERRNO".into(),
                        errno_ret,
                        args: vec![SeccompArg { index, value: value.into(), value_two: None, op: "SCMP_CMP_EQ".into() }],
                    })
                    .collect(),
                ..Seccomp::default()
            }),
            time_offsets: offsets.into_iter().map(|(clock, (secs, nanosecs))| (clock, TimeOffset { secs: secs.into(), nanosecs })).collect(),
            readonly_paths: masked.clone(),
            masked_paths: masked,
            sysctl,
            ..Linux::default()
        },
    )
}

fn config() -> impl Strategy<Value = Spec> {
    (
        option::of(process()),
        vec(mount(), 0..3),
        option::of(word()),
        option::of(hooks()),
        btree_map(word(), word(), 0..3),
        option::of(linux()),
        any::<bool>(),
    )
        .prop_map(|(process, mounts, hostname, hooks, annotations, linux, readonly)| Spec {
            oci_version: OCI_VERSION.into(),
            root: Some(Root { path: "rootfs".into(), readonly }),
            process,
            mounts,
            domainname: hostname.clone(),
            hostname,
            hooks,
            annotations,
            linux,
        })
}

/// Lists that another writer leaves out or writes as `[]`, and false, are one; and capabilities have no order.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, plain(value))).collect();
            kept.into_iter().filter(|(_, value)| !value.is_null() && *value != json!([]) && *value != json!({}) && *value != json!(false)).collect()
        }
        Value::Array(mut list) => {
            if list.iter().all(|item| item.as_str().is_some_and(|word| word.starts_with("CAP_"))) {
                list.sort_by_key(Value::to_string);
            }
            list.into_iter().map(plain).collect()
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_config_comes_back_whole_from_the_other_crates_types(spec in config()) {
        let ours = serde_json::to_value(&spec).unwrap();
        let theirs: oci_spec::runtime::Spec = serde_json::from_value(ours.clone()).map_err(|e| TestCaseError::fail(format!("{e}: {ours:#}")))?;
        let again = serde_json::to_value(theirs).unwrap();
        let back: Spec = serde_json::from_value(again.clone()).map_err(|e| TestCaseError::fail(format!("{e}: {again:#}")))?;
        prop_assert_eq!(plain(serde_json::to_value(&back).unwrap()), plain(ours));
    }

    #[test]
    fn what_we_write_we_read(spec in config()) {
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
    }
}

#[test]
fn what_we_write_is_valid() {
    let Some(schema) = Schema::find("config-schema.json") else { return };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&config(), |spec| {
        let mut value = serde_json::to_value(&spec).unwrap();
        // Younger than the package's schemas, which close their lists of kinds: time namespaces, and the mappings of a mount.
        if let Some(Value::Array(kinds)) = value.pointer_mut("/linux/namespaces") {
            kinds.retain(|namespace| namespace["type"] != "time");
        }
        schema.check(&value).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

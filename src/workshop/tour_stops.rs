//! The stops of the tour: what each tells, and the facts that show it.

use super::tour::Scene;
use crate::inspect::process;

/// Texts are (English, Korean).
pub struct Stop {
    pub title: (&'static str, &'static str),
    pub story: (&'static str, &'static str),
    pub facts: Vec<(&'static str, String)>,
    /// Lines that stand below the facts as they are.
    pub picture: String,
    /// The command that shows the same while the container runs.
    pub see: String,
}

/// How many there are.
pub const COUNT: usize = 9;

/// What to type next: command, what it shows in English and Korean.
pub const NEXT: &[(&str, &str, &str)] = &[
    ("onggi run --rm -it base sh", "be inside one yourself", "직접 안으로 들어가 보기"),
    ("onggi run -d --name jar base sleep 600", "in the background; then onggi exec, stop, rm", "백그라운드에서; 그다음 onggi exec, stop, rm"),
    ("onggi run --rm --explain base true", "see every system call, and why", "시스템 콜 하나하나와 그 이유 보기"),
    ("onggi run --rm --memory 64m base cat /proc/self/cgroup", "with a limit", "한도를 걸고"),
    ("onggi run --rm -it --cap-drop ALL base sh", "a root who may do nothing", "아무 권한도 없는 root"),
    ("onggi network map", "what is plugged in where, now", "지금 무엇이 어디에 꽂혀 있는지"),
    ("onggi doctor", "what this machine can do", "이 컴퓨터가 할 수 있는 것"),
    ("onggi book", "the first chapter: how all this works", "첫 장: 이 모든 것이 어떻게 돌아가는지"),
];

/// All stops, told from one scene.
pub fn all(scene: &Scene) -> Vec<Stop> {
    let stops =
        vec![processes(scene), files(scene), name(scene), network(scene), town(scene), powers(scene), limits(scene), calls(scene), monitor(scene)];
    debug_assert_eq!(stops.len(), COUNT);
    stops
}

fn outside(fact: crate::error::Result<process::Fact>) -> String {
    fact.map_or_else(|e| e.one_line(), |fact| fact.value)
}

fn change(scene: &Scene, kind: &str) -> (&'static str, String) {
    let after = outside(process::namespace(&scene.pid, kind));
    ("changed", format!("{} → {after}", scene.before(kind)))
}

fn processes(scene: &Scene) -> Stop {
    Stop {
        title: ("It is process 1, and alone", "1번 프로세스이고 혼자다"),
        story: (
            "A PID namespace counts its processes anew. The same process has two numbers: one inside, one outside.",
            "PID 네임스페이스는 프로세스 번호를 새로 매깁니다. 같은 프로세스에 안과 밖의 번호 두 개가 있습니다.",
        ),
        facts: vec![
            ("inside", format!("PID {}", scene.inside("pid"))),
            (
                "outside",
                format!("PID {} (NSpid {}), one of {} processes", scene.pid, outside(process::status(&scene.pid, "NSpid")), process::process_count()),
            ),
            change(scene, "pid"),
        ],
        picture: String::new(),
        see: format!("grep NSpid /proc/{}/status", scene.pid),
    }
}

fn files(scene: &Scene) -> Stop {
    let inside = scene.inside["mounts"].as_array().map_or(0, Vec::len);
    Stop {
        title: ("It has files of its own", "자기만의 파일을 가진다"),
        story: (
            "A mount namespace with another root: the image's files, read-only below, and a thin layer on top that takes what is written.",
            "루트가 다른 마운트 네임스페이스입니다. 아래에는 읽기 전용 이미지 파일, 위에는 쓴 것을 받는 얇은 층이 있습니다.",
        ),
        facts: vec![
            ("inside", format!("/ is {}, {inside} mounts", root_inside(scene))),
            ("outside", format!("/ is {}", outside(process::root_mount("self")))),
            change(scene, "mnt"),
        ],
        picture: String::new(),
        see: format!("sudo ls /proc/{}/root", scene.pid),
    }
}

fn root_inside(scene: &Scene) -> String {
    let mounts = scene.inside["mounts"].as_array();
    let root = mounts.and_then(|mounts| mounts.iter().find(|mount| mount["point"] == "/"));
    root.and_then(|mount| mount["type"].as_str().or_else(|| mount["fstype"].as_str())).unwrap_or("?").to_string()
}

fn name(scene: &Scene) -> Stop {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Stop {
        title: ("It has a name of its own", "자기만의 이름을 가진다"),
        story: (
            "A UTS namespace holds the host name. Setting it inside leaves the machine's alone.",
            "UTS 네임스페이스는 호스트 이름을 담습니다. 안에서 바꾸어도 컴퓨터의 이름은 그대로입니다.",
        ),
        facts: vec![("inside", scene.inside("hostname")), ("outside", host), change(scene, "uts")],
        picture: String::new(),
        see: format!("sudo nsenter -t {} -u hostname", scene.pid),
    }
}

fn network(scene: &Scene) -> Stop {
    Stop {
        title: ("It has a network of its own", "자기만의 네트워크를 가진다"),
        story: (
            "A network namespace has its own devices, addresses and rules. A new one has only the loopback device.",
            "네트워크 네임스페이스는 장치와 주소와 규칙을 따로 가집니다. 새로 만들면 루프백 장치만 있습니다.",
        ),
        facts: vec![
            ("inside", outside(process::network_devices(&scene.pid))),
            ("outside", outside(process::network_devices("self"))),
            change(scene, "net"),
        ],
        picture: String::new(),
        see: format!("sudo nsenter -t {} -n ip address", scene.pid),
    }
}

fn town(scene: &Scene) -> Stop {
    let (facts, picture) = match &scene.town {
        Ok(town) => (vec![("name", town.name.clone()), ("packet", town.packet.clone())], town.map.clone()),
        Err(e) => (vec![("here", e.one_line())], String::new()),
    };
    Stop {
        title: ("It is plugged into a network", "네트워크에 꽂힌다"),
        story: (
            "A cable (veth) has one end in the container and the other in a switch in the kernel, a bridge. Two containers, alice and bob, were \
             plugged into one for this stop. A small name server in each one's monitor knows the names of the network.",
            "케이블(veth)의 한쪽 끝은 컨테이너에, 다른 쪽 끝은 커널 안의 스위치인 브리지에 꽂힙니다. 여기서는 두 컨테이너 alice와 bob을 한 브리지에 \
             꽂았습니다. 각 컨테이너의 모니터 안에 있는 작은 이름 서버가 그 네트워크의 이름을 압니다.",
        ),
        facts,
        picture,
        see: "onggi network map; onggi network trace FROM TO".into(),
    }
}

fn powers(scene: &Scene) -> Stop {
    let mut facts = vec![
        (
            "inside",
            format!(
                "uid {}, CapEff {} ({} of 41)",
                scene.inside("uid"),
                scene.inside("capabilities.effective"),
                bits(&scene.inside("capabilities.effective"))
            ),
        ),
        ("outside", format!("{} of 41 in this program's hands", bits(&outside(process::status("self", "CapEff"))))),
    ];
    if scene.rootless {
        facts.push(("uid map", outside(process::uid_map(&scene.pid))));
    }
    Stop {
        title: ("It is root, but not almighty", "root지만 전능하지 않다"),
        story: (
            "Root's power comes in 41 pieces, the capabilities. A container keeps those that it needs for itself.",
            "root의 힘은 41개의 조각(capability)으로 나뉩니다. 컨테이너는 자기 일에 필요한 것만 가집니다.",
        ),
        facts,
        picture: String::new(),
        see: format!("grep Cap /proc/{}/status", scene.pid),
    }
}

fn bits(hex: &str) -> u32 {
    u64::from_str_radix(hex, 16).map_or(0, u64::count_ones)
}

fn limits(scene: &Scene) -> Stop {
    let dirs = scene.cgroups;
    let memory = process::cgroup_file(dirs, &["memory.max", "memory.limit_in_bytes"]);
    let pids = process::cgroup_file(dirs, &["pids.max"]);
    let facts = match (memory, pids) {
        (None, None) => vec![("limits", "none: this user has no cgroup to limit with; `onggi doctor` says how to get one".to_string())],
        (memory, pids) => memory
            .map(|fact| ("memory", format!("{} bytes", fact.value)))
            .into_iter()
            .chain(pids.map(|fact| ("processes", format!("at most {}", fact.value))))
            .collect(),
    };
    let place = dirs.iter().find(|dir| dir.join("memory.max").exists() || dir.join("memory.limit_in_bytes").exists()).or(dirs.first());
    Stop {
        title: ("It can't eat up the machine", "컴퓨터를 다 먹어 치울 수 없다"),
        story: (
            "A control group is a folder: who is in it shares its limits, and the limits are files.",
            "컨트롤 그룹(cgroup)은 폴더입니다. 그 안의 프로세스는 한도를 함께 쓰고, 한도는 파일입니다.",
        ),
        facts,
        picture: String::new(),
        see: place.map_or_else(|| format!("cat /proc/{}/cgroup", scene.pid), |dir| format!("ls {}", dir.display())),
    }
}

fn calls(scene: &Scene) -> Stop {
    Stop {
        title: ("It can't ask the kernel for everything", "커널에 아무거나 부탁할 수 없다"),
        story: (
            "A seccomp filter, a small program in the kernel, looks at each system call and refuses those that a container has no need of.",
            "seccomp 필터는 커널 안의 작은 프로그램입니다. 시스템 콜마다 살펴보고 컨테이너에 필요 없는 것은 거부합니다.",
        ),
        facts: vec![
            ("inside", format!("Seccomp {} (2 is: filtered), {} filter", scene.inside("seccomp"), scene.inside("seccomp_filters"))),
            ("outside", format!("Seccomp {} in this program", outside(process::status("self", "Seccomp")))),
        ],
        picture: String::new(),
        see: format!("grep Seccomp /proc/{}/status", scene.pid),
    }
}

fn monitor(scene: &Scene) -> Stop {
    let session = |who: &str| outside(process::session(who));
    Stop {
        title: ("It outlives your terminal", "터미널보다 오래 산다"),
        story: (
            "A small process of its own, the monitor, is the container's parent: it has left your terminal's session, keeps what the \
             container writes, and learns how it ends. Close the terminal, and a container that was started with `-d` goes on.",
            "모니터라는 작은 프로세스가 컨테이너의 부모입니다. 터미널의 세션을 떠나, 컨테이너가 쓴 것을 간직하고 어떻게 끝나는지 지켜봅니다. \
             터미널을 닫아도 `-d`로 시작한 컨테이너는 계속됩니다.",
        ),
        facts: vec![
            ("monitor", format!("PID {}, the parent of {}, {}", scene.monitor, scene.pid, session(&scene.monitor))),
            ("you", session("self")),
            ("memory", format!("{} of its own", outside(process::status(&scene.monitor, "RssAnon")))),
        ],
        picture: String::new(),
        see: format!("ps -o pid,ppid,sid,tty,rss,comm -p {},{}", scene.monitor, scene.pid),
    }
}

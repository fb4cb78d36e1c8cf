//! What people read of containers: `ps`, `inspect`, `top`, `stats` and the rest, next to what the kernel, ps(1) and Docker say.
//!
//! See it: `onggi ps -a`, `onggi inspect web`. Read: docker-ps(1), docker-inspect(1), docker-stats(1).

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::jar::{Jar, ONGGI, Said, said, until};
use support::peer;
use support::short::Short;

/// One that runs, one that has ended with 3, one that was only made.
fn three() -> Option<Jar> {
    let jar = Jar::new()?;
    jar.does(&["run", "-d", "--network", "none", "--name", "web", "-l", "com.example.tier=front", "base", "sleep", "1000"]);
    assert_eq!(jar.says(&["run", "--network", "none", "--name", "done", "base", "sh", "-c", "echo hi there; exit 3"]).code, 3);
    jar.does(&["create", "--network", "none", "--name", "made", "base", "true"]);
    Some(jar)
}

/// A dockerd of our own with the same three, for as long as this lives.
struct Docker {
    host: String,
    daemon: Child,
    jar: Jar,
    _short: Short,
}

impl Docker {
    fn new() -> Option<Docker> {
        let (dockerd, _, busybox) = (peer("dockerd")?, peer("docker")?, peer("busybox")?);
        let jar = Jar::empty();
        let short = Short::new();
        let host = short.host();
        let log = std::fs::File::create(jar.root.join("log")).unwrap();
        let daemon = Command::new(dockerd).args(short.dockerd(&jar.root)).stdout(Stdio::null()).stderr(log).spawn().expect("start dockerd");
        let docker = Docker { host, daemon, jar, _short: short };
        until("dockerd answers", || docker.says(&["version"]).code == 0);
        let archive = archive(&docker.jar.root, &busybox);
        docker.does(&["import", &archive, "base"]);
        docker.does(&["run", "-d", "--network", "none", "--name", "web", "-l", "com.example.tier=front", "base", "sleep", "1000"]);
        assert_eq!(docker.says(&["run", "--network", "none", "--name", "done", "base", "sh", "-c", "echo hi there; exit 3"]).code, 3);
        docker.does(&["create", "--network", "none", "--name", "made", "base", "true"]);
        Some(docker)
    }

    fn says(&self, words: &[&str]) -> Said {
        said(Command::new("docker").args(["-H", &self.host]).args(words).stdin(Stdio::null()).output().expect("start docker"))
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let said = self.says(words);
        assert_eq!(said.code, 0, "docker {words:?}: {}", said.err);
        said.out
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        for name in ["web", "done", "made"] {
            self.says(&["rm", "-f", name]);
        }
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.daemon.id() as i32), nix::sys::signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

fn archive(folder: &Path, busybox: &Path) -> String {
    let bin = folder.join("rootfs/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy(busybox, bin.join("busybox")).unwrap();
    for applet in ["sh", "sleep", "true"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    let archive = folder.join("rootfs.tar").display().to_string();
    assert!(Command::new("tar").arg("-C").arg(folder.join("rootfs")).args(["-cf", &archive, "."]).status().unwrap().success());
    archive
}

#[test]
fn what_docker_prints_is_printed() {
    let Some(jar) = three() else { return };
    let Some(docker) = Docker::new() else { return };
    for words in [
        &["ps", "-a", "--format", "table {{.Names}}\t{{.State}}\t{{.Image}}\t{{.Command}}"][..],
        &["ps", "-a", "--no-trunc", "--format", "table {{.Names}}\\t{{.Command}}\\t{{.Label \"com.example.tier\"}}"],
        &["ps", "--format", "{{.Names}} {{.Labels}} {{.Ports}}|{{.Mounts}}|{{.Networks}}|{{.LocalVolumes}}"],
        &["ps", "-a", "--format", "{{.ID | len}}\\t{{upper .Names}}\\n"],
        &["ps", "-a", "-f", "status=exited", "--format", "{{.Names}}"],
        &["ps", "-a", "-f", "exited=3", "--format", "{{.Names}}"],
        &["ps", "-a", "-f", "name=^/?(web|made)$", "--format", "{{.Names}}"],
        &["ps", "-a", "-f", "label=com.example.tier", "--format", "{{.Names}}"],
        &["ps", "-a", "-f", "label=com.example.tier=back", "--format", "{{.Names}}"],
        &["ps", "-a", "-f", "before=made", "--format", "{{.Names}}"],
        &["ps", "-a", "-f", "since=web", "-f", "ancestor=base", "--format", "{{.Names}}"],
        &["ps", "-n", "2", "--format", "{{.Names}}"],
        &["ps", "-l", "--format", "{{.Names}}"],
        &[
            "inspect",
            "-f",
            "{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{json .Args}} {{.Config.Labels}} {{.HostConfig.RestartPolicy.Name}}",
            "web",
            "done",
            "made",
        ],
        &["inspect", "-f", "{{.Config.Labels.nope}}|{{.Config.Cmd}}|{{.HostConfig.NetworkMode}}|{{.State.StartedAt}}", "made"],
        &[
            "inspect",
            "-f",
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}{{if .State.Running}}up{{end}}{{with .State.Health}}x{{else}}-{{end}}",
            "web",
        ],
        &["top", "web", "-o", "pid,cmd"],
        &["stats", "--no-stream", "--format", "table {{.Name}}\t{{.PIDs}}\t{{.NetIO}}\t{{.BlockIO}}", "web"],
    ] {
        let (ours, theirs) = (jar.says(words), docker.says(words));
        assert_eq!((ours.code, theirs.code), (0, 0), "{words:?}: {} {}", ours.err, theirs.err);
        // A PID is another's.
        let lines = |text: &str| {
            text.lines().map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit())).map(str::trim).map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(lines(&ours.out), lines(&theirs.out), "{words:?}");
    }
    // The whole table, but for IDs and times.
    let header = |text: &str| {
        text.lines().next().unwrap_or_default().split("   ").map(str::trim).filter(|word| !word.is_empty()).map(String::from).collect::<Vec<_>>()
    };
    for words in [&["ps", "-a"][..], &["ps", "-as"], &["stats", "--no-stream", "web"], &["top", "web"]] {
        assert_eq!(header(&jar.does(words)), header(&docker.does(words)), "{words:?}");
    }
    // Each field that we print of a container is a field of Docker's.
    let fields = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        let part = |part: &Value| part.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        [part(&value[0]), part(&value[0]["State"]), part(&value[0]["Config"]), part(&value[0]["HostConfig"])]
    };
    for (ours, theirs) in fields(&jar.does(&["inspect", "web"])).iter().zip(&fields(&docker.does(&["inspect", "web"]))) {
        let unknown: Vec<_> =
            ours.iter().filter(|field| !theirs.contains(field) && !["ShmSize", "Tmpfs", "Init", "Sysctls"].contains(&field.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?} are none of Docker's {theirs:?}");
    }
    for (words, part) in [
        (&["inspect", "nosuch"][..], "No such object: nosuch"),
        (&["ps", "-f", "stats=x"], "nvalid filter 'stats'"),
        (&["port", "web", "80"], "No public port '80' published for web"),
    ] {
        let (ours, theirs) = (jar.says(words), docker.says(words));
        assert!(ours.code == 1 && theirs.code == 1, "{words:?}: {} {}", ours.code, theirs.code);
        assert!(ours.err.contains(part) && theirs.err.contains(part), "{words:?}: {} {}", ours.err, theirs.err);
    }
}

#[test]
fn ps_tells_each_state_in_dockers_words() {
    let Some(jar) = three() else { return };
    let status = |name: &str| jar.does(&["ps", "-a", "--format", "{{.Status}}", "-f", &format!("name=^{name}$")]);
    assert!(status("web").starts_with("Up "), "{}", status("web"));
    assert!(status("done").starts_with("Exited (3) ") && status("done").ends_with(" ago"), "{}", status("done"));
    assert_eq!(status("made"), "Created");
    jar.does(&["pause", "web"]);
    assert!(status("web").ends_with("(Paused)"), "{}", status("web"));
    assert_eq!(jar.does(&["ps", "-q", "-f", "status=paused"]).len(), 12);
    jar.does(&["unpause", "web"]);
    jar.does(&["kill", "web"]);
    until("it has ended", || status("web").starts_with("Exited (137)"));
    assert_eq!(jar.does(&["ps", "-q"]), "");
    assert_eq!(jar.does(&["ps", "-aq", "--no-trunc"]).lines().map(str::len).collect::<Vec<_>>(), [64, 64, 64]);
}

#[test]
fn inspect_says_what_the_kernel_says() {
    let Some(jar) = three() else { return };
    let pid = jar.does(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim(), "sleep");
    let told: Value = serde_json::from_str(&jar.does(&["inspect", "web", "made"])).unwrap();
    assert!(Path::new(told[0]["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap()).is_dir());
    assert!(Path::new(told[0]["LogPath"].as_str().unwrap()).is_file());
    assert_eq!((told[1]["State"]["Pid"].as_i64(), told[1]["State"]["Status"].as_str()), (Some(0), Some("created")));
    // What isn't there is told after what is.
    let said = jar.says(&["inspect", "-f", "{{.Name}}", "nosuch", "made"]);
    assert_eq!((said.code, said.out.as_str()), (1, "/made\n"));
    let said = jar.says(&["inspect", "-f", "{{.Staet}}", "made"]);
    assert!(said.code == 1 && said.err.contains("did you mean .State?"), "{}", said.err);
}

#[test]
fn stats_see_who_is_busy() {
    let Some(jar) = three() else { return };
    jar.does(&["run", "-d", "--name", "busy", "-m", "64m", "base", "sh", "-c", "while :; do :; done"]);
    let told = jar.does(&["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"]);
    let cpu = |name: &str| {
        let line = told.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in {told}"));
        line.split(' ').nth(1).unwrap().trim_end_matches('%').parse::<f64>().unwrap()
    };
    assert!(cpu("busy") > 5.0 && cpu("busy") > cpu("web"), "{told}");
    assert!(told.lines().any(|line| line.starts_with("busy") && line.ends_with("/ 64MiB 1")), "{told}");
    // Those that don't run use nothing, and are shown when they are asked for.
    assert!(jar.does(&["stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}}", "done"]).ends_with("done 0.00% 0B / 0B"));
    let df: Vec<String> = jar.does(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]).lines().map(String::from).collect();
    assert_eq!(df[..2], ["Images 1 1", "Containers 4 2"]);
    assert_eq!(jar.does(&["info", "-f", "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}}"]), "4 2 2 1");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let Some(jar) = three() else { return };
    let words = format!("ONGGI_ROOT={} {ONGGI} ps -a | true; ONGGI_ROOT={0} {ONGGI} inspect web | head -1", jar.root.display());
    let said = said(Command::new("sh").args(["-c", &words]).output().unwrap());
    assert_eq!((said.out.as_str(), said.err.as_str()), ("[\n", ""));
}

/// The program by the name that the scripts call, first in PATH.
fn path() -> String {
    format!("{}:{}", Path::new(ONGGI).parent().unwrap().display(), std::env::var("PATH").unwrap_or_default())
}

fn shell(jar: &Jar, shell: &str, script: &str) -> Said {
    said(
        Command::new(shell)
            .args(["-c", script])
            .env("PATH", path())
            .env("ONGGI_ROOT", &jar.root)
            .stdin(Stdio::null())
            .output()
            .expect("start the shell"),
    )
}

#[test]
fn bash_completes_containers_images_and_options() {
    let (Some(jar), Some(_)) = (three(), peer("bash")) else { return };
    let complete = |words: &str, last: &str| {
        let (before, words) = words.split_once("; ").unwrap_or(("", words));
        let count = words.split(' ').count();
        let script = format!(
            "{before}\nsource <(onggi completion bash); COMP_WORDS=({words} '{last}'); COMP_CWORD={count}; COMP_TYPE=9; _clap_complete_onggi onggi '{last}'; echo \"${{COMPREPLY[@]}}\""
        );
        shell(&jar, "bash", &script).out
    };
    let containers = complete("onggi stop", "");
    assert!(["web", "done", "made"].iter().all(|name| containers.split_whitespace().any(|word| word == *name)), "{containers}");
    assert_eq!(complete("onggi container rm", "do").trim(), "done");
    assert_eq!(complete("onggi ps", "--no-t").trim(), "--no-trunc");
    assert!(complete("onggi run --rm", "").starts_with("base"));
    assert_eq!(complete("onggi run --network", "no").trim(), "none");
    assert_eq!(complete("onggi network connect", "br").trim(), "bridge");
    assert_eq!(complete("onggi", "insp").trim(), "inspect");
    for verb in ["onggi push", "onggi pull", "onggi rmi", "onggi image push"] {
        assert_eq!(complete(verb, "ba").trim(), "base", "{verb}");
    }
    std::fs::write(jar.root.join("config.json"), r#"{"auths": {"https://lab/v1/": {}, "https://index.docker.io/v1/": {}}}"#).unwrap();
    assert!(complete("export DOCKER_CONFIG=$ONGGI_ROOT; onggi logout", "").starts_with("docker.io lab"));
}

#[test]
fn fish_completes_containers() {
    let (Some(jar), Some(_)) = (three(), peer("fish")) else { return };
    let said = shell(&jar, "fish", "source (onggi completion fish | psub); complete -C 'onggi stop w'");
    assert_eq!(said.out.trim(), "web\tbase", "{}", said.err);
}

#[test]
fn zsh_takes_the_script() {
    let (Some(jar), Some(_)) = (three(), peer("zsh")) else { return };
    let said = shell(
        &jar,
        "zsh",
        "autoload -U compinit; compinit -D -u; source <(onggi completion zsh); echo $_comps[onggi]; ONGGI_COMPLETE=zsh _CLAP_COMPLETE_INDEX=2 onggi -- onggi stop we",
    );
    assert_eq!(said.out.lines().map(str::trim).collect::<Vec<_>>(), ["_clap_dynamic_completer_onggi", "web:base"], "{}", said.err);
}

#[test]
fn each_command_has_a_page() {
    let jar = Jar::empty();
    let folder = jar.root.join("man1");
    assert_eq!(jar.says(&["man", folder.to_str().unwrap()]).code, 0);
    for page in ["onggi.1", "onggi-run.1", "onggi-container-ps.1", "onggi-system-df.1"] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH DESCRIPTION"), "{page}");
    }
    assert!(std::fs::read_to_string(folder.join("onggi-ps.1")).unwrap().contains("status=exited"));
}

#[test]
fn a_word_that_is_no_command_is_told_the_nearest() {
    let jar = Jar::empty();
    for (words, near) in [(&["stpo"][..], "'stop'"), (&["ps", "--al"], "'--all'"), (&["container", "inspct"], "'inspect'")] {
        let said = jar.says(words);
        assert!(said.code != 0 && said.err.contains(near) && said.err.contains("--help"), "{words:?}: {}", said.err);
    }
}

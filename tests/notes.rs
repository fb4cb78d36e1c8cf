//! The course notes' own lines about images and containers, typed one after another: each must do under `onggi` what it does under
//! `docker`. Networks, volumes, builds, Compose and registries are other chapters.
//!
//! The notes' images (nginx, ubuntu …) are made of the base image, with a server's habits: they log, and end when they are asked to.
//! Where a dockerd can run, the same lines are typed to it, with the same images: exit codes, what stands on standard output, and
//! whether anything stands on standard error are compared; IDs, times, sizes and chosen names are masked.
//!
//! See it: `cargo test --test notes -- --nocapture`. Read: docker(1).

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use support::jar::{Jar, ONGGI, Said, said, until};
use support::peer;
use support::short::{Short, unmount_below};

/// Somebody at a shell, for whom `docker` is one of the two.
struct Typist {
    /// Its folder is the current one; `bin/docker` is in it.
    jar: Jar,
    daemon: Option<(Child, Short)>,
}

/// Logs three lines and one error, and then waits for the end as a server does.
const SERVER: &str = r#"CMD ["sh","-c","trap 'exit 0' TERM QUIT; echo line 1; echo line 2 Exception; echo ERROR 3 >&2; echo started; while :; do sleep 1000 & wait $!; done"]"#;

impl Typist {
    fn onggi() -> Option<Typist> {
        let jar = Jar::new()?;
        // Each image of the notes is a container's, as `commit` makes it.
        jar.does(&["create", "--name", "model", "base"]);
        for (image, setting) in [("nginx", SERVER), ("httpd", SERVER), ("redis", SERVER), ("ubuntu", r#"CMD ["bash"]"#)] {
            jar.does(&["commit", "-c", setting, "model", image]);
        }
        jar.does(&["rm", "model"]);
        let typist = Typist { jar, daemon: None };
        typist.call_it_docker(&format!("ONGGI_ROOT={} exec {ONGGI} \"$@\"", typist.jar.root.display()));
        Some(typist)
    }

    /// With the images of the other.
    fn docker(other: &Typist) -> Option<Typist> {
        let (dockerd, docker) = (peer("dockerd")?, peer("docker")?);
        let jar = Jar::empty();
        let short = Short::new();
        let daemon = Command::new(dockerd)
            .args(short.dockerd_place(&jar.root))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(jar.root.join("log")).unwrap())
            .spawn()
            .expect("start dockerd");
        let typist = Typist { jar, daemon: Some((daemon, short)) };
        let host = typist.daemon.as_ref().map(|(_, short)| short.host()).unwrap_or_default();
        typist.call_it_docker(&format!("exec {} -H {host} \"$@\"", docker.display()));
        until("dockerd answers", || typist.types("docker version").code == 0);
        let archive = other.jar.root.join("images.tar").display().to_string();
        assert_eq!(other.types(&format!("docker save -o {archive} base nginx httpd redis ubuntu")).code, 0);
        let loaded = typist.types(&format!("docker load -i {archive}"));
        assert_eq!(loaded.code, 0, "{}", loaded.err);
        Some(typist)
    }

    fn call_it_docker(&self, line: &str) {
        let file = self.jar.root.join("bin/docker");
        fs::create_dir(self.jar.root.join("bin")).unwrap();
        fs::create_dir(self.desk()).unwrap();
        fs::write(&file, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn desk(&self) -> PathBuf {
        self.jar.root.join("desk")
    }

    fn types(&self, line: &str) -> Said {
        let path = format!("{}:{}", self.jar.root.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        // A line that hangs is a difference, not the end of the test.
        let mut shell = Command::new("timeout");
        shell
            .args(["--foreground", "60", "bash", "-c", line])
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("DOCKER_HOST")
            .current_dir(self.desk());
        said(shell.stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        let Some((daemon, _)) = &mut self.daemon else { return };
        let pid = nix::unistd::Pid::from_raw(daemon.id() as i32);
        let ids = self.jar.root.join("bin/docker");
        let _ = Command::new("sh").args(["-c", "\"$0\" rm -f $(\"$0\" ps -aq)"]).arg(ids).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = daemon.wait();
        unmount_below(&self.jar.root);
    }
}

/// A line, and how it ends under both.
type Line = (&'static str, i32);

/// Types each line to both, and compares.
fn typed_to_both(script: &[Line]) {
    // One dockerd at a time.
    static DESK: Mutex<()> = Mutex::new(());
    let _turn = DESK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let Some(ours) = Typist::onggi() else { return };
    let theirs = Typist::docker(&ours);
    let mut differences = Vec::new();
    for (line, code) in script {
        let here = ours.types(line);
        let mut told = Vec::new();
        if here.code != *code {
            told.push(format!("  exit code {} and not {code}", here.code));
        }
        if let Some(theirs) = &theirs {
            let there = theirs.types(line);
            if there.code != *code {
                told.push(format!("  docker's exit code is {} and not {code}", there.code));
            }
            let (out, their_out) = (masked(&here.out), masked(&there.out));
            if out != their_out {
                told.push(format!("  standard output:\n{out}\n  docker's:\n{their_out}"));
            }
            if here.err.is_empty() != there.err.is_empty() {
                told.push(format!("  standard error:\n{}\n  docker's:\n{}", here.err, there.err));
            }
            told.extend(
                PHRASES
                    .iter()
                    .filter(|phrase| there.err.contains(**phrase) && !here.err.contains(**phrase))
                    .map(|phrase| format!("  {phrase:?} is not in\n{}\n  but in docker's\n{}", here.err, there.err)),
            );
        }
        if !told.is_empty() {
            differences.push(format!("$ {line}\n{}\n{}", told.join("\n"), here.err));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// What scripts look for.
const PHRASES: [&str; 4] = ["No such container: ", "is already in use by container", "is not running", "No such image: "];

/// With everything replaced that is another thing each time.
fn masked(text: &str) -> String {
    // A terminal's line ends differ with nobody's will; script(1) types a NUL at the end of its input, which is echoed somewhere.
    let text = text
        .replace('\r', "")
        .replace("^@", "")
        .replace("Less than a second", "1 seconds")
        .replace("About a minute", "1 seconds")
        .replace("About an hour", "1 hours");
    let lines = text.lines().map(|line| {
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        let mut line = words.join(" ");
        for unit in ["seconds", "second", "minutes", "minute", "hours", "hour", "days", "weeks", "months", "years"] {
            line = line.replace(&format!("NUMBER {unit}"), "TIME");
        }
        line.replace("NUMBER", "N")
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn word(word: &str) -> String {
    let bare = word.strip_prefix("sha256:").unwrap_or(word);
    let is_hex = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let unit = &word[digits.len()..];
    if is_hex && matches!(bare.len(), 12 | 64) {
        "ID".into()
    } else if is_number(digits) && matches!(unit, "B" | "kB" | "MB" | "GB" | "KiB" | "MiB" | "GiB") {
        "SIZE".into()
    } else if word.strip_suffix('%').is_some_and(is_number) {
        "PERCENT".into()
    } else if word.len() > 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T' {
        "STAMP".into()
    } else if word.split('_').count() == 2 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        // A name that the engine chose.
        "CHOSEN".into()
    } else if is_number(word) {
        // A number is one only before a unit of time: elsewhere it means something.
        format!("NUMBER{}", if word.len() < 3 { "" } else { word })
    } else {
        word.into()
    }
}

#[test]
fn the_first_chapter_from_run_to_rmi() {
    typed_to_both(&[
        ("docker images | sort", 0),
        ("docker run -d --name my-nginx nginx", 0),
        ("docker ps", 0),
        ("until docker logs my-nginx 2>&1 | grep -q started; do sleep 0.1; done", 0),
        ("docker logs my-nginx", 0),
        ("timeout --signal=INT 2 docker logs -f my-nginx", 124),
        ("script -qec \"docker exec -it my-nginx /bin/bash -c 'tty; ls /etc/hostname'\" /dev/null", 0),
        ("printf 'cat /etc/hostname\\nexit 7\\n' | docker exec -i my-nginx /bin/bash", 7),
        ("docker inspect my-nginx > inspected && grep -c '\"Status\": \"running\"' inspected", 0),
        ("docker inspect --format '{{.Name}} {{.State.Status}} {{.State.Running}} {{.Config.Image}} {{.Path}} {{.Config.Cmd}}' my-nginx", 0),
        ("docker stats --no-stream", 0),
        ("docker rmi nginx", 1),
        ("docker rm my-nginx", 1),
        ("docker stop my-nginx", 0),
        ("docker ps", 0),
        ("docker ps -a", 0),
        ("docker rm my-nginx", 0),
        ("docker run -d --name my-nginx nginx", 0),
        ("docker rm -f my-nginx", 0),
        ("docker ps -a", 0),
        ("docker images | sort", 0),
        ("docker rmi nginx > removed", 0),
        ("docker images | sort", 0),
        ("docker rmi nginx", 1),
        ("docker logs my-nginx", 1),
    ]);
}

#[test]
fn the_second_chapter_the_tables_of_commands() {
    typed_to_both(&[
        ("docker image ls | sort", 0),
        ("docker tag nginx my/web:v1", 0),
        ("docker images my/web", 0),
        ("docker rmi my/web:v1", 0),
        ("docker run base", 0),
        ("docker run --name told base echo 안녕", 0),
        ("docker run --name told base echo again", 125),
        ("script -qec 'docker run -it --rm base tty' /dev/null", 0),
        ("docker run -it --rm base tty", 1),
        ("docker run -d --name web nginx", 0),
        ("docker ps", 0),
        ("docker ps -a", 0),
        ("docker stop web", 0),
        ("docker restart web", 0),
        ("docker exec web echo inside", 0),
        ("docker exec web sh -c 'exit 9'", 9),
        ("echo '<h1>hi</h1>' > index.html", 0),
        ("docker cp index.html web:/srv/index.html", 0),
        ("docker exec web cat /srv/index.html", 0),
        ("docker cp web:/srv/index.html back.html && cmp index.html back.html", 0),
        ("docker cp nothing.html web:/srv/", 1),
        ("docker container stats --no-stream web", 0),
        ("docker container ls", 0),
        ("docker rm web", 1),
        ("docker rm -f web", 0),
        ("docker exec web true", 1),
        ("docker stop web", 1),
    ]);
}

#[test]
fn the_third_chapter_create_start_and_cp() {
    typed_to_both(&[
        ("docker create --name myhttpd2 httpd", 0),
        ("docker ps -a", 0),
        ("docker start myhttpd2", 0),
        ("docker ps", 0),
        ("mkdir htdocs; echo mine > htdocs/index.html; echo more > htdocs/more.html", 0),
        ("docker exec myhttpd2 mkdir -p /usr/local/apache2/htdocs", 0),
        ("docker cp htdocs/index.html myhttpd2:/usr/local/apache2/htdocs/", 0),
        ("docker cp htdocs myhttpd2:/usr/local/apache2/", 0),
        ("docker exec myhttpd2 sh -c 'cd /usr/local/apache2/htdocs && cat *'", 0),
        ("docker cp myhttpd2:/usr/local/apache2/htdocs copied && ls copied", 0),
        ("docker diff myhttpd2 | grep htdocs | sort", 0),
        ("script -qec \"docker exec -it myhttpd2 bash -c 'echo in a shell'\" /dev/null", 0),
        ("docker top myhttpd2 | head -1", 0),
        ("docker port myhttpd2", 0),
        ("docker stop myhttpd2 && docker rm myhttpd2", 0),
    ]);
}

#[test]
fn the_fifth_chapter_run_and_its_options() {
    typed_to_both(&[
        ("printf 'pwd\\nexit\\n' | docker run -i ubuntu /bin/bash", 0),
        ("docker run -d nginx", 0),
        ("docker ps", 0),
        ("docker run -d --name mynginx nginx", 0),
        ("docker stop mynginx", 0),
        ("docker start mynginx", 0),
        ("docker stop mynginx", 0),
        ("docker rm mynginx", 0),
        ("docker run -d --name mysql -e MYSQL_ROOT_PASSWORD=mypassword -e MYSQL_DATABASE=testdb nginx", 0),
        ("docker exec mysql sh -c 'echo $MYSQL_ROOT_PASSWORD $MYSQL_DATABASE'", 0),
        ("mkdir html; echo mine > html/index.html", 0),
        ("docker run -d --name served -v $PWD/html:/usr/share/nginx/html nginx", 0),
        ("docker exec served cat /usr/share/nginx/html/index.html", 0),
        ("printf 'echo once\\n' | docker run --rm -i --name once ubuntu /bin/bash", 0),
        ("docker ps -a --filter name=once", 0),
        ("docker run -d --name small --memory=\"512m\" nginx", 0),
        ("docker run -d --name slow --cpus=\"0.5\" nginx", 0),
        ("docker run -d --name both --memory=\"1g\" --cpus=\"1.0\" nginx", 0),
        ("docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}' small slow both", 0),
        ("docker run -d --name r1 --restart always nginx", 0),
        ("docker run -d --name r2 --restart on-failure nginx", 0),
        ("docker run -d --name r3 --restart on-failure:3 nginx", 0),
        ("docker run -d --name r4 --restart no nginx", 0),
        ("docker inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}' r1 r2 r3 r4", 0),
        (
            "docker run -d --name fails --restart on-failure:2 base sh -c 'exit 3'; until docker ps -a -f name=fails | grep Exited; do sleep 0.1; done > ended",
            0,
        ),
        ("docker inspect -f '{{.RestartCount}} {{.State.ExitCode}}' fails", 0),
        ("docker ps -a", 0),
        ("docker ps -q | wc -l", 0),
        ("docker stop $(docker ps -q)", 0),
        ("docker ps", 0),
        ("docker run -d --name myapp --restart always -e SPRING_PROFILES_ACTIVE=prod -v $PWD/logs:/logs --memory=\"2g\" --cpus=\"1.5\" nginx", 0),
        ("docker rm -f $(docker ps -aq) > removed", 0),
        ("docker ps -aq", 0),
    ]);
}

#[test]
fn the_fifth_chapter_control_and_cleaning_up() {
    typed_to_both(&[
        ("for name in web1 web2 web3 mynginx myapp; do docker run -d --name $name nginx; done", 0),
        ("docker stop web1 web2 web3", 0),
        ("docker ps -a --filter \"status=exited\"", 0),
        ("docker stop -t 30 mynginx", 0),
        ("docker start mynginx", 0),
        ("docker start web1 web2", 0),
        ("docker stop web1", 0),
        ("(sleep 1; docker stop web1 > /dev/null) & docker start -a web1; wait", 0),
        ("docker restart mynginx", 0),
        ("docker restart -t 5 mynginx", 0),
        ("docker pause mynginx", 0),
        ("docker ps --filter name=mynginx", 0),
        ("docker exec mynginx true", 1),
        ("docker start mynginx", 1),
        ("docker unpause mynginx", 0),
        ("docker unpause mynginx", 1),
        ("docker kill mynginx", 0),
        ("docker kill mynginx", 1),
        ("docker ps -a --filter name=mynginx", 0),
        ("docker start mynginx", 0),
        ("until [ $(docker logs mynginx | grep -c started) = 5 ]; do sleep 0.1; done; docker kill --signal=SIGTERM mynginx; docker wait mynginx", 0),
        ("docker rm mynginx", 0),
        ("docker rm -f web1", 0),
        ("docker rm web1 web2 web3", 1),
        ("docker run -d --name web2 nginx; docker run --name done base true; docker run --name failed base false", 1),
        ("docker rm $(docker ps -aq -f status=exited)", 0),
        ("docker ps -a", 0),
        ("docker stop myapp && docker rm myapp && docker run -d --name myapp nginx", 0),
        ("docker kill myapp", 0),
        ("docker run --name done base true; docker run --name failed base false", 1),
        ("docker ps -a --filter \"status=exited\" --filter \"exited=0\" | awk '{if(NR>1) print $1}' | xargs docker rm", 0),
        ("docker ps -a", 0),
        ("docker rm $(docker ps -aq)", 1),
        ("docker run --name test1 base true; docker run --name test2 base true", 0),
        ("docker rm $(docker ps -a --filter \"name=test\" -q)", 0),
        ("docker rm $(docker ps -a --filter \"name=test\" -q)", 1),
        ("docker rm -f $(docker ps -aq)", 0),
        ("docker container prune -f | tail -1", 0),
        ("docker images --filter \"dangling=true\"", 0),
        ("docker tag base nginx; docker images -f dangling=true -q | wc -l", 0),
        ("docker rmi $(docker images -f \"dangling=true\" -q) > removed", 0),
        ("docker rmi nginx httpd ubuntu redis > removed", 0),
        ("docker run -d --name uses base sleep 1000; docker rmi -f base", 0),
        ("docker rm -f uses", 0),
        ("docker rmi -f $(docker images -q) > removed; docker images", 0),
    ]);
}

#[test]
fn the_fifth_chapter_logs() {
    typed_to_both(&[
        ("docker run -d --name mynginx nginx", 0),
        ("until docker logs mynginx 2>&1 | grep -q started; do sleep 0.1; done", 0),
        ("docker logs mynginx", 0),
        ("timeout --signal=INT 2 docker logs -f mynginx", 124),
        ("docker logs --tail 4 mynginx 2>/dev/null", 0),
        ("timeout --signal=INT 2 docker logs --tail 10 -f mynginx", 124),
        ("docker logs --since 10m mynginx", 0),
        ("docker logs --since 2025-03-09T10:00:00 mynginx", 0),
        ("docker logs --until 2025-03-09T11:00:00 mynginx", 0),
        ("docker logs --since 10m --until 5m mynginx", 0),
        ("docker logs -t mynginx", 0),
        ("docker logs mynginx > nginx.log 2>&1; sort nginx.log", 0),
        ("docker logs mynginx 2> nginx-error.log; cat nginx-error.log", 0),
        ("docker logs --tail 50 mynginx 2>&1 | grep ERROR", 0),
        ("docker logs mynginx | grep \"Exception\"", 0),
        ("docker run --name java base sh -c 'echo fine; echo an error >&2; echo ERROR too'; docker logs -f java 2>&1 | grep -i error | sort", 0),
        ("docker logs nobody", 1),
    ]);
}

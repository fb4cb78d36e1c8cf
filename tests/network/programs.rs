//! Programs that people run: a web server, a database and their clients, from this machine's packages, in containers that see its `/usr`.

use crate::host::{HOST, Host};
use crate::support::jar::until;
use crate::support::{find_program, skip_for_want_of};

/// `run -d` of a program of this machine.
#[track_caller]
fn machine_program(host: &Host, name: &str, options: &[&str], script: &str) {
    let mounts = ["-v", "/usr:/usr:ro", "-v", "/etc/alternatives:/etc/alternatives:ro", "--tmpfs", "/tmp", "--tmpfs", "/var"];
    host.does(&[&["run", "-d", "--name", name], &mounts[..], options, &["base", "sh", "-c", script]].concat());
}

fn has(program: &str) -> bool {
    let found = find_program(program).is_some();
    if !found {
        skip_for_want_of(&format!("{program} is not installed"));
    }
    found
}

#[test]
fn a_web_server_behind_another_one_and_a_database_behind_that() {
    if !has("nginx") || !has("redis-server") || !has("curl") {
        return;
    }
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "front"]);
    host.does(&["network", "create", "--internal", "back"]);
    machine_program(&host, "cache", &["--network", "back"], "exec redis-server --bind 0.0.0.0 --protected-mode no --save '' --dir /tmp");
    let page = "mkdir -p /tmp/w /var/log/nginx /var/lib/nginx; echo from the inner one >/tmp/w/index.html; ";
    let inner = "events {} http { access_log off; server { listen 80; root /tmp/w; } }";
    machine_program(
        &host,
        "inner",
        &["--network", "front", "--network", "back"],
        &format!("{page} echo '{inner}' >/tmp/n.conf; exec nginx -c /tmp/n.conf -g 'daemon off; user root; pid /tmp/pid; error_log stderr;'"),
    );
    // Docker's resolver by its address, as every tutorial on nginx in containers has it.
    let outer = "events {} http { access_log /dev/stdout; resolver 127.0.0.11 valid=1s; server { listen 80; set $to inner; location / { proxy_pass http://$to:80; } } }";
    machine_program(
        &host,
        "outer",
        &["--network", "front", "-p", "8080:80"],
        &format!("{page} echo '{outer}' >/tmp/n.conf; exec nginx -c /tmp/n.conf -g 'daemon off; user root; pid /tmp/pid; error_log stderr;'"),
    );
    let fetch = |place: &str, address: &str| {
        host.inside(place, || {
            let output = std::process::Command::new("curl").args(["-s", "-m", "3", &format!("http://{address}:8080/")]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        })
    };
    until("the page comes through both", || fetch("host", "127.0.0.1") == "from the inner one");
    assert_eq!(fetch("world", HOST), "from the inner one");
    until("it is logged with the asker's own address", || host.does(&["logs", "outer"]).contains(&format!("{} - -", crate::host::WORLD)));

    let client = |name: &str, words: &str| host.exec(name, &format!("redis-cli -h cache {words}"));
    until("the database answers", || client("inner", "ping").as_deref() == Some("PONG"));
    client("inner", "set greeting hello").unwrap();
    assert_eq!(client("inner", "get greeting").as_deref(), Some("hello"));
    assert!(host.resolve("outer", "cache").is_empty(), "the outer one is not on its network");
    // The inner one comes back at another address: a server that asks again finds it.
    host.does(&["stop", "-t", "1", "inner"]);
    host.up("between", &["--network", "front"]);
    host.does(&["start", "inner"]);
    until("the page is found at the new address", || fetch("host", "127.0.0.1") == "from the inner one");
}

#[test]
fn postgres_is_reached_by_its_name() {
    let Some(binaries) = newest_postgres() else { return skip_for_want_of("postgresql is not installed") };
    let Some(host) = Host::new() else { return };
    host.does(&["network", "create", "back"]);
    // As its own user, as it insists.
    let script = format!(
        "set -e; echo 'pg:x:999:999::/tmp:/bin/sh' >>/etc/passwd; mkdir /tmp/db; chown 999:999 /tmp/db; \
         setpriv --reuid 999 --regid 999 --clear-groups {binaries}/initdb -D /tmp/db --no-sync -A trust -U postgres >/dev/null; \
         echo 'host all all all trust' >>/tmp/db/pg_hba.conf; \
         exec setpriv --reuid 999 --regid 999 --clear-groups {binaries}/postgres -D /tmp/db -c listen_addresses='*' -c unix_socket_directories=/tmp -F"
    );
    machine_program(&host, "db", &["--network", "back"], &script);
    machine_program(&host, "app", &["--network", "back"], "exec sleep 1000");
    let ask = |words: &str| host.exec("app", &format!("{binaries}/psql -h db -p 5432 -U postgres -Atc \"{words}\""));
    until("it answers by its name", || ask("select 1").as_deref() == Some("1"));
    ask("create table t (n int); insert into t values (42)").unwrap();
    assert_eq!(ask("select n from t").as_deref(), Some("42"));
    assert_eq!(ask("select host(inet_client_addr())"), Some(host.ip("app", "back")));
}

/// `/usr/lib/postgresql/N/bin` with the highest N.
fn newest_postgres() -> Option<String> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let all = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).map(|n| (n, format!("/usr/lib/postgresql/{n}/bin")));
    all.filter(|(_, path)| std::path::Path::new(path).join("postgres").exists() && std::path::Path::new(path).join("psql").exists())
        .max()
        .map(|(_, path)| path)
}

//! What the program finds around it: variables, user, folder, names.
//!
//! See it: `onggi run --rm base env`. Read: docker run(1), environ(7).

use std::process::Stdio;

use crate::support::jar::{Jar, said};

#[test]
fn variables_come_from_options_files_and_the_caller() {
    let Some(jar) = Jar::new() else { return };
    let file = jar.root.join("env");
    std::fs::write(&file, "# a comment\n\nA=from file\n  B=2=3\nONGGI_TEST_CALLER\nONGGI_TEST_NOT_SET\nK=한글\n").unwrap();
    let file = file.to_str().unwrap();
    let mut command = jar.onggi(&["run", "--rm", "--env-file", file, "-e", "A=option", "-e", "EMPTY=", "-e", "ONGGI_TEST_CALLER", "base", "env"]);
    let told = said(command.env("ONGGI_TEST_CALLER", "mine").output().unwrap());
    let mut env: Vec<&str> = told.out.lines().collect();
    env.sort();
    for expected in ["A=option", "B=2=3", "EMPTY=", "ONGGI_TEST_CALLER=mine", "K=한글", "HOME=/root"] {
        assert_eq!(env.iter().filter(|line| **line == expected).count(), 1, "{expected} in {env:?} {}", told.err);
    }
    assert_eq!(env.iter().filter(|line| line.starts_with("A=") || line.starts_with("ONGGI_TEST_NOT")).count(), 1);
    assert!(env.iter().any(|line| line.starts_with("PATH=/usr/local/sbin:")) && env.iter().any(|line| line.starts_with("HOSTNAME=")));
}

#[test]
fn a_bad_environment_file_is_named_with_its_line() {
    let Some(jar) = Jar::new() else { return };
    let file = jar.root.join("env");
    std::fs::write(&file, "A=1\nnot a name=2\n").unwrap();
    jar.refuses(&["--env-file", file.to_str().unwrap(), "base", "true"], 125, &["line 2", "not a name"]);
    jar.refuses(&["--env-file", "/no/such/file", "base", "true"], 125, &["/no/such/file", "ENOENT"]);
    jar.refuses(&["-e", "=1", "base", "true"], 125, &["no name"]);
}

#[test]
fn the_working_folder_is_made_when_it_is_missing_and_must_be_absolute() {
    let Some(jar) = Jar::new() else { return };
    assert_eq!(jar.shows(&["-w", "/made/for/it", "base", "pwd"]), "/made/for/it");
    assert_eq!(jar.shows(&["base", "pwd"]), "/");
    jar.refuses(&["-w", "relative", "base", "true"], 125, &["relative", "absolute path"]);
    jar.refuses(&["-w", "/proc/self/fd/7", "base", "true"], 125, &["/proc/self/fd/7"]);
    jar.refuses(&["-w", "/etc/passwd", "base", "true"], 125, &["/etc/passwd"]);
}

#[test]
fn the_user_is_looked_up_in_the_image() {
    let Some(jar) = Jar::new() else { return };
    let id = |user: &str| jar.shows(&["-u", user, "base", "sh", "-c", "echo $(id -u):$(id -g) $HOME"]);
    assert_eq!(id("root"), "0:0 /root");
    assert_eq!(id("1234"), "1234:0 /");
    assert_eq!(id("1234:5678"), "1234:5678 /");
    assert_eq!(id("0:5"), "0:5 /root");
    let nobody = jar.shows(&["base", "sh", "-c", "grep ^nobody: /etc/passwd || true"]);
    if let Some(uid) = nobody.split(':').nth(2) {
        assert!(id("nobody").starts_with(&format!("{uid}:")));
    }
    jar.refuses(&["-u", "nobody-here", "base", "true"], 125, &["unable to find user nobody-here"]);
    jar.refuses(&["-u", "root:no-group", "base", "true"], 125, &["unable to find group no-group"]);
    // Who is not root holds no capability, and may gain them through setuid programs only.
    let caps = jar.shows(&["-u", "1234", "base", "grep", "^Cap", "/proc/self/status"]);
    assert!(caps.contains("CapEff:\t0000000000000000") && caps.contains("CapBnd:\t00000000a80425fb"), "{caps}");
    assert_eq!(jar.shows(&["--group-add", "4321", "base", "sh", "-c", "id -G | tr ' ' '\\n' | grep -x 4321"]), "4321");
}

#[test]
fn names_are_the_containers_own() {
    let Some(jar) = Jar::new() else { return };
    let told =
        jar.shows(&["-h", "web", "--add-host", "db:10.1.2.3", "--add-host", "six:::1", "base", "sh", "-c", "hostname; cat /etc/hostname /etc/hosts"]);
    assert!(told.starts_with("web\nweb\n") && told.contains("10.1.2.3\tdb\n") && told.contains("::1\tsix\n") && told.contains("\tweb"), "{told}");
    assert_eq!(jar.shows(&["--domainname", "example.org", "base", "cat", "/proc/sys/kernel/domainname"]), "example.org");
    let short = jar.shows(&["base", "hostname"]);
    assert!(short.len() == 12 && short.chars().all(|c| c.is_ascii_hexdigit()), "{short}");
}

#[test]
fn the_entrypoint_is_replaced_or_taken_away() {
    let Some(jar) = Jar::new() else { return };
    assert_eq!(jar.shows(&["--entrypoint", "echo", "base", "a", "b"]), "a b");
    assert_eq!(jar.shows(&["--entrypoint", "", "base", "echo", "c"]), "c");
    jar.refuses(&["--entrypoint", "", "base"], 125, &["no command specified"]);
    jar.refuses(&["--entrypoint", "nonsense", "base"], 127, &["nonsense"]);
}

#[test]
fn without_home_with_a_small_umask_and_in_c_it_works_the_same() {
    let Some(jar) = Jar::new() else { return };
    let mut command = std::process::Command::new("sh");
    let line = format!("umask 077; exec {} run --rm -u 1234 --name 한 base echo x", crate::support::jar::ONGGI);
    let told = said(command.args(["-c", &line]).env_clear().env("PATH", "/usr/bin:/bin").env("ONGGI_ROOT", &jar.root).output().unwrap());
    assert_eq!(told.code, 125, "a name has letters of ASCII only, as with Docker: {}", told.err);
    let line = format!(
        "umask 077; exec {} run --rm -u 1234 -w /dir/new base sh -c 'echo \"$0\"; umask; cat /etc/hosts >/dev/null' 한글",
        crate::support::jar::ONGGI
    );
    let told = said(
        std::process::Command::new("sh")
            .args(["-c", &line])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C")
            .env("ONGGI_ROOT", &jar.root)
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    );
    assert_eq!((told.code, &*told.out), (0, "한글\n0022\n"), "{}", told.err);
    jar.assert_nothing_left();
}

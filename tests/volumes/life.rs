//! Whose a volume is, and when it goes: never with data that somebody may still want.
//!
//! Read: docker-volume-rm(1), docker-volume-prune(1), docker-rm(1) `--volumes`.

use std::fs;

use crate::pot::{data, full, names};
use crate::support::jar::{Jar, until};

#[test]
fn data_outlives_its_containers_and_is_shared_by_them() {
    let Some(jar) = Jar::new() else { return };
    jar.shows(&["-v", "db:/db", "base", "sh", "-c", "echo first > /db/log"]);
    jar.does(&["run", "-d", "--name", "writer", "-v", "db:/db", "base", "sleep", "1000"]);
    jar.does(&["run", "-d", "--name", "reader", "-v", "db:/elsewhere:ro", "base", "sleep", "1000"]);
    jar.does(&["exec", "writer", "sh", "-c", "echo second >> /db/log"]);
    assert_eq!(jar.does(&["exec", "reader", "cat", "/elsewhere/log"]), "first\nsecond");
    let told = jar.says(&["exec", "reader", "touch", "/elsewhere/x"]);
    assert!(told.code != 0 && told.err.contains("Read-only file system"), "{told:?}");
    jar.does(&["restart", "-t", "0", "writer"]);
    assert_eq!(jar.does(&["exec", "writer", "cat", "/db/log"]), "first\nsecond");
    assert_eq!(jar.does(&["ps", "-q", "--no-trunc", "-f", "volume=db", "-f", "name=reader"]), jar.id_of("reader").unwrap());
    assert_eq!(jar.does(&["ps", "-f", "volume=/elsewhere", "--format", "{{.Names}} {{.Mounts}} {{.LocalVolumes}}"]), "reader db 1");
}

#[test]
fn one_in_use_is_not_removed_and_its_users_are_named() {
    let Some(jar) = Jar::new() else { return };
    let one = jar.does(&["create", "-v", "db:/db", "base"]);
    let told = jar.says(&["volume", "rm", "-f", "db"]);
    assert!(told.code == 1 && told.err.contains(&format!("remove db: volume is in use - [{one}]")), "{told:?}");
    jar.does(&["rm", "-v", &one]);
    assert_eq!(names(&jar), ["db"], "rm -v leaves what has a name");
    assert_eq!(jar.does(&["volume", "rm", "db"]), "db");
    assert_eq!(jar.says(&["volume", "rm", "db"]).code, 1);
    assert!(jar.says(&["volume", "rm", "db"]).err.contains("get db: no such volume"));
    assert_eq!(jar.says(&["volume", "rm", "-f", "db"]).code, 0);
}

#[test]
fn a_damaged_record_still_protects_its_volumes() {
    let Some(jar) = Jar::new() else { return };
    let one = jar.does(&["create", "-v", "db:/db", "base"]);
    fs::write(jar.root.join("data/containers").join(&one).join("container.json"), "{").unwrap();
    assert!(jar.says(&["volume", "rm", "db"]).err.contains(&one));
    jar.does(&["volume", "prune", "-a", "-f"]);
    assert_eq!(names(&jar), ["db"]);
}

#[test]
fn anonymous_ones_go_with_rm_and_v_only_and_with_their_last_container() {
    let Some(jar) = full() else { return };
    assert_eq!(jar.shows(&["-v", "/mine", "full", "cat", "/srv/index.html"]), "hello");
    assert_eq!(names(&jar), Vec::<String>::new(), "--rm takes them along");
    jar.does(&["create", "--name", "first", "-v", "/mine", "-v", "kept:/kept", "full"]);
    assert_eq!(names(&jar).len(), 3);
    jar.does(&["create", "--name", "second", "--volumes-from", "first", "base"]);
    jar.does(&["rm", "-v", "first"]);
    assert_eq!(names(&jar).len(), 3, "the second has them still");
    jar.does(&["rm", "-v", "second"]);
    assert_eq!(names(&jar), ["kept"]);
    jar.does(&["create", "--name", "third", "full"]);
    jar.does(&["rm", "third"]);
    assert_eq!(names(&jar).len(), 2, "without -v it stays");
    // The monitor is killed: the next command clears up, volumes too.
    let id = jar.does(&["run", "-d", "--rm", "-v", "/mine", "base", "sleep", "1000"]);
    let monitor = jar.record(&id).unwrap()["state"]["monitor"]["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor as i32), nix::sys::signal::SIGKILL).unwrap();
    until("the container is gone", || jar.does(&["ps", "-aq"]).is_empty());
    assert_eq!(names(&jar).len(), 2);
}

#[test]
fn prune_takes_anonymous_ones_and_with_a_those_with_a_name() {
    let Some(jar) = full() else { return };
    jar.does(&["volume", "create", "--label", "keep=yes", "labelled"]);
    jar.does(&["volume", "create", "plain"]);
    fs::write(data(&jar, "plain").join("file"), "12345").unwrap();
    jar.does(&["create", "--name", "user", "-v", "used:/u", "full"]);
    jar.does(&["create", "--name", "gone", "full"]);
    jar.does(&["rm", "gone"]);
    assert_eq!(names(&jar).len(), 5);
    assert_eq!(jar.does(&["volume", "ls", "-q", "-f", "dangling=true"]).lines().count(), 3);
    let said = jar.does(&["volume", "prune", "-f"]);
    assert!(said.contains("Deleted Volumes:") && said.ends_with("Total reclaimed space: 6B"), "{said}");
    assert_eq!(names(&jar).len(), 4);
    assert!(jar.says(&["volume", "prune"]).out.contains("WARNING! This will remove anonymous local volumes"), "it asks");
    let said = jar.does(&["volume", "prune", "-a", "-f", "--filter", "label!=keep"]);
    assert!(said.contains("plain") && said.ends_with("Total reclaimed space: 5B"), "{said}");
    jar.does(&["system", "prune", "-f"]);
    assert_eq!(names(&jar).len(), 3, "user went, and its volumes stay unasked");
    jar.does(&["system", "prune", "-f", "--volumes"]);
    assert_eq!(names(&jar), ["labelled", "used"]);
    assert!(jar.does(&["system", "df"]).contains("Local Volumes   2         0"));
}

#[test]
fn what_a_failed_command_made_goes_again() {
    let Some(jar) = full() else { return };
    jar.does(&["create", "--name", "taken", "base"]);
    let told = jar.says(&["create", "--name", "taken", "-v", "new:/new", "-v", "/anonymous", "full"]);
    assert!(told.code == 1 && told.err.contains("already in use"), "{told:?}");
    assert_eq!(names(&jar), Vec::<String>::new());
    jar.does(&["volume", "create", "mine"]);
    jar.refuses(&["-v", "mine:/m", "-v", "/x", "base", "/no/such/program"], 127, &[]);
    assert_eq!(names(&jar), ["mine"]);
    jar.refuses(&["--pull", "never", "-v", "/x", "nosuch", "true"], 125, &["No such image"]);
    assert_eq!(names(&jar), ["mine"]);
}

#[test]
fn what_other_containers_have_is_inherited() {
    let Some(jar) = Jar::new() else { return };
    let host = jar.root.join("host");
    fs::create_dir(&host).unwrap();
    let bind = format!("{}:/host", host.display());
    jar.does(&["create", "--name", "one", "-v", "one:/shared", "-v", &bind, "base"]);
    jar.does(&["create", "--name", "two", "-v", "two:/shared", "-v", "other:/two:ro", "base"]);
    let all = ["--volumes-from", "one", "--volumes-from", "two:ro"];
    jar.shows(&[&all[..], &["base", "sh", "-c", "echo x > /shared/x; echo y > /host/y; ! touch /two/z"]].concat());
    assert!(data(&jar, "one").join("x").exists() && host.join("y").exists());
    jar.shows(&[&all[..], &["-v", "own:/shared", "base", "sh", "-c", "echo x > /shared/own"]].concat());
    assert!(data(&jar, "own").join("own").exists(), "what was asked for stands above");
    assert_ne!(jar.run(&["--volumes-from", "one:ro", "base", "touch", "/host/z"]).code, 0);
    jar.refuses(&["--volumes-from", "nobody", "base", "true"], 125, &["No such container: nobody"]);
    jar.refuses(&["--volumes-from", "one:rx", "base", "true"], 125, &["invalid mode: rx"]);
}

#[test]
fn its_life_is_told_in_events() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["run", "-d", "--name", "web", "-v", "db:/db", "base", "sleep", "1000"]);
    jar.does(&["rm", "-f", "web"]);
    jar.does(&["volume", "rm", "db"]);
    let told = jar.does(&[
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "-f",
        "type=volume",
        "--format",
        "{{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}",
    ]);
    let mount = format!(r#"mount db {{"container":"{id}","destination":"/db","driver":"local","propagation":"","read/write":"true"}}"#);
    let unmount = format!(r#"unmount db {{"container":"{id}","driver":"local"}}"#);
    assert_eq!(told.lines().collect::<Vec<_>>(), [r#"create db {"driver":"local"}"#, &mount, &unmount, r#"destroy db {"driver":"local"}"#]);
}

#[test]
fn a_removal_never_takes_a_volume_from_a_container_that_is_being_made() {
    let Some(jar) = full() else { return };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (jar, done) = (&jar, &done);
        let removing = scope.spawn(move || {
            let mut removed = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let told = jar.says(&["volume", "rm", "contested"]);
                assert!(told.code == 0 || ["in use", "no such volume"].iter().any(|why| told.err.contains(why)), "{told:?}");
                removed += i32::from(told.code == 0);
                jar.does(&["volume", "prune", "-a", "-f"]);
            }
            removed
        });
        for _ in 0..12 {
            assert_eq!(jar.run(&["-v", "contested:/data", "full", "cat", "/data/plain", "/srv/index.html"]).out, "plain\nhello\n");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(removing.join().unwrap() > 0, "nothing was contested");
    });
    jar.assert_nothing_left();
    assert_eq!(fs::read_dir(jar.root.join("data/volumes/.removing")).unwrap().count(), 0);
}

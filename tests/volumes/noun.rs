//! `onggi volume`: what it makes, lists, tells and refuses.
//!
//! Read: docker-volume(1).

use crate::pot::names;
use crate::support::jar::Jar;

#[test]
fn names_and_options_are_checked_with_dockers_words() {
    let Some(jar) = Jar::new() else { return };
    let refuse = |words: &[&str], part: &str| {
        let told = jar.says(&[&["volume", "create"], words].concat());
        assert!(told.code == 1 && told.err.contains(part), "{words:?}: {told:?}");
    };
    refuse(&["a/b"], "\"a/b\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed");
    refuse(&["-o", "type=nfs", "xx"], "missing required option: \"device\"");
    refuse(&["-o", "colour=red", "xx"], "invalid option: \"colour\"");
    refuse(&["-d", "flocker", "xx"], "plugin not found");
    refuse(&["한글"], "includes invalid characters");
    refuse(&[".hidden"], "includes invalid characters");
    refuse(&["x"], "volume name is too short");
    refuse(&[&"x".repeat(256)], "volume name is too long");
    jar.does(&["volume", "create", &"x".repeat(255)]);
    assert_eq!(jar.does(&["volume", "create", "twice"]), "twice");
    assert_eq!(jar.does(&["volume", "create", "twice"]), "twice", "again is no failure");
    assert_eq!(jar.does(&["volume", "create"]).len(), 64);
    assert_eq!(names(&jar).len(), 3);
}

#[test]
fn they_are_listed_filtered_and_told() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["volume", "create", "--label", "tier=db", "--label", "old", "db-data"]);
    jar.does(&["volume", "create", "web-data"]);
    jar.does(&["create", "--name", "user", "-v", "web-data:/w", "base"]);
    assert_eq!(jar.does(&["volume", "ls"]), "DRIVER    VOLUME NAME\nlocal     db-data\nlocal     web-data");
    let ls = |filter: &str| jar.does(&["volume", "ls", "-q", "-f", filter]);
    assert_eq!(ls("name=db"), "db-data");
    assert_eq!(ls("label=tier=db"), "db-data");
    assert_eq!(ls("label=tier=web"), "");
    assert_eq!(ls("dangling=true"), "db-data");
    assert_eq!(ls("dangling=false"), "web-data");
    assert_eq!(ls("driver=other"), "");
    assert_eq!(jar.says(&["volume", "ls", "-f", "size=1"]).code, 1);
    assert_eq!(
        jar.does(&["volume", "ls", "--format", "{{.Name}} {{.Labels}} {{.Label \"tier\"}} {{.Scope}}", "-f", "name=db"]),
        "db-data old=,tier=db db local"
    );
    let place = jar.root.join("data/volumes/db-data/_data").display().to_string();
    assert_eq!(jar.does(&["volume", "inspect", "-f", "{{.Mountpoint}}", "db-data"]), place);
    assert_eq!(jar.does(&["inspect", "-f", "{{.Mountpoint}}", "db-data"]), place);
    assert_eq!(jar.does(&["inspect", "--type", "volume", "-f", "{{.Driver}}", "db-data"]), "local");
    let told = jar.says(&["volume", "inspect", "nope", "db-data"]);
    assert!(told.code == 1 && told.err.contains("get nope: no such volume") && told.out.contains("db-data"), "{told:?}");
}

#[test]
fn whoever_has_no_rights_has_volumes_all_the_same() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let Some(_) = Jar::new() else { return };
    let home = std::env::temp_dir().join(format!("onggi-volumes-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(crate::support::jar::ONGGI, home.join("onggi")).unwrap();
    std::fs::set_permissions(home.join("onggi"), std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(&home, Some(12347), Some(12347)).unwrap();
    let says = |words: &[&str]| {
        let mut command = std::process::Command::new(home.join("onggi"));
        command.args(words).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home).env("ONGGI_ROOT", home.join("root"));
        crate::support::jar::said(command.uid(12347).gid(12347).current_dir(&home).output().unwrap())
    };
    let first = says(&["run", "--rm", "-v", "db:/etc", "base", "sh", "-c", "echo mine > /etc/mine; cat /etc/passwd | head -1"]);
    let second = says(&["run", "--rm", "-v", "db:/d:ro", "base", "sh", "-c", "cat /d/mine; test -f /d/passwd && ! touch /d/x 2>/dev/null"]);
    let mine = home.join("root/data/volumes/db/_data/mine");
    let owner = std::fs::metadata(&mine).map(|mine| mine.uid());
    let removed = says(&["volume", "rm", "db"]);
    let listed = says(&["volume", "ls", "-q"]);
    let _ = std::fs::remove_dir_all(&home);
    assert!(first.code == 0 && first.out.starts_with("root:"), "{first:?}");
    assert_eq!((second.code, second.out.as_str()), (0, "mine\n"), "{second:?}");
    assert_eq!((owner.unwrap(), removed.code, listed.out.as_str()), (12347, 0, ""), "{removed:?}");
}

//! What the later steps do for an ordinary user: all of it but the bridge, which is made in the host's network, and that is root's.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::place::{STEPS, from};
use crate::world::{Step, place, refused};

/// These steps, as an ordinary user.
fn steps(first: &str) -> Vec<Step> {
    let Some(place) = place() else { return Vec::new() };
    from(first).map(|(name, program, _)| Step::new(&place, name.strip_prefix("step-").unwrap(), program, true)).collect()
}

#[test]
fn a_user_has_the_loopback_device_and_is_told_why_there_is_no_more() {
    for step in steps("step-07") {
        let links = step.shows(&["ip", "-o", "address"]);
        assert!(links.lines().all(|line| line.contains(": lo ")) && links.contains(" 127.0.0.1/8 "), "{}: {links}", step.name());
        let words = ["run", "-p", "8080:80", "base.tar", "true"];
        refused(&step, &step.says(&words), 125, "the host's network is root's");
        assert_eq!(step.says(&["ps"]).out.lines().count(), 1, "{}: nothing is left of it", step.name());
    }
}

#[test]
fn a_users_volumes_are_the_users() {
    for step in steps("step-08") {
        let name = format!("notes-{}", step.number);
        let words = ["run", "--rm", "-v", &format!("{name}:/etc"), "base.tar", "sh", "-c", "echo mine > /etc/new; stat -c '%d %i' /etc"];
        let inside = step.says(&words);
        let folder = Path::new("/run/user/onggi-steps/volumes").join(&name);
        let facts = fs::metadata(&folder).unwrap_or_else(|e| panic!("{}: {e}: {inside:?}", step.name()));
        use std::os::unix::fs::MetadataExt;
        assert_eq!(inside.out.trim_end(), format!("{} {}", facts.dev(), facts.ino()), "{}", step.name());
        assert_eq!(fs::metadata(folder.join("new")).unwrap().uid(), crate::world::USER, "{}", step.name());
        assert!(folder.join("os-release").exists(), "{}: filled from the image", step.name());
    }
}

#[test]
fn a_users_root_is_no_more_than_roots_root() {
    let (name, program, _) = STEPS[3];
    let Some(place) = place() else { return };
    let of = |is_user| -> Value {
        let facts = Step::new(&place, name.strip_prefix("step-").unwrap(), program, is_user).facts();
        serde_json::json!([facts["capabilities"], facts["no_new_privs"], facts["seccomp"], facts["seccomp_filters"]])
    };
    assert_eq!(of(true), of(false));
}

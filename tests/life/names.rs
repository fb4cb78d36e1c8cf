//! Names and IDs: who is meant, and by what.

use std::fs;

use super::life_jar::*;
use crate::support::jar::{Jar, said};

#[test]
fn a_new_name_replaces_the_old_one_which_is_free_then() {
    let Some(jar) = Jar::new() else { return };
    let id = background(&jar, "web", &[], POLITE);
    jar.does(&["rename", "web", "web-old"]);
    assert_eq!((jar.id_of("web"), jar.id_of("web-old")), (None, Some(id.clone())));
    assert_eq!(jar.record(&id).unwrap()["name"], "web-old");
    let other = jar.does(&["create", "--name", "web", "base", "true"]);
    assert_ne!(other, id);
    fails(&jar, &["rename", "web", "web-old"], 1, &["/web-old\" is already in use by container", &id]);
    fails(&jar, &["rename", "web", "web"], 1, &["same name"]);
    fails(&jar, &["rename", "web", "a b"], 1, &["a b"]);
    fails(&jar, &["rename", "nobody", "somebody"], 1, &["No such container: nobody"]);
    jar.does(&["rm", "web"]);
    jar.does(&["create", "--name", "web", "base", "true"]);
    jar.does(&["rm", "-f", "web-old", "web"]);
    jar.assert_nothing_left();
}

#[test]
fn the_beginning_of_an_id_is_enough_when_only_one_begins_so() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["create", "--name", "first", "base", "true"]);
    assert_eq!(jar.does(&["rename", &id[..12], "renamed"]), "");
    // A second one whose ID begins with the same twelve letters.
    let twin = format!("{}{}", &id[..12], "0".repeat(52));
    let containers = jar.root.join("data/containers");
    fs::create_dir(containers.join(&twin)).unwrap();
    for file in ["container.json", "definition.json"] {
        let text = fs::read_to_string(containers.join(&id).join(file)).unwrap().replace(&id, &twin).replace("renamed", "twin");
        fs::write(containers.join(&twin).join(file), text).unwrap();
    }
    std::os::unix::fs::symlink(&twin, jar.root.join("data/names/twin")).unwrap();
    fails(&jar, &["rm", &id[..12]], 1, &["multiple IDs found with provided prefix"]);
    fails(&jar, &["rm", "abcdefabcdef"], 1, &["No such container: abcdefabcdef"]);
    assert_eq!(jar.does(&["rm", &twin[..13]]), twin[..13]);
    assert_eq!(jar.ids(), std::slice::from_ref(&id));
    // A name that looks like the beginning of an ID is a name first.
    let named = jar.does(&["create", "--name", &id[..6], "base", "true"]);
    jar.does(&["rm", &id[..6]]);
    assert_eq!(jar.ids(), std::slice::from_ref(&id));
    assert!(jar.record(&named).is_none());
    jar.does(&["rm", &id]);
    jar.assert_nothing_left();
}

#[test]
fn of_eight_with_one_name_one_wins() {
    let Some(jar) = Jar::new() else { return };
    let all: Vec<_> = (0..8).map(|_| begun(&jar, &["create", "--name", "wanted", "base", "true"])).collect();
    let all: Vec<_> = all.into_iter().map(|child| said(child.wait_with_output().unwrap())).collect();
    let winners: Vec<_> = all.iter().filter(|said| said.code == 0).collect();
    assert_eq!(winners.len(), 1, "{all:?}");
    let id = winners[0].out.trim_end();
    for loser in all.iter().filter(|said| said.code != 0) {
        assert!(loser.code == 1 && loser.err.contains("already in use by container") && loser.err.contains(id), "{loser:?}");
    }
    assert_eq!(jar.ids(), [id]);
}

#[test]
fn a_name_that_is_given_back_and_taken_at_once_is_never_lost() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["create", "--name", "hot", "base", "true"]);
    for _ in 0..10 {
        let removal = begun(&jar, &["rm", "hot"]);
        let creation = loop {
            let said = jar.says(&["create", "--name", "hot", "base", "true"]);
            if said.code == 0 {
                break said.out;
            }
        };
        assert_eq!(said(removal.wait_with_output().unwrap()).code, 0);
        assert_eq!(jar.id_of("hot").as_deref(), Some(creation.trim_end()), "the name leads to the one that has it");
    }
}

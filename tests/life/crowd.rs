//! Many commands at once, on many containers and on one.

use super::life_jar::*;
use crate::support::jar::{Jar, said, until};
use crate::support::kernel::cgroups_named;

#[test]
fn a_hundred_starts_at_once_all_run() {
    let Some(jar) = Jar::new() else { return };
    let names: Vec<String> = (0..100).map(|n| format!("crowd{n}")).collect();
    let run = |name: &String| begun(&jar, &["run", "-d", "--name", name, "base", "sleep", "1000"]);
    let all: Vec<_> = names.iter().map(run).collect();
    let mut ids = Vec::new();
    for child in all {
        let told = said(child.wait_with_output().unwrap());
        assert_eq!(told.code, 0, "{}", told.err);
        ids.push(told.out.trim_end().to_string());
    }
    let mut inits: Vec<i32> = names.iter().map(|name| init(&jar, name)).filter(|init| init.lives()).map(|init| init.0).collect();
    inits.sort();
    inits.dedup();
    assert_eq!(inits.len(), 100);
    assert_eq!(jar.does(&["ps", "-q"]).lines().count(), 100);
    let words: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    assert_eq!(jar.does(&words).lines().count(), 100);
    jar.assert_nothing_left();
    assert!(ids.iter().all(|id| cgroups_named(id).is_empty()));
}

#[test]
fn several_commands_at_once_on_one_container_leave_it_whole() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "centre", &[], POLITE);
    let words: [&[&str]; 9] = [
        &["stop", "-t", "1", "centre"],
        &["start", "centre"],
        &["restart", "-t", "1", "centre"],
        &["pause", "centre"],
        &["unpause", "centre"],
        &["exec", "centre", "true"],
        &["kill", "centre"],
        &["update", "--pids-limit", "77", "centre"],
        &["rename", "centre", "centre"],
    ];
    for _ in 0..3 {
        let all: Vec<_> = words.iter().chain(&words).map(|words| (words, begun(&jar, words))).collect();
        for (words, child) in all {
            let told = said(child.wait_with_output().unwrap());
            assert!(matches!(told.code, 0 | 1 | 137) && !told.err.contains("panicked"), "{words:?}: {told:?}");
        }
        // Whatever came last: what the record says is what the kernel says.
        let record = jar.record(&jar.id_of("centre").unwrap()).unwrap();
        match record["state"]["status"].as_str() {
            Some("running") => assert!(init(&jar, "centre").lives(), "{record}"),
            Some("exited") => assert!(cgroups_named(record["id"].as_str().unwrap()).is_empty(), "{record}"),
            other => panic!("{other:?}: {record}"),
        }
        jar.says(&["unpause", "centre"]);
        jar.does(&["start", "centre"]);
        assert_eq!(jar.does(&["exec", "centre", "echo", "whole"]), "whole");
    }
}

#[test]
fn of_several_starts_of_one_container_one_makes_it_run_once() {
    let Some(jar) = Jar::new() else { return };
    let id = jar.does(&["create", "--name", "once", "base", "sh", "-c", POLITE]);
    for life in 1..=3 {
        let all: Vec<_> = (0..6).map(|_| begun(&jar, &["start", "once"])).collect();
        for child in all {
            let told = said(child.wait_with_output().unwrap());
            assert_eq!((told.code, &*told.out), (0, "once\n"), "{}", told.err);
        }
        until_logged(&jar, &id, "ready", life);
        let stops: Vec<_> = (0..4).map(|_| begun(&jar, &["stop", "once"])).collect();
        stops.into_iter().for_each(|child| assert_eq!(said(child.wait_with_output().unwrap()).code, 0));
        assert_eq!(logged(&jar, &id).matches("ready").count(), life);
    }
    let removals: Vec<_> = (0..4).map(|_| begun(&jar, &["rm", "-f", "once"])).collect();
    removals.into_iter().for_each(|child| assert_eq!(said(child.wait_with_output().unwrap()).code, 0));
    until("nothing is left", || jar.left().is_empty());
}

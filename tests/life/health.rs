//! `--health-*`: what the check finds, and when it counts.

use std::fs;

use super::life_jar::*;
use crate::support::jar::{Jar, until};

fn health(jar: &Jar, name: &str) -> serde_json::Value {
    state(jar, name, "health")
}

#[track_caller]
fn until_health(jar: &Jar, name: &str, wanted: &str) {
    until(&format!("{name} is {wanted}"), || health(jar, name)["status"] == wanted);
}

#[test]
fn it_is_healthy_while_the_command_succeeds_and_unhealthy_after_so_many_failures() {
    let Some(jar) = Jar::new() else { return };
    let options = ["--health-cmd", "test -e /well && echo fine || { echo ill >&2; exit 3; }", "--health-interval", "50ms", "--health-retries", "3"];
    background(&jar, "patient", &options, POLITE);
    assert!(matches!(health(&jar, "patient")["status"].as_str(), Some("starting" | "unhealthy")));
    until_health(&jar, "patient", "unhealthy");
    assert!(health(&jar, "patient")["failingStreak"].as_i64() >= Some(3));
    jar.does(&["exec", "patient", "touch", "/well"]);
    until_health(&jar, "patient", "healthy");
    assert_eq!(health(&jar, "patient")["failingStreak"], 0);
    until("the last five are fine", || {
        let log = health(&jar, "patient")["log"].as_array().unwrap().clone();
        log.len() == 5 && log.iter().all(|probe| probe["exitCode"] == 0 && probe["output"] == "fine\n")
    });
    let status = jar.does(&["ps", "--format", "{{.Status}}"]);
    assert!(status.contains("(healthy)"), "{status}");
    assert_eq!(jar.does(&["inspect", "-f", "{{.State.Health.Status}} {{len .State.Health.Log}}", "patient"]), "healthy 5");
    jar.does(&["exec", "patient", "rm", "/well"]);
    until_health(&jar, "patient", "unhealthy");
    let log = health(&jar, "patient")["log"].as_array().unwrap().clone();
    assert!(log.iter().any(|probe| probe["exitCode"] == 3 && probe["output"] == "ill\n"), "{log:?}");
    assert_eq!(state(&jar, "patient", "status"), "running", "nobody ends it for that");
}

#[test]
fn a_check_that_takes_too_long_fails() {
    let Some(jar) = Jar::new() else { return };
    let options = ["--health-cmd", "sleep 1000", "--health-interval", "20ms", "--health-timeout", "100ms", "--health-retries", "1"];
    background(&jar, "slow", &options, POLITE);
    until_health(&jar, "slow", "unhealthy");
    let log = health(&jar, "slow")["log"].clone();
    assert!(log[0]["exitCode"] == -1 && log[0]["output"].as_str().unwrap().contains("exceeded timeout"), "{log}");
}

#[test]
fn failures_of_the_start_period_do_not_count_and_one_success_ends_it() {
    let Some(jar) = Jar::new() else { return };
    let options = [
        "--health-cmd",
        "echo try >> /tries; test -e /well",
        "--health-interval",
        "30ms",
        "--health-start-interval",
        "30ms",
        "--health-retries",
        "1",
        "--health-start-period",
        "1h",
    ];
    let id = background(&jar, "late", &options, POLITE);
    let tries = || fs::read_to_string(jar.root.join("data/containers").join(&id).join("upper/tries")).unwrap_or_default().lines().count();
    until("it was asked five times", || tries() >= 5);
    assert_eq!(health(&jar, "late")["status"], "starting");
    jar.does(&["exec", "late", "touch", "/well"]);
    until_health(&jar, "late", "healthy");
    jar.does(&["exec", "late", "rm", "/well"]);
    until_health(&jar, "late", "unhealthy");
}

#[test]
fn a_container_without_a_check_has_no_health_and_a_stopped_one_is_not_asked() {
    let Some(jar) = Jar::new() else { return };
    background(&jar, "plain", &[], POLITE);
    assert!(health(&jar, "plain").is_null());
    background(&jar, "none", &["--no-healthcheck"], POLITE);
    assert!(health(&jar, "none").is_null());
    background(&jar, "stopped", &["--health-cmd", "true", "--health-interval", "20ms"], POLITE);
    until_health(&jar, "stopped", "healthy");
    jar.does(&["pause", "stopped"]);
    jar.does(&["unpause", "stopped"]);
    jar.does(&["stop", "stopped"]);
    assert_ne!(health(&jar, "stopped")["status"], "healthy");
    jar.does(&["start", "stopped"]);
    until_health(&jar, "stopped", "healthy");
}

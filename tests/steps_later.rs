//! The steps from 07 on, beside the engine: networks, volumes, registries, privileges. What the programs print doesn't count: the kernel is
//! asked, from outside where that is possible. What a step can do all that come after it can, too: each trial is made with each of them.
//!
//! See it: `cargo test --test steps_later`.

mod support;

#[path = "steps_later/bridge.rs"]
mod bridge;
#[path = "network/host.rs"]
#[allow(dead_code)] // of the host that the engine's networks are tried on
mod host;
#[path = "steps_later/place.rs"]
mod place;
#[path = "steps_later/registry.rs"]
mod registry;
#[path = "steps_later/security.rs"]
mod security;
#[path = "steps_later/user.rs"]
mod user;
#[path = "steps_later/volume.rs"]
mod volume;
#[path = "steps/world.rs"]
#[allow(dead_code)] // what the earlier steps are asked
mod world;

#[test]
fn each_step_fits_on_some_pages_and_says_how_to_try_it() {
    for (step, _, text) in place::STEPS {
        assert!(text.lines().count() <= 235, "{step}: {} lines", text.lines().count());
        let head: Vec<&str> = text.lines().skip_while(|line| *line != "//!").skip(1).take(3).collect();
        for (line, begin) in head.iter().zip(["//! Try it: `", "//! See it: `", "//! Read: "]) {
            assert!(line.starts_with(begin), "{step}: {line}");
        }
    }
}

#[test]
fn what_a_step_is_about_it_does_by_itself() {
    let own: [&[&str]; 4] = [
        &["network::bridge", "network::veth", "network::link", "network::address", "network::nat"],
        &["onggi::volume", "engine::volume"],
        &["image::registry", "ureq"],
        &["runtime::capabilities", "runtime::seccomp"],
    ];
    for ((step, _, text), rooms) in place::STEPS.iter().zip(own) {
        for room in rooms {
            assert!(!text.contains(room), "{step} takes {room} from the engine");
        }
    }
}

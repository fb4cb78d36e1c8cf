//! The book keeps its word: what it names is there, what it shows is printed, and both languages say it.

use std::path::Path;

use onggi_book::support::{find_program, skip_for_want_of};
use onggi_book::{check, edition, root, run};

/// Programs that the pages type or that make the place for it, beside the engine's, the shell's and coreutils'.
#[rustfmt::skip]
const TYPED: [&str; 18] = [
    "unshare", "setpriv", "newuidmap", "busybox", "capsh", "conntrack", "curl", "dig", "getfattr", "ip", "jq", "nft", "perl", "pgrep", "ping",
    "python3", "ss", "timeout",
];

#[test]
fn twins_links_listings_pictures_and_the_map_of_the_notes_are_right() {
    let wrong = check::check(&root());
    assert!(wrong.is_empty(), "{} things are wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn both_editions_are_built() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("editions");
    edition::build(&root(), &place).unwrap();
    for page in ["en/04_overlay.html", "ko/04_overlay.html", "en/print.html", "code/src/runtime/init.rs.html", "index.html"] {
        assert!(place.join(page).is_file(), "{page}");
    }
}

#[test]
fn the_commands_print_what_the_pages_show() {
    if !is_root() {
        return skip_for_want_of("the book's commands need a place of their own, which only root can make");
    }
    if let Some(missing) = TYPED.iter().find(|program| find_program(program).is_none()) {
        return skip_for_want_of(&format!("{missing} is not installed"));
    }
    // What ip, ping, ps and ls print is their distribution's.
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !["ID=debian", "VERSION_ID=\"12\""].iter().all(|line| system.lines().any(|found| found == *line)) {
        return skip_for_want_of("the pages show what the programs of Debian 12 print");
    }
    // Cargo puts this test into `deps`, and the engine and the steps beside that folder.
    let own = std::env::current_exe().unwrap();
    let bin = own.parent().and_then(Path::parent).unwrap();
    let wrong = run::run(&root(), Some(bin), &[], false).unwrap();
    assert!(wrong.is_empty(), "{} commands print something else\n{}", wrong.len(), wrong.join("\n"));
}

/// By the owner of `/proc/self`: the effective user's.
fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

//! Programs of other packages that a test asks, and which may be missing.

use std::io::Write;
use std::path::PathBuf;

/// The path of a program of another package, or `None` after having said that it is missing: the test returns.
///
/// # Panics
/// With `ONGGI_REQUIRE_PEERS=1`, where a missing peer is a failure.
pub fn peer(program: &str) -> Option<PathBuf> {
    let found = find_program(program);
    if found.is_none() {
        skip_for_want_of(&format!("{program} is not installed"));
    }
    found
}

/// Says in one visible line that a test is skipped because this machine lacks something that CI has.
///
/// # Panics
/// With `ONGGI_REQUIRE_PEERS=1`.
#[track_caller]
pub fn skip_for_want_of(reason: &str) {
    assert!(!peers_are_required(), "{reason}, and ONGGI_REQUIRE_PEERS=1 allows no skip");
    say(&format!("skipped: {reason}"));
}

/// Whether a missing peer is a failure.
pub fn peers_are_required() -> bool {
    std::env::var_os("ONGGI_REQUIRE_PEERS").is_some_and(|value| value == "1")
}

/// Writes one line where libtest's capture of `print!` and `eprint!` doesn't hide it.
pub fn say(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Where a program is: in PATH, or in the folders of root that a user's PATH leaves out.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

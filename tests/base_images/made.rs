//! The script, and a jar with the images that it makes.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::jar::{Jar, ONGGI, Said, said};

/// `scripts/base-images WORDS`.
pub fn base_images(words: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/base-images"));
    command.args(words).env("ONGGI", ONGGI).stdin(Stdio::null());
    command
}

/// Makes all images, once a test program. It asks Debian's archive for what isn't in the cache, so that it comes before the test
/// enters a network of its own. None, after having said why, where they can't be made.
pub fn all_made() -> Option<()> {
    static MADE: OnceLock<Said> = OnceLock::new();
    if !nix::unistd::geteuid().is_root() {
        support::skip_for_want_of("images are made of packages by root, and this is not root");
        return None;
    }
    let made = MADE.get_or_init(|| said(base_images(&[]).output().expect("start scripts/base-images")));
    if made.code != 0 {
        support::skip_for_want_of(&format!("no images were made: {}", made.err.trim_end()));
        return None;
    }
    Some(())
}

/// A jar with these images in it, loaded by the script.
#[track_caller]
pub fn jar_with(images: &[&str]) -> Option<Jar> {
    all_made()?;
    let jar = Jar::new()?;
    let loaded = said(base_images(images).arg("--load").env("ONGGI_ROOT", &jar.root).output().expect("start scripts/base-images"));
    assert_eq!(loaded.code, 0, "{}", loaded.err);
    Some(jar)
}

/// What a server says to curl, or nothing.
pub fn fetch(url: &str) -> String {
    let mut curl = Command::new("curl");
    said(curl.args(["--silent", "--max-time", "10", url]).stdin(Stdio::null()).output().expect("start curl")).out
}

/// Waits until something is so: long, for a database writes much before its first answer.
///
/// # Panics
/// After two minutes.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(120), "still not, after two minutes: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

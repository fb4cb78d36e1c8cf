//! Step 09: images by name, from a registry that speaks HTTP.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::place::{Place, from};
use crate::support::jar::until;

/// Our own registry, with `base` in it.
struct Registry {
    host: String,
    server: Child,
}

impl Registry {
    fn new(place: &Place) -> Registry {
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = place.host.onggi(&["registry", "serve", "--addr", &host]);
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the registry listens", || TcpStream::connect(&host).is_ok());
        let registry = Registry { host, server };
        place.host.does(&["tag", "base", &registry.name("team/base:one")]);
        place.host.does(&["push", &registry.name("team/base:one")]);
        registry
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The names of the blobs below a folder, which are their digests.
fn blobs(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder.join("blobs/sha256")).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_pulled_has_the_digests_of_the_engines_own_pull_and_runs() {
    let Some(place) = Place::new() else { return };
    let registry = Registry::new(&place);
    let name = registry.name("team/base:one");
    place.host.does(&["pull", &name]);
    let saved = place.host.root.join("saved");
    fs::create_dir(&saved).unwrap();
    let file = place.host.root.join("pulled.tar");
    place.host.does(&["save", &name, "-o", file.to_str().unwrap()]);
    crate::host::run("tar", &["-xf", file.to_str().unwrap(), "-C", saved.to_str().unwrap()]);
    for step in from("step-09") {
        let layout = place.does(step, &["pull", &name]);
        assert_eq!(blobs(Path::new(layout.lines().last().unwrap())), blobs(&saved), "{}", step.0);
        assert_eq!(place.does(step, &["run", "--rm", &name, "echo", "by name"]), "by name");
        fs::remove_dir_all("/run/onggi-steps/images").unwrap();
        assert_eq!(place.does(step, &["run", "--rm", &name, "echo", "pulled"]), "pulled", "{}: pulled when it is missing", step.0);
        fs::remove_dir_all("/run/onggi-steps/images").unwrap();
    }
    place.assert_nothing_left();
}

#[test]
fn a_blob_that_is_not_what_its_name_says_commits_nothing() {
    let Some(place) = Place::new() else { return };
    let registry = Registry::new(&place);
    let name = registry.name("team/base:one");
    // The largest blob is the layer: another byte in its middle.
    let folder = place.host.root.join("data/registry/blobs/sha256");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let layer = files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let _ = Command::new("chmod").arg("u+w").arg(&layer).status();
    fs::write(&layer, bytes).unwrap();
    for step in from("step-09") {
        place.refuses(step, &["pull", &name], &["sha256:"]);
        place.refuses(step, &["run", "--rm", &name, "true"], &["sha256:"]);
        assert_eq!(fs::read_dir("/run/onggi-steps/images").map_or(0, Iterator::count), 0, "{}", step.0);
    }
    place.assert_nothing_left();
}

#[test]
fn names_that_lead_nowhere_are_refused_in_one_line() {
    let Some(place) = Place::new() else { return };
    let registry = Registry::new(&place);
    for step in from("step-09") {
        place.refuses(step, &["pull", &registry.name("team/nothing")], &["404"]);
        place.refuses(step, &["pull", "docker.io/library/alpine"], &["onggi pull"]);
        place.refuses(step, &["pull", "127.0.0.1:1/base"], &["ECONNREFUSED"]);
        place.refuses(step, &["pull", &registry.name("UPPER")], &["lowercase"]);
        place.refuses(step, &["run", "no-such-file.tar", "true"], &["no-such-file.tar"]);
    }
    place.assert_nothing_left();
}

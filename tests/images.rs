//! The images that are here: listed, named, looked at, removed, as Docker does it; and what needs them keeps them.
//!
//! See it: `onggi images`, `jq . …/data/images/repositories.json`. Read: docker image(1).

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::jar::{Jar, Said, said};

/// `onggi import` of one small file, with these options before the archive.
#[track_caller]
fn import(jar: &Jar, content: &str, words: &[&str]) -> String {
    let said = import_said(jar, content, words);
    assert_eq!(said.code, 0, "{}", said.err);
    said.out.trim_end().to_string()
}

fn import_said(jar: &Jar, content: &str, words: &[&str]) -> Said {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "file", content.as_bytes()).unwrap();
    let mut command = jar.onggi(&["import"]);
    let mut child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(&archive.into_inner().unwrap());
    said(child.wait_with_output().unwrap())
}

#[track_caller]
fn refuses(jar: &Jar, words: &[&str], parts: &[&str]) {
    let said = jar.says(words);
    assert_eq!(said.code, 1, "{words:?}: {} {}", said.out, said.err);
    for part in parts {
        assert!(said.err.contains(part), "{words:?}: {part:?} is not in {}", said.err);
    }
}

fn blobs(jar: &Jar) -> usize {
    fs::read_dir(jar.root.join("data/images/blobs/sha256")).unwrap().count()
}

fn snapshots(jar: &Jar) -> usize {
    fs::read_dir(jar.root.join("data/snapshots")).unwrap().count()
}

#[test]
fn the_list_has_dockers_columns_and_each_name_a_row() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["tag", "base", "localhost:5000/team/base:v1"]);
    let lines = jar.does(&["images"]);
    let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!((lines[1][..2].to_vec(), lines[2][..2].to_vec()), (vec!["base", "latest"], vec!["localhost:5000/team/base", "v1"]));
    assert_eq!(lines[1][2].len(), 12);
    assert_eq!(jar.does(&["images", "-q"]), lines[1][2], "one image, one ID");
    assert!(jar.does(&["image", "ls", "-q", "--no-trunc"]).starts_with(&format!("sha256:{}", lines[1][2])));
    assert!(jar.does(&["images", "--digests"]).contains("sha256:"));
    assert_eq!(jar.does(&["images", "--format", "{{.Repository}}:{{.Tag}}", "base"]), "base:latest");
    assert_eq!(jar.does(&["images", "--format", "{{.Tag}}", "--filter", "reference=localhost:5000/*/ba*:v?"]), "v1");
    assert_eq!(jar.does(&["images", "nothing"]).lines().count(), 1);
    refuses(&jar, &["images", "--filter", "dangeling=true"], &["invalid filter", "did you mean dangling"]);
}

#[test]
fn an_image_that_lost_its_name_is_dangling_until_it_is_pruned() {
    let Some(jar) = Jar::new() else { return };
    let first = import(&jar, "first", &["-", "web:1"]);
    let second = import(&jar, "second", &["-c", "LABEL tier=front", "-", "web:1"]);
    assert_ne!(first, second);
    assert_eq!(jar.does(&["images", "--no-trunc", "-q", "-f", "dangling=true"]), first);
    assert!(jar.does(&["images"]).lines().any(|line| line.starts_with("<none>       <none>")));
    assert_eq!(jar.does(&["images", "--no-trunc", "-q", "-f", "dangling=false", "-f", "label=tier=front"]), second);
    assert_eq!(jar.does(&["images", "--no-trunc", "-q", "-f", "since=base", "-f", "before=web:1"]), first);
    let before = (blobs(&jar), snapshots(&jar));
    let mut asked = jar.onggi(&["image", "prune"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    asked.stdin.take().unwrap().write_all(b"n\n").unwrap();
    let asked = asked.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&asked.stdout).contains("WARNING! This will remove all dangling images."));
    assert_eq!(before, (blobs(&jar), snapshots(&jar)));
    let pruned = jar.does(&["image", "prune", "-f"]);
    assert!(pruned.starts_with(&format!("Deleted Images:\ndeleted: {first}\ndeleted: sha256:")), "{pruned}");
    assert!(pruned.lines().last().unwrap().starts_with("Total reclaimed space: "), "{pruned}");
    assert_eq!((before.0 - 3, before.1 - 1), (blobs(&jar), snapshots(&jar)));
    assert_eq!(jar.does(&["image", "prune", "-af", "--filter", "label!=tier"]).lines().nth(1), Some("untagged: base:latest"));
    assert_eq!(jar.does(&["images", "--format", "{{.Repository}}"]), "web");
    assert!(jar.does(&["image", "prune", "-af", "--filter", "until=1h"]).ends_with("Total reclaimed space: 0B"));
}

#[test]
fn an_image_that_a_container_needs_is_not_removed_and_the_container_is_named() {
    let Some(jar) = Jar::new() else { return };
    jar.does(&["create", "--name", "stopped", "base", "true"]);
    let id = jar.does(&["images", "-q"]);
    let stopped = &jar.id_of("stopped").unwrap()[..12].to_string();
    refuses(
        &jar,
        &["rmi", "base"],
        &["conflict: unable to remove repository reference \"base\" (must force)", stopped, "hint: remove the container"],
    );
    refuses(&jar, &["rmi", &id], &["(must be forced) - image is being used by stopped container", stopped]);
    assert_eq!(jar.does(&["image", "prune", "-af"]), "Total reclaimed space: 0B");
    jar.does(&["tag", "base", "other"]);
    refuses(&jar, &["rmi", &id], &["image is referenced in multiple repositories"]);
    assert_eq!(jar.does(&["rmi", "other"]), "Untagged: other:latest");

    let mut running = jar.begin("running", &["base", "sleep", "60"]);
    refuses(&jar, &["rmi", "-f", &id], &["(cannot be forced) - image is being used by running container"]);
    // Its name may go, the image itself stays.
    assert_eq!(jar.does(&["rmi", "-f", "base"]), "Untagged: base:latest");
    assert!(jar.does(&["images"]).contains("<none>"));
    jar.does(&["rm", "-f", "running"]);
    running.wait().unwrap();
    // Nothing that the stopped one needs is collected with the image.
    let removed = jar.does(&["rmi", "-f", &id]);
    assert!(removed.starts_with("Deleted: sha256:") && removed.lines().count() == 1, "{removed}");
    assert_eq!(jar.does(&["start", "-a", "stopped"]), "");
    jar.does(&["rm", "stopped"]);
    import(&jar, "x", &["-", "x"]);
    let removed = jar.does(&["rmi", "x"]);
    assert_eq!((removed.lines().count(), blobs(&jar), snapshots(&jar)), (4, 0, 0), "{removed}");
}

#[test]
fn removing_says_what_went_and_goes_on_after_a_failure() {
    let Some(jar) = Jar::new() else { return };
    let id = import(&jar, "x", &["-", "web:1"]);
    jar.does(&["tag", "web:1", "web:2"]);
    let said = jar.says(&["rmi", "web:1", "nothing", "web:2"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("cannot remove the image nothing\n  No such image: nothing:latest"), "{}", said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!((lines[0], lines[1], lines[2]), ("Untagged: web:1", "Untagged: web:2", &*format!("Deleted: {id}")));
    assert!(lines[3].starts_with("Deleted: sha256:") && lines.len() == 4, "{lines:?}");
    // By the beginning of its ID.
    let id = import(&jar, "y", &["-", "web:1"]);
    assert!(jar.does(&["rmi", &id["sha256:".len()..][..8]]).starts_with("Untagged: web:1\nDeleted: sha256:"));
    refuses(&jar, &["rmi", "UPPER"], &["lower case"]);
    refuses(&jar, &["tag", "nothing", "x"], &["No such image: nothing:latest"]);
    refuses(&jar, &["tag", "base", "x@sha256:0000000000000000000000000000000000000000000000000000000000000000"], &["digest reference"]);
}

#[test]
fn an_imported_image_runs_and_tells_its_history() {
    let Some(jar) = Jar::new() else { return };
    let tree = jar.root.join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    let Some(busybox) = support::peer("busybox") else { return };
    fs::copy(busybox, tree.join("bin/sh")).unwrap();
    let archive = jar.root.join("tree.tar.gz");
    assert!(Command::new("tar").args(["-C", tree.to_str().unwrap(), "-czf", archive.to_str().unwrap(), "."]).status().unwrap().success());
    let changes = ["-c", "CMD echo \"$GREETING\"", "-c", "ENV GREETING='안녕 세계'", "-m", "from the kiln"];
    let id = jar.does(&[&["import"][..], &changes, &[archive.to_str().unwrap(), "kiln"]].concat());
    assert_eq!(jar.shows(&["kiln"]), "안녕 세계");
    let history = jar.does(&["history", "kiln"]);
    let short = &id["sha256:".len()..][..12];
    assert!(history.starts_with("IMAGE          CREATED") && history.contains(short) && history.ends_with("from the kiln"), "{history}");
    assert_eq!(jar.does(&["history", "-q", "--no-trunc", "kiln"]), id);
    assert!(jar.does(&["history", "-H=false", "--format", "{{.Size}}", "kiln"]).parse::<u64>().unwrap() > 100_000);
    let facts: serde_json::Value = serde_json::from_str(&jar.does(&["image", "inspect", "kiln"])).unwrap();
    assert_eq!((facts[0]["Id"].as_str(), facts[0]["RepoTags"][0].as_str()), (Some(&*id), Some("kiln:latest")));
    assert_eq!(facts[0]["Config"]["Env"][0], "GREETING=안녕 세계");
    assert_eq!(jar.does(&["image", "inspect", "-f", "{{json .Config.Cmd}}", "kiln"]), r#"["/bin/sh","-c","echo \"$GREETING\""]"#);
    let said = jar.says(&["image", "inspect", "nothing"]);
    assert_eq!((said.code, said.out.trim()), (1, "[]"));
    assert!(said.err.contains("No such image: nothing:latest"), "{}", said.err);
    let before = blobs(&jar);
    refuses(&jar, &["import", "-c", "RUN true", archive.to_str().unwrap()], &["run is not a valid change command"]);
    refuses(&jar, &["import", "-"], &["it is empty"]);
    refuses(&jar, &["import", "https://example.org/x.tar"], &["fetch it first"]);
    refuses(&jar, &["import", "/etc/hostname"], &["archive"]);
    assert_eq!(blobs(&jar), before);
}

#[test]
fn a_terminal_is_no_place_for_an_archive() {
    let Some(jar) = Jar::new() else { return };
    let script = |line: &str| {
        let line = format!("{} {line}", support::jar::ONGGI);
        said(Command::new("script").args(["-qec", &line, "/dev/null"]).env("ONGGI_ROOT", &jar.root).stdin(Stdio::null()).output().unwrap())
    };
    assert!(script("save base").out.contains("cowardly refusing to save to a terminal"));
    assert!(script("load").out.contains("requested load from stdin, but stdin is empty"));
    // A save that fails leaves the old file.
    let file = jar.root.join("old.tar");
    fs::write(&file, "old").unwrap();
    refuses(&jar, &["save", "-o", file.to_str().unwrap(), "nothing"], &["No such image: nothing:latest"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(fs::read_dir(&jar.root).unwrap().filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count(), 0);
}

#[test]
fn five_hundred_images_are_listed_in_a_moment() {
    let Some(jar) = Jar::new() else { return };
    let store = onggi::image::store::Store::open(&jar.root.join("data")).unwrap();
    let manifest = store.references().unwrap()["docker.io/library/base:latest"].clone();
    let (_, base) = onggi::image::resolve::for_this_machine(&store, &manifest).unwrap();
    let mut all = Vec::new();
    for number in 0..500 {
        // Another config, and so another image, of the same layers.
        let mut config: serde_json::Value = store.read_json(&base.config.digest).unwrap();
        config["author"] = number.to_string().into();
        let bytes = serde_json::to_vec(&config).unwrap();
        let mut manifest = base.clone();
        manifest.config.digest = store.put(&bytes).unwrap();
        manifest.config.size = bytes.len() as u64;
        let name = onggi::image::reference::Reference::parse(&format!("many:{number}")).unwrap();
        all.push((store.put(&serde_json::to_vec(&manifest).unwrap()).unwrap(), [name]));
    }
    store.add_all(all.iter().map(|(manifest, names)| (manifest, &names[..]))).unwrap();
    let began = Instant::now();
    assert_eq!(jar.does(&["images"]).lines().count(), 502);
    let took = began.elapsed();
    support::say(&format!("images, with 500 of them: {took:?}"));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_full_disk_is_named_and_leaves_all_as_it_was() {
    let (Some(jar), Some(other)) = (Jar::new(), Jar::new()) else { return };
    let archive = jar.root.join("base.tar");
    jar.does(&["save", "-o", archive.to_str().unwrap(), "base"]);
    let small = Small::new(&other.root.join("small"), "40m");
    let says = |words: &[&str], input: &Path| {
        let input = fs::File::open(input).unwrap();
        said(other.onggi(words).env("ONGGI_ROOT", &small.0).stdin(input).output().unwrap())
    };
    let list = || {
        let mut all: Vec<_> = ["images/blobs/sha256", "snapshots", "tmp"]
            .iter()
            .flat_map(|folder| fs::read_dir(small.0.join("data").join(folder)).unwrap().flatten().map(|entry| entry.path()))
            .filter(|path| !path.ends_with(".lock"))
            .collect();
        all.sort();
        all
    };
    assert_eq!(says(&["images"], Path::new("/dev/null")).code, 0);
    let before = list();
    // The archive fits, and what is in it does not.
    let failed = says(&["load"], &archive);
    assert_eq!(failed.code, 1, "{}", failed.out);
    assert!(failed.err.contains("ENOSPC"), "{}", failed.err);
    assert_eq!(list(), before);
    let failed = says(&["import", "-", "x"], &archive_of(&other, 30));
    assert!(failed.code == 1 && failed.err.contains("ENOSPC"), "{}", failed.err);
    assert_eq!(list(), before);
    assert_eq!(says(&["images", "-q"], Path::new("/dev/null")).out, "");
    // What fits is taken, and saved only where there is room.
    let taken = says(&["import", "-", "x"], &archive_of(&other, 12));
    assert_eq!(taken.code, 0, "{}", taken.err);
    let target = small.0.join("x.tar");
    fs::write(small.0.join("filler"), vec![1u8; 12 << 20]).unwrap();
    let failed = says(&["save", "-o", target.to_str().unwrap(), "x"], Path::new("/dev/null"));
    assert!(failed.code == 1 && failed.err.contains("ENOSPC") && !target.exists(), "{}", failed.err);
    assert_eq!(said(Command::new("df").arg(&small.0).output().unwrap()).code, 0);
}

/// A small file system that is full soon.
struct Small(std::path::PathBuf);

impl Small {
    fn new(place: &Path, size: &str) -> Small {
        fs::create_dir_all(place).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(place).status().unwrap();
        assert!(mounted.success());
        Small(place.to_path_buf())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

fn archive_of(jar: &Jar, megabytes: usize) -> std::path::PathBuf {
    let path = jar.root.join(format!("{megabytes}.tar"));
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size((megabytes << 20) as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "big", vec![7u8; megabytes << 20].as_slice()).unwrap();
    archive.into_inner().unwrap();
    path
}

#[test]
fn loads_removals_and_runs_at_once_lose_no_layer_and_leave_none() {
    let Some(jar) = Jar::new() else { return };
    let tree = jar.root.join("tree.tar");
    let Some(busybox) = support::peer("busybox") else { return };
    let mut archive = tar::Builder::new(fs::File::create(&tree).unwrap());
    let mut header = tar::Header::new_gnu();
    let bytes = fs::read(busybox).unwrap();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, "bin/sh", &*bytes).unwrap();
    archive.into_inner().unwrap();
    jar.does(&["import", tree.to_str().unwrap(), "web"]);
    let saved = jar.root.join("web.tar");
    jar.does(&["save", "-o", saved.to_str().unwrap(), "web"]);
    jar.does(&["rmi", "base"]);
    let until = Instant::now() + Duration::from_secs(8);
    let (mut runs, mut missing) = (0, 0);
    std::thread::scope(|scope| {
        let again = |words: &'static [&'static str]| {
            let (jar, saved) = (&jar, &saved);
            scope.spawn(move || {
                while Instant::now() < until {
                    let words: Vec<&str> = words.iter().map(|word| if *word == "FILE" { saved.to_str().unwrap() } else { word }).collect();
                    let said = jar.says(&words);
                    let expected = ["No such image", "is using its referenced image", "is being used by", "Total reclaimed"];
                    assert!(said.code == 0 || expected.iter().any(|part| said.err.contains(part)), "{words:?}: {}", said.err);
                }
            })
        };
        let others =
            [again(&["load", "-i", "FILE"]), again(&["rmi", "-f", "web"]), again(&["image", "prune", "-af"]), again(&["load", "-q", "-i", "FILE"])];
        while Instant::now() < until {
            let said = jar.run(&["--pull", "never", "web", "/bin/sh", "-c", "echo fine"]);
            match said.code {
                0 => runs += usize::from(said.out == "fine\n"),
                _ => {
                    assert!(said.err.contains("No such image: web:latest"), "{}", said.err);
                    missing += 1;
                }
            }
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
    support::say(&format!("{runs} runs, {missing} times the image was not there"));
    assert!(runs > 0);
    jar.says(&["image", "prune", "-af"]);
    assert_eq!((blobs(&jar), snapshots(&jar), jar.does(&["images", "-q"]).as_str()), (0, 0, ""));
    jar.assert_nothing_left();
}

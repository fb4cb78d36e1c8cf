//! `onggi logs` of real containers: nothing is lost, doubled or out of order.
//!
//! See it: `onggi run -d --name talk base sh -c 'while :; do date; sleep 1; done'; onggi logs -f talk`. Read: docker-logs(1).

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use support::jar::{Jar, Said, said, until};

/// Runs a script in a container of this name to its end.
#[track_caller]
fn talk(jar: &Jar, name: &str, options: &[&str], script: &str) {
    begin(jar, name, options, script);
    assert_eq!(onggi(jar, &["wait", name]).code, 0);
}

#[track_caller]
fn begin(jar: &Jar, name: &str, options: &[&str], script: &str) {
    let mut words = vec!["run", "-d", "--name", name];
    words.extend(options);
    words.extend(["base", "sh", "-c", script]);
    let told = onggi(jar, &words);
    assert_eq!(told.code, 0, "{}", told.err);
}

fn onggi(jar: &Jar, words: &[&str]) -> Said {
    said(jar.onggi(words).output().unwrap())
}

fn bytes(jar: &Jar, words: &[&str]) -> Vec<u8> {
    jar.onggi(words).output().unwrap().stdout
}

#[test]
fn each_stream_comes_out_where_it_went_in() {
    let Some(jar) = Jar::new() else { return };
    talk(&jar, "two", &[], "echo one; echo two >&2; sleep 0.05; echo three; sleep 0.05; printf 'half 항아리'");
    let told = onggi(&jar, &["logs", "two"]);
    assert_eq!((told.code, told.out.as_str(), told.err.as_str()), (0, "one\nthree\nhalf 항아리", "two\n"));
    assert_eq!(onggi(&jar, &["logs", "--tail", "2", "two"]).out, "three\nhalf 항아리");
    assert_eq!(onggi(&jar, &["logs", "-n", "0", "two"]).out, "");
    assert_eq!(onggi(&jar, &["logs", "-n", "-1", "two"]).out, told.out);
    assert_eq!(onggi(&jar, &["logs", "--since", "1h", "two"]).out, told.out);
    assert_eq!(onggi(&jar, &["logs", "--until", "1h", "two"]).out, "");
    let stamped = onggi(&jar, &["logs", "-t", "two"]).out;
    let (time, text) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert_eq!((time.len(), text), ("2026-11-21T08:00:00.123456789Z".len(), "one"));
    // What was said at that time or later.
    let (third, _) = stamped.lines().nth(1).unwrap().split_once(' ').unwrap();
    assert_eq!(onggi(&jar, &["logs", "--since", third, "two"]).out, "three\nhalf 항아리");
}

#[test]
fn what_can_not_be_shown_is_refused_in_dockers_words() {
    let Some(jar) = Jar::new() else { return };
    talk(&jar, "mute", &["--log-driver", "none"], "echo gone");
    let told = onggi(&jar, &["logs", "mute"]);
    assert!(told.code == 1 && told.err.contains("configured logging driver does not support reading"), "{told:?}");
    let told = onggi(&jar, &["logs", "nobody"]);
    assert!(told.code == 1 && told.err.contains("No such container: nobody"), "{told:?}");
    assert!(onggi(&jar, &["logs", "--since", "yesterdayish", "mute"]).err.contains("it is no time"));
    assert_eq!(onggi(&jar, &["logs", "--tail", "few", "mute"]).code, 125);
}

#[test]
fn a_million_lines_and_then_the_end_are_all_there() {
    let Some(jar) = Jar::new() else { return };
    talk(&jar, "many", &[], "seq 1000000");
    let out = bytes(&jar, &["logs", "many"]);
    let wanted: String = (1..=1_000_000).map(|number| format!("{number}\n")).collect();
    assert!(out == wanted.as_bytes(), "{} bytes, not {}", out.len(), wanted.len());
    assert_eq!(bytes(&jar, &["logs", "--tail", "2", "many"]), b"999999\n1000000\n");
}

#[test]
fn long_lines_zeros_and_what_is_no_text_come_out_as_they_went_in() {
    let Some(jar) = Jar::new() else { return };
    talk(&jar, "odd", &[], r"head -c 1000000 /dev/zero | tr '\0' x; echo; printf 'a\0b\n\377\376\n\303'; printf '\251\r\n'; head -c 5000 /dev/zero");
    let mut wanted = vec![b'x'; 1_000_000];
    wanted.extend(b"\na\0b\n\xff\xfe\n\xc3\xa9\r\n");
    wanted.extend(vec![0; 5000]);
    let out = bytes(&jar, &["logs", "odd"]);
    assert!(out == wanted, "{} bytes, not {}", out.len(), wanted.len());
}

#[test]
fn a_follower_sees_each_line_once_through_all_rotations_and_ends_with_the_container() {
    let Some(jar) = Jar::new() else { return };
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.05; done; printf end";
    begin(&jar, "turns", &["--log-opt", "max-size=16k", "--log-opt", "max-file=5"], script);
    let told = onggi(&jar, &["logs", "-f", "turns"]);
    let numbers: Vec<u32> = told.out.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    let first = numbers[0];
    assert!(numbers.iter().copied().eq(first..3000), "from {first}: {} lines", numbers.len());
    assert!(told.out.ends_with("\nend") && first < 1000, "{first}");
    let folder = jar.root.join("data/containers").join(jar.id_of("turns").unwrap());
    let files = std::fs::read_dir(&folder).unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().contains("-json.log")).count();
    assert_eq!(files, 5);
    // The last lines, across files.
    let last = onggi(&jar, &["logs", "-n", "100", "turns"]).out;
    assert!(last.starts_with("line 2901\n") && last.ends_with("\nend"), "{last}");
}

#[test]
fn a_reader_that_goes_away_disturbs_nobody() {
    let Some(jar) = Jar::new() else { return };
    begin(&jar, "on", &[], "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.002; done");
    let mut reader = jar.onggi(&["logs", "-f", "on"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, reader.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "line 0\n");
    assert_eq!(reader.wait().unwrap().code(), Some(0));
    let mut err = String::new();
    reader.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
    onggi(&jar, &["wait", "on"]);
    assert_eq!(onggi(&jar, &["logs", "on"]).out.lines().count(), 400);
}

#[test]
fn a_killed_monitor_ends_its_followers_and_the_log_goes_on_with_the_next_start() {
    let Some(jar) = Jar::new() else { return };
    begin(&jar, "struck", &[], "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.005; done");
    let follower = jar.onggi(&["logs", "-f", "-n", "1", "struck"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mark = jar.root.join("run/running").join(jar.id_of("struck").unwrap());
    let monitor: serde_json::Value = serde_json::from_slice(&std::fs::read(mark).unwrap()).unwrap();
    let monitor = nix::unistd::Pid::from_raw(monitor["pid"].as_i64().unwrap() as i32);
    nix::sys::signal::kill(monitor, nix::sys::signal::Signal::SIGKILL).unwrap();
    let told = said(follower.wait_with_output().unwrap());
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let before = onggi(&jar, &["logs", "struck"]).out.lines().count();
    assert_eq!(onggi(&jar, &["start", "struck"]).code, 0);
    until("it says more", || onggi(&jar, &["logs", "struck"]).out.lines().count() > before + 10);
    let out = onggi(&jar, &["logs", "struck"]).out;
    assert!(out.lines().all(|line| line.starts_with("line ")) && out.lines().nth(before) == Some("line 0"), "{:?}", out.lines().nth(before));
    assert_eq!(onggi(&jar, &["rm", "-f", "struck"]).code, 0);
    jar.assert_nothing_left();
}

#[test]
fn a_full_disk_leaves_whole_lines_and_a_word_on_what_is_missing() {
    use nix::mount::{MsFlags, mount, umount};
    use onggi::engine::log::reader::{Wanted, read};
    use onggi::engine::log::{Options, Stream, Writer};

    let Some(jar) = Jar::new() else { return };
    let disk = jar.root.join("disk");
    std::fs::create_dir(&disk).unwrap();
    if mount(Some("none"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).is_err() {
        return support::skip_for_want_of("a small disk can't be mounted here");
    }
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![0; 16 << 10]).unwrap();
    let log = disk.join("x-json.log");
    let mut writer = Writer::open(&log, &Options { kept: true, max_size: None, max_file: 1 }).unwrap();
    let line = |number: usize| format!("line {number:04}\n");
    let failures = (0..1000).filter(|&number| writer.write(Stream::Stdout, line(number).as_bytes()).is_err()).count();
    let full = std::fs::read(&log).unwrap();
    std::fs::remove_file(&ballast).unwrap();
    let after = writer.write(Stream::Stdout, line(1000).as_bytes());
    let (mut said, mut lost) = (Vec::new(), Vec::new());
    let done = read(&log, &Wanted::default(), None, &mut |entry| {
        if let Some(entry) = entry {
            said.extend(String::from_utf8(entry.text.clone()));
            lost.extend(Some(entry.lost).filter(|&lost| lost > 0));
        }
        Ok(())
    });
    drop(writer);
    umount(&disk).unwrap();
    done.and(after).unwrap();
    assert!(failures > 10 && full.ends_with(b"}\n"), "{failures}");
    assert_eq!(lost, [(line(0).len() * failures) as u64]);
    let wanted: Vec<String> = (0..1000 - failures).map(line).chain([String::new(), line(1000)]).collect();
    assert_eq!(said, wanted);
}

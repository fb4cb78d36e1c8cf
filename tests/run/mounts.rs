//! Volumes and the other places of the file system.
//!
//! See it: `cat /proc/self/mountinfo` inside. Read: docker run(1) `--volume`, `--mount`, `--tmpfs`.

use crate::support::jar::{Jar, said};

#[test]
fn a_volume_is_the_hosts_folder_and_ro_is_read_only_all_the_way_down() {
    let Some(jar) = Jar::new() else { return };
    let data = jar.root.join("my data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("old"), "old\n").unwrap();
    let source = data.display().to_string();
    assert_eq!(jar.shows(&["-v", &format!("{source}:/d"), "base", "sh", "-c", "cat /d/old; echo new > /d/new"]), "old");
    assert_eq!(std::fs::read_to_string(data.join("new")).unwrap(), "new\n");
    let told = jar.run(&["-v", &format!("{source}:/d:ro"), "base", "touch", "/d/x"]);
    assert!(told.code != 0 && told.err.contains("Read-only file system"), "{told:?}");
    let long = format!("type=bind,source={source},target=/d,readonly");
    assert_ne!(jar.run(&["--mount", &long, "base", "touch", "/d/x"]).code, 0);
    assert!(!data.join("x").exists());
}

#[test]
fn a_missing_source_is_made_for_v_and_refused_for_mount() {
    let Some(jar) = Jar::new() else { return };
    let source = jar.root.join("new/folder");
    assert_eq!(jar.shows(&["-v", &format!("{}:/d", source.display()), "base", "sh", "-c", "echo x > /d/x; echo ok"]), "ok");
    assert!(source.join("x").exists());
    jar.refuses(&["--mount", "type=bind,src=/no/such,dst=/d", "base", "true"], 125, &["/no/such"]);
}

#[test]
fn files_nested_places_and_relative_sources_work() {
    let Some(jar) = Jar::new() else { return };
    std::fs::create_dir_all(jar.root.join("a/b")).unwrap();
    std::fs::create_dir_all(jar.root.join("c")).unwrap();
    std::fs::write(jar.root.join("file"), "한글\n").unwrap();
    std::fs::write(jar.root.join("c/inner"), "").unwrap();
    let mut command =
        jar.onggi(&["run", "--rm", "-v", "./file:/etc/mine", "-v", "./c:/x/b", "-v", "./a:/x", "base", "sh", "-c", "cat /etc/mine; ls /x /x/b"]);
    let told = said(command.current_dir(&jar.root).output().unwrap());
    assert_eq!((told.code, &*told.out), (0, "한글\n/x:\nb\n\n/x/b:\ninner\n"), "{}", told.err);
}

#[test]
fn one_place_takes_one_mount() {
    let Some(jar) = Jar::new() else { return };
    jar.refuses(&["-v", "/tmp:/d", "--tmpfs", "/d/", "base", "true"], 125, &["duplicate mount point: /d"]);
    jar.refuses(&["-v", "/tmp:/", "base", "true"], 125, &["must be absolute, and not /"]);
    jar.refuses(&["-v", "/tmp:rel", "base", "true"], 125, &["must be absolute"]);
    jar.refuses(&["-v", "da ta:/d", "base", "true"], 125, &["invalid characters for a local volume name"]);
    jar.refuses(&["-v", "/tmp:/d:wrong", "base", "true"], 125, &["invalid mode: wrong"]);
    jar.refuses(&["--mount", "type=bind,target=/d", "base", "true"], 125, &["source is required"]);
    jar.assert_nothing_left();
}

#[test]
fn a_tmpfs_has_its_size_and_mode() {
    let Some(jar) = Jar::new() else { return };
    let told = jar.shows(&["--tmpfs", "/t:size=1m,mode=700", "base", "sh", "-c", "stat -c %a /t; grep ' /t ' /proc/self/mounts"]);
    assert!(told.starts_with("700\n") && told.contains("size=1024k") && told.contains("noexec"), "{told}");
    let full = jar.run(&["--tmpfs", "/t:size=1m", "base", "sh", "-c", "head -c 2000000 /dev/zero > /t/x"]);
    assert!(full.code != 0 && full.err.contains("No space left"), "{full:?}");
    let shm = ["base", "sh", "-c", "grep ' /dev/shm ' /proc/self/mounts"];
    assert!(jar.shows(&shm).contains("size=65536k"));
    assert!(jar.shows(&[&["--shm-size", "2m"][..], &shm].concat()).contains("size=2048k"));
    jar.refuses(&["--tmpfs", "/t:wrong", "base", "true"], 125, &["invalid tmpfs option: wrong"]);
}

#[test]
fn a_link_in_the_image_leads_nowhere_outside() {
    let Some(jar) = Jar::new() else { return };
    let data = jar.root.join("data-of-host");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink("/", data.join("root")).unwrap();
    std::fs::create_dir(jar.root.join("other")).unwrap();
    // /d/root is a link to /: what is mounted over /d/root/place belongs in the container's own /place.
    let (first, second) = (format!("{}:/d", data.display()), format!("{}:/d/root/place", jar.root.join("other").display()));
    let told = jar.run(&["-v", &first, "-v", &second, "base", "sh", "-c", "grep -c place /proc/self/mountinfo"]);
    assert_eq!((told.code, told.out.trim()), (0, "1"), "{}", told.err);
    assert!(!std::path::Path::new("/place").exists());
}

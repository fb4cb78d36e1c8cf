//! Images whose files lie: links, FIFOs and folders where the runtime expects something else.

use std::fs;

use serde_json::json;

use crate::jar::{INTACT, Jar, answer};

#[test]
fn proc_and_sys_are_never_mounted_through_a_link() {
    // CVE-2019-19921, CVE-2021-30465: the image's author would serve a /proc of their own.
    for name in ["proc", "sys"] {
        let Some(jar) = Jar::new(&format!("link-{name}")) else { return };
        jar.link("tmp", name);
        let said = jar.refused();
        assert!(said.contains(&format!("/{name}")), "{said}");
    }
}

#[test]
fn nothing_is_mounted_inside_proc() {
    // CVE-2019-16884: a volume of the image over /proc/self/attr; here straight, and through a link of the image.
    let Some(mut jar) = Jar::new("in-proc") else { return };
    fs::create_dir(jar.dir.join("lies")).unwrap();
    jar.link("/proc/self", "innocent");
    let mounts = jar.config["mounts"].clone();
    for destination in ["/proc/self/attr", "/proc/sys", "/innocent/attr", "/innocent/../tty", "/proc"] {
        jar.config["mounts"] = mounts.clone();
        jar.mount(json!({ "destination": destination, "type": "bind", "source": jar.dir.join("lies"), "options": ["rbind"] }));
        let said = jar.refused();
        assert!(said.contains("mounts[7]"), "{destination}: {said}");
    }
}

#[test]
fn masked_files_are_covered_by_the_host_s_null_device() {
    // CVE-2025-31133: an image with a link at /dev/null would have its target bound over the masked file, writable.
    let Some(mut jar) = Jar::new("mask") else { return };
    jar.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
    jar.config["mounts"].as_array_mut().unwrap().retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev/"));
    fs::create_dir(jar.rootfs("dev")).unwrap();
    jar.link("/proc/sysrq-trigger", "dev/null");
    let said = jar.refused();
    assert!(said.contains("null"), "{said}");
    fs::remove_file(jar.rootfs("dev/null")).unwrap();
    for file in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        jar.args(&["/probe", "try", "read", file]);
        let told = jar.answer();
        assert!(told["text"].as_str().unwrap_or_default().is_empty(), "{file}: {told}");
    }
}

#[test]
fn files_of_the_kernel_that_change_the_host_are_read_only() {
    let Some(mut jar) = Jar::new("read-only") else { return };
    for file in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper"] {
        jar.args(&["/probe", "try", "open", file, "w"]);
        let told = jar.answer();
        assert!(["EROFS", "ENOENT", "EACCES"].contains(&told["error"].as_str().unwrap()), "{file}: {told}");
    }
}

#[test]
fn release_agents_cannot_be_set_from_inside() {
    let Some(mut jar) = Jar::new("release-agent") else { return };
    for controller in ["memory", "rdma", "unified"] {
        for file in ["release_agent", "notify_on_release", "cgroup.procs"] {
            jar.args(&["/probe", "try", "open", &format!("/sys/fs/cgroup/{controller}/{file}"), "w"]);
            let told = jar.answer();
            assert!(["EROFS", "ENOENT", "EACCES"].contains(&told["error"].as_str().unwrap()), "{controller}/{file}: {told}");
        }
    }
}

#[test]
fn links_in_the_image_end_inside_of_it() {
    let Some(mut jar) = Jar::new("links") else { return };
    let out = jar.dir.join("outside");
    fs::create_dir(&out).unwrap();
    // To the host's folder by its name there, and by going up.
    jar.link(&out, "absolute");
    jar.link("../../../../../../../..".to_string() + out.to_str().unwrap(), "relative");
    jar.link(&jar.dir, "jar");
    fs::write(jar.dir.join("source"), "inside").unwrap();
    for destination in ["/absolute/a", "/relative/b", "/jar/sentinel"] {
        jar.mount(json!({ "destination": destination, "type": "bind", "source": jar.dir.join("source"), "options": ["bind"] }));
    }
    jar.config["linux"]["devices"] = json!([{ "path": "/relative/device", "type": "c", "major": 1, "minor": 3 }]);
    jar.config["linux"]["maskedPaths"] = json!(["/jar/sentinel"]);
    jar.config["process"]["cwd"] = json!("/absolute/made/here");
    let facts = jar.answer();
    assert!(facts["cwd"].as_str().unwrap().ends_with("outside/made/here"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "the folder of the host got a file");
    assert_eq!(fs::read_to_string(jar.dir.join("sentinel")).unwrap(), INTACT);
}

#[test]
fn a_dev_that_is_a_link_gets_its_nodes_inside_of_the_image() {
    let Some(jar) = Jar::new("dev") else { return };
    let before = fs::read_dir("/dev").unwrap().count();
    jar.link("/", "dev");
    jar.run();
    assert_eq!(fs::read_dir("/dev").unwrap().count(), before);
    assert!(!jar.dir.join("null").exists());
}

#[test]
fn a_console_that_is_a_link_is_not_followed() {
    // CVE-2025-52565: what /dev/console or /dev/pts/0 names in the image is nothing that the runtime binds or chowns.
    let Some(mut jar) = Jar::new("console") else { return };
    jar.config["mounts"].as_array_mut().unwrap().retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    jar.config["linux"]["maskedPaths"] = json!([]);
    fs::create_dir_all(jar.rootfs("dev/pts")).unwrap();
    jar.link("/proc/sys/kernel/core_pattern", "dev/console");
    jar.link("/proc/sys/kernel/core_pattern", "dev/pts/0");
    jar.config["process"]["terminal"] = json!(true);
    let socket = jar.dir.join("console.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::write(jar.dir.join("config.json"), jar.config.to_string()).unwrap();
    let (bundle, id) = (jar.dir.clone(), jar.id.clone());
    let words = ["create", "--console-socket", socket.to_str().unwrap(), "--bundle", bundle.to_str().unwrap(), &id];
    let output = jar.command(&words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("/dev/pts"), "{said}");
    jar.mount(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=0620"] }));
    fs::write(jar.dir.join("config.json"), jar.config.to_string()).unwrap();
    assert!(jar.command(&words).status().unwrap().success());
    // The mount is on the link itself: it covers it and goes nowhere else.
    let state: serde_json::Value = serde_json::from_slice(&jar.command(&["state", &id]).output().unwrap().stdout).unwrap();
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", state["pid"])).unwrap();
    assert!(mounts.lines().any(|line| line.contains(" /dev/console ") && line.contains(" - devpts ")), "{mounts}");
    assert!(!mounts.contains("core_pattern"), "{mounts}");
}

#[test]
fn an_etc_passwd_that_never_ends_or_never_begins_does_not_hang() {
    let Some(mut jar) = Jar::new("passwd") else { return };
    jar.fifo("etc/passwd");
    jar.config["process"]["env"] = json!(["A=b"]);
    let facts = jar.answer();
    assert!(facts["env"].as_array().unwrap().contains(&json!("HOME=/")));

    fs::remove_file(jar.rootfs("etc/passwd")).unwrap();
    fs::File::create(jar.rootfs("etc/passwd")).unwrap().set_len(100 << 20).unwrap();
    jar.answer();

    fs::remove_file(jar.rootfs("etc/passwd")).unwrap();
    jar.link("/proc/1/fd/3", "etc/passwd");
    jar.answer();

    fs::remove_file(jar.rootfs("etc/passwd")).unwrap();
    fs::write(jar.rootfs("etc/passwd"), "root:x:0:0::/inside:/bin/sh\n").unwrap();
    assert!(jar.answer()["env"].as_array().unwrap().contains(&json!("HOME=/inside")));
    jar.start_waiting();
    fs::remove_file(jar.rootfs("etc/passwd")).unwrap();
    jar.fifo("etc/passwd");
    assert!(answer(&jar.exec(&["/probe"]))["env"].as_array().unwrap().contains(&json!("HOME=/")));
}

#[test]
fn programs_that_are_fifos_folders_or_devices_are_refused() {
    let Some(mut jar) = Jar::new("no-program") else { return };
    jar.fifo("fifo");
    for program in ["/fifo", "/etc", "/dev/null"] {
        jar.args(&[program]);
        assert_eq!(jar.run().status.code(), Some(126), "{program}");
    }
}

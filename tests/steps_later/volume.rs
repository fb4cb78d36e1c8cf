//! Step 08: folders that outlive the containers that use them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::place::{Place, from};
use crate::support::kernel::host;

#[test]
fn both_sides_see_the_same_folder_and_it_outlives_the_container() {
    let Some(place) = Place::new() else { return };
    let folder = place.host.root.join("mine");
    fs::create_dir(&folder).unwrap();
    for step in from("step-08") {
        let process = place.begin(step, "web", &["-v", &format!("{}:/data", folder.display()), "-v", "kept:/var/kept"]);
        for (inside, outside) in [("/data", folder.clone()), ("/var/kept", "/run/onggi-steps/volumes/kept".into())] {
            let [here, there] = [fs::metadata(&outside).unwrap(), fs::metadata(process.file(inside)).unwrap()];
            assert_eq!((here.dev(), here.ino()), (there.dev(), there.ino()), "{} {inside}", step.0);
            fs::write(process.file(inside).join("from-inside"), step.0).unwrap();
            assert!(host().mounts().iter().all(|mount| mount.point != inside), "nothing is mounted on the host");
        }
        place.end(step, "web");
        for folder in [folder.clone(), "/run/onggi-steps/volumes/kept".into()] {
            assert_eq!(fs::read_to_string(folder.join("from-inside")).unwrap(), step.0);
        }
        assert_eq!(place.does(step, &["run", "--rm", "-v", "kept:/x", &place.layout, "cat", "/x/from-inside"]), step.0);
    }
    place.assert_nothing_left();
}

#[test]
fn what_is_read_only_is_so_for_all_that_is_mounted_below_it() {
    let Some(place) = Place::new() else { return };
    let folder = place.host.root.join("mine");
    fs::create_dir_all(folder.join("below")).unwrap();
    crate::host::run("mount", &["-t", "tmpfs", "below", folder.join("below").to_str().unwrap()]);
    for file in ["f", "below/f"] {
        fs::write(folder.join(file), "").unwrap();
    }
    for step in from("step-08") {
        let option = format!("{}:/data:ro", folder.display());
        for file in ["/data/f", "/data/below/f"] {
            let said = place.says(step, &["run", "--rm", "-v", &option, &place.layout, "probe", "try", "open", file, "w"]);
            assert!(said.out.contains("EROFS"), "{} {file}: {said:?}", step.0);
        }
    }
    crate::host::run("umount", &[folder.join("below").to_str().unwrap()]);
}

#[test]
fn a_named_volume_begins_with_what_the_image_has_there() {
    let Some(place) = Place::new() else { return };
    for step in from("step-08") {
        let name = format!("etc-{}", step.0);
        let list = |options: &[&str]| {
            place.does(step, &[&["run", "--rm"], options, &[&place.layout, "sh", "-c", "cd /etc; stat -c '%n %F %a %u %g' *"]].concat())
        };
        let wanted = list(&[]);
        let option = format!("{name}:/etc");
        assert_eq!(list(&["-v", &option]), wanted, "{}", step.0);
        place.does(step, &["run", "--rm", "-v", &option, &place.layout, "rm", "/etc/os-release"]);
        let again = list(&["-v", &option]);
        assert!(!again.contains("os-release") && wanted.contains("os-release"), "{}: filled once, and not again", step.0);
    }
    place.assert_nothing_left();
}

#[test]
fn a_link_in_the_image_leads_nowhere_outside() {
    let Some(place) = Place::new() else { return };
    let outside = place.host.root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
    // An image whose /data is a link to a folder of the host.
    let id = place.host.does(&["create", "base"]);
    let link = place.host.root.join("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    place.host.does(&["cp", link.to_str().unwrap(), &format!("{id}:/data")]);
    place.host.does(&["commit", &id, "bent"]);
    let bent = place.host.root.join("bent.tar").display().to_string();
    place.host.does(&["save", "bent", "-o", &bent]);
    for step in from("step-08") {
        let said = place
            .does(step, &["run", "--rm", "-v", "vol:/data/deep", &bent, "sh", "-c", "grep onggi-steps/volumes /proc/self/mountinfo; readlink /data"]);
        assert_eq!(said.lines().last().unwrap(), outside.to_str().unwrap(), "{}", step.0);
        assert!(said.contains(&format!(" {}/deep ", outside.display())), "{}: resolved inside of the container: {said}", step.0);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{}: and the host's folder is untouched", step.0);
    }
}

#[test]
fn a_file_is_mounted_on_a_file_also_when_it_is_a_socket() {
    let Some(place) = Place::new() else { return };
    let (file, socket) = (place.host.root.join("file"), place.host.root.join("socket"));
    fs::write(&file, "from the host\n").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for step in from("step-08") {
        let options = [format!("{}:/etc/os-release:ro", file.display()), format!("{}:/run/sock", socket.display())];
        let words = ["run", "--rm", "-v", &options[0], "-v", &options[1], &place.layout, "sh", "-c", "cat /etc/os-release; stat -c %F /run/sock"];
        assert_eq!(place.does(step, &words), "from the host\nsocket", "{}", step.0);
    }
    place.assert_nothing_left();
}

#[test]
fn what_is_no_volume_is_refused_in_one_line() {
    let Some(place) = Place::new() else { return };
    for step in from("step-08") {
        for (wrong, part) in [
            ("data", "SOURCE:TARGET"),
            ("data:here", "path"),
            ("data:/here:rx", "SOURCE:TARGET"),
            (":/here", "name"),
            ("..:/here", "name"),
            ("/no/such:/here", "/no/such"),
        ] {
            place.refuses(step, &["run", "--rm", "-v", wrong, &place.layout, "true"], &[part]);
        }
    }
    place.assert_nothing_left();
}

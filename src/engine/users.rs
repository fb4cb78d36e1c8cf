//! Who the container's program runs as: names are looked up in the *image's* `/etc/passwd` and `/etc/group`, never in the host's.
//!
//! The files are the image author's: opened inside the image only, read up to a size, and lines that make no sense are passed over.
//!
//! Read: passwd(5), group(5), docker run(1) `--user`.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::runtime::spec::User;
use crate::sys::path;

/// The user of `wanted` (`name`, `uid`, `name:group`, `uid:gid`, or empty for root), with the groups that name them.
///
/// # Errors
/// Invalid for a name that the image doesn't know. A number needs no entry.
pub fn resolve(layers: &[PathBuf], wanted: &str, more_groups: &[String]) -> Result<User> {
    let passwd = read(layers, "etc/passwd");
    let group = read(layers, "etc/group");
    let (user, group_wanted) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let doing = || format!("use the user {wanted:?}");
    let entry = entries(&passwd).find(|fields| fields[0] == user).or_else(|| entries(&passwd).find(|fields| field(fields, 2) == user.parse().ok()));
    let uid = match &entry {
        Some(fields) => field(fields, 2).ok_or_else(|| Error::invalid(doing(), "its line in the image's /etc/passwd has no uid"))?,
        None => user
            .parse()
            .map_err(|_| Error::invalid(doing(), format!("unable to find user {user}: no matching entries in passwd file of the image")))?,
    };
    let gid = match group_wanted {
        Some(name) => group_id(&group, name)
            .ok_or_else(|| Error::invalid(doing(), format!("unable to find group {name}: no matching entries in group file of the image")))?,
        None => entry.as_ref().and_then(|fields| field(fields, 3)).unwrap_or(0),
    };
    let mut additional: Vec<u32> = Vec::new();
    // An explicit group stands for all of them (Docker does so, too).
    if let (Some(fields), None) = (&entry, group_wanted) {
        let member = |line: &Vec<&str>| line.get(3).is_some_and(|names| names.split(',').any(|name| name == fields[0]));
        additional.extend(entries(&group).filter(member).filter_map(|line| field(&line, 2)).filter(|id| *id != gid));
    }
    for name in more_groups {
        additional.push(
            group_id(&group, name).ok_or_else(|| Error::invalid(format!("use --group-add {name}"), "the image's /etc/group has no such group"))?,
        );
    }
    additional.sort_unstable();
    additional.dedup();
    Ok(User { uid, gid, umask: None, additional_gids: additional })
}

fn group_id(group: &str, name: &str) -> Option<u32> {
    entries(group).find(|fields| fields[0] == name).and_then(|fields| field(&fields, 2)).or_else(|| name.parse().ok())
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 3)
}

fn field(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

/// The file in the uppermost layer that has it; empty when none does.
fn read(layers: &[PathBuf], name: &str) -> String {
    let open = |layer: &PathBuf| path::open_file_in(path::open_root(layer).ok()?.as_fd(), Path::new(name)).ok();
    let mut bytes = Vec::new();
    if let Some(file) = layers.iter().find_map(open) {
        let _ = File::from(file).take(4 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_image_and_numbers_from_anywhere() {
        let dir = std::env::temp_dir().join(format!("onggi-users-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/sh\nbroken\n").unwrap();
        std::fs::write(dir.join("etc/group"), "root:x:0:\nweb:x:44:\nlogs:x:50:web,other\n").unwrap();
        let layers = [dir.clone()];
        let user = |wanted: &str| resolve(&layers, wanted, &[]);
        assert_eq!(user("web").unwrap(), User { uid: 33, gid: 44, umask: None, additional_gids: vec![50] });
        assert_eq!(user("33").unwrap().gid, 44);
        assert_eq!(user("1234").unwrap(), User { uid: 1234, ..User::default() });
        assert_eq!(user("web:logs").unwrap(), User { uid: 33, gid: 50, ..User::default() });
        assert_eq!(user("").unwrap(), User::default());
        assert!(user("nobody-here").is_err() && user("web:nothing").is_err());

        // What an image may have in its place: a FIFO (which must not keep us waiting), a link out of the image, no file at all.
        let passwd = dir.join("etc/passwd");
        std::fs::remove_file(&passwd).unwrap();
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(user("web").is_err());
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("../../../../../../../../etc/passwd", &passwd).unwrap();
        assert!(user("daemon").is_err(), "names of the host are none of the image's");
        std::fs::remove_dir_all(dir).unwrap();
    }
}

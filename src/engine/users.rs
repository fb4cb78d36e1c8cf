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
    // A number is a number, whatever the image calls its users: a line `10:x:0:0` must not make `--user 10` root (CVE-2016-3697).
    let number = number(user).map_err(|why| Error::invalid(doing(), why))?;
    let entry = entries(&passwd).find(|fields| number.map_or(fields[0] == user, |number| field(fields, 2) == Some(number)));
    let uid = match (&entry, number) {
        (_, Some(number)) => number,
        (Some(fields), None) => field(fields, 2).ok_or_else(|| Error::invalid(doing(), "its line in the image's /etc/passwd has no uid"))?,
        (None, None) => return Err(Error::invalid(doing(), format!("unable to find user {user}: no matching entries in passwd file of the image"))),
    };
    let gid = match group_wanted {
        Some(name) => group_id(&group, name)
            .map_err(|why| Error::invalid(doing(), why))?
            .ok_or_else(|| Error::invalid(doing(), format!("unable to find group {name}: no matching entries in group file of the image")))?,
        None => entry.as_ref().and_then(|fields| field(fields, 3)).unwrap_or(0),
    };
    let mut additional: Vec<u32> = Vec::new();
    // An explicit group stands for all of them (Docker does so, too).
    if let (Some(fields), None) = (&entry, group_wanted) {
        let member = |line: &Vec<&str>| line.get(3).is_some_and(|names| names.split(',').any(|name| name == fields[0]));
        additional.extend(entries(&group).filter(member).filter_map(|line| field(&line, 2)));
    }
    for name in more_groups {
        let adding = || format!("use --group-add {name}");
        let id = group_id(&group, name).map_err(|why| Error::invalid(adding(), why))?;
        additional.push(id.ok_or_else(|| Error::invalid(adding(), "the image's /etc/group has no such group"))?);
    }
    additional.sort_unstable();
    additional.dedup();
    // Among them is the own group: a program that may change its gid must not get rid of what that group is denied (CVE-2022-36109).
    additional.retain(|id| *id != gid);
    additional.insert(0, gid);
    Ok(User { uid, gid, umask: None, additional_gids: additional })
}

fn group_id(group: &str, name: &str) -> std::result::Result<Option<u32>, String> {
    let named = || entries(group).find(|fields| fields[0] == name).and_then(|fields| field(&fields, 2));
    Ok(number(name)?.or_else(named))
}

/// The ID that digits mean; None for a name. The kernel's have 32 bits, and Docker takes 31 of them.
fn number(text: &str) -> std::result::Result<Option<u32>, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i32>() {
        Ok(number) => Ok(Some(number.unsigned_abs())),
        Err(_) => Err(format!("{text}: uids and gids must be in range 0-{}", i32::MAX)),
    }
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
        assert_eq!(user("web").unwrap(), User { uid: 33, gid: 44, umask: None, additional_gids: vec![44, 50] });
        assert_eq!(user("33").unwrap().gid, 44);
        assert_eq!(user("1234").unwrap(), User { uid: 1234, additional_gids: vec![0], ..User::default() });
        assert_eq!(user("web:logs").unwrap(), User { uid: 33, gid: 50, additional_gids: vec![50], ..User::default() });
        assert_eq!(user("").unwrap(), User { additional_gids: vec![0], ..User::default() });
        // Digits are no name, also where an image has a user of that name.
        std::fs::write(dir.join("etc/passwd"), "root:x:0:0::/:\nweb:x:33:44::/:/bin/sh\n10:x:0:0::/:\n").unwrap();
        std::fs::write(dir.join("etc/group"), "root:x:0:\nweb:x:44:\nlogs:x:50:web,other\n20:x:0:\n").unwrap();
        assert_eq!(user("10:20").unwrap(), User { uid: 10, gid: 20, additional_gids: vec![20], ..User::default() });
        assert_eq!(resolve(&layers, "10", &["20".into()]).unwrap(), User { uid: 10, additional_gids: vec![0, 20], ..User::default() });
        assert!(user("4294967296").is_err() && user("2147483648").is_err() && user("0:99999999999").is_err());
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

//! A full disk at each stage of a pull: what was here is as it was, what came and is not whole is gone, and the room is given back.

use std::fs;

use nix::mount::{MsFlags, mount, umount};

use crate::faulty::Image;
use crate::faulty::content::{Layer, noise};
use crate::faulty::scene::{Scene, assert_clear};

/// A scene whose jar is a disk of its own.
struct Small {
    scene: Scene,
}

impl Small {
    fn new() -> Option<Small> {
        let scene = Scene::new()?;
        // Mounts are this thread's and its children's alone.
        onggi::sys::namespace::unshare(onggi::sys::namespace::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("small"), &scene.jar.root, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
        Some(Small { scene })
    }

    fn resize(&self, size: &str) {
        mount(Some("small"), &self.scene.jar.root, Some("tmpfs"), MsFlags::MS_REMOUNT, Some(&*format!("size={size}"))).unwrap();
    }

    /// Bytes that are taken.
    fn used(&self) -> u64 {
        let facts = nix::sys::statvfs::statvfs(&self.scene.jar.root).unwrap();
        (facts.blocks() - facts.blocks_free()) * facts.fragment_size()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount(&self.scene.jar.root);
    }
}

#[test]
fn on_a_full_disk_a_pull_says_so_and_gives_back_what_it_took() {
    let Some(small) = Small::new() else { return };
    let scene = &small.scene;
    let here = Image::small(1);
    scene.registry.put("here", "1", &here);
    scene.pulls("here:1", &here);
    let before = (small.used(), scene.references());
    // Unpacked 3 MB, and as much again while they are fetched.
    let layers: Vec<Layer> = (0..3).map(|seed| Layer::of(&[(&*format!("file{seed}"), &noise(seed, 1 << 20)[..])])).collect();
    let image = Image::of(&layers);
    scene.registry.put("web", "1", &image);
    let mut refused = 0;
    for more in (0..40u64).map(|step| step * 196_608) {
        small.resize(&(before.0 + 8192 + more).to_string());
        let said = scene.pull("web:1");
        if said.code == 0 {
            small.resize("64m");
            scene.assert_right("web:1", &image);
            scene.says(&["rmi", "-f", &scene.registry.name("web:1")]);
        } else {
            refused += 1;
            assert!(said.code == 1 && said.err.contains("ENOSPC"), "{more}: {} {}", said.code, said.err);
            assert_clear(&said.err);
            assert_eq!(scene.references(), before.1, "{more}");
        }
        small.resize("64m");
        scene.assert_intact();
        // Finished layers may stay until somebody prunes.
        assert_eq!(scene.says(&["image", "prune", "-f"]).code, 0);
        scene.assert_right("here:1", &here);
        assert!(small.used() <= before.0 + 65_536, "{more}: {} bytes were taken, and now {}", before.0, small.used());
    }
    assert!((3..40).contains(&refused), "{refused} of 40 were refused");
}

#[test]
fn without_inodes_too() {
    let Some(small) = Small::new() else { return };
    let scene = &small.scene;
    let files: Vec<(String, Vec<u8>)> = (0..200).map(|number| (format!("file{number}"), vec![1])).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    scene.registry.put("web", "1", &Image::of(&[Layer::of(&files)]));
    mount(Some("small"), &scene.jar.root, Some("tmpfs"), MsFlags::MS_REMOUNT, Some("nr_inodes=120")).unwrap();
    let said = scene.pull("web:1");
    assert!(said.code == 1 && said.err.contains("ENOSPC"), "{}", said.err);
    scene.assert_intact();
    assert!(fs::read_dir(scene.jar.root.join("data/snapshots")).unwrap().next().is_none());
}

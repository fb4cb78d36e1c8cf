//! One registry, five clients: what one of them pushes, each other one pulls, and the digests are the same all the way round. The registry
//! is the distribution project's own, on a network of the test's own.
//!
//! See it: `skopeo inspect docker://localhost:5000/web`. Read: docker push(1), skopeo-copy(1), umoci(1). Source: OCI distribution
//! specification 1.1.

#[path = "../support/faulty/mod.rs"]
mod faulty;
#[path = "../support/mod.rs"]
mod support;

mod clients;

use std::time::Instant;

use onggi::image::manifest;
use serde_json::json;

use clients::{Client, Distribution, Held};
use faulty::Image;
use faulty::content::{Layer, archive, noise};
use support::jar::Jar;

fn registry() -> Option<(Jar, Distribution)> {
    if !nix::unistd::geteuid().is_root() {
        support::skip_for_want_of("these engines run as root, and this is not root");
        return None;
    }
    // Makes this thread's network.
    let jar = Jar::empty();
    Some((jar, Distribution::new()?))
}

fn skopeo() -> Option<Client> {
    Some(Client::Skopeo { program: support::peer("skopeo")?, folder: Jar::empty() })
}

#[test]
fn what_one_pushes_each_other_pulls_with_the_same_digests() {
    let Some((_jar, registry)) = registry() else { return };
    let clients = Client::all();
    for maker in &clients {
        let name = registry.name(&format!("made/by-{}:1", maker.name()));
        maker.make(&name, &archive(&[("etc/", b""), ("etc/noise", &noise(1, 200_000)), ("etc/maker", maker.name().as_bytes())]));
        maker.push(&name);
        let held: Vec<(&str, Held)> = clients.iter().map(|client| (client.name(), client.pull(&name))).collect();
        for (client, other) in &held {
            assert_eq!(other, &held[0].1, "{client} pulls what {} pushed", maker.name());
        }
    }
}

#[test]
fn what_is_pulled_and_pushed_elsewhere_keeps_its_digest_and_its_layers_are_mounted() {
    let Some((jar, registry)) = registry() else { return };
    let Some(skopeo) = skopeo() else { return };
    let image = Image::of(&[1, 2, 3].map(|seed| Layer::of(&[(&*format!("file{seed}"), &noise(seed, 100_000)[..])])));
    let (from, to) = (registry.name("team/web:1"), registry.name("other/web:2"));
    image.write_layout(&jar.root.join("layout"), "1");
    skopeo.copy(&format!("oci:{}:1", jar.root.join("layout").display()), &format!("docker://{from}"));
    let onggi = Client::Onggi(Jar::empty());
    assert_eq!(onggi.pull(&from), Held { manifest: image.digest.clone(), id: image.id.clone() });
    onggi.shows(&["tag", &from, &to]);
    let said = onggi.shows(&["push", &to]);
    assert!(said.starts_with(&format!("The push refers to repository [{}]\n", registry.name("other/web"))), "{said}");
    assert_eq!(said.matches("Mounted from team/web").count(), 3, "{said}");
    assert!(said.contains(&format!("2: digest: {} size: {}\n", image.digest, image.bytes.len())), "{said}");
    let said = onggi.shows(&["push", &to]);
    assert_eq!(said.matches("Layer already exists").count(), 3, "{said}");
    assert_eq!(skopeo.pull(&to).manifest, image.digest);
    // Also where nothing of it is, from an engine that has it by another name.
    let second = Distribution::new().unwrap();
    let there = second.name("web:3");
    onggi.shows(&["tag", &from, &there]);
    let said = onggi.shows(&["push", &there]);
    assert_eq!(said.matches(": Pushed").count(), 3, "{said}");
    assert_eq!(skopeo.pull(&there), Held { manifest: image.digest, id: image.id });
}

/// An image goes in by skopeo, Onggi pulls it and pushes it under another name; then each engine pulls that one.
#[track_caller]
fn goes_round(image: &Image, engines: bool) {
    let Some((jar, registry)) = registry() else { return };
    let Some(skopeo) = skopeo() else { return };
    let (from, to) = (registry.name("in:1"), registry.name("out:1"));
    image.write_layout(&jar.root.join("layout"), "1");
    skopeo.copy(&format!("oci:{}:1", jar.root.join("layout").display()), &format!("docker://{from}"));
    let onggi = Client::Onggi(Jar::empty());
    assert_eq!(onggi.pull(&from).manifest, image.digest);
    onggi.shows(&["tag", &from, &to]);
    onggi.shows(&["push", &to]);
    assert_eq!(skopeo.pull(&to).manifest, image.digest);
    for engine in [Client::docker(), Client::podman()].into_iter().flatten().filter(|_| engines) {
        assert_eq!(engine.pull(&to).id, image.id, "{}", engine.name());
    }
}

#[test]
fn a_hundred_layers_go_round() {
    let layers: Vec<Layer> = (0..100).map(|number| Layer::of(&[(&*format!("file{number}"), &noise(number, 300)[..])])).collect();
    goes_round(&Image::of(&layers), true);
}

#[test]
fn empty_layers_go_round() {
    goes_round(&Image::of(&[Layer::of(&[]), Layer::of(&[("a", b"a")]), Layer::of(&[]), Layer::of(&[("empty", b"")])]), true);
}

#[test]
fn blobs_of_no_bytes_go_round() {
    // Engines differ on whether that is an archive; the digests are the same for all who take it.
    goes_round(&Image::of(&[Layer::of(&[("a", b"a")]), Layer::sent_as(b"", Vec::new(), manifest::LAYER)]), false);
}

#[test]
fn other_compressions_go_round() {
    let files = archive(&[("file", &noise(3, 100_000))]);
    goes_round(&Image::of(&[Layer::sent_as(&files, files.clone(), manifest::LAYER)]), true);
    goes_round(&Image::of(&[Layer::sent_as(&files, faulty::content::zstd(&files), manifest::LAYER_ZSTD)]), false);
}

#[test]
fn an_index_is_pushed_with_what_is_here_of_it() {
    let Some((jar, registry)) = registry() else { return };
    let Some(skopeo) = skopeo() else { return };
    let here = format!("linux/{}", manifest::architecture());
    let foreign = Image::with_config(&[Layer::of(&[("a", b"foreign")])], json!({"architecture": "riscv64", "os": "linux", "config": {}}));
    let image = Image::small(1);
    let index = Image::index(&[(&*here, image.clone()), ("linux/riscv64", foreign)]);
    let (from, to) = (registry.name("in:1"), registry.name("out:1"));
    index.write_layout(&jar.root.join("layout"), "1");
    skopeo.copy(&format!("oci:{}:1", jar.root.join("layout").display()), &format!("docker://{from}"));
    let onggi = Client::Onggi(Jar::empty());
    assert_eq!(onggi.pull(&from), Held { manifest: index.digest.clone(), id: image.id.clone() });
    onggi.shows(&["tag", &from, &to]);
    // The other machine's image isn't here: what is, is pushed, and whoever pulls it gets this machine's image.
    onggi.shows(&["push", &to]);
    for client in [Client::docker(), Client::podman()].into_iter().flatten() {
        assert_eq!(client.pull(&to).id, image.id, "{}", client.name());
    }
    assert_eq!(Client::Onggi(Jar::empty()).pull(&to).id, image.id);
}

#[test]
fn a_big_sparse_layer_goes_round() {
    // ONGGI_BIG=5 for five gigabytes, which take as much of the disk.
    let gigabytes: u64 = std::env::var("ONGGI_BIG").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let layer = Layer::zeros(if gigabytes == 0 { 2 } else { gigabytes * 64 });
    let began = Instant::now();
    goes_round(&Image::of(&[layer]), gigabytes == 0);
    if gigabytes > 0 {
        support::say(&format!("{gigabytes} GB of zeros went round in {:.1} s", began.elapsed().as_secs_f64()));
    }
}

#[test]
fn manifests_of_many_forms_are_told_apart_by_what_they_are() {
    let Some((jar, registry)) = registry() else { return };
    let Some(skopeo) = skopeo() else { return };
    let image = Image::small(7);
    image.write_layout(&jar.root.join("layout"), "1");
    let layout = format!("oci:{}:1", jar.root.join("layout").display());
    // Docker's own form of the same image, and schema 1.
    let onggi = Client::Onggi(Jar::empty());
    for (format, is_taken) in [("oci", true), ("v2s2", true), ("v2s1", false)] {
        let name = registry.name(&format!("forms:{format}"));
        let mut copy = skopeo.command(&["copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--format", format, &layout]);
        let done = copy.arg(format!("docker://{name}")).output().unwrap();
        assert!(done.status.success() || !is_taken, "{}", String::from_utf8_lossy(&done.stderr));
        if is_taken {
            assert_eq!(onggi.pull(&name), skopeo.pull(&name), "{format}");
        } else if done.status.success() {
            let said = onggi.command(&["pull", &name]).output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.contains("schema 1"), "{said}");
        }
    }
}

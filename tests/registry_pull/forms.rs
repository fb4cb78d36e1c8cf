//! What images look like in the wild: other compressions than their labels say, many layers, none, empty ones; and what is no image for us.

use serde_json::{Value, json};

use onggi::image::manifest::{self, LAYER, LAYER_GZIP, LAYER_ZSTD};

use crate::faulty::Image;
use crate::faulty::content::{Layer, archive, descriptor, digest, gzip, noise, zstd};
use crate::faulty::scene::Scene;

#[track_caller]
fn is_pulled(image: &Image) {
    let Some(scene) = Scene::new() else { return };
    scene.registry.put("web", "1", image);
    scene.pulls("web:1", image);
}

#[track_caller]
fn is_refused(image: &Image, parts: &[&str]) -> String {
    let Some(scene) = Scene::new() else { return String::new() };
    scene.registry.put("web", "1", image);
    scene.refuses("web:1", parts)
}

#[test]
fn a_layers_bytes_say_how_it_is_compressed_and_its_label_may_err() {
    let files = archive(&[("etc/", b""), ("etc/noise", &noise(1, 40_000))]);
    let forms = [files.clone(), gzip(&files), zstd(&files)];
    for bytes in &forms {
        for label in [LAYER, LAYER_GZIP, LAYER_ZSTD, manifest::DOCKER_LAYER, manifest::DOCKER_LAYER_GZIP] {
            is_pulled(&Image::of(&[Layer::sent_as(&files, bytes.clone(), label)]));
        }
    }
    // Two members after each other are one stream.
    is_pulled(&Image::of(&[Layer::sent_as(&files, [gzip(&files[..700]), gzip(&files[700..])].concat(), LAYER_GZIP)]));
}

#[test]
fn a_hundred_layers_and_the_same_one_twice() {
    let one = |number: usize| Layer::of(&[(&*format!("file{number}"), &noise(number as u64, 500)[..])]);
    let mut layers: Vec<Layer> = (0..100).map(one).collect();
    layers.push(layers[0].clone());
    layers.push(layers[50].clone());
    let Some(scene) = Scene::new() else { return };
    let image = Image::of(&layers);
    scene.registry.put("web", "1", &image);
    scene.pulls("web:1", &image);
    assert_eq!(scene.registry.count(&layers[0].digest()), 1, "fetched once though it is there twice");
}

#[test]
fn layers_of_nothing() {
    // An archive of no entries, no bytes at all, and an image of no layers.
    is_pulled(&Image::of(&[Layer::of(&[])]));
    is_pulled(&Image::of(&[Layer::of(&[("a", b"a")]), Layer::of(&[]), Layer::of(&[("b", b"")])]));
    is_pulled(&Image::of(&[]));
    let Some(scene) = Scene::new() else { return };
    let image = Image::of(&[Layer::sent_as(b"", Vec::new(), LAYER)]);
    scene.registry.put("web", "1", &image);
    let said = scene.pull("web:1");
    // Docker takes it for an empty archive; either is an answer.
    assert!(said.code == 0 || said.err.contains(&image.layers()[0][7..19]), "{}", said.err);
    scene.assert_intact();
}

#[test]
fn an_index_of_an_index_and_one_for_each_machine_of_a_room() {
    let here = format!("linux/{}", manifest::architecture());
    let image = Image::small(1);
    let index = Image::index(&[(&*here, Image::index(&[(&*here, image.clone())]))]);
    let Some(scene) = Scene::new() else { return };
    scene.registry.put("web", "1", &index);
    let said = scene.pull("web:1");
    match said.code {
        0 => scene.assert_right("web:1", &Image { id: image.id.clone(), ..index.clone() }),
        _ => assert!(said.err.contains("index"), "{}", said.err),
    }
    scene.assert_intact();
    // One that goes on for ever is left alone.
    let deep = (0..50).fold(image.clone(), |inner, _| Image::index(&[(&*here, inner)]));
    scene.registry.put("web", "2", &deep);
    scene.refuses("web:2", &["index"]);
}

#[test]
fn schema_1_is_refused_with_what_it_is() {
    let old = json!({"schemaVersion": 1, "name": "web", "tag": "1", "architecture": "amd64", "fsLayers": [], "history": [], "signatures": []});
    for media_type in ["application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.docker.distribution.manifest.v1+json"] {
        let said = is_refused(&Image::raw(media_type, old.to_string().into_bytes()), &["schema"]);
        assert!(said.is_empty() || said.contains('1'), "{said}");
    }
    // Told as something newer, it is still what it is.
    is_refused(&Image::raw(manifest::MANIFEST, old.to_string().into_bytes()), &["schema"]);
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let not_json = Image::raw(manifest::MANIFEST, b"<html>Welcome to the hotel's network</html>".to_vec());
    is_refused(&not_json, &["web"]);
    is_refused(&Image::raw("text/html", not_json.bytes.clone()), &["web"]);
    is_refused(&Image::raw(manifest::MANIFEST, b"{}".to_vec()), &["web"]);
    // A Helm chart: a manifest whose config is something else.
    let mut chart = Image::raw(manifest::MANIFEST, Vec::new());
    let config = descriptor("application/vnd.cncf.helm.config.v1+json", b"{}");
    let layer = descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart");
    chart.bytes = json!({"schemaVersion": 2, "mediaType": manifest::MANIFEST, "config": config, "layers": [layer]}).to_string().into_bytes();
    chart.digest = digest(&chart.bytes);
    chart.blobs = vec![(digest(b"{}"), b"{}".to_vec()), (digest(b"chart"), b"chart".to_vec())];
    is_refused(&chart, &["application/vnd.cncf.helm"]);
}

#[test]
fn a_layer_that_is_no_archive_or_wants_out_of_its_folder_is_refused() {
    is_refused(&Image::of(&[Layer::gzipped(&noise(1, 20_000))]), &[]);
    is_refused(&Image::of(&[Layer::sent_as(b"x", b"BZh91AY&SY no archive of ours".to_vec(), LAYER)]), &["bzip2"]);
    let mut hostile = archive(&[("xx/xx/xx/evil", b"evil")]);
    hostile[..9].copy_from_slice(b"../../../");
    // The header's checksum is of its bytes as they are now: tar(5).
    hostile[148..156].copy_from_slice(b"        ");
    let sum: u32 = hostile[..512].iter().map(|byte| u32::from(*byte)).sum();
    hostile[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    is_refused(&Image::of(&[Layer::gzipped(&hostile)]), &["evil"]);
    let whole = gzip(&archive(&[("a", &noise(1, 50_000)[..])]));
    is_refused(&Image::of(&[Layer::sent_as(b"", whole[..whole.len() / 2].to_vec(), LAYER_GZIP)]), &["cut off"]);
}

#[test]
fn a_config_that_lies_about_its_layers_is_refused() {
    let layer = Layer::of(&[("a", b"a")]);
    let other = Layer { diff_id: digest(b"something else"), ..layer.clone() };
    is_refused(&Image::of(&[other]), &[&layer.digest()[7..19]]);
    // Two layers in the manifest, one in the config.
    let mut image = Image::of(std::slice::from_ref(&layer));
    change(&mut image, |manifest| {
        let first = manifest["layers"][0].clone();
        manifest["layers"] = json!([first, first]);
    });
    is_refused(&image, &["layers"]);
    let mut image = Image::of(std::slice::from_ref(&layer));
    change(&mut image, |manifest| manifest["layers"][0]["size"] = json!(5));
    is_refused(&image, &[&layer.digest()[7..19]]);
    let mut image = Image::of(std::slice::from_ref(&layer));
    change(&mut image, |manifest| manifest["layers"][0]["size"] = json!(u64::MAX));
    is_refused(&image, &[]);
    let mut image = Image::of(std::slice::from_ref(&layer));
    change(&mut image, |manifest| manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd"));
    is_refused(&image, &["digest"]);
    let mut image = Image::of(std::slice::from_ref(&layer));
    change(&mut image, |manifest| manifest["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128))));
    is_refused(&image, &["sha512"]);
    // Another image for every reader.
    let mut image = Image::of(&[layer]);
    change(&mut image, |manifest| manifest["manifests"] = json!([]));
    is_refused(&image, &["a manifest and an index at once"]);
}

/// Another manifest for the same blobs.
fn change(image: &mut Image, edit: impl FnOnce(&mut Value)) {
    let mut manifest: Value = serde_json::from_slice(&image.bytes).unwrap();
    edit(&mut manifest);
    image.bytes = manifest.to_string().into_bytes();
    image.digest = digest(&image.bytes);
}

#[test]
fn a_foreign_layer_is_not_fetched_from_where_its_manifest_says() {
    let Some(scene) = Scene::new() else { return };
    let layer = Layer { media_type: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into(), ..Layer::of(&[("a", b"a")]) };
    let elsewhere = crate::faulty::Registry::new();
    let mut image = Image::of(std::slice::from_ref(&layer));
    change(&mut image, |manifest| manifest["layers"][0]["urls"] = json!([format!("http://{}/v2/x/blobs/{}", elsewhere.host, layer.digest())]));
    // The registry has it itself: that is where it comes from.
    scene.registry.put("web", "1", &image);
    scene.pulls("web:1", &image);
    assert_eq!(elsewhere.asked().len(), 0, "a manifest's author doesn't choose whom this machine talks to");
}

#[test]
fn five_gigabytes_of_zeros_or_a_few_megabytes() {
    let Some(scene) = Scene::new() else { return };
    // ONGGI_BIG=5 for five gigabytes.
    let gigabytes: u64 = std::env::var("ONGGI_BIG").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let pieces = if gigabytes == 0 { 4 } else { gigabytes * 64 };
    let layer = Layer::zeros(pieces);
    let image = Image::of(&[layer]);
    scene.registry.put("web", "1", &image);
    let began = std::time::Instant::now();
    let said = scene.pull("web:1");
    assert_eq!(said.code, 0, "{}", said.err);
    if gigabytes > 0 {
        crate::support::say(&format!("{gigabytes} GB of zeros were pulled in {:.1} s", began.elapsed().as_secs_f64()));
    }
    let snapshot = std::fs::read_dir(scene.jar.root.join("data/snapshots")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(snapshot.join("fs/zeros")).unwrap().len(), pieces << 24);
}

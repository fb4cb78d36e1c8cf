//! A thousand random faults of a registry and of the way to it: each pull ends with the right image or with one clear error, in bounded time,
//! and after each the store is intact.
//!
//! `ONGGI_FAULTS_SEED=7 ONGGI_FAULTS=100000 cargo test --test registry_faults` replays, or goes on for longer.
//!
//! See it: `ONGGI_FAULTS_TOLD=1` prints each pull with its faults and its answer. Source: OCI distribution specification 1.1.

#[path = "support/faulty/mod.rs"]
mod faulty;
mod support;

use std::time::{Duration, Instant};

use faulty::content::{Dice, Layer, noise};
use faulty::scene::{Scene, assert_clear};
use faulty::{Auth, Fault, Image};

/// Most of the time is waited: for the client's next try, or for a slow answer.
const WORKERS: u64 = 8;

/// No pull of a few kilobytes may take longer, whatever the registry does.
const LONGEST: Duration = Duration::from_secs(60);

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn after_each_of_a_thousand_random_faults_there_is_the_right_image_or_one_clear_error() {
    let (seed, faults) = (number("ONGGI_FAULTS_SEED", 20_261_121), number("ONGGI_FAULTS", 1000));
    let began = Instant::now();
    let work = |worker: u64| move || Worker::new(seed + worker).map_or(Tally::default(), |mut worker| worker.work(faults / WORKERS));
    let workers: Vec<_> = (0..WORKERS).map(|worker| std::thread::spawn(work(worker))).collect();
    let mut all = Tally::default();
    for (worker, thread) in workers.into_iter().enumerate() {
        let tally = thread.join().unwrap_or_else(|_| panic!("ONGGI_FAULTS_SEED={}: see above", seed + worker as u64));
        all.faults += tally.faults;
        all.right += tally.right;
        all.refused += tally.refused;
        all.slowest = all.slowest.max(tally.slowest);
    }
    let Tally { faults, right, refused, slowest } = all;
    support::say(&format!(
        "{faults} faults in {:.0?}: {right} times the image, {refused} times an error; the slowest {slowest:.1?}",
        began.elapsed()
    ));
    assert!(faults == 0 || (right > 0 && refused > 0), "the faults are too hard or too soft");
}

#[derive(Default)]
struct Tally {
    faults: u64,
    right: u64,
    refused: u64,
    slowest: Duration,
}

struct Worker {
    scene: Scene,
    dice: Dice,
    images: Vec<Image>,
}

impl Worker {
    fn new(seed: u64) -> Option<Worker> {
        let layer = |seed: u64| Layer::of(&[(&*format!("file{seed}"), &noise(seed, 12_000)[..])]);
        // Each shares a layer with the next one.
        let images = (0..6).map(|number| Image::of(&[layer(number), layer(number + 1), layer(number + 100)])).collect();
        Some(Worker { scene: Scene::new()?, dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1), images })
    }

    fn work(&mut self, faults: u64) -> Tally {
        let mut tally = Tally::default();
        while tally.faults < faults {
            let number = self.dice.roll(self.images.len() as u64) as usize;
            let tag = ["1", "latest"][self.dice.roll(2) as usize];
            self.scene.registry.put("web", tag, &self.images[number]);
            let tokens = self.dice.roll(3) == 0;
            self.scene.registry.asks_for(if tokens { Auth::Token { user: None, tokens: Vec::new() } } else { Auth::Nothing });
            let count = 1 + self.dice.roll(4);
            let told: Vec<String> = (0..count).map(|_| self.fault(number)).collect();
            tally.faults += count;
            self.pull(tag, number, &told, &mut tally);
            self.scene.registry.is_well();
            match self.dice.roll(4) {
                0 => assert_eq!(self.scene.says(&["image", "prune", "-af"]).code, 0),
                1 => drop(self.scene.says(&["rmi", &self.scene.registry.name(&format!("web:{tag}"))])),
                _ => {}
            }
        }
        tally
    }

    fn pull(&mut self, tag: &str, number: usize, faults: &[String], tally: &mut Tally) {
        let rest = format!("web:{tag}");
        let (before, began) = (self.scene.references(), Instant::now());
        let said = self.scene.pull(&rest);
        let took = began.elapsed();
        if is_told() {
            support::say(&format!("{took:.1?} {faults:?}\n  {}", said.err.trim_end()));
        }
        tally.slowest = tally.slowest.max(took);
        assert!(took < LONGEST, "{took:?} for {faults:?}");
        if said.code == 0 {
            self.scene.assert_right(&rest, &self.images[number]);
            tally.right += 1;
        } else {
            assert_eq!(said.code, 1, "{faults:?}: {}", said.err);
            assert_clear(&said.err);
            assert_eq!(self.scene.references(), before, "{faults:?}");
            self.scene.assert_intact();
            tally.refused += 1;
        }
    }

    /// Gives the registry one more fault: what it is, in words.
    fn fault(&mut self, number: usize) -> String {
        let image = &self.images[number];
        let layer = image.layers()[self.dice.roll(3) as usize].clone();
        let part = match self.dice.roll(8) {
            0 => "HEAD /v2/web/manifests/".to_string(),
            1 => "GET /v2/web/manifests/".to_string(),
            2 => format!("/blobs/{}", image.id),
            3 => "/token".to_string(),
            4 => "/v2/".to_string(),
            _ => format!("/blobs/{layer}"),
        };
        let times = match self.dice.roll(12) {
            0 => usize::MAX,
            1..4 => 2,
            _ => 1,
        };
        let fault = self.any();
        self.scene.registry.fails(&part, times, fault.clone());
        let text = format!("{fault:?}");
        format!("{part} {times} {}", text.chars().take(80).collect::<String>())
    }

    fn any(&mut self) -> Fault {
        let at = self.dice.roll(13_000) as usize;
        let other = self.images[self.dice.roll(6) as usize].digest.clone();
        let elsewhere = format!("http://{}{{path}}", self.scene.registry.host);
        match self.dice.roll(24) {
            0 => Fault::Gone,
            1 => Fault::Garbage,
            2 => Fault::Late(Duration::from_millis(at as u64 / 20)),
            3 => Fault::Slow(1000 + at, Duration::from_millis(30)),
            4 | 5 => Fault::Cut(at),
            6 | 7 => Fault::Flip(at),
            8 => Fault::Status([400, 403, 404, 408, 416, 418][at % 6], vec![]),
            9 => Fault::Status([500, 502, 503, 504][at % 4], vec![]),
            10 => Fault::Status(429, vec![("Retry-After", ["0", "1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"][at % 4].into())]),
            11 => Fault::Unauthorized,
            12 => Fault::Redirect([301, 302, 307, 308][at % 4], ["{path}", &elsewhere, "/v2/", "http://127.0.0.1:1/"][at / 4 % 4].into()),
            13 => Fault::Length([-1000, -1, 1, 1000][at % 4]),
            14 => Fault::Chunked,
            15 => Fault::Header("Docker-Content-Digest", other),
            16 => Fault::Header("Content-Type", ["text/html", "", "application/vnd.oci.image.index.v1+json"][at % 3].into()),
            17 => Fault::Bytes(noise(at as u64, at)),
            18 => Fault::Bytes(Vec::new()),
            19 => Fault::Endless,
            20 => Fault::EndlessHead,
            21 => Fault::NoRange,
            22 => Fault::OtherRange,
            // It costs the client's whole patience.
            _ if at < 200 => Fault::Silent,
            _ => Fault::Header("Content-Encoding", "gzip".into()),
        }
    }
}

fn is_told() -> bool {
    number("ONGGI_FAULTS_TOLD", 0) > 0
}

//! Other ways to the same image: redirects, mirrors, proxies, TLS with authorities of one's own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::faulty::content::{Layer, noise};
use crate::faulty::scene::Scene;
use crate::faulty::{Fault, Image, Registry};
use crate::support::jar::until;
use crate::support::peer;

fn scene() -> Option<(Scene, Image)> {
    let scene = Scene::new()?;
    let image = Image::of(&[1, 2].map(|seed| Layer::of(&[(&*format!("file{seed}"), &noise(seed, 60_000)[..])])));
    scene.registry.put("team/web", "1", &image);
    Some((scene, image))
}

#[test]
fn a_redirect_is_followed_also_to_a_path_of_its_own_and_for_a_part() {
    let Some((scene, image)) = scene() else { return };
    // The storage knows the blobs by a name of its own.
    scene.registry.fails("/v2/team/web/blobs/", usize::MAX, Fault::Redirect(307, "/v2/storage{path}".into()));
    scene.registry.fails("/v2/storage/", usize::MAX, Fault::None);
    scene.registry.fails("/v2/storage/", 1, Fault::Cut(30_000));
    scene.pulls("team/web:1", &image);
}

#[test]
fn redirects_in_a_circle_or_to_nowhere_are_an_error() {
    let Some((scene, _)) = scene() else { return };
    for to in ["{path}", "", "ftp://127.0.0.1/x", "http://", "//", "http://127.0.0.1:1{path}", "http://[::1", "file:///etc/passwd"] {
        scene.registry.forget_asked();
        scene.registry.fails("/blobs/", usize::MAX, Fault::Redirect(302, to.into()));
        scene.refuses("team/web:1", &[]);
        scene.registry.is_well();
        assert!(scene.registry.count("/blobs/") < 100, "{to}: {}", scene.registry.count("/blobs/"));
    }
    scene.registry.fails("/manifests/", usize::MAX, Fault::Status(302, vec![]));
    scene.refuses("team/web:1", &["team/web"]);
}

/// Writes the user's registries.json.
fn configure(scene: &Scene, settings: serde_json::Value) {
    let folder = scene.jar.root.join("home/.config/onggi");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("registries.json"), settings.to_string()).unwrap();
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_when_it_is_away_or_has_it_not() {
    let Some((scene, image)) = scene() else { return };
    let mirror = Registry::new();
    mirror.put("team/web", "1", &image);
    let host = scene.registry.host.clone();
    configure(&scene, json!({"mirrors": {&host: [format!("http://{}", mirror.host)]}}));
    scene.pulls("team/web:1", &image);
    assert_eq!(scene.registry.asked().len(), 0, "{:?}", scene.registry.asked());
    scene.says(&["rmi", "-f", &scene.registry.name("team/web:1")]);

    // It has the manifest, and then it fails.
    for fault in [Fault::Status(404, vec![]), Fault::Status(500, vec![]), Fault::Gone, Fault::Unauthorized] {
        mirror.fails("/blobs/", usize::MAX, fault.clone());
        let said = scene.pull("team/web:1");
        assert_eq!(said.code, 0, "{fault:?}: {}", said.err);
        scene.assert_right("team/web:1", &image);
        mirror.is_well();
        scene.says(&["rmi", "-f", &scene.registry.name("team/web:1")]);
    }
    // Wrong bytes from a mirror are not taken either.
    mirror.fails("/blobs/", usize::MAX, Fault::Flip(100));
    let said = scene.pull("team/web:1");
    assert!(said.code == 0 || said.err.contains("sha256") || said.err.contains("digest"), "{}", said.err);
    scene.assert_intact();
    scene.says(&["rmi", "-f", &scene.registry.name("team/web:1")]);
    drop(mirror);
    scene.pulls("team/web:1", &image);
}

/// A proxy as companies have it: it forwards what names another host, and opens tunnels. What it was asked for.
struct Proxy {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn new() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, asked) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                std::thread::spawn(move || drop(forward(stream, &log)));
            }
        });
        Proxy { host, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn forward(client: TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let line = head.lines().next().unwrap_or_default().to_string();
    log.lock().unwrap().push(line.clone());
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (host, first) = match target.strip_prefix("http://").and_then(|rest| rest.split_once('/')) {
        Some((host, path)) => (host, head.replacen(target, &format!("/{path}"), 1).replacen("\r\n", "\r\nConnection: close\r\n", 1)),
        None => (target, String::new()),
    };
    let mut server = TcpStream::connect(host)?;
    match first.is_empty() {
        true => (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?,
        false => server.write_all(first.as_bytes())?,
    }
    let mut back = server.try_clone()?;
    let mut out = client.try_clone()?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut out);
        let _ = out.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut reader.by_ref(), &mut server);
    Ok(())
}

/// An address of this test's network that is not its loopback's: for loopback nobody asks a proxy or trusts plain HTTP less.
fn other_address(scene: &Scene) -> Option<Registry> {
    peer("ip")?;
    let added = Command::new("ip").args(["address", "add", "192.0.2.10/32", "dev", "lo"]).status().unwrap();
    assert!(added.success());
    let registry = Registry::at(TcpListener::bind("192.0.2.10:0").unwrap());
    configure(scene, json!({"insecure-registries": ["192.0.2.0/24"]}));
    Some(registry)
}

#[test]
fn proxies_of_the_environment_are_used_but_not_for_those_whom_it_excepts() {
    let Some((scene, image)) = scene() else { return };
    let Some(registry) = other_address(&scene) else { return };
    registry.put("team/web", "1", &image);
    let (proxy, name) = (Proxy::new(), registry.name("team/web:1"));
    let url = format!("http://{}", proxy.host);
    let pull = |name: &str, variables: &[(&str, &str)]| {
        let done = scene.onggi(&["pull", name]).envs(variables.iter().copied()).output().unwrap();
        assert!(done.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&done.stderr));
        scene.says(&["rmi", "-f", name]);
        proxy.asked().iter().filter(|line| line.contains(&registry.host)).count()
    };
    assert_eq!(pull(&name, &[]), 0);
    for variable in ["HTTP_PROXY", "http_proxy"] {
        assert!(pull(&name, &[(variable, &url)]) > 0, "{variable}");
    }
    for excepted in ["192.0.2.10", "192.0.2.0/24", "*", "other.example, 192.0.2.10", &registry.host] {
        assert_eq!(pull(&name, &[("HTTP_PROXY", &url), ("NO_PROXY", excepted)]), 0, "{excepted}");
    }
    assert!(pull(&name, &[("HTTP_PROXY", &url), ("NO_PROXY", "192.0.2.11,example.org")]) > 0);
    // What is on this machine is not asked for elsewhere.
    let done = scene.onggi(&["pull", &scene.registry.name("team/web:1")]).env("HTTP_PROXY", &url).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(proxy.asked(), [""; 0]);
    // A proxy that is away is named.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done = scene.onggi(&["pull", &name]).env("HTTP_PROXY", format!("http://{nobody}")).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(1) && said.contains("proxy"), "{said}");
}

/// nginx with TLS before a registry; it ends when dropped.
struct Tls {
    nginx: Child,
    host: String,
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.nginx.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let _ = self.nginx.wait();
    }
}

impl Tls {
    fn before(registry: &Registry, folder: &Path, more: &str) -> Option<Tls> {
        let (nginx, openssl) = (peer("nginx")?, peer("openssl")?);
        fs::create_dir_all(folder).unwrap();
        let run = |words: &str| {
            let done = Command::new(&openssl).args(words.split_whitespace()).current_dir(folder).output().unwrap();
            assert!(done.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&done.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";
        run(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=Classroom"));
        for (name, more) in [("server", "-addext subjectAltName=IP:192.0.2.10"), ("client", "-addext extendedKeyUsage=clientAuth")] {
            run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name} {more}"));
            run(&format!("x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2 -copy_extensions copy"));
        }
        let host = TcpListener::bind("192.0.2.10:0").unwrap().local_addr().unwrap().to_string();
        let server = format!("listen {host} ssl; ssl_certificate server.crt; ssl_certificate_key server.key; {more}");
        let way = format!("location / {{ proxy_pass http://{}; proxy_set_header Host $http_host; }}", registry.host);
        let conf = format!("daemon off; pid pid; error_log log; events {{}} http {{ access_log off; server {{ {server} {way} }} }}");
        fs::write(folder.join("conf"), conf).unwrap();
        let at = folder.to_str().unwrap();
        let nginx = Command::new(nginx).args(["-p", at, "-c", "conf", "-e", "log"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tls = Tls { nginx, host };
        until("nginx listens", || TcpStream::connect(&tls.host).is_ok());
        Some(tls)
    }
}

#[test]
fn tls_is_the_rule_and_an_authority_of_ones_own_is_trusted_where_it_is_put() {
    let Some((scene, image)) = scene() else { return };
    // Nothing is configured insecure here.
    let Some(plain) = other_address(&scene) else { return };
    fs::remove_file(scene.jar.root.join("home/.config/onggi/registries.json")).unwrap();
    plain.put("team/web", "1", &image);
    let said = scene.says(&["pull", &plain.name("team/web:1")]);
    assert!(said.code == 1 && said.err.contains(&plain.host) && said.err.contains("insecure-registries"), "{}", said.err);
    assert_eq!(plain.asked().iter().filter(|request| request.method == "HEAD" || request.method == "GET").count(), 0, "asked in the clear");

    let folder = scene.jar.root.join("tls");
    let Some(tls) = Tls::before(&scene.registry, &folder, "") else { return };
    let name = format!("{}/team/web:1", tls.host);
    let said = scene.says(&["pull", &name]);
    assert!(said.code == 1 && said.err.contains("certificate") && said.err.contains("certs.d"), "{}", said.err);
    let certs = scene.jar.root.join("home/.docker/certs.d").join(&tls.host);
    fs::create_dir_all(&certs).unwrap();
    fs::copy(folder.join("ca.crt"), certs.join("ca.crt")).unwrap();
    let said = scene.says(&["pull", &name]);
    assert_eq!(said.code, 0, "{}", said.err);
    scene.assert_intact();
    scene.says(&["rmi", "-f", &name]);

    // A token's or a blob's way may go to plain HTTP only where that is configured, and never with what is secret.
    scene.registry.fails("/blobs/", usize::MAX, Fault::Redirect(307, format!("http://{}{{path}}", plain.host)));
    plain.forget_asked();
    let said = scene.says(&["pull", &name]);
    assert!(said.code == 0 || said.err.contains("http"), "{}", said.err);
    assert!(plain.asked().iter().all(|request| request.header("authorization").is_none()));
    scene.registry.is_well();
    drop(tls);

    // A client's own certificate.
    let Some(tls) = Tls::before(&scene.registry, &folder, "ssl_client_certificate ca.crt; ssl_verify_client on;") else { return };
    let name = format!("{}/team/web:1", tls.host);
    let certs = scene.jar.root.join("home/.config/onggi/certs.d").join(&tls.host);
    fs::create_dir_all(&certs).unwrap();
    fs::copy(folder.join("ca.crt"), certs.join("ca.crt")).unwrap();
    assert_eq!(scene.says(&["pull", &name]).code, 1, "without the client's certificate");
    fs::copy(folder.join("client.crt"), certs.join("client.cert")).unwrap();
    let said = scene.says(&["pull", &name]);
    assert!(said.code == 1 && said.err.contains("client.key"), "half a pair: {}", said.err);
    fs::copy(folder.join("client.key"), certs.join("client.key")).unwrap();
    let said = scene.says(&["pull", &name]);
    assert_eq!(said.code, 0, "{}", said.err);
    scene.assert_intact();
}

//! The images that `scripts/base-images` makes of Debian's packages, used as the official images' pages say.
//!
//! They are made once and stay in the cache of whoever runs the tests; the tests themselves have no network but their own.
//!
//! See it: `scripts/base-images --help`, `ls ~/.cache/onggi/base-images`. Read: mmdebstrap(1), the images' pages at Docker Hub.

#[path = "base_images/made.rs"]
mod made;
mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use made::{base_images, eventually, fetch, jar_with};
use support::jar::{Jar, said};
use support::peer;

/// Stops a container, which must end by itself: well before it would be killed, and with this exit code.
#[track_caller]
fn stops_by_itself(jar: &Jar, name: &str) {
    let began = Instant::now();
    jar.does(&["stop", "-t", "60", name]);
    assert!(began.elapsed().as_secs() < 55, "{name} took {:?} to stop", began.elapsed());
    assert_eq!(jar.does(&["inspect", "--format", "{{.State.ExitCode}}", name]), "0", "{}", jar.says(&["logs", name]).err);
}

/// A folder of the jar with these files in it.
fn folder(jar: &Jar, name: &str, files: &[(&str, &str)]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = jar.root.join(name);
    fs::create_dir(&folder).unwrap();
    for (file, text) in files {
        fs::write(folder.join(file), text).unwrap();
        // The programs in the images run as users of their own.
        fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    folder
}

#[test]
fn nginx_welcomes_at_a_published_port_and_logs_it() {
    let (Some(_), Some(jar)) = (peer("curl"), jar_with(&["nginx"])) else { return };
    jar.does(&["run", "-d", "-p", "8080:80", "--name", "my-nginx", "nginx"]);
    eventually("nginx answers", || fetch("http://127.0.0.1:8080/").contains("Welcome to nginx!"));
    fetch("http://127.0.0.1:8080/no-such-page");
    let logs = jar.says(&["logs", "my-nginx"]);
    assert!(logs.out.contains("\"GET / HTTP/1.1\" 200"), "{}", logs.out);
    assert!(logs.out.contains("ready for start up"), "{}", logs.out);
    assert!(logs.err.contains("/usr/share/nginx/html/no-such-page"), "{}", logs.err);
    stops_by_itself(&jar, "my-nginx");
}

#[test]
fn nginx_serves_a_folder_and_fills_in_a_template() {
    let (Some(_), Some(jar)) = (peer("curl"), jar_with(&["nginx"])) else { return };
    let pages = folder(&jar, "pages", &[("index.html", "from a folder")]);
    let templates = folder(&jar, "templates", &[("more.conf.template", "server { listen ${PORT}; location / { return 200 \"$host\\n\"; } }")]);
    let (pages, templates) = (format!("{}:/usr/share/nginx/html:ro", pages.display()), format!("{}:/etc/nginx/templates", templates.display()));
    let ports = ["-p", "8080:80", "-p", "8081:81", "-e", "PORT=81"];
    jar.does(&[&["run", "-d", "--name", "web", "-v", &pages, "-v", &templates][..], &ports, &["nginx"]].concat());
    eventually("the folder is served", || fetch("http://127.0.0.1:8080/") == "from a folder");
    // The server's own $host is no variable of the environment.
    assert_eq!(fetch("http://127.0.0.1:8081/"), "127.0.0.1\n");
}

#[test]
fn httpd_works_and_shows_a_folder_and_its_configuration() {
    let (Some(_), Some(jar)) = (peer("curl"), jar_with(&["httpd"])) else { return };
    jar.does(&["run", "-d", "-p", "8080:80", "--name", "plain", "httpd"]);
    eventually("httpd answers", || fetch("http://127.0.0.1:8080/").contains("It works!"));
    assert!(jar.says(&["logs", "plain"]).out.contains("\"GET / HTTP/1.1\" 200"));
    stops_by_itself(&jar, "plain");

    let site = folder(&jar, "site", &[("index.html", "<p>mine</p>")]);
    let site = format!("{}:/usr/local/apache2/htdocs/", site.display());
    jar.does(&["run", "-d", "-p", "8081:80", "-v", &site, "--name", "mine", "httpd:2.4"]);
    eventually("the folder is served", || fetch("http://127.0.0.1:8081/") == "<p>mine</p>");
    let config = jar.shows(&["httpd", "cat", "/usr/local/apache2/conf/httpd.conf"]);
    assert!(config.contains("\nListen 80\n"), "{config}");
    assert_eq!(jar.says(&["run", "--rm", "httpd", "httpd", "-t"]).code, 0);
}

#[test]
fn redis_keeps_what_another_container_sets() {
    let Some(jar) = jar_with(&["redis"]) else { return };
    jar.does(&["network", "create", "back"]);
    jar.does(&["run", "-d", "--name", "kv", "--network", "back", "redis", "redis-server", "--appendonly", "yes"]);
    let ask = |words: &[&str]| jar.run(&[&["--network", "back", "redis", "redis-cli", "-h", "kv"][..], words].concat()).out.trim_end().to_string();
    eventually("redis answers", || ask(&["ping"]) == "PONG");
    assert_eq!(ask(&["set", "fruit", "감"]), "OK");
    // The server isn't root, and its files are its own.
    assert!(jar.does(&["exec", "kv", "cat", "/proc/1/status"]).contains("Uid:\t999\t999"));
    assert_eq!(jar.does(&["exec", "kv", "stat", "--format=%U %a", "/data/appendonlydir"]), "redis 700");
    stops_by_itself(&jar, "kv");
    jar.does(&["start", "kv"]);
    eventually("redis answers again", || ask(&["ping"]) == "PONG");
    assert_eq!(ask(&["--raw", "get", "fruit"]), "감");
    // Options alone mean the server; what they say of its protection counts.
    jar.does(&["run", "-d", "--name", "shut", "--network", "back", "redis", "--protected-mode", "yes"]);
    let other = |words: &[&str]| jar.run(&[&["--network", "back", "redis", "redis-cli", "-h", "shut"][..], words].concat()).out;
    eventually("redis refuses", || other(&["ping"]).contains("DENIED"));
}

#[test]
fn postgres_makes_the_database_that_its_environment_asks_for() {
    let Some(jar) = jar_with(&["postgres"]) else { return };
    let scripts =
        [("1.sql", "CREATE TABLE pots (name text);"), ("2.sh", "sql --dbname \"$POSTGRES_DB\" <<<\"INSERT INTO pots VALUES ('$POSTGRES_USER')\"")];
    let scripts = folder(&jar, "scripts", &scripts);
    let secret = folder(&jar, "secret", &[("password", "열려라 참깨\n")]);
    let (scripts, secret) = (format!("{}:/docker-entrypoint-initdb.d", scripts.display()), format!("{}:/run/secrets:ro", secret.display()));
    jar.does(&["network", "create", "back"]);
    let settings = ["-e", "POSTGRES_USER=potter", "-e", "POSTGRES_DB=shop", "-e", "POSTGRES_PASSWORD_FILE=/run/secrets/password"];
    let start = |name: &str| {
        let place = ["run", "-d", "--name", name, "--network", "back", "-v", "pgdata:/var/lib/postgresql/data", "-v", &scripts, "-v", &secret];
        jar.does(&[&place[..], &settings, &["-e", "POSTGRES_INITDB_ARGS=--data-checksums", "postgres:15"]].concat());
    };
    let ask = |host: &str, password: &str, sql: &str| {
        let password = format!("PGPASSWORD={password}");
        let words = ["--network", "back", "-e", &password, "postgres:15", "psql", "-h", host, "-U", "potter", "-d", "shop", "-Atc", sql];
        jar.run(&words)
    };
    start("db");
    eventually("PostgreSQL answers", || ask("db", "열려라 참깨", "SELECT name FROM pots").out == "potter\n");
    assert!(ask("db", "guessed", "SELECT 1").err.contains("password authentication failed"));
    assert_eq!(
        ask("db", "열려라 참깨", "INSERT INTO pots VALUES ('옹기'); SHOW data_checksums; SHOW lc_collate").out,
        "INSERT 0 1\non\nen_US.utf8\n"
    );
    assert!(jar.says(&["logs", "db"]).out.contains("PostgreSQL init process complete; ready for start up."));
    assert!(jar.does(&["exec", "db", "cat", "/proc/1/status"]).contains("Uid:\t999\t999"));
    stops_by_itself(&jar, "db");
    jar.does(&["rm", "db"]);
    // Another container with the same volume has the data, and nothing is done twice.
    start("again");
    eventually("PostgreSQL answers again", || ask("again", "열려라 참깨", "SELECT count(*) FROM pots").out == "2\n");
    assert!(jar.says(&["logs", "again"]).out.contains("Skipping initialization"));
}

#[test]
fn postgres_wants_a_password_or_the_word_that_it_needs_none() {
    let Some(jar) = jar_with(&["postgres"]) else { return };
    jar.refuses(&["postgres:15"], 1, &["Error: Database is uninitialized and superuser password is not specified."]);
    jar.refuses(&["-e", "POSTGRES_PASSWORD=a", "-e", "POSTGRES_PASSWORD_FILE=/b", "postgres:15"], 1, &["both set"]);
    jar.does(&["run", "-d", "--name", "open", "-e", "POSTGRES_HOST_AUTH_METHOD=trust", "postgres:15"]);
    let ask = ["--network", "container:open", "postgres:15", "psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc", "SELECT 1"];
    eventually("PostgreSQL lets everybody in", || jar.run(&ask).out == "1\n");
    assert_eq!(jar.shows(&["postgres:15", "sh", "-c", "postgres --version | cut -d' ' -f3"]), jar.shows(&["postgres:15", "printenv", "PG_VERSION"]));
}

#[test]
fn python_runs_and_pip_installs() {
    let Some(jar) = jar_with(&["python"]) else { return };
    let version = jar.shows(&["python:3.11-slim", "python", "-c", "import platform; print(platform.python_version())"]);
    assert_eq!(version, jar.shows(&["python:3.11-slim", "printenv", "PYTHON_VERSION"]));
    assert!(version.starts_with("3.11."), "{version}");
    assert_eq!(jar.shows(&["python:3.11-slim", "python3", "-c", "import ssl, sqlite3, venv; print('옹기')"]), "옹기");
    // A wheel is an archive of a module and of what is told about it; there is no index to ask here.
    let make = "import zipfile\n\
        with zipfile.ZipFile('/tmp/pot-1.0-py3-none-any.whl', 'w') as wheel:\n    \
            wheel.writestr('pot.py', 'clay = 42')\n    \
            wheel.writestr('pot-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: pot\\nVersion: 1.0\\n')\n    \
            wheel.writestr('pot-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n    \
            wheel.writestr('pot-1.0.dist-info/RECORD', '')\n";
    let line = "python -c \"$0\" && pip install --no-index /tmp/pot-1.0-py3-none-any.whl >&2 && python -c 'import pot; print(pot.clay)'";
    assert_eq!(jar.shows(&["python:3.11-slim", "sh", "-c", line, make]), "42");
}

#[test]
fn node_runs_and_says_its_true_version() {
    let Some(jar) = jar_with(&["node"]) else { return };
    // Options and files mean node; a command is a command.
    let version = jar.shows(&["node:20", "-p", "process.versions.node"]);
    assert_eq!(version, jar.shows(&["node:20", "printenv", "NODE_VERSION"]));
    // Debian's Node isn't the one of the name, and the script says so.
    let told = said(base_images(&["node"]).output().unwrap()).out;
    assert!(told.starts_with(&format!("node:20          Node.js {version}")), "{told}");
    assert_eq!(told.contains(" - not 20, "), !version.starts_with("20."), "{told}");
    let label = "{{index .Config.Labels \"org.opencontainers.image.version\"}}";
    assert_eq!(version, jar.does(&["image", "inspect", "--format", label, "node:20"]));
    let id = |image: &str| jar.does(&["image", "inspect", "--format", "{{.Id}}", image]);
    assert_eq!(id(&format!("node:{version}")), id("node:20"));
    let app = folder(&jar, "app", &[("app.js", "console.log(require('os').userInfo().username)")]);
    let app = format!("{}:/app", app.display());
    assert_eq!(jar.shows(&["-v", &app, "-w", "/app", "-u", "node", "node:20", "app.js"]), "node");
    assert_eq!(jar.run(&["node:20", "npm", "--version"]).code, 0);
}

#[test]
fn debian_lies_below_the_others() {
    let Some(jar) = jar_with(&["debian", "httpd", "postgres"]) else { return };
    assert!(jar.shows(&["debian", "cat", "/etc/os-release"]).contains("VERSION_CODENAME=bookworm"));
    let lists = "find /var/lib/apt/lists /var/cache/apt /var/log /dev -type f; command -v apt-get";
    assert_eq!(jar.shows(&["debian:12", "sh", "-c", lists]), "/usr/bin/apt-get");
    let layers = |image: &str| jar.does(&["image", "inspect", "--format", "{{range .RootFS.Layers}}{{.}} {{end}}", image]);
    let debian = layers("debian").trim_end().to_string();
    for image in ["httpd", "postgres:15"] {
        let layers: Vec<_> = layers(image).split_whitespace().map(str::to_string).collect();
        assert_eq!((layers.len(), &layers[0]), (2, &debian), "{image}");
        // Whoever made it isn't in it: no name, no way to a network, no key that each copy would have.
        let traces =
            "ls /usr/sbin/policy-rc.d /etc/ssl/private/*.key /etc/apt/apt.conf.d/99mmdebstrap /var/lib/apt/lists/* /var/log/*.log 2>/dev/null";
        assert_eq!(jar.run(&["--entrypoint", "sh", image, "-c", traces]).out, "", "{image}");
    }
}

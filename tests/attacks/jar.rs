//! A bundle with the probe as its only program, and a sentinel outside of it: what an attack would reach or change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// What the sentinel says as long as nobody got out.
pub const INTACT: &str = "outside, and intact";

/// A bundle in a folder that goes with it, and its container.
pub struct Jar {
    pub dir: PathBuf,
    pub id: String,
    pub config: Value,
}

impl Jar {
    /// None, said in one line, where containers can't be made.
    pub fn new(name: &str) -> Option<Jar> {
        if !nix::unistd::geteuid().is_root() {
            crate::support::skip_for_want_of("containers are made as root here");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("onggi-attack-{name}-{}", std::process::id()));
        for folder in ["rootfs/etc", "rootfs/proc", "rootfs/tmp"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        install(&dir.join("rootfs/probe"));
        install(&dir.join("outside-probe"));
        fs::write(dir.join("sentinel"), INTACT).unwrap();
        let mut config = serde_json::to_value(onggi::runtime::default_spec::spec(false)).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/probe"]);
        config["root"]["readonly"] = json!(false);
        Some(Jar { id: format!("attack-{name}-{}", std::process::id()), dir, config })
    }

    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path)
    }

    /// A link of the image's author.
    pub fn link(&self, target: impl AsRef<Path>, path: &str) {
        let path = self.rootfs(path);
        let _ = fs::remove_dir(&path);
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    pub fn fifo(&self, path: &str) {
        nix::unistd::mkfifo(&self.rootfs(path), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    }

    pub fn args(&mut self, words: &[&str]) {
        self.config["process"]["args"] = json!(words);
    }

    pub fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// A command of the runtime. One that hangs ends after ten seconds with code 124.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "10", env!("CARGO_BIN_EXE_onggi-runtime"), "--root"]).arg(self.dir.join("state")).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn write_config(&self) {
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }

    /// Runs the container to its end.
    pub fn run(&self) -> Output {
        self.write_config();
        let output = self.command(&["run", "--bundle", self.dir.to_str().unwrap(), &self.id]).output().unwrap();
        assert_ne!(output.status.code(), Some(124), "it hangs");
        assert_eq!(fs::read_to_string(self.dir.join("sentinel")).unwrap(), INTACT);
        output
    }

    /// The JSON that the probe printed.
    pub fn answer(&self) -> Value {
        answer(&self.run())
    }

    /// Runs it and answers what was said when it was refused.
    #[track_caller]
    pub fn refused(&self) -> String {
        let output = self.run();
        assert!(!output.status.success(), "it was not refused: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Starts it with a first process that waits, and answers its PID on the host.
    pub fn start_waiting(&mut self) -> i32 {
        self.args(&["/probe", "wait"]);
        self.write_config();
        let pid_file = self.dir.join("pid");
        let words = ["run", "--detach", "--pid-file", pid_file.to_str().unwrap(), "--bundle", self.dir.to_str().unwrap(), &self.id];
        let status = self.command(&words).stdout(fs::File::create(self.dir.join("facts")).unwrap()).status().unwrap();
        assert!(status.success());
        // It has looked around and waits: until then it may have a file open itself.
        let said_all = || fs::read_to_string(self.dir.join("facts")).unwrap().ends_with('\n');
        while !said_all() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        fs::read_to_string(pid_file).unwrap().parse().unwrap()
    }

    /// Runs one more process in it.
    pub fn exec(&self, words: &[&str]) -> Output {
        let mut all = vec!["exec"];
        let (options, program) = words.split_at(words.iter().position(|word| *word == "--").unwrap_or(0));
        all.extend(options);
        all.push(&self.id);
        all.extend(program.iter().filter(|word| **word != "--"));
        let output = self.command(&all).output().unwrap();
        assert_ne!(output.status.code(), Some(124), "it hangs");
        output
    }
}

impl Drop for Jar {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", &self.id]).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The probe, as a file that everybody may run.
pub fn install(path: &Path) {
    fs::write(path, onggi::image::probe::PROBE).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[track_caller]
pub fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

//! How far a pull is: lines that change on a terminal, each word once in a pipe, nothing but the name with `-q`.
//!
//! The terminal is tmux's, which is asked what is on the screen, and where the cursor is.
//!
//! See it: `onggi pull nginx`. Read: tmux(1), console_codes(4).

#[path = "support/faulty/mod.rs"]
mod faulty;
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use faulty::content::{Layer, noise};
use faulty::scene::Scene;
use faulty::{Fault, Image};
use support::jar::{ONGGI, said, until};

const LAYERS: usize = 20;

/// A scene whose image has many layers, the last one of which comes slowly: piece, pause.
fn scene(pause: Duration) -> Option<(Scene, Vec<String>)> {
    let scene = Scene::new()?;
    let layer = |at: usize| Layer::of(&[(&format!("file{at}"), &noise(at as u64 + 1, 60_000))]);
    let image = Image::of(&(0..LAYERS).map(layer).collect::<Vec<_>>());
    scene.registry.put("web", "1", &image);
    let layers = image.layers();
    scene.registry.fails(&format!("/blobs/{}", layers[LAYERS - 1]), 1, Fault::Slow(5_000, pause));
    let short = |digest: &String| digest["sha256:".len()..][..12].to_string();
    Some((scene, layers.iter().map(short).collect()))
}

/// A window with a shell in it.
struct Window {
    socket: PathBuf,
}

impl Window {
    fn open(scene: &Scene, columns: &str, rows: &str) -> Option<Window> {
        support::peer("tmux")?;
        let window = Window { socket: scene.jar.root.join("tmux") };
        let mut command = window.command(&["new-session", "-d", "-x", columns, "-y", rows]);
        for (name, value) in scene.onggi(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(["env", "PS1=shell> ", "sh", ";", "set", "-g", "status", "off"]);
        assert!(command.status().unwrap().success());
        window.sees("shell>");
        Some(window)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-f/dev/null").arg("-S").arg(&self.socket).args(words).env("LC_ALL", "C.UTF-8");
        command
    }

    fn does(&self, words: &[&str]) -> String {
        said(self.command(words).output().unwrap()).out
    }

    /// Types a command that tells its exit code at the end.
    fn runs(&self, words: &str) {
        self.does(&["send-keys", &format!("{ONGGI} {words}; echo co''de $?"), "Enter"]);
    }

    /// What is on the screen now.
    fn screen(&self) -> String {
        self.does(&["capture-pane", "-p"])
    }

    /// The same with all that has scrolled away.
    fn history(&self) -> String {
        self.does(&["capture-pane", "-p", "-S", "-"])
    }

    #[track_caller]
    fn sees(&self, text: &str) {
        until(&format!("{text:?} is on the screen"), || self.screen().contains(text));
    }

    fn shows_its_cursor(&self) -> bool {
        self.does(&["display-message", "-p", "#{cursor_flag}"]).trim() == "1"
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.does(&["kill-server"]);
    }
}

#[test]
fn in_a_window_lower_than_the_layers_each_has_its_line_at_the_end() {
    let Some((scene, layers)) = scene(Duration::from_millis(100)) else { return };
    let Some(window) = Window::open(&scene, "90", "12") else { return };
    window.runs(&format!("pull {}", scene.registry.name("web:1")));
    window.sees(&format!("{}: Downloading [", layers[LAYERS - 1]));
    window.sees("code 0");
    let history = window.history();
    let mut last = BTreeMap::new();
    for line in history.lines() {
        let Some((layer, word)) = line.split_once(": ").filter(|(layer, _)| layers.iter().any(|known| known == layer)) else { continue };
        assert_eq!(last.insert(layer, word), None, "one line a layer:\n{history}");
    }
    assert!(last.len() == LAYERS && last.values().all(|word| *word == "Pull complete"), "{history}");
    assert!(history.contains("Status: Downloaded newer image for ") && window.shows_its_cursor(), "{history}");
    assert!(!history.contains(" more"), "{history}");
}

#[test]
fn ctrl_c_leaves_the_cursor_on_a_line_of_its_own() {
    let Some((scene, layers)) = scene(Duration::from_secs(20)) else { return };
    let Some(window) = Window::open(&scene, "60", "30") else { return };
    window.runs(&format!("pull {}", scene.registry.name("web:1")));
    window.sees(&format!("{}: Downloading ", layers[LAYERS - 1]));
    window.does(&["send-keys", "C-c"]);
    window.sees("code 130");
    let screen = window.screen();
    let end = screen.trim_end().lines().rev().map(str::trim_end).collect::<Vec<_>>();
    assert!(end[0] == "shell>" && end[1] == "code 130", "{screen}");
    assert!(window.shows_its_cursor() && screen.lines().all(|line| !line.contains("^C")), "{screen}");
    assert_eq!(screen.matches(&layers[0]).count(), 1, "{screen}");
}

#[test]
fn in_a_pipe_each_word_is_said_once_and_no_number() {
    let Some((scene, layers)) = scene(Duration::from_millis(20)) else { return };
    let pulled = scene.pull("web:1");
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(!pulled.out.contains(['\x1b', '\r']) && !pulled.out.contains("Downloading") && !pulled.out.contains("Extracting"), "{}", pulled.out);
    for layer in &layers {
        for word in ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"] {
            assert_eq!(pulled.out.matches(&format!("{layer}: {word}\n")).count(), 1, "{layer} {word}:\n{}", pulled.out);
        }
    }
    let again = scene.says(&["pull", "-q", &scene.registry.name("web:1")]);
    assert_eq!(again.out.lines().count(), 1, "{}", again.out);
}

#[test]
fn a_terminal_that_can_move_no_cursor_gets_plain_lines() {
    let Some((scene, layers)) = scene(Duration::from_millis(20)) else { return };
    let Some(window) = Window::open(&scene, "90", "12") else { return };
    window.does(&["send-keys", "export TERM=dumb", "Enter"]);
    window.runs(&format!("pull {}", scene.registry.name("web:1")));
    window.sees("code 0");
    let history = window.history();
    for word in ["Pulling fs layer", "Download complete", "Pull complete"] {
        assert!(history.contains(&format!("{}: {word}", layers[0])), "{word}: {history}");
    }
}

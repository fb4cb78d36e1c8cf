//! What each command of a container's life costs, side by side with docker and podman, in one run.
//!
//! ```text
//! cargo bench --bench life                     # as root; peers that are not installed are skipped, and it says so
//! cargo bench --bench life -- life logs        # only these parts: life ps logs stats crowd images cp memory
//! ONGGI_BENCH_RUNS=3 cargo bench --bench life
//! ```
//! Contenders alternate, in an order that turns round by round. Told are the medians of the time that passes and of the CPU time of the
//! command itself, and the ratio to docker. A daemon's CPU time is nobody's child's, and not in it. Nothing is asserted.

mod side_by_side;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use side_by_side::{Engine, Outcome, Part, Row, command_row, turned};

fn main() -> Outcome<()> {
    let parts: [(&str, Part); 8] =
        [("life", life), ("memory", memory), ("stats", stats), ("crowd", crowd), ("ps", ps), ("logs", logs), ("cp", cp), ("images", images)];
    side_by_side::run("life", false, &parts)
}

/// It ends at SIGTERM, as PID 1 does only when it wants to.
const GENTLE: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];

fn life(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let mut rows = ["run -d", "exec true", "stop", "start", "rm"].map(Row::new);
    for round in 0..runs {
        for engine in turned(engines, round) {
            let name = format!("life{round}");
            let [run, exec, stop, start, rm] = &mut rows;
            run.time(engine, || engine.run(&name, &GENTLE));
            exec.time(engine, || engine.does(&["exec", &name, "true"]));
            stop.time(engine, || engine.does(&["stop", &name]));
            start.time(engine, || engine.does(&["start", &name]));
            engine.does(&["kill", &name])?;
            let _ = engine.does(&["wait", &name]);
            rm.time(engine, || engine.does(&["rm", &name]));
        }
    }
    rows.iter().for_each(Row::print);
    Ok(())
}

/// The process that looks after a container: our monitor, containerd's shim, conmon.
fn memory(_: &Path, engines: &[Engine], _: usize) -> Outcome<()> {
    for engine in engines {
        engine.run("memory", &["sleep", "1000"])?;
        let init = engine.says(&["inspect", "-f", "{{.State.Pid}}", "memory"])?;
        let field = |file: &str, key: &str| -> Option<String> {
            let text = std::fs::read_to_string(file).ok()?;
            Some(text.lines().find_map(|line| line.strip_prefix(key))?.trim().to_string())
        };
        let parent = field(&format!("/proc/{}/status", init.trim()), "PPid:").ok_or("its first process is gone")?;
        let own = field(&format!("/proc/{parent}/status"), "RssAnon:").unwrap_or_default();
        let share = field(&format!("/proc/{parent}/smaps_rollup"), "Pss:").unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{parent}/comm"))?;
        println!("  memory of {:<24}RssAnon {own}, Pss {share}", comm.trim());
    }
    Ok(())
}

fn stats(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    for engine in engines {
        (0..3).try_for_each(|number| engine.run(&format!("stats{number}"), &["sleep", "1000"]))?;
    }
    command_row("stats --no-stream, 3 running", engines, runs.min(3), &["stats", "--no-stream"]);
    Ok(())
}

fn crowd(_: &Path, engines: &[Engine], _: usize) -> Outcome<()> {
    const MANY: usize = 100;
    let (mut run, mut rm) = (Row::new("run -d, 100 at once"), Row::new("rm -f of 100 that run"));
    for engine in engines {
        let names: Vec<String> = (0..MANY).map(|number| format!("crowd{number}")).collect();
        run.time(engine, || {
            let one = |name: &String| engine.begin(&["run", "-d", "--network", "none", "--name", name, &engine.image, "sleep", "1000"]);
            let children = names.iter().map(one).collect::<Outcome<Vec<Child>>>()?;
            let failed = children.into_iter().filter_map(|mut child| child.wait().ok()).filter(|status| !status.success()).count();
            if failed == 0 { Ok(()) } else { Err(format!("{}: {failed} of {MANY} failed", engine.name).into()) }
        });
        let words: Vec<&str> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
        rm.time(engine, || engine.does(&words));
    }
    [run, rm].iter().for_each(Row::print);
    Ok(())
}

/// Of the peers at most a hundred containers: they take a second each to be made.
fn ps(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let mut there = 0;
    for count in [10, 100, 1000] {
        let part = if count > 100 { &engines[..1] } else { engines };
        for engine in part {
            (there..count)
                .try_for_each(|number| engine.does(&["create", "--network", "none", "--name", &format!("ps{number}"), &engine.image, "true"]))?;
        }
        there = count;
        command_row(&format!("ps, {count} created"), part, runs, &["ps"]);
        command_row(&format!("ps -a, {count} created"), part, runs, &["ps", "-a"]);
    }
    Ok(())
}

fn logs(_: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let (mut write, mut read, mut tail) =
        (Row::new("1,000,000 lines written"), Row::new("logs of 1,000,000 lines"), Row::new("logs --tail 10 of them"));
    for round in 0..runs.min(3) {
        for engine in turned(engines, round) {
            let name = format!("logs{round}");
            write.time(engine, || {
                engine.run(&name, &["seq", "1000000"])?;
                engine.does(&["wait", &name])
            });
            read.time(engine, || engine.does(&["logs", &name]));
            tail.time(engine, || engine.does(&["logs", "--tail", "10", &name]));
            engine.does(&["rm", "-f", &name])?;
        }
    }
    [write, read, tail].iter().for_each(Row::print);
    Ok(())
}

fn cp(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let (many, large) = (dir.join("many"), dir.join("large"));
    std::fs::create_dir_all(&many)?;
    (0..5000).try_for_each(|number| std::fs::write(many.join(number.to_string()), format!("file {number}\n")))?;
    std::fs::write(&large, vec![7; 200 << 20])?;
    let mut rows = ["cp of 5,000 files in", "cp of 5,000 files out", "cp of 200 MB in", "cp of 200 MB out"].map(Row::new);
    for engine in engines {
        engine.run("cp", &["sleep", "1000"])?;
    }
    let out: PathBuf = dir.join("out");
    for round in 0..runs.min(3) {
        for engine in turned(engines, round) {
            for (at, from) in [(0, &many), (2, &large)] {
                let (from, inside) = (from.display().to_string(), format!("cp:/tmp/copy{at}-{round}"));
                rows[at].time(engine, || engine.does(&["cp", &from, &inside]));
                std::fs::create_dir_all(&out)?;
                rows[at + 1].time(engine, || engine.does(&["cp", &inside, &out.display().to_string()]));
                std::fs::remove_dir_all(&out)?;
            }
        }
    }
    rows.iter().for_each(Row::print);
    Ok(())
}

fn images(dir: &Path, engines: &[Engine], runs: usize) -> Outcome<()> {
    let (folder, archive) = (dir.join("image"), dir.join("image.tar").display().to_string());
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("file"), "content")?;
    let packed = Command::new("tar").arg("-C").arg(&folder).args(["-cf", &archive, "."]).status()?;
    if !packed.success() {
        return Err("tar failed".into());
    }
    for engine in engines {
        // Podman takes longer for each one the more there are.
        let count = if engine.name == "podman" { 50 } else { 500 };
        (0..count).try_for_each(|number| engine.does(&["import", "-c", &format!("LABEL n={number}"), &archive, &format!("many{number}")]))?;
    }
    command_row("images, 500 of them (podman: 50)", engines, runs, &["images"]);
    Ok(())
}

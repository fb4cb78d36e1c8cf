//! A container has a life: a monitor starts it, passes signals on, keeps its log and its exit status; its PID 1 takes in the orphans.
//!
//! Try it: `step-06 run -d --name web base.tar httpd -f -p 8080; step-06 ps; step-06 stop web; step-06 logs web; step-06 rm web`
//! See it: `ps -eo pid,ppid,sid,args --forest | grep step-06`, `cat /run/onggi-steps/containers/web/state.json`
//! Read: pid_namespaces(7), wait(2), signal(7), pidfd_open(2), setsid(2), flock(2)

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::process::exit;
use std::thread;

use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, sethostname, setsid};
use onggi::engine::{home::Home, members, rootless};
use onggi::error::{Doing, Result};
use onggi::runtime::{own_program, users};
use onggi::sys::process::{Clone, Forked, clone3, pidfd_send_signal, set_name, start_time};
use onggi::sys::watch;
use onggi::workshop::steps::container::{Container, create};
use onggi::workshop::steps::state::{self, State, folder};
use onggi::workshop::steps::words::{Later, Nothing, Request, Run};
use onggi::workshop::steps::{self, Hooks};

pub const NAME: &str = env!("CARGO_BIN_NAME");

fn main() {
    steps::main(NAME, act::<Nothing>)
}

pub fn act<More: Args + Hooks>(request: Request<More>) -> Result<i32> {
    match request {
        Request::Run(mut wanted) => run(&mut wanted),
        Request::Later(Later::Ps) => state::list(),
        Request::Later(Later::Logs { name }) => logs(&name),
        Request::Later(Later::Stop { time, name }) => stop(&name, time),
        Request::Later(Later::Rm { name }) => state::remove(NAME, &name),
    }
}

/// Answers the command's exit code, or 0 as soon as it runs in the background.
fn run<More: Args + Hooks>(wanted: &mut Run<More>) -> Result<i32> {
    // PID 1 is going to be this program, in reach of who is root inside: nobody may write to its file (CVE-2019-5736).
    own_program::protect()?;
    set_name(c"monitor");
    signals().thread_block().doing(|| "block signals".into())?;
    let container = create(NAME, wanted)?;
    if wanted.detach { detach(container, &mut wanted.more) } else { watch(container, &mut wanted.more, || Ok(())) }
}

/// Leaves the container to a monitor, and comes back when it runs. Answers 0, or what the monitor ended with instead.
fn detach(container: Container, hooks: &mut dyn Hooks) -> Result<i32> {
    let (mut told, mut teller) = pipe().doing(|| "make a pipe".into())?;
    match clone3(&Clone::default()).doing(|| "start a monitor".into())? {
        Forked::Child => {
            let started = || {
                // The caller has its terminal back: from here on whatever we say is said to nobody.
                leave_terminal().doing(|| "leave the terminal".into())?;
                teller.write_all(b"1").doing(|| "say that it runs".into())
            };
            let code = become_monitor().and_then(|()| watch(container, hooks, started)).unwrap_or_else(|error| steps::tell(NAME, &error));
            rootless::leave();
            exit(code)
        }
        Forked::Parent { pid, .. } => {
            drop(teller);
            let name = container.name.clone();
            // It is the monitor's from here on, and its cgroup, too: only one of us may clear it away.
            std::mem::forget(container);
            if told.read(&mut [0]).is_ok_and(|count| count == 1) {
                println!("{name}");
                return Ok(0);
            }
            wait_for(Pid::from_raw(pid))
        }
    }
}

fn become_monitor() -> Result<()> {
    // A session of its own: neither Ctrl-C nor the end of the terminal reaches it.
    setsid().doing(|| "start a session".into())?;
    dup2_stdin(File::open("/dev/null").doing(|| "open /dev/null".into())?).doing(|| "give the terminal's input back".into())?;
    if users::in_user_namespace() { members::register(&Home::find()?) } else { Ok(()) }
}

fn leave_terminal() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    Ok(dup2_stderr(&null)?)
}

/// The monitor: makes the first process, keeps what it writes, and stays until it has ended. Answers its exit code.
fn watch(container: Container, hooks: &mut dyn Hooks, started: impl FnOnce() -> Result<()>) -> Result<i32> {
    let made = begin(&container, hooks);
    let (child, output) = made.inspect_err(|_| drop(fs::remove_dir_all(&container.folder)))?;
    let Some([stdout, stderr]) = output else {
        let code = wait_for(child)?;
        hooks.poststop();
        fs::remove_dir_all(&container.folder).doing(|| format!("remove {}", container.folder.display()))?;
        return Ok(code);
    };
    // Held until we end, however we end (flock(2)): whoever gets it knows that nobody watches any more.
    let lock = File::create(container.folder.join("lock")).and_then(|file| file.lock().map(|()| file)).doing(|| "lock the container".into())?;
    let pid = child.as_raw();
    let mut state =
        State { pid, start_time: start_time(pid).unwrap_or(0), command: container.command.clone(), exit_code: None, cgroup: container.group.place() };
    state.save(&container.folder)?;
    started()?;
    let log = File::options().create(true).append(true).open(container.folder.join("log")).doing(|| "open the log".into())?;
    let second = log.try_clone().doing(|| "open the log".into())?;
    let copies = [thread::spawn(|| keep(stdout, log, io::stdout())), thread::spawn(|| keep(stderr, second, io::stderr()))];
    let code = wait_for(child)?;
    // With PID 1 all have ended who could write: the pipes come to their ends.
    copies.into_iter().for_each(|copy| drop(copy.join()));
    hooks.poststop();
    drop(container.group);
    state.exit_code = Some(code);
    state.save(&container.folder)?;
    if container.remove {
        fs::remove_dir_all(&container.folder).doing(|| format!("remove {}", container.folder.display()))?;
    }
    drop(lock);
    Ok(code)
}

/// Makes the first process. Answers the ends of its pipes, or None when it could not become a container, which it has said itself.
fn begin(container: &Container, hooks: &mut dyn Hooks) -> Result<(Pid, Option<[PipeReader; 2]>)> {
    let make = || pipe().doing(|| "make a pipe".into());
    let ((stdout, out), (stderr, err), (mut ready, teller), (go, mut gate)) = (make()?, make()?, make()?, make()?);
    let child = steps::isolate(NAME, &container.group, || inside(container, hooks, go, [out, err, teller]))?;
    let hooked = hooks.create_runtime(child).and_then(|()| gate.write_all(b"1").doing(|| "let the child go on".into()));
    if let Err(why) = hooked {
        kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None)).doing(|| "end the child".into())?;
        hooks.poststop();
        return Err(why);
    }
    let is_ready = ready.read(&mut [0]).is_ok_and(|count| count == 1);
    Ok((child, is_ready.then_some([stdout, stderr])))
}

/// Copies what a container writes to its log, and to our own output as long as somebody reads that.
fn keep(mut from: PipeReader, mut log: File, mut output: impl Write) {
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let _ = log.write_all(&buffer[..count]);
        let _ = output.write_all(&buffer[..count]).and_then(|()| output.flush());
    }
}

/// The child's half, in the order that the kernel demands.
fn inside(container: &Container, hooks: &dyn Hooks, mut go: PipeReader, [out, err, mut ready]: [PipeWriter; 3]) -> Result<i32> {
    // With us it ends, and with PID 1 its whole PID namespace: whatever happens, nobody is left (PR_SET_PDEATHSIG(2const)).
    set_pdeathsig(Signal::SIGKILL).doing(|| "end with the parent".into())?;
    setsid().doing(|| "start a session".into())?;
    container.group.enter()?;
    sethostname(&container.name).doing(|| "set the host name".into())?;
    go.read_exact(&mut [0]).doing(|| "wait for the monitor".into())?;
    steps::furnish(&container.folder, &container.prepared, &container.group, |root| hooks.create_container(root.as_fd()))?;
    let folder = Some(container.config.working_dir.as_str()).filter(|folder| !folder.is_empty());
    chdir(folder.unwrap_or("/")).doing(|| "enter the working directory".into())?;
    ready.write_all(b"1").doing(|| "say ready".into())?;
    dup2_stdout(out).and_then(|()| dup2_stderr(err)).doing(|| "take the standard streams".into())?;
    init(container, hooks)
}

/// PID 1. The kernel gives it two duties: no signal ends it, so it passes them on to the command; and whoever loses its parent becomes its
/// child, so it takes their exit status, too, or they would stay as zombies (pid_namespaces(7)). When it ends, all end.
fn init(container: &Container, hooks: &dyn Hooks) -> Result<i32> {
    set_name(c"init");
    match clone3(&Clone::default()).doing(|| "start the command".into())? {
        Forked::Parent { pid, .. } => hooks.start_container().and_then(|()| wait_for(Pid::from_raw(pid))),
        Forked::Child => {
            signals().thread_unblock().doing(|| "unblock signals".into())?;
            hooks.start_container()?;
            steps::execute(&container.command, &container.config.env)
        }
    }
}

/// Waits for a child's end, takes in all other children's, and passes signals on. Answers its exit code; 128+n when signal n ended it.
fn wait_for(child: Pid) -> Result<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)).doing(|| "wait for the command".into())? {
            WaitStatus::Signaled(pid, signal, _) if pid == child => return Ok(128 + signal as i32),
            WaitStatus::Exited(pid, code) if pid == child => return Ok(code),
            WaitStatus::StillAlive => {
                let signal = signals().wait().doing(|| "wait for a signal".into())?;
                if signal != Signal::SIGCHLD {
                    // The monitor's child is PID 1. It gets it although it has no handler, because it blocks it and waits, as we do.
                    kill(child, signal).doing(|| format!("pass {signal} on"))?;
                }
            }
            _ => {}
        }
    }
}

/// What wakes us: a child has changed, or somebody sends us what the command is to get.
fn signals() -> SigSet {
    use Signal::*;
    [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2].into_iter().collect()
}

fn logs(name: &str) -> Result<i32> {
    State::load(&folder(name)?)?;
    let mut log = File::open(folder(name)?.join("log")).doing(|| "open the log".into())?;
    io::copy(&mut log, &mut io::stdout()).doing(|| "show the log".into())?;
    Ok(0)
}

fn stop(name: &str, seconds: u16) -> Result<i32> {
    let folder = folder(name)?;
    let doing = || format!("stop {name}");
    if let Some(process) = State::load(&folder)?.process() {
        pidfd_send_signal(process.as_fd(), libc::SIGTERM).doing(doing)?;
        if !watch::wait_readable(process.as_fd(), Some(seconds.saturating_mul(1000))).doing(doing)? {
            pidfd_send_signal(process.as_fd(), libc::SIGKILL).doing(doing)?;
        }
    }
    // The monitor still has to write down how it ended, or to remove it all.
    let _ = File::open(folder.join("lock")).and_then(|lock| lock.lock());
    println!("{name}");
    Ok(0)
}

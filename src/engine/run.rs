//! `run`, a straight line: an image and a request become a container with somebody in front of it, until it ends.
//!
//! Read from top to bottom; each step's home is named by its module.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::config::{self, Defaults, Facts};
use super::foreground::{self, Signals, Streams};
use super::home::Home;
use super::record::{self, Record};
use super::request::{NetworkMode, Request, Volume};
use super::{etc_files, users};
use crate::error::{Class, Doing, Error, Result};
use crate::image::snapshot::{self, Mounted};
use crate::image::{self, Image};
use crate::runtime::bundle::{self, Bundle};
use crate::runtime::lifecycle::{self, Choices};
use crate::runtime::state::Store;
use crate::sys::fd;
use crate::sys::process::{self, Exit};
use crate::{clock, id};

/// What a front end may want to tell while it happens.
#[derive(Debug)]
pub enum Notice<'a> {
    /// The base image was not there and was made.
    BaseMade(&'a image::base::Made),
    Warning(&'a str),
    /// The container's first process is there, with this PID on the host.
    Created {
        id: &'a str,
        pid: i32,
    },
}

/// A container that was created: its program waits for [`Running::attend`].
pub struct Running<'a> {
    pub id: String,
    /// Of its first process, on the host.
    pub pid: i32,
    /// Its cgroup's directories on the host.
    pub cgroups: Vec<PathBuf>,
    created: lifecycle::Created,
    container: Container<'a>,
    streams: Streams,
    signals: Signals,
    store: Store,
}

/// Runs a container in the foreground and answers how it ended.
///
/// # Errors
/// Of every step, with what it was to do; nothing is left behind.
pub fn run(home: &Home, request: &Request, notice: &mut dyn FnMut(Notice)) -> Result<Exit> {
    create(home, request, notice)?.attend()
}

/// All of `run` up to the program.
///
/// # Errors
/// Of every step; nothing is left behind.
pub fn create<'a>(home: &'a Home, request: &Request, notice: &mut dyn FnMut(Notice)) -> Result<Running<'a>> {
    let signals = Signals::take()?;
    // Its users must be able to read what we write for them, whatever the caller's umask.
    process::umask(0o022);
    let image = image(home, &request.image, notice)?;
    let store = Store::open(&home.oci())?;
    let mut container = match Container::claim(home, request, &image) {
        // The name may be that of a container whose `run` was killed.
        Err(e) if e.class == Class::Conflict => {
            record::sweep(home, &store)?;
            Container::claim(home, request, &image)?
        }
        claimed => claimed?,
    };
    let dir = home.container(&container.id);

    let layers = snapshot::prepare(&image.layers, &dir)?;
    let (rootfs, detached) = root_file_system(&layers, &dir, notice)?;
    let files = etc_files::write(&dir, request, &container.hostname(request))?;
    let user = users::resolve(&layers.lowers, request.user.as_deref().unwrap_or(&image.config.config.user), &request.groups)?;
    make_sources(request)?;
    let facts = Facts {
        id: &container.id,
        image: &defaults(&image),
        user,
        rootfs,
        files,
        init: if request.init { Some(install_init(home)?) } else { None },
        rootless: home.rootless,
    };
    let spec = config::spec(request, &facts)?;
    bundle::write(&dir, &spec)?;

    let mut ends = ends(request)?;
    let creation = lifecycle::Request {
        id: container.id.clone(),
        bundle: Bundle { dir, spec },
        choices: Choices { ends_with_maker: true, ..Choices::default() },
        rootfs: detached,
        stdio: ends.theirs.take(),
        console: ends.console.take(),
    };
    let created = lifecycle::create(&store, creation)?;
    container.runtime = Some(store.clone());
    created.warnings.iter().for_each(|warning| notice(Notice::Warning(warning)));
    let pid = created.record.init.map_or(0, |init| init.pid);
    notice(Notice::Created { id: &container.id, pid });
    let streams = ends.streams(request)?;
    let cgroups = created.record.cgroup.as_ref().map(|place| place.dirs().into_iter().map(Path::to_path_buf).collect()).unwrap_or_default();
    Ok(Running { id: container.id.clone(), pid, cgroups, created, container, streams, signals, store })
}

impl Running<'_> {
    /// Starts the program and sits in front of it until it ends.
    ///
    /// # Errors
    /// CommandNotFound, CommandNotRunnable.
    pub fn attend(self) -> Result<Exit> {
        lifecycle::start(&self.store, &self.id)?;
        // While the program runs there is time to clear up behind others.
        let _ = record::sweep(self.container.home, &self.store);
        let exit = foreground::attend(self.created.pidfd.as_fd(), self.streams, &self.signals, true)?;
        self.container.ended(exit)?;
        Ok(exit)
    }

    /// Starts the program and answers its standard output, for who reads it instead of showing it.
    ///
    /// # Errors
    /// CommandNotFound, CommandNotRunnable.
    pub fn start(&mut self) -> Result<Option<OwnedFd>> {
        lifecycle::start(&self.store, &self.id)?;
        match &mut self.streams {
            Streams::Pipes { stdout, .. } => Ok(Some(fd::duplicate(stdout.as_fd()).doing(|| "read what the container writes".into())?)),
            _ => Ok(None),
        }
    }

    /// Sends a signal to its first process, waits for its end and clears up.
    ///
    /// # Errors
    /// EPERM.
    pub fn end(self, signal: i32) -> Result<Exit> {
        lifecycle::kill(&self.store, &self.id, signal, false)?;
        let exit = process::wait(self.created.pidfd.as_fd()).doing(|| "wait for the container's end".into())?;
        self.container.ended(exit)?;
        Ok(exit)
    }
}

/// The image of this name; the base image is made when it isn't there yet.
fn image(home: &Home, reference: &str, notice: &mut dyn FnMut(Notice)) -> Result<Image> {
    let store = image::store::Store::open(&home.data)?;
    match image::resolve(&store, reference) {
        Err(e) if e.class == Class::NotFound && image::base::is_meant(reference) => {
            let (image, made) = image::base::ensure(&store)?;
            if made != image::base::Made::Before {
                notice(Notice::BaseMade(&made));
            }
            Ok(image)
        }
        found => found,
    }
}

/// The layers stacked: a mount attached nowhere and the place where it shall be, or a copy.
fn root_file_system(layers: &snapshot::Prepared, dir: &Path, notice: &mut dyn FnMut(Notice)) -> Result<(PathBuf, Option<OwnedFd>)> {
    match snapshot::mount(layers)? {
        Mounted::Overlay(mount) => {
            let place = dir.join("merged");
            std::fs::create_dir_all(&place).doing(|| format!("make {}", place.display()))?;
            Ok((place, Some(mount)))
        }
        Mounted::Copied { path, reason } => {
            notice(Notice::Warning(&format!("the image was copied, which is slow: {reason}")));
            Ok((path, None))
        }
    }
}

fn defaults(image: &Image) -> Defaults {
    let config = &image.config.config;
    Defaults {
        entrypoint: config.entrypoint.clone(),
        command: config.cmd.clone(),
        env: config.env.clone(),
        working_dir: Some(PathBuf::from(&config.working_dir)).filter(|dir| dir.is_absolute()),
    }
}

/// `--init`: the probe is one, when it is called docker-init. Written once, whole or not at all.
fn install_init(home: &Home) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let file = home.data.join("docker-init");
    let doing = || format!("write {}", file.display());
    if std::fs::read(&file).is_ok_and(|there| there == image::probe::PROBE) {
        return Ok(file);
    }
    let new = home.data.join(format!("docker-init.{}", std::process::id()));
    std::fs::write(&new, image::probe::PROBE).doing(doing)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).doing(doing)?;
    std::fs::rename(&new, &file).doing(doing)?;
    Ok(file)
}

/// `-v` makes a folder of the host that isn't there (and Docker regrets it).
fn make_sources(request: &Request) -> Result<()> {
    for volume in &request.mounts {
        if let Volume::Bind { source, make_source: true, .. } = volume
            && !source.exists()
        {
            std::fs::create_dir_all(source).doing(|| format!("make the folder {} for a volume", source.display()))?;
        }
    }
    Ok(())
}

/// A container's name and folder, given back when it does not come to be.
struct Container<'a> {
    home: &'a Home,
    id: String,
    name: String,
    remove: bool,
    /// Set when the runtime has it, too.
    runtime: Option<Store>,
    keep: bool,
}

impl<'a> Container<'a> {
    fn claim(home: &'a Home, request: &Request, image: &Image) -> Result<Container<'a>> {
        let id = id::random()?;
        request.name.as_deref().map_or(Ok(()), id::check_name)?;
        // The mark first: who finds the name taken sees by it that its owner lives.
        record::mark_running(home, &id)?;
        let named = match &request.name {
            Some(name) => record::claim_name(home, name, &id).map(|()| name.clone()),
            None => chosen_name(home, &id),
        };
        let name = named.inspect_err(|_| record::forget(home, &id))?;
        let container = Container { home, id, name, remove: request.remove, runtime: None, keep: false };
        let dir = home.container(&container.id);
        std::fs::create_dir(&dir).doing(|| format!("make {}", dir.display()))?;
        let record = Record {
            id: container.id.clone(),
            name: container.name.clone(),
            image: request.image.clone(),
            image_id: image.id.to_string(),
            command: config::command_line(request, &defaults(image))?,
            created: clock::rfc3339(SystemTime::now()),
            remove: request.remove,
            stop_signal: request.stop_signal.clone(),
            labels: request.labels.clone(),
            exit_code: None,
            finished: None,
        };
        record::save(home, &record)?;
        Ok(container)
    }

    fn hostname(&self, request: &Request) -> String {
        match (&request.hostname, request.network) {
            (Some(name), _) => name.clone(),
            (None, NetworkMode::Host) => nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            _ => id::short(&self.id).to_string(),
        }
    }

    /// It ran and has ended: without `--rm` its record and what it wrote stay.
    fn ended(mut self, exit: Exit) -> Result<()> {
        if let Some(store) = self.runtime.take() {
            lifecycle::delete(&store, &self.id, true)?;
        }
        if !self.remove {
            let mut record = record::load(self.home, &self.id)?;
            record.exit_code = Some(exit.code());
            record.finished = Some(clock::rfc3339(SystemTime::now()));
            record::save(self.home, &record)?;
            let _ = std::fs::remove_file(self.home.running(&self.id));
            self.keep = true;
        }
        Ok(())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Some(store) = &self.runtime {
            let _ = lifecycle::delete(store, &self.id, true);
        }
        let link = self.home.name(&self.name);
        if std::fs::read_link(&link).is_ok_and(|owner| owner == Path::new(&self.id)) {
            let _ = std::fs::remove_file(link);
        }
        record::forget(self.home, &self.id);
    }
}

/// A name of ours that nobody has, with a number when two words are not enough.
fn chosen_name(home: &Home, id: &str) -> Result<String> {
    let name = id::pleasant_name(id);
    for candidate in std::iter::once(name.clone()).chain((2..1000).map(|n| format!("{name}{n}"))) {
        match record::claim_name(home, &candidate, id) {
            Err(e) if e.class == Class::Conflict => continue,
            done => return done.map(|()| candidate),
        }
    }
    Err(Error::new(Class::Conflict, "name the container", "all names are taken; give one with --name"))
}

/// The ends of the container's streams: its own, and ours.
struct Ends {
    theirs: Option<[OwnedFd; 3]>,
    stdin: Option<OwnedFd>,
    outputs: Option<(OwnedFd, OwnedFd)>,
    console: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// A terminal, or pipes: never our own descriptors, for a container that has the caller's terminal open can read what is typed there.
fn ends(request: &Request) -> Result<Ends> {
    let doing = || "make the container's streams".to_string();
    if request.terminal {
        let (ours, theirs) = fd::message_pair().doing(doing)?;
        return Ok(Ends { theirs: None, stdin: None, outputs: None, console: Some(theirs), terminal: Some(ours) });
    }
    let (out_read, out_write) = fd::pipe().doing(doing)?;
    let (err_read, err_write) = fd::pipe().doing(doing)?;
    let (input, stdin) = if request.interactive {
        let (read, write) = fd::pipe().doing(doing)?;
        (read, Some(write))
    } else {
        (std::fs::File::open("/dev/null").doing(|| "open /dev/null".into())?.into(), None)
    };
    Ok(Ends { theirs: Some([input, out_write, err_write]), stdin, outputs: Some((out_read, err_read)), console: None, terminal: None })
}

impl Ends {
    fn streams(self, request: &Request) -> Result<Streams> {
        if let Some(socket) = self.terminal {
            let (_, fds) = fd::receive(socket.as_fd()).doing(|| "take the container's terminal".into())?;
            let master = fds.into_iter().next().ok_or_else(|| Error::new(Class::System, "take the container's terminal", "none came"))?;
            // Before the program starts, so that the first size it asks for is the right one.
            foreground::resize(master.as_fd());
            return Ok(Streams::Terminal { master, interactive: request.interactive });
        }
        let (stdout, stderr) = self.outputs.ok_or_else(|| Error::invalid("look after the streams", "there are none"))?;
        Ok(Streams::Pipes { stdin: self.stdin, stdout, stderr })
    }
}

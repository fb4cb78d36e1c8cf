//! `onggi create`, and all of Docker's options that say what a container shall be, in types.
//!
//! Read: docker-create(1).

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::limits::LimitArgs;
use super::networking::{self, NetworkArgs};
use super::pull::{self, PullFirst};
use super::values::{self, device, namespace, nanoseconds, restart, ulimit};
use super::{mounts, size};
use crate::engine::create::{self, Notice};
use crate::engine::home::Home;
use crate::engine::request::{Health, HostDevice, Limits, Namespace, Request, Restart, SeccompChoice, Security, Volume};
use crate::error::{Class, Doing, Error, Result};
use crate::runtime::signal;
use crate::runtime::spec::Rlimit;

/// A container to be
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Keep standard input open, even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// A name for the container
    #[arg(long)]
    name: Option<String>,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A label to find it by: tier=web
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User name or UID, and group: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// One more group of its process: name or GID
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Host name of the container
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// NIS domain name of the container
    #[arg(long)]
    domainname: Option<String>,
    /// Replace the image's entrypoint; an empty one takes it away
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Make the container's root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Run a small init as PID 1, which passes signals on and reaps orphans
    #[arg(long)]
    init: bool,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// All capabilities, all devices, nothing masked, no filter
    #[arg(long)]
    privileged: bool,
    /// seccomp=unconfined|FILE, apparmor=PROFILE, no-new-privileges, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// A limit of setrlimit(2): nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<Rlimit>,
    /// Whom the kernel ends first when memory runs out: -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// A kernel setting of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// A device of the host: /dev/x[:/dev/y[:rwm]]
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    device: Vec<HostDevice>,
    /// Mount a tmpfs: /place[:size=64m,mode=700]
    #[arg(long, value_name = "PLACE")]
    tmpfs: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = size::bytes)]
    shm_size: Option<i64>,
    /// Mount a volume, or bind a folder or file of the host: NAME:/container[:ro], /host:/container
    #[arg(short, long, value_name = "[SOURCE:]TARGET")]
    volume: Vec<String>,
    /// Mount what another container has mounted: CONTAINER[:ro]
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// A mount in long form: type=volume,source=NAME,target=/container,readonly; also bind and tmpfs
    #[arg(long, value_name = "KEY=VALUE,…")]
    mount: Vec<String>,
    #[command(flatten)]
    networking: NetworkArgs,
    /// Use the host's process IDs: host
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    pid: Option<Namespace>,
    /// Use the host's IPC: host, private
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    ipc: Option<Namespace>,
    /// Use the host's name: host
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    uts: Option<Namespace>,
    /// Cgroup below which the container's is made
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,
    /// When to start it again: no, always, unless-stopped, on-failure[:TIMES]
    #[arg(long, value_name = "POLICY", value_parser = restart, default_value = "no", hide_default_value = true)]
    restart: Restart,
    /// Command that says whether the container is well
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two checks, such as 30s
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    health_interval: Option<i64>,
    /// How long a check may take
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    health_timeout: Option<i64>,
    /// How long failures don't count after the start
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    health_start_period: Option<i64>,
    /// Time between two checks while it starts
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    health_start_interval: Option<i64>,
    /// How many failures in a row make it unhealthy
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// Take the image's health check away
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_start_period", "health_start_interval", "health_retries"])]
    no_healthcheck: bool,
    /// Where what it writes is kept: json-file or none
    #[arg(long, value_name = "DRIVER", default_value = "json-file", hide_default_value = true)]
    log_driver: String,
    /// max-size=10m, max-file=3
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// Write the container's ID into a file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    #[command(flatten)]
    pub pull: PullFirst,
    /// Image: `base`, or a name that is pulled when it isn't here; then a command with its arguments, instead of the image's
    // One list, for all that follows the image's name is the command's: `run nginx -v` asks nginx for its version.
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    words: Vec<String>,
}

impl CreateArgs {
    /// The image's name.
    pub fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// Creates a container and prints its ID.
///
/// # Errors
/// As [`create::create`].
pub fn create(args: &CreateArgs) -> Result<u8> {
    let mut request = request(args)?;
    request.stdin_once = request.interactive;
    let cidfile = Cidfile::claim(args.cidfile.as_deref())?;
    let home = Home::open()?;
    let _held = pull::ensure(&home, args.image(), &args.pull)?;
    let record = create::create(&home, &request, None, &mut |notice| tell(notice, &cidfile))?;
    cidfile.written()?;
    super::say(&record.id)
}

/// `--cidfile`: a file that must not be there yet.
pub struct Cidfile<'a> {
    file: Option<&'a Path>,
    written: std::cell::RefCell<Result<()>>,
}

impl<'a> Cidfile<'a> {
    /// Refuses a file that is there.
    ///
    /// # Errors
    /// Conflict.
    pub fn claim(file: Option<&'a Path>) -> Result<Cidfile<'a>> {
        if let Some(file) = file.filter(|file| file.exists()) {
            let why = "container ID file found, make sure the other container isn't running or delete it";
            return Err(Error::new(Class::Conflict, format!("write the ID to {}", file.display()), why));
        }
        Ok(Cidfile { file, written: Ok(()).into() })
    }

    fn write(&self, id: &str) {
        if let Some(file) = self.file {
            *self.written.borrow_mut() = std::fs::write(file, id).doing(|| format!("write the ID to {}", file.display()));
        }
    }

    /// How the writing went.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn written(self) -> Result<()> {
        self.written.into_inner()
    }
}

/// Tells what happens on the way.
pub fn tell(notice: Notice, cidfile: &Cidfile) {
    match notice {
        Notice::BaseMade(made) => {
            let _ = writeln!(std::io::stderr(), "onggi: made the image base from this machine's own programs: {made}");
        }
        Notice::Warning(words) => {
            let _ = writeln!(std::io::stderr(), "onggi: warning: {words}");
        }
        Notice::Created { id } => cidfile.write(id),
    }
}

/// The request that the options make.
///
/// # Errors
/// Invalid for options that contradict each other.
pub fn request(args: &CreateArgs) -> Result<Request> {
    let mut request = Request {
        image: args.image().into(),
        command: args.words.iter().skip(1).cloned().collect(),
        entrypoint: args.entrypoint.as_ref().map(|word| if word.is_empty() { Vec::new() } else { vec![word.clone()] }),
        name: args.name.clone(),
        remove: args.rm,
        interactive: args.interactive,
        terminal: args.tty,
        env: values::environment(&args.env_file, &args.env)?,
        labels: args.label.iter().map(|text| values::pair(text)).collect(),
        working_dir: working_dir(args.workdir.as_deref())?,
        user: args.user.clone(),
        groups: args.group_add.clone(),
        hostname: args.hostname.clone(),
        domainname: args.domainname.clone(),
        read_only: args.read_only,
        init: args.init,
        stop_signal: args.stop_signal.as_ref().map(|name| signal::number(name).map(|_| name.clone())).transpose()?,
        stop_timeout: args.stop_timeout,
        restart: args.restart,
        health: health(args),
        log: values::log(&args.log_driver, &args.log_opt)?,
        stdin_once: false,
        security: security(args)?,
        limits: Limits { oom_score_adj: args.oom_score_adj, rlimits: args.ulimit.clone(), ..args.limits.limits()? },
        mounts: mounted(args)?,
        inherited: Vec::new(),
        volumes_from: args.volumes_from.iter().map(|text| mounts::from(text)).collect::<Result<_>>()?,
        devices: args.device.clone(),
        sysctls: args.sysctl.iter().map(|text| values::required_pair("--sysctl", text)).collect::<Result<_>>()?,
        pid: args.pid.unwrap_or_default(),
        ipc: args.ipc.unwrap_or_default(),
        uts: args.uts.unwrap_or_default(),
        cgroup_parent: args.cgroup_parent.clone(),
        shm_size: args.shm_size.map(|size| size as u64),
        ..Request::default()
    };
    networking::fill(&args.networking, &mut request)?;
    Ok(request)
}

fn mounted(args: &CreateArgs) -> Result<Vec<Volume>> {
    let short = args.volume.iter().map(|text| mounts::short(text));
    let long = args.mount.iter().map(|text| mounts::long(text));
    let tmpfs = args.tmpfs.iter().map(|text| mounts::tmpfs(text));
    let all = short.chain(long).chain(tmpfs).collect::<Result<Vec<_>>>()?;
    match all.iter().enumerate().find(|(i, mount)| all[..*i].iter().any(|other| other.target() == mount.target())) {
        Some((_, twice)) => Err(Error::invalid("mount volumes", format!("duplicate mount point: {}", twice.target().display()))),
        None => Ok(all),
    }
}

fn health(args: &CreateArgs) -> Health {
    Health {
        none: args.no_healthcheck,
        command: args.health_cmd.clone().filter(|command| !command.is_empty()),
        interval: args.health_interval,
        timeout: args.health_timeout,
        start_period: args.health_start_period,
        start_interval: args.health_start_interval,
        retries: args.health_retries,
    }
}

fn working_dir(dir: Option<&Path>) -> Result<Option<PathBuf>> {
    match dir {
        Some(dir) if !dir.is_absolute() => {
            let why = "the working directory is invalid, it needs to be an absolute path";
            Err(Error::invalid(format!("use --workdir {}", dir.display()), why))
        }
        other => Ok(other.map(Path::to_path_buf)),
    }
}

fn security(args: &CreateArgs) -> Result<Security> {
    let mut security =
        Security { privileged: args.privileged, cap_add: args.cap_add.clone(), cap_drop: args.cap_drop.clone(), ..Security::default() };
    for text in &args.security_opt {
        let (key, value) = text.split_once(['=', ':']).map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
            ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
            ("seccomp", Some("unconfined")) => security.seccomp = SeccompChoice::Unconfined,
            ("seccomp", Some("builtin")) => security.seccomp = SeccompChoice::Default,
            ("seccomp", Some(file)) => security.seccomp = profile(Path::new(file))?,
            ("apparmor", Some(profile)) => security.apparmor = Some(profile.into()),
            ("systempaths", Some("unconfined")) => security.unmask = true,
            ("label", Some("disable")) => {}
            _ => {
                let known = "seccomp=unconfined|FILE, apparmor=PROFILE, no-new-privileges, systempaths=unconfined, label=disable";
                return Err(Error::invalid(format!("use --security-opt {text}"), format!("it is none of {known}")));
            }
        }
    }
    Ok(security)
}

fn profile(file: &Path) -> Result<SeccompChoice> {
    let text = std::fs::read_to_string(file).doing(|| format!("read the seccomp profile {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let profile: crate::runtime::spec::Seccomp = serde_path_to_error::deserialize(&mut json)
        .map_err(|e| Error::invalid(format!("use the seccomp profile {}", file.display()), e.to_string()))?;
    // Compiled once more when the container is made; here the error can still name the file.
    crate::runtime::seccomp::compile(&profile).map_err(|e| Error::invalid(format!("use the seccomp profile {}", file.display()), e.one_line()))?;
    Ok(SeccompChoice::Profile(Box::new(profile)))
}

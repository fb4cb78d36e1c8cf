//! A virtual machine with cgroup v2 and nothing else: Debian's cloud kernel, an initramfs packed for the occasion, one command.
//!
//! Files keep their paths, so that `env!("CARGO_BIN_EXE_onggi")` is as right inside as outside. It needs QEMU, busybox and the kernel that `.ci/vm-kernel` unpacks; KVM is used when `ONGGI_VM_ACCEL=kvm` says so.
//!
//! See it: `ps -C qemu-system-x86_64 -o args` while a test runs. Read: kernel-parameters.txt, qemu-system-x86_64(1), bootparam(7).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::initramfs::Initramfs;
use super::{peer, say, skip_for_want_of};

/// What the machine is made of and what it runs.
pub struct VmPlan {
    /// Files and folders of this machine, which have the same path inside; a program brings its shared libraries.
    pub files: Vec<PathBuf>,
    /// A program with its arguments; run as root, in the folder of `Cargo.toml`.
    pub command: Vec<String>,
    /// From power-on to the end; after that the machine is switched off and the test fails.
    pub timeout: Duration,
    pub variant: Variant,
}

/// Where the command finds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// On a tmpfs that the initramfs handed over to, as on a usual machine: `pivot_root` is allowed.
    TmpfsRoot,
    /// On the initramfs itself, as on diskless and embedded machines: `pivot_root` gives EINVAL.
    InitramfsRoot,
}

/// How the command ended.
#[derive(Debug)]
pub struct VmOutcome {
    pub exit_code: i32,
    /// What the command wrote to standard output and error.
    pub output: String,
}

/// Proof that all is here to start a VM.
pub struct Vm {
    qemu: PathBuf,
    busybox: PathBuf,
    kernel: PathBuf,
    modules: PathBuf,
}

/// Kernel modules that are loaded before the command runs; what they depend on comes along.
const MODULES: [&str; 15] = [
    "overlay",
    "fuse",
    "loop", // a block device for io.max
    "veth",
    "bridge",
    "br_netfilter",
    "tun", // slirp4netns
    "nf_tables",
    "nft_ct",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_fib_inet",
    "nf_conntrack_netlink", // connections are listed and forgotten through it
];

/// Whether this process runs inside the VM. A test of the VM's own begins with `if !vm::inside() { return; }`: outside, the
/// test that boots the VM is the one that counts, and one line for all of them says so.
pub fn inside() -> bool {
    static SAID: Once = Once::new();
    let inside = std::env::var_os("ONGGI_IN_VM").is_some();
    if !inside {
        SAID.call_once(|| say("note: the tests of the modules `guest…` do nothing here; `…_passes_in_a_vm` runs them in a VM"));
    }
    inside
}

impl Vm {
    /// What a VM needs, or `None` after having said what is missing.
    ///
    /// # Panics
    /// With `ONGGI_REQUIRE_PEERS=1`, when something is missing.
    pub fn find() -> Option<Vm> {
        let qemu = peer("qemu-system-x86_64")?;
        let busybox = peer("busybox")?;
        let cache = std::env::var_os("ONGGI_VM_CACHE").unwrap_or_else(|| "/var/cache/onggi-vm".into());
        let unpacked = Path::new(&cache).join("kernel");
        let kernel = only_entry(&unpacked.join("boot"), "vmlinuz-");
        let modules = only_entry(&unpacked.join("lib/modules"), "");
        match (kernel, modules) {
            _ if cfg!(not(target_arch = "x86_64")) => skip_for_want_of("the VM's kernel is for x86_64 only"),
            (Some(kernel), Some(modules)) => return Some(Vm { qemu, busybox, kernel, modules }),
            _ => skip_for_want_of(&format!("no kernel in {} (`bash .ci/vm-kernel` fetches one)", unpacked.display())),
        }
        None
    }

    /// Boots the machine, shows what the command writes as it comes, and answers how it ended.
    ///
    /// # Panics
    /// When the machine ends without the command's exit code (a kernel panic, the timeout): with the end of its console.
    #[track_caller]
    pub fn run(&self, plan: &VmPlan) -> VmOutcome {
        let scratch = Scratch::create().expect("a folder for the VM");
        let marker = format!("onggi-vm-exit-{}", scratch.0.file_name().unwrap_or_default().to_string_lossy());
        let archive = scratch.0.join("initramfs");
        let console = scratch.0.join("console");
        let size = self.pack(plan, &marker).and_then(|root| root.write(&archive)).expect("pack the initramfs");

        let start = Instant::now();
        let mut timeout = self.qemu_command(plan, &archive, &console);
        let mut child = timeout.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start timeout(1)");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        let (output, exit_code) = follow(lines, &marker);
        let status = child.wait().expect("wait for QEMU");
        say(&format!("[vm] {:.1} s in all, {} MB of initramfs", start.elapsed().as_secs_f32(), size / 1_000_000));

        let Some(exit_code) = exit_code else {
            let said = fs::read_to_string(&console).unwrap_or_default();
            let late = if status.signal().is_some() || status.code() == Some(137) { ": it took too long" } else { "" };
            panic!("the VM ended without the command's exit code ({status}{late}). The end of its console:\n{}", last_lines(&said, 40));
        };
        VmOutcome { exit_code, output }
    }

    fn qemu_command(&self, plan: &VmPlan, archive: &Path, console: &Path) -> Command {
        // timeout(1) and not a clock of our own: it also ends a machine whose test program was killed. In the foreground, so that
        // Ctrl-C reaches both.
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--signal=KILL", &plan.timeout.as_secs().to_string()]).arg(&self.qemu);
        command.args("-nodefaults -display none -no-reboot -smp 2 -cpu max -m 1G".split(' '));
        let accelerator = std::env::var("ONGGI_VM_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".into());
        command.args(["-accel", &accelerator]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(archive).args(["-append", KERNEL_PARAMETERS]);
        // The first port is the kernel's console, the second the command's.
        command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
        command
    }

    /// The root filesystem of the machine.
    fn pack(&self, plan: &VmPlan, marker: &str) -> io::Result<Initramfs> {
        let mut root = Initramfs::with_folders();
        for file in &plan.files {
            root.add_from_host(file)?;
        }
        root.add_busybox(&self.busybox)?;

        let mut modules = Vec::new();
        for name in MODULES {
            add_module(&self.modules, name, &mut modules)?;
        }
        let mut module_list = String::new();
        for module in modules {
            let inside = Path::new("/vm/modules.d").join(module.file_name().unwrap_or_default());
            root.add_host_file_as(&module, &inside)?;
            module_list += &format!("{}\n", inside.display());
        }
        root.add_text("/vm/modules", 0o644, &module_list);
        root.add_text("/vm/marker", 0o644, &format!("{marker}\n"));
        root.add_text("/vm/command", 0o755, &command_script(&plan.command));
        root.add_folder(Path::new(env!("CARGO_MANIFEST_DIR")));
        root.add_text("/init", 0o755, include_str!("vm-init.sh"));
        if plan.variant == Variant::InitramfsRoot {
            root.add_text("/vm/stay-on-initramfs", 0o644, "");
        }

        root.add_text("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nstudent:x:1000:1000::/home/student:/bin/sh\n");
        root.add_text("/etc/group", 0o644, "root:x:0:\ntty:x:5:\nstudent:x:1000:\n");
        root.add_text("/etc/subuid", 0o644, "student:100000:65536\n");
        root.add_text("/etc/subgid", 0o644, "student:100000:65536\n");
        root.add_text("/etc/hosts", 0o644, "127.0.0.1 localhost\n");
        root.add_text("/etc/resolv.conf", 0o644, "nameserver 127.0.0.1\n");
        Ok(root)
    }
}

/// `cgroup_no_v1=all`: cgroup v2 alone, as systemd sets it up on the machines of today. The rest is haste: no self-tests
/// of ciphers, no probing of keyboards and clocks, no defence against speculation on a CPU that doesn't speculate.
const KERNEL_PARAMETERS: &str = "console=ttyS0 quiet panic=-1 reboot=t cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 \
                                 mitigations=off cryptomgr.notests i8042.noaux i8042.nokbd no_timer_check random.trust_cpu=on rcupdate.rcu_expedited=1";

/// The program and its arguments, quoted for sh, in the folder where cargo starts tests.
fn command_script(command: &[String]) -> String {
    let quote = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let words: Vec<_> = command.iter().map(|word| quote(word)).collect();
    let require = if super::peers_are_required() { "export ONGGI_REQUIRE_PEERS=1\n" } else { "" };
    format!("cd {}\n{require}exec {}\n", quote(env!("CARGO_MANIFEST_DIR")), words.join(" "))
}

/// Adds the file of a module after those that it depends on, which `.modinfo` in the module itself names.
fn add_module(tree: &Path, name: &str, modules: &mut Vec<PathBuf>) -> io::Result<()> {
    let builtin = fs::read_to_string(tree.join("modules.builtin"))?;
    if builtin.lines().any(|line| module_name(Path::new(line)) == name) {
        return Ok(());
    }
    let file = find_module(&tree.join("kernel"), name)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no module {name} in {}", tree.display())))?;
    if modules.contains(&file) {
        return Ok(());
    }
    for dependency in module_dependencies(&file)? {
        add_module(tree, &dependency, modules)?;
    }
    modules.push(file);
    Ok(())
}

/// The `depends=` of a module's `.modinfo` section: strings that NULs end.
fn module_dependencies(file: &Path) -> io::Result<BTreeSet<String>> {
    let bytes = fs::read(file)?;
    let marker = b"\0depends=";
    let start = bytes.windows(marker.len()).position(|window| window == marker).map_or(bytes.len(), |at| at + marker.len());
    let value = bytes[start..].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(value).split(',').filter(|name| !name.is_empty()).map(str::to_string).collect())
}

fn find_module(folder: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let found = if entry.file_type()?.is_dir() { find_module(&path, name)? } else { (module_name(&path) == name).then_some(path) };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// `kernel/net/br-x.ko` is the module `br_x`.
fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".ko").unwrap_or_default().replace('-', "_")
}

/// Shows each line as it comes; stops at the one with the marker, and answers with all before it and the exit code on it.
fn follow(lines: impl BufRead, marker: &str) -> (String, Option<i32>) {
    let mut output = String::new();
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if let Some(code) = line.strip_prefix(marker) {
            // The newline in front of the marker is ours.
            let own = output.strip_suffix('\n').map_or(output.len(), str::len);
            output.truncate(own);
            return (output, code.trim().parse().ok());
        }
        if !line.is_empty() {
            say(&format!("[vm] {line}"));
        }
        output.push_str(&line);
        output.push('\n');
    }
    (output, None)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The one file or folder of `folder` whose name begins with `start`.
fn only_entry(folder: &Path, start: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    entries.map(|entry| entry.path()).find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
}

/// A folder that goes when the run does. Its name is no other run's.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> io::Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vm-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from).join(name);
        fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

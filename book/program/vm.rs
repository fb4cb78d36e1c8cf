//! Blocks marked `console,vm`: typed in a virtual machine with cgroup v2 and nothing else, as on the machines of today.
//!
//! It is the machine of the engine's own tests. All of a chapter's blocks are one session of its root.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::run::MARK;
use crate::support::vm::{Variant, Vm, VmPlan};

/// Longer than any chapter takes, also where the processor is emulated.
const PATIENCE: Duration = Duration::from_secs(120);

/// What each command printed; None after having said why this machine can't start another.
pub fn session(bin: &Path, commands: &[String]) -> Option<Vec<String>> {
    let vm = Vm::find()?;
    let mut files: Vec<PathBuf> = vec![bin.join("onggi"), bin.join("onggi-runtime")];
    let steps = std::fs::read_dir(bin).into_iter().flatten().flatten().map(|entry| entry.path());
    files
        .extend(steps.filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-") && !name.to_string_lossy().contains('.'))
        }));
    let mut script = format!("PATH={}:$PATH\ncd /root\n", bin.display());
    for command in commands {
        // `\r` and the rest are as they came: the second serial port changes nothing.
        script += &format!("{{\n{command}\n}} </dev/null 2>&1\nprintf '{MARK}\\n'\n");
    }
    let command = ["sh", "-c", &script].map(String::from).to_vec();
    let outcome = vm.run(&VmPlan { files, command, timeout: PATIENCE, variant: Variant::TmpfsRoot });
    Some(outcome.output.split(MARK).map(|output| output.strip_prefix('\n').unwrap_or(output).to_string()).collect())
}

//! A test program that sends itself into a VM: its tests of one module run there as PID 1's only command, as root, on a kernel that
//! they may break.

use std::path::PathBuf;
use std::time::Duration;

use super::find_program;
use super::vm::{Variant, Vm, VmPlan};

/// Runs in a VM the calling test program's tests of `module`, and shows their lines as they come.
/// Returns early, with a visible line, when this machine can't start a VM.
///
/// # Panics
/// When one of the tests fails, or when there is none.
#[track_caller]
pub fn guest_tests_pass(module: &str, variant: Variant, more_files: &[PathBuf]) {
    // libtest filters by a part of the name, so this very test may be among the chosen.
    if std::env::var_os("ONGGI_IN_VM").is_some() {
        return;
    }
    let Some(vm) = Vm::find() else { return };
    let this_program = std::env::current_exe().expect("the path of this test program");
    let command = [&*this_program.to_string_lossy(), &format!("{module}::"), "--test-threads=1", "--nocapture"].map(str::to_string).to_vec();
    let mut files = vec![this_program, env!("CARGO_BIN_EXE_onggi").into(), env!("CARGO_BIN_EXE_onggi-runtime").into()];
    // Rootless needs them; they are setuid, or have file capabilities, which a cpio archive can't carry.
    files.extend(["newuidmap", "newgidmap"].iter().filter_map(|name| find_program(name)));
    files.extend_from_slice(more_files);

    let outcome = vm.run(&VmPlan { files, command, timeout: Duration::from_secs(300), variant });
    assert!(outcome.output.contains("test result: ok."), "{module}: the tests in the VM failed with exit code {}", outcome.exit_code);
    assert!(!outcome.output.contains(" ok. 0 passed"), "no test is in {module}");
    assert_eq!(outcome.exit_code, 0, "{module}: exit code in the VM");
}

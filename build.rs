//! Builds the probe (`src/sys/probe`): a static program without a C library, which `src/image/probe.rs` embeds.
//!
//! Cargo can't make it a target of its own: it would need other flags than the rest of the package, and be there before the rest is
//! compiled. So rustc is called directly; the linker is the one that Cargo uses.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &str = "src/sys/probe";

fn main() {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-changed=build.rs");
    let target = variable("TARGET");
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    assert!(
        variable("CARGO_CFG_TARGET_OS") == "linux" && (arch == "x86_64" || arch == "aarch64"),
        "Onggi runs on Linux on x86_64 and aarch64; this build is for {target}"
    );
    let out = PathBuf::from(variable("OUT_DIR")).join("probe");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.arg(Path::new(SOURCES).join("main.rs")).arg("-o").arg(&out);
    rustc.args(["--crate-name", "probe", "--crate-type", "bin", "--edition", "2024", "--target", &target]);
    for option in ["panic=abort", "opt-level=z", "codegen-units=1", "relocation-model=static", "strip=symbols"] {
        rustc.args(["-C", option]);
    }
    // No C library and none of its start files; no build ID, so that the same source gives the same bytes.
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,--no-eh-frame-hdr"] {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let status = rustc.status().unwrap_or_else(|e| panic!("cannot start {:?}: {e}", rustc.get_program()));
    assert!(status.success(), "cannot build the probe: {rustc:?}");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("Cargo sets {name} for build scripts"))
}

//! Builds the probe (`src/sys/probe`): a static program without a C library, which `src/image/probe.rs` embeds; and puts the book on its
//! shelf (`src/workshop/shelf.rs`) inside a program that is built for release.
//!
//! Cargo can't make it a target of its own: it would need other flags than the rest of the package, and be there before the rest is
//! compiled. So rustc is called directly; the linker is the one that Cargo uses.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[allow(dead_code)] // the program uses all of it
#[path = "src/workshop/pages/mod.rs"]
mod pages;

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
    shelve(Path::new(&variable("OUT_DIR")));
    let status = rustc.status().unwrap_or_else(|e| panic!("cannot start {:?}: {e}", rustc.get_program()));
    assert!(status.success(), "cannot build the probe: {rustc:?}");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("Cargo sets {name} for build scripts"))
}

/// Writes all pages of the book and the sources that they show into a Rust file; a debug build reads them where they stand, so that
/// an edit of the book rebuilds nothing.
fn shelve(out: &Path) {
    let (mut shelf, mut sources) = (String::from("pub const PAGES: &[(&str, &str, &str)] = &[\n"), BTreeSet::new());
    if variable("PROFILE") == "release" {
        let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
        ["book", "steps", "src"].iter().for_each(|folder| println!("cargo::rerun-if-changed={folder}"));
        for lang in pages::LANGUAGES {
            let folder = root.join(format!("book/{lang}/src"));
            let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display()));
            let names: BTreeSet<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            for name in names.iter().filter(|name| name.ends_with(".md")) {
                let text = fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("cannot read {name}: {e}"));
                let text = pages::expand(&root, lang, &text).unwrap_or_else(|wrong| panic!("book/{lang}/src/{name}:\n{wrong}"));
                sources.extend(pages::sources(&text).map(String::from));
                let _ = writeln!(shelf, "({lang:?}, {name:?}, {text:?}),");
            }
        }
        shelf += "];\npub const SOURCES: &[(&str, &str)] = &[\n";
        for name in sources {
            let _ = writeln!(shelf, "({name:?}, {:?}),", pages::source(&root, &name).unwrap_or_else(|why| panic!("{why}")));
        }
    } else {
        shelf += "];\npub const SOURCES: &[(&str, &str)] = &[\n";
    }
    fs::write(out.join("shelf.rs"), shelf + "];\n").unwrap_or_else(|e| panic!("cannot write shelf.rs: {e}"));
}

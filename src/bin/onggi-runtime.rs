//! The OCI runtime as a program of its own, for dockerd, containerd and podman.

fn main() -> std::process::ExitCode {
    onggi::runtime::own_program::protect_for(&["create", "run", "exec"]);
    onggi::cli::oci::main(std::env::args_os().collect()).into()
}

//! The OCI runtime as a program of its own, for dockerd, containerd and podman.

fn main() -> std::process::ExitCode {
    onggi::cli::oci::main(std::env::args_os().collect()).into()
}

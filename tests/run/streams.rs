//! Standard input, output and error: whole, apart, and closed when they should be.
//!
//! See it: `head -c 50m /dev/urandom | tee a | onggi run --rm -i base cat | cmp - a`. Read: pipe(7).

use std::io::{Read, Write};
use std::process::Stdio;

use crate::support::jar::{Jar, said};

#[test]
fn fifty_megabytes_go_in_and_come_out_the_same() {
    let Some(jar) = Jar::new() else { return };
    let mut onggi = jar.onggi(&["run", "--rm", "-i", "base", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Numbers that differ all the way: a block lost, doubled or exchanged would be seen.
    let sent: Vec<u8> = (0..50 * 1024 * 1024 / 4u32).flat_map(|n| n.wrapping_mul(2654435761).to_le_bytes()).collect();
    let mut stdin = onggi.stdin.take().unwrap();
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&sent).unwrap();
            drop(stdin);
        });
        onggi.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    });
    assert_eq!(onggi.wait().unwrap().code(), Some(0));
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[test]
fn two_hundred_megabytes_come_out_whole_though_the_program_has_ended() {
    let Some(jar) = Jar::new() else { return };
    let mut onggi = jar.onggi(&["run", "--rm", "base", "head", "-c", "200000000", "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut output, mut total, mut chunk) = (onggi.stdout.take().unwrap(), 0, vec![0; 1 << 20]);
    loop {
        match output.read(&mut chunk).unwrap() {
            0 => break,
            length => total += length,
        }
    }
    assert_eq!((total, onggi.wait().unwrap().code()), (200_000_000, Some(0)));
}

#[test]
fn output_and_error_stay_apart() {
    let Some(jar) = Jar::new() else { return };
    let told = jar.run(&["base", "sh", "-c", "echo out; echo err >&2; echo out2; printf '\\000\\377' "]);
    assert_eq!((&*told.out, &*told.err), ("out\nout2\n\0\u{fffd}", "err\n"));
}

#[test]
fn without_i_there_is_nothing_to_read() {
    let Some(jar) = Jar::new() else { return };
    let told = said(jar.onggi(&["run", "--rm", "base", "cat"]).stdin(std::fs::File::open("/etc/passwd").unwrap()).output().unwrap());
    assert_eq!((told.code, &*told.out), (0, ""));
    let told = said(jar.onggi(&["run", "--rm", "-i", "base", "cat"]).stdin(std::fs::File::open("/etc/hostname").unwrap()).output().unwrap());
    assert_eq!(told.out, std::fs::read_to_string("/etc/hostname").unwrap());
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let Some(jar) = Jar::new() else { return };
    let mut onggi =
        jar.onggi(&["run", "--rm", "base", "sh", "-c", "while echo line; do :; done"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = onggi.stdout.take().unwrap();
    output.read_exact(&mut [0; 5]).unwrap();
    drop(output);
    let told = said(onggi.wait_with_output().unwrap());
    assert!(!told.err.contains("onggi:") && !told.err.contains("panicked"), "{told:?}");
    jar.assert_nothing_left();
}

#[test]
fn standard_descriptors_that_are_closed_hurt_nobody() {
    let Some(jar) = Jar::new() else { return };
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let line = format!("exec {} run --rm base sh -c 'echo x; exit 4' {closed}", crate::support::jar::ONGGI);
        let told = said(std::process::Command::new("sh").args(["-c", &line]).env("ONGGI_ROOT", &jar.root).output().unwrap());
        assert_eq!(told.code, 4, "{closed}: {told:?}");
        assert!(!told.err.contains("panicked"), "{told:?}");
    }
    jar.assert_nothing_left();
}

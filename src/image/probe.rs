//! The probe's bytes: a static program that says what it sees where it runs, and that is `--init` too.
//!
//! The image `base` has it at `/usr/bin/probe`; a container of another image gets it bind-mounted. Its source is `src/sys/probe`.

/// The program, an ELF file for this machine.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));

#[cfg(test)]
mod tests {
    use super::PROBE;

    #[test]
    fn the_probe_is_small_static_and_for_this_machine() {
        assert!(PROBE.len() < 65536, "{} bytes", PROBE.len());
        let file = elf::ElfBytes::<elf::endian::AnyEndian>::minimal_parse(PROBE).unwrap();
        let machine = if cfg!(target_arch = "x86_64") { elf::abi::EM_X86_64 } else { elf::abi::EM_AARCH64 };
        assert_eq!(file.ehdr.e_machine, machine);
        for segment in file.segments().unwrap() {
            assert!(segment.p_type != elf::abi::PT_INTERP && segment.p_type != elf::abi::PT_DYNAMIC);
        }
    }
}

//! Which shared libraries a program needs, and where they are: what the dynamic linker does at each start, done by reading only.
//!
//! `ldd` would answer too, but by *running* the program's linker. An ELF file says itself what it needs (DT_NEEDED) and where to look
//! first (DT_RPATH, DT_RUNPATH); the rest is in `/etc/ld.so.cache`.
//!
//! See it: `readelf -d /bin/ls`, `ldconfig -p`. Read: elf(5), ld.so(8), glibc's sysdeps/generic/dl-cache.h.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use elf::ElfBytes;
use elf::abi;
use elf::endian::AnyEndian;

/// What an ELF file says about itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Elf {
    pub interpreter: Option<PathBuf>,
    pub needed: Vec<String>,
    /// DT_RPATH: also for the libraries of its libraries.
    pub rpath: Vec<PathBuf>,
    /// DT_RUNPATH: for its own only; with one, DT_RPATH means nothing.
    pub runpath: Vec<PathBuf>,
}

/// Reads a program or library of this machine's kind; None for all other files.
pub fn read(path: &Path, bytes: &[u8]) -> Option<Elf> {
    let machine = if cfg!(target_arch = "x86_64") { abi::EM_X86_64 } else { abi::EM_AARCH64 };
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).ok()?;
    if file.ehdr.e_machine != machine || file.ehdr.class != elf::file::Class::ELF64 {
        return None;
    }
    let mut elf = Elf::default();
    let segments = file.segments()?;
    for segment in segments.iter().filter(|segment| segment.p_type == abi::PT_INTERP) {
        let text = file.segment_data(&segment).ok()?.split(|&b| b == 0).next()?;
        elf.interpreter = Some(PathBuf::from(String::from_utf8(text.to_vec()).ok()?));
    }
    let Ok(Some(dynamic)) = file.dynamic() else { return Some(elf) };
    // The table of strings is told by its address in memory: the segment that is loaded there says where in the file it is.
    let address = dynamic.iter().find(|entry| entry.d_tag == abi::DT_STRTAB)?.d_ptr();
    let holds = |segment: &elf::segment::ProgramHeader| {
        segment.p_type == abi::PT_LOAD && (segment.p_vaddr..segment.p_vaddr + segment.p_filesz).contains(&address)
    };
    let segment = segments.iter().find(holds)?;
    let strings = bytes.get((segment.p_offset + (address - segment.p_vaddr)) as usize..)?;
    let origin = path.parent().unwrap_or(Path::new("/")).display().to_string();
    for entry in dynamic.iter() {
        let text = || {
            let text = strings.get(entry.d_val() as usize..)?.split(|&b| b == 0).next()?;
            String::from_utf8(text.to_vec()).ok()
        };
        let dirs = || {
            let text = text().unwrap_or_default().replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
            text.split(':').filter(|dir| dir.starts_with('/')).map(PathBuf::from).collect::<Vec<_>>()
        };
        match entry.d_tag {
            abi::DT_NEEDED => elf.needed.extend(text()),
            abi::DT_RPATH => elf.rpath = dirs(),
            abi::DT_RUNPATH => elf.runpath = dirs(),
            _ => {}
        }
    }
    Some(elf)
}

/// Where libraries are on this host.
pub struct Libraries {
    cache: HashMap<String, Vec<PathBuf>>,
    dirs: Vec<PathBuf>,
}

impl Libraries {
    pub fn of_this_host() -> Libraries {
        let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
        let mut dirs: Vec<PathBuf> = Vec::new();
        for top in ["/lib", "/usr/lib"] {
            dirs.push(Path::new(top).join(&multiarch));
            dirs.push(PathBuf::from(format!("{top}64")));
            dirs.push(top.into());
        }
        dirs.push("/usr/local/lib".into());
        let cache = std::fs::read("/etc/ld.so.cache").ok().and_then(|bytes| read_cache(&bytes)).unwrap_or_default();
        Libraries { cache, dirs }
    }

    /// The file that `elf` gets when it asks for `name`. `inherited` is the DT_RPATH of those that load it.
    pub fn find(&self, name: &str, elf: &Elf, inherited: &[PathBuf]) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name));
        }
        let no_dirs: &[PathBuf] = &[];
        let (rpath, above) = if elf.runpath.is_empty() { (&*elf.rpath, inherited) } else { (no_dirs, no_dirs) };
        let first = rpath.iter().chain(above).chain(&elf.runpath).map(|dir| dir.join(name));
        let cached = self.cache.get(name).into_iter().flatten().cloned();
        let last = self.dirs.iter().map(|dir| dir.join(name));
        // A library of another machine's kind is passed over, as ld.so does.
        first.chain(cached).chain(last).find(|path| is_ours(path))
    }
}

fn is_ours(path: &Path) -> bool {
    use std::io::Read;
    let mut header = [0u8; 20];
    let machine = if cfg!(target_arch = "x86_64") { abi::EM_X86_64 } else { abi::EM_AARCH64 };
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header.starts_with(b"\x7fELF\x02") && u16::from_le_bytes([header[18], header[19]]) == machine
}

/// `/etc/ld.so.cache` in the format of glibc 2.2 and later: a header of 48 bytes, entries of 24, and the strings that they point to.
fn read_cache(bytes: &[u8]) -> Option<HashMap<String, Vec<PathBuf>>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    // The format before it may stand in front.
    let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let cache = &bytes[start..];
    let number = |at: usize| Some(u32::from_le_bytes(cache.get(at..at + 4)?.try_into().ok()?) as usize);
    let text = |at: usize| Some(String::from_utf8_lossy(cache.get(at..)?.split(|&b| b == 0).next()?).into_owned());
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for entry in (0..number(20)?).map(|index| 48 + index * 24) {
        let (name, path) = (text(number(entry + 4)?)?, text(number(entry + 8)?)?);
        // Built for newer processors than the image may run on (glibc-hwcaps).
        let for_all = cache.get(entry + 16..entry + 24)? == [0; 8];
        if for_all {
            found.entry(name).or_default().push(path.into());
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_own_program_says_what_it_needs() {
        let path = std::env::current_exe().unwrap();
        let elf = read(&path, &std::fs::read(&path).unwrap()).unwrap();
        assert!(elf.needed.iter().any(|name| name.starts_with("libc.")), "{elf:?}");
        assert!(elf.interpreter.as_ref().unwrap().exists(), "{elf:?}");
        let libraries = Libraries::of_this_host();
        for name in &elf.needed {
            assert!(libraries.find(name, &elf, &[]).is_some_and(|path| path.exists()), "{name}");
        }
        assert_eq!(libraries.find("libno-such.so.9", &elf, &[]), None);
    }

    #[test]
    fn the_probe_needs_nothing() {
        assert_eq!(read(Path::new("/probe"), crate::image::probe::PROBE), Some(Elf::default()));
    }

    #[test]
    fn what_is_no_program_is_none() {
        assert_eq!(read(Path::new("/x"), b"#!/bin/sh\n"), None);
        assert_eq!(read(Path::new("/x"), b"\x7fELF\x02\x01\x01"), None);
    }

    #[test]
    fn a_cache_is_read_without_the_libraries_of_newer_processors() {
        let strings = b"liba.so\0/lib/liba.so\0/lib/glibc-hwcaps/x86-64-v3/liba.so\0";
        let mut cache = b"ld.so-1.7.0\0junk".to_vec();
        cache.extend(b"glibc-ld.so.cache1.1");
        cache.extend([2u32, strings.len() as u32, 0, 0, 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
        let base = 48 + 2 * 24;
        for (path, hwcap) in [(29u32, 1u64 << 62), (8, 0)] {
            cache.extend([0u32, base, base + path - if path == 29 { 8 } else { 0 }, 0].iter().flat_map(|n| n.to_le_bytes()));
            cache.extend(hwcap.to_le_bytes());
        }
        cache.extend(strings);
        let found = read_cache(&cache).unwrap();
        assert_eq!(found["liba.so"], [PathBuf::from("/lib/liba.so")]);
        assert_eq!(read_cache(b"nothing"), None);
        assert_eq!(read_cache(&cache[..60]), None);
    }
}

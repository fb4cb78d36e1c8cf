//! `save`, `load` and `import`: images out of files and into files.
//!
//! Read: docker save(1), docker load(1), docker import(1).

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::images::tell;
use super::progress::Progress;
use crate::engine::events;
use crate::engine::files::instructions;
use crate::engine::home::Home;
use crate::engine::images::users;
use crate::error::{Class, Doing, Error, Result};
use crate::image::create::{self, New};
use crate::image::manifest::ContainerConfig;
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::image::{load, save};

#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Names or IDs; a repository without a tag means all of its tags
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
    /// Write to a file, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Read from an archive (also gzip or zstd) or a folder, instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Say only what was loaded, and no progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// An archive of files (also gzip or zstd), or `-` for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// A name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Apply a line of a Dockerfile, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "LINE")]
    change: Vec<String>,
    /// A word on what this is, for the image's history
    #[arg(short, long)]
    message: Option<String>,
}

/// `save`
///
/// # Errors
/// NotFound, Conflict for a terminal, ENOSPC: then no file is left.
pub fn save(store: &Store, args: &SaveArgs) -> Result<u8> {
    let Some(file) = &args.output else {
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            return Err(Error::new(Class::Conflict, "save to standard output", "cowardly refusing to save to a terminal")
                .hint("use the -o flag, or redirect: onggi save IMAGE > FILE"));
        }
        save::save(store, &args.names, BufWriter::with_capacity(256 << 10, stdout.lock()))?;
        return Ok(0);
    };
    // A pipe or a device is written to; a file is made aside, so that there is a whole one or the old one.
    if file.metadata().is_ok_and(|meta| !meta.is_file()) {
        let out = OpenOptions::new().write(true).open(file).doing(|| format!("open {}", file.display()))?;
        save::save(store, &args.names, BufWriter::with_capacity(256 << 10, out))?;
        return Ok(0);
    }
    let new = aside(file)?;
    let saved = File::create(&new).doing(|| format!("write {}", file.display())).and_then(|out| {
        save::save(store, &args.names, BufWriter::with_capacity(256 << 10, out))?;
        std::fs::rename(&new, file).doing(|| format!("write {}", file.display()))
    });
    saved.inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    Ok(0)
}

fn aside(file: &Path) -> Result<PathBuf> {
    let name = file.file_name().ok_or_else(|| Error::invalid(format!("write {}", file.display()), "this is no file's name"))?;
    Ok(file.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id())))
}

/// `load`
///
/// # Errors
/// Invalid for what is no image, ENOSPC: then nothing is left in the store.
pub fn load(home: &Home, store: &Store, args: &LoadArgs) -> Result<u8> {
    let users = || users(home);
    let mut progress = Progress::new("Loading", args.quiet);
    let loaded = match &args.input {
        Some(path) if path.is_dir() => load::folder(store, path, &users)?,
        Some(path) => {
            let file = File::open(path).doing(|| format!("open {}", path.display()))?;
            load::archive(store, progress.reading(file), &users)?
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Error::invalid("load from standard input", "requested load from stdin, but stdin is empty")
                .hint("name a file: onggi load -i FILE, or redirect: onggi load < FILE"));
        }
        None => load::archive(store, progress.reading(std::io::stdin().lock()), &users)?,
    };
    drop(progress);
    for image in loaded {
        events::image(home, "load", &image.id.to_string(), &image.names.first().map(|name| name.familiar()).unwrap_or_default());
        match image.names.is_empty() {
            true => tell(format!("Loaded image ID: {}", image.id))?,
            false => image.names.iter().try_for_each(|name| tell(format!("Loaded image: {}", name.familiar())))?,
        }
    }
    Ok(0)
}

/// `import`
///
/// # Errors
/// Invalid for what is no archive, ENOSPC: then nothing is left in the store.
pub fn import(home: &Home, store: &Store, args: &ImportArgs) -> Result<u8> {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    let mut config = ContainerConfig::default();
    args.change.iter().try_for_each(|line| instructions::apply(&mut config, line))?;
    let source = args.file.display().to_string();
    if source.starts_with("http://") || source.starts_with("https://") {
        return Err(Error::new(Class::Unsupported, format!("import {source}"), "files are read here, not addresses")
            .hint(format!("fetch it first: curl -L {source} | onggi import -")));
    }
    let mut input: Box<dyn Read> = match source.as_str() {
        "-" => Box::new(std::io::stdin().lock()),
        _ => Box::new(File::open(&args.file).doing(|| format!("open {source}"))?),
    };
    let comment = Some(args.message.clone().unwrap_or_else(|| format!("Imported from {source}")));
    let id = create::create(store, &New { config, comment, name, ..New::default() }, &|| users(home), |layer| copy(&mut input, layer, &source))?;
    events::image(home, "import", &id.to_string(), args.name.as_deref().unwrap_or_default());
    tell(id)?;
    Ok(0)
}

fn copy(input: &mut dyn Read, layer: &mut dyn Write, source: &str) -> Result<()> {
    let doing = || format!("import {source}");
    let mut buffer = vec![0u8; 256 << 10];
    let mut total = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) if total == 0 => return Err(Error::invalid(doing(), "it is empty")),
            Ok(0) => return layer.flush().doing(doing),
            Ok(count) => {
                layer.write_all(&buffer[..count]).doing(doing)?;
                total += count;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).doing(doing),
        }
    }
}

//! The editions on the loopback address, for whoever writes: each look at a page sees the sources as they are.
//!
//! A page is a file of `target/book`; before one is given, the editions are built again when anything below `book`, `steps` or `src` changed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::edition;

/// Serves until the process is ended.
///
/// # Errors
/// The port is taken, or the first edition can't be built.
pub fn serve(root: &Path, port: u16) -> Result<(), String> {
    let place = edition::build(root, &root.join("target/book"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("cannot listen on 127.0.0.1:{port}: {e}"))?;
    println!("http://{}/", listener.local_addr().map_err(|e| e.to_string())?);
    let mut built = SystemTime::now();
    for stream in listener.incoming().flatten() {
        if newest(root).is_some_and(|changed| changed > built) {
            built = SystemTime::now();
            if let Err(why) = edition::build(root, &place) {
                eprintln!("{why}");
            }
        }
        let _ = answer(&place, &stream);
    }
    Ok(())
}

/// One request: GET of a file, nothing else. Each connection carries one.
pub fn answer(place: &Path, mut stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let asked = first.split(' ').nth(1).unwrap_or("/").split(['?', '#']).next().unwrap_or("/");
    let (status, kind, bytes) = match file(place, asked) {
        Some(file) => ("200 OK", kind(&file), fs::read(&file)?),
        None => ("404 Not Found", "text/plain", b"there is no such page\n".to_vec()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        bytes.len()
    )?;
    stream.write_all(&bytes)
}

fn file(place: &Path, asked: &str) -> Option<PathBuf> {
    let asked = asked.trim_start_matches('/');
    if asked.split('/').any(|part| part == "..") {
        return None;
    }
    let file = place.join(asked);
    let file = if file.is_dir() { file.join("index.html") } else { file };
    file.is_file().then_some(file)
}

fn kind(file: &Path) -> &'static str {
    match file.extension().and_then(|kind| kind.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

/// When the newest of the book's sources was changed.
fn newest(root: &Path) -> Option<SystemTime> {
    ["book/en", "book/ko", "book/theme", "book/pictures", "steps", "src"].iter().filter_map(|folder| newest_below(&root.join(folder))).max()
}

fn newest_below(path: &Path) -> Option<SystemTime> {
    let own = fs::metadata(path).ok()?.modified().ok();
    let Ok(entries) = fs::read_dir(path) else { return own };
    entries.flatten().filter_map(|entry| newest_below(&entry.path())).chain(own).max()
}

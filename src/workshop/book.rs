//! `onggi book`: the book that came with this program, at the loopback address, for a browser.
//!
//! Nothing is fetched from anywhere: text, code, pictures and the search are all in the program.
//!
//! See it: `ss -tlnp | grep onggi` while it is open. Read: ip(7), xdg-open(1).

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use hyper::body::Incoming;
use hyper::http::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::reader::{self, Page};
use super::shelf::{self, Entry};
use crate::error::{Class, Doing, Error, Result};
use crate::locale;
use crate::registry::answer::{Answer, set, whole};

/// Nothing from elsewhere. Drawings have styles of their own.
const POLICY: &str =
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Open the book: how all this works, chapter by chapter
#[derive(Debug, Args)]
pub struct BookArgs {
    /// A chapter: 04, 07a, overlay
    chapter: Option<String>,
    /// The language: en or ko; from LANG otherwise
    #[arg(long, value_parser = ["en", "ko"])]
    lang: Option<String>,
    /// Where a browser finds it, on this machine only; any free port otherwise
    #[arg(long)]
    port: Option<u16>,
    /// Print the address and open no browser
    #[arg(long)]
    no_open: bool,
    /// Print the chapter, or the table of contents, as text instead
    #[arg(long, conflicts_with_all = ["port", "no_open"])]
    text: bool,
}

/// Shows the book until it is interrupted.
///
/// # Errors
/// NotFound for a chapter that there isn't; EADDRINUSE.
pub fn book(args: &BookArgs) -> Result<u8> {
    let lang = args.lang.as_deref().unwrap_or(if locale::is_korean() { "ko" } else { "en" });
    let file = args.chapter.as_deref().map(|name| chapter(lang, name)).transpose()?;
    if args.text {
        return print(&shelf::page(lang, file.as_deref().unwrap_or("SUMMARY.md"))?);
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port.unwrap_or(0)));
    let doing = || format!("show the book at {address}");
    let listener = TcpListener::bind(address).doing(doing)?;
    let page = file.map_or_else(|| "introduction.html".to_string(), |file| file.replace(".md", ".html"));
    let url = format!("http://{}/{lang}/{page}", listener.local_addr().doing(doing)?);
    print(&format!("{url}\n"))?;
    if !args.no_open {
        open(&url);
    }
    serve(listener).doing(doing)?;
    Ok(0)
}

/// The file of a chapter that people name by its number or by a part of its name.
fn chapter(lang: &str, name: &str) -> Result<String> {
    let files: Vec<String> =
        shelf::contents(lang)?.into_iter().filter_map(|entry| if let Entry::Chapter(_, file) = entry { file } else { None }).collect();
    let begins = |file: &&String| file.split(['_', '.']).next() == Some(name) || file.strip_suffix(".md") == Some(name);
    let found = files.iter().find(begins).or_else(|| files.iter().find(|file| file.contains(name)));
    found.cloned().ok_or_else(|| {
        let known: Vec<_> = files.iter().map(|file| file.trim_end_matches(".md")).collect();
        Error::new(Class::NotFound, format!("open the chapter {name}"), "the book has no such chapter")
            .hint(format!("there are {}", known.join(", ")))
    })
}

/// To standard output; whoever stops reading (`| head`) has read enough.
fn print(text: &str) -> Result<u8> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("write to standard output", &e)),
        _ => Ok(0),
    }
}

/// Asks the desktop for a browser, where there is one and somebody sits in front of it.
fn open(url: &str) {
    let has_desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if has_desktop && std::io::stdout().is_terminal() {
        let quiet = || Stdio::null();
        let _ = Command::new("xdg-open").arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    }
}

/// One thread, and one page at a time: a page is made in a few milliseconds.
fn serve(listener: TcpListener) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let loop_of_events = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = tokio::task::LocalSet::new();
    all.block_on(&loop_of_events, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, as a rule: somebody closes one soon.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            tokio::task::spawn_local(async move {
                let answer = service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(answer(&request)) });
                let mut http = http1::Builder::new();
                // A page that went away is no failure of ours.
                let _ =
                    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(20)).serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    })
}

fn answer(request: &Request<Incoming>) -> Answer {
    let page = match *request.method() {
        Method::GET | Method::HEAD => reader::page(request.uri().path(), request.uri().query().unwrap_or_default()),
        _ => Page { status: 405, kind: "text/plain; charset=utf-8", text: "the book can only be read\n".into() },
    };
    let mut answer = whole(page.status, page.kind, page.text);
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
    answer
}

//! The door: who is let in, how many at once, how long one waits for them, and the end.
//!
//! A connection is a thread with an event loop of its own: what it does with files may block, for nobody else waits for it. There are only so
//! many; who comes when all are taken waits in the kernel's queue. A slow client costs a thread and some 200 KiB, and is sent away
//! when it says nothing (headers in 20 s, a body's next piece in 60 s) or takes nothing (TCP_USER_TIMEOUT).
//!
//! See it: `ss -tnp 'sport = :5000'`, `ls /proc/$(pgrep -f 'registry serve')/task | wc -l`. Read: tcp(7), listen(2), sigwait(3).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::announce::{self, Announcing};
use super::api;
use super::auth::Auth;
use super::counts::Counts;
use super::layout::{Layout, PATIENCE};
use super::mirror::Mirror;
use super::tls::Tls;
use super::uploads::Uploads;
use crate::error::{Doing, Error, Result};

/// So many connections at once.
const MOST: usize = 256;
/// Descriptors that a connection needs: its socket, its event loop, a file.
const DESCRIPTORS: u64 = 8;

const PATIENCE_HEADERS: Duration = Duration::from_secs(20);
const PATIENCE_HANDSHAKE: Duration = Duration::from_secs(10);
/// In milliseconds: data that nobody takes.
const PATIENCE_TAKEN: u32 = 60_000;
/// What is under way when the end comes has so long to end.
const PATIENCE_END: Duration = Duration::from_secs(2);

/// How to serve.
pub struct Options {
    pub address: SocketAddr,
    pub root: PathBuf,
    /// The registry behind this one.
    pub mirror_of: Option<String>,
    pub read_only: bool,
    pub auth: Option<Auth>,
    pub tls: Option<Tls>,
    /// The name under which it is announced.
    pub announced: Option<String>,
    /// Who is told of each request, in a line.
    pub tell: Option<Tell>,
}

/// Is told a line; from several threads.
pub type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// All that the connections share.
pub struct Registry {
    pub layout: Arc<Layout>,
    pub uploads: Uploads,
    pub mirror: Option<Mirror>,
    pub counts: Arc<Counts>,
    pub read_only: bool,
    pub auth: Option<Auth>,
    /// Our certificate, for those who want to trust it.
    pub certificate: Option<String>,
    pub address: SocketAddr,
    pub tell: Option<Tell>,
    /// One big manifest at a time.
    pub room_for_big: Semaphore,
    /// How many connections there are from which address.
    taken: Mutex<Taken>,
    freed: Condvar,
    most: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A registry that serves, until it is told to end.
pub struct Running {
    registry: Arc<Registry>,
    signals: SigSet,
    end: watch::Sender<bool>,
    // Says at its end that it is gone.
    _announcing: Option<Announcing>,
}

/// Begins to serve. SIGINT and SIGTERM are kept for [`Running::until_told`].
///
/// # Errors
/// EADDRINUSE, EACCES; Conflict when another server has the folder; those of the layout.
pub fn serve(options: Options) -> Result<Running> {
    // Before the first thread, so that all of them leave the signals alone.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().doing(|| "take over the signals".into())?;
    let layout = Arc::new(Layout::open(&options.root, options.read_only && options.mirror_of.is_none())?);
    let listener = TcpListener::bind(options.address).doing(|| format!("listen at {}", options.address)).map_err(hint_of_address)?;
    let address = listener.local_addr().doing(|| "ask for the address".into())?;
    let counts = Arc::new(Counts::default());
    let registry = Arc::new(Registry {
        uploads: Uploads::new(layout.uploads()),
        mirror: options.mirror_of.map(|registry| Mirror::new(registry, &counts)).transpose()?,
        layout,
        counts,
        read_only: options.read_only,
        auth: options.auth,
        certificate: options.tls.as_ref().map(|tls| tls.certificate.clone()),
        address,
        tell: options.tell,
        room_for_big: Semaphore::new(1),
        taken: Mutex::default(),
        freed: Condvar::new(),
        most: room_for_connections(),
    });
    let announcing = options.announced.map(|name| announce::begin(&name, address.port(), registry.certificate.is_some())).transpose()?;
    let (end, ended) = watch::channel(false);
    let tls = options.tls.map(|tls| tls.acceptor);
    thread("housekeeping", {
        let registry = registry.clone();
        move || keep_house(&registry)
    })?;
    thread("door", {
        let registry = registry.clone();
        move || welcome(&registry, &listener, tls.as_ref(), &ended)
    })?;
    Ok(Running { registry, signals, end, _announcing: announcing })
}

impl Running {
    /// Where it listens; the port that the kernel chose, if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.registry.address
    }

    /// Serves until Ctrl-C or SIGTERM; what was under way then has two seconds to end. The answer is what it did, in words.
    ///
    /// # Errors
    /// None in practice.
    pub fn until_told(self) -> Result<String> {
        self.signals.wait().doing(|| "wait for a signal".into())?;
        let _ = self.end.send(true);
        let until = Instant::now() + PATIENCE_END;
        let mut taken = self.registry.taken();
        while taken.all > 0 && Instant::now() < until {
            taken = self.registry.freed.wait_timeout(taken, Duration::from_millis(50)).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(self.registry.counts.to_string())
    }
}

impl Registry {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether connections should rather not be kept for a client's next request.
    pub fn is_crowded(&self) -> bool {
        self.taken().all > self.most / 2
    }
}

/// One of the places for connections.
struct Place(Arc<Registry>, IpAddr);

impl Place {
    /// A place for one from this address; None when others have to be left some: no machine alone can keep everybody out.
    fn take(registry: &Arc<Registry>, address: IpAddr) -> Option<Place> {
        let mut taken = registry.taken();
        let own = taken.by_address.entry(address).or_default();
        if *own >= registry.most * 3 / 4 {
            return None;
        }
        *own += 1;
        taken.all += 1;
        Some(Place(registry.clone(), address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.taken();
        taken.all -= 1;
        if let Entry::Occupied(mut own) = taken.by_address.entry(self.1) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
        self.0.freed.notify_all();
    }
}

fn wait_for_room(registry: &Registry) {
    let mut taken = registry.taken();
    while taken.all >= registry.most {
        taken = registry.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
    }
}

fn welcome(registry: &Arc<Registry>, listener: &TcpListener, tls: Option<&TlsAcceptor>, ended: &watch::Receiver<bool>) {
    loop {
        wait_for_room(registry);
        let Ok((stream, from)) = listener.accept() else {
            // Without descriptors, or a client that left already: the next one may have more luck.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let Some(place) = Place::take(registry, from.ip()) else { continue };
        let (tls, ended) = (tls.cloned(), ended.clone());
        // Without a thread the connection is closed, and the client tries again.
        let _ = thread("client", move || connection(&place, stream, tls.as_ref(), ended));
    }
}

fn connection(place: &Place, stream: TcpStream, tls: Option<&TlsAcceptor>, ended: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &PATIENCE_TAKEN);
    let _ = stream.set_nonblocking(true);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
        match tls {
            None => talk(place, stream, ended).await,
            Some(tls) => {
                if let Ok(Some(stream)) = timeout(PATIENCE_HANDSHAKE, shake_hands(tls, stream)).await {
                    talk(place, stream, ended).await;
                }
            }
        }
    });
}

/// TLS, or None for who speaks something else; who speaks HTTP is told so, in the words that Go's servers have for it.
async fn shake_hands(tls: &TlsAcceptor, stream: tokio::net::TcpStream) -> Option<TlsStream<tokio::net::TcpStream>> {
    let mut first = [0];
    // RFC 8446, 5.1: a handshake begins with a 22.
    if stream.peek(&mut first).await.ok()? == 1 && first[0] != 22 {
        let _ = stream.try_write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
        return None;
    }
    tls.accept(stream).await.ok()
}

async fn talk(place: &Place, stream: impl AsyncRead + AsyncWrite + Unpin, mut ended: watch::Receiver<bool>) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(api::answer(&place.0, place.1, request).await) });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE_HEADERS).max_buf_size(64 << 10);
    let mut conversation = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut end = pin!(ended.wait_for(|ended| *ended));
    let mut is_told = false;
    poll_fn(|context| {
        if !is_told && end.as_mut().poll(context).is_ready() {
            is_told = true;
            conversation.as_mut().graceful_shutdown();
        }
        // However it ends, it is over; what was wrong, the client knows.
        conversation.as_mut().poll(context).map(drop)
    })
    .await;
}

/// What nobody goes on with and what nobody needs goes.
fn keep_house(registry: &Registry) {
    loop {
        registry.uploads.forget_old();
        if !registry.read_only || registry.mirror.is_some() {
            let _ = registry.layout.collect(PATIENCE);
        }
        std::thread::sleep(PATIENCE / 2);
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop).doing(|| "start a thread".into())
}

/// As many as there are descriptors for, when the limit is as high as it may be.
fn room_for_connections() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let wanted = hard.min(MOST as u64 * DESCRIPTORS + 256);
    let limit = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    MOST.min((limit.saturating_sub(64) / DESCRIPTORS) as usize).max(4)
}

fn hint_of_address(error: Error) -> Error {
    error.hint("`ss -tlnp` shows who listens where; --addr 0.0.0.0:5001 is another port")
}

//! Bodies as they go out and come in: in small pieces, so that the memory of a connection doesn't depend on what is asked for or sent.
//!
//! A piece is read from the file when the socket has room for it. What is still arriving from another registry is sent as far as it is here.
//!
//! See it: `grep VmHWM /proc/$(pgrep -f 'registry serve')/status` while everybody pulls.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::http::HeaderMap;
use tokio::time::{Sleep, sleep, timeout};

use super::answer::{Code, Refusal, refuse};
use super::counts::Counts;
use super::mirror::Arriving;

/// One piece.
pub const PIECE: usize = 64 << 10;

/// A client that sends nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// How soon one looks again for more of what is still arriving.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What an answer holds.
pub struct Body(Content);

enum Content {
    Whole(Option<Bytes>),
    Stretch(Stretch),
}

/// A stretch of a file, which may still be growing.
struct Stretch {
    file: Arc<File>,
    at: u64,
    /// Where it ends; None as long as nobody knows.
    end: Option<u64>,
    arriving: Option<Arc<Arriving>>,
    wait: Pin<Box<Sleep>>,
    counts: Arc<Counts>,
}

impl Body {
    pub fn empty() -> Body {
        Body(Content::Whole(None))
    }

    pub fn whole(bytes: Bytes) -> Body {
        Body(Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// A file's bytes from `at` to before `end`.
    pub fn stretch(file: File, at: u64, end: u64, counts: &Arc<Counts>) -> Body {
        let (file, wait) = (Arc::new(file), Box::pin(sleep(Duration::ZERO)));
        Body(Content::Stretch(Stretch { file, at, end: Some(end), arriving: None, wait, counts: counts.clone() }))
    }

    /// What is still arriving, from its beginning.
    pub fn arriving(arriving: Arc<Arriving>, counts: &Arc<Counts>) -> Body {
        let (end, wait) = (arriving.total(), Box::pin(sleep(Duration::ZERO)));
        let Some(file) = arriving.file() else { return Body::empty() };
        Body(Content::Stretch(Stretch { file, at: 0, end, arriving: Some(arriving), wait, counts: counts.clone() }))
    }
}

impl Stretch {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut here = self.end.unwrap_or(u64::MAX);
        while let Some(arriving) = &self.arriving {
            match arriving.so_far() {
                Err(why) => return Poll::Ready(Some(Err(io::Error::other(why)))),
                Ok((length, true)) => {
                    (here, self.end, self.arriving) = (length, Some(length), None);
                }
                Ok((length, false)) if length > self.at => {
                    here = length;
                    break;
                }
                Ok(_) => {
                    // Asked first: a timer that isn't due wakes us, and one that is says that it is time to look.
                    if self.wait.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.wait.as_mut().reset(tokio::time::Instant::now() + LOOK_AGAIN);
                }
            }
        }
        if self.at >= here {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; PIECE.min((here - self.at) as usize)];
        Poll::Ready(Some(match self.file.read_at(&mut piece, self.at) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was")),
            Ok(count) => {
                piece.truncate(count);
                self.at += count as u64;
                self.counts.served(count);
                Ok(piece.into())
            }
            Err(e) => Err(e),
        }))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stretch(stretch) => stretch.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Content::Stretch(Stretch { end: Some(end), at, .. }) => SizeHint::with_exact(end - at),
            Content::Stretch(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Whole(None))
    }
}

/// The next piece of what a client sends; None at its end.
///
/// # Errors
/// 408 when nothing comes for a minute, 400 when it is cut off.
pub async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = std::future::poll_fn(|context| hyper::body::Body::poll_frame(Pin::new(&mut *body), context));
        match timeout(SILENCE, frame).await {
            Err(_) => return Err(refuse(408, Code::Unknown, "nothing was sent for a minute")),
            Ok(None) => return Ok(None),
            Ok(Some(Err(e))) => return Err(refuse(400, Code::SizeInvalid, format!("what was sent ended too early: {e}"))),
            // What isn't data is trailers, which say nothing here.
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(_) => continue,
            },
        }
    }
}

/// All that a client sends, when that is no more than `most`.
///
/// # Errors
/// 413 for more; as [`next`].
pub async fn all(body: &mut Incoming, most: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(piece) = next(body).await? {
        if bytes.len() + piece.len() > most {
            return Err(refuse(413, Code::SizeInvalid, format!("this is more than {most} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads what a refused client still sends, for a while: one that is cut off in the middle of sending never reads the answer.
pub async fn drain(headers: &HeaderMap, body: &mut Incoming) {
    // Who waits to be told to go on (100-continue) sends nothing when it is refused.
    if hyper::body::Body::is_end_stream(body) || headers.contains_key("expect") {
        return;
    }
    let _ = timeout(Duration::from_secs(5), async { while let Ok(Some(_)) = next(body).await {} }).await;
}

//! Pull-through: what is not here comes from the registry behind this one, once, and is sent on while it arrives.
//!
//! Thirty clients that ask for one blob make one request outside; all of them are sent what is here of it so far. The last byte is kept
//! back until the digest has proved right: nobody gets a wrong blob whole. A tag is looked up outside at most once in [`FRESH`]; when nobody
//! answers there, what is here is the answer. A tag that was pushed here is never looked up.
//!
//! See it: `ls -l /var/lib/onggi/registry/uploads` while the first client pulls. Source: distribution specification, "Pull".

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{Code, Refusal, refuse};
use super::catalog::{fetched, is_fetched};
use super::counts::Counts;
use super::fetching;
use super::layout::Layout;
use super::outside::Outside;
use super::route::TagOrDigest;
use crate::error::{Class, Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;

/// So long a tag is believed to mean what it meant.
const FRESH: Duration = Duration::from_secs(60);
/// When nobody answered outside, nobody is asked for so long.
const AWAY: Duration = Duration::from_secs(15);
/// Blobs on their way at once; who wants one more is told to try again.
const MOST: usize = 64;
/// Tags whose last look-up is remembered.
const MOST_CHECKED: usize = 10_000;

/// The registry behind this one, and what is known of it.
pub struct Mirror {
    outside: Arc<Outside>,
    counts: Arc<Counts>,
    arriving: Arc<Mutex<HashMap<Digest, Arc<Arriving>>>>,
    checked: Mutex<HashMap<String, Instant>>,
    /// What somebody is asking for outside at this moment.
    asking: Mutex<HashSet<String>>,
    answered: Condvar,
    away: Mutex<Option<(Instant, Error)>>,
}

/// A blob that was asked for.
pub enum Found {
    Here(File, u64),
    Arriving(Arc<Arriving>),
}

impl Mirror {
    /// A mirror of this registry.
    ///
    /// # Errors
    /// Invalid for what is no registry, and for settings that can't be read.
    pub fn new(registry: String, counts: &Arc<Counts>) -> Result<Mirror> {
        Ok(Mirror {
            outside: Arc::new(Outside::new(registry)?),
            counts: counts.clone(),
            arriving: Arc::default(),
            checked: Mutex::default(),
            asking: Mutex::default(),
            answered: Condvar::new(),
            away: Mutex::default(),
        })
    }

    /// The name of the registry behind this one.
    pub fn registry(&self) -> &str {
        &self.outside.registry
    }

    /// Sees to it that a manifest is here, as it is outside now.
    ///
    /// # Errors
    /// 502 when nobody answers outside and nothing is here.
    pub fn refresh(&self, layout: &Layout, name: &str, place: &TagOrDigest) -> Result<(), Refusal> {
        let key = format!("{name}@{place}");
        if self.is_settled(layout, name, place, &key) {
            return Ok(());
        }
        // One asks, and the others find that it has been asked.
        let _asking = self.ask_alone(&key);
        if self.is_settled(layout, name, place, &key) {
            return Ok(());
        }
        let is_here = layout.find(name, place).is_some_and(|line| layout.size_wanted(&line.digest).is_some());
        let looked = self.is_away().map_or_else(|| self.look(layout, name, place), Err);
        // What is there for others only, or not at all: the client hears that there is no such manifest.
        let is_absent = |e: &Error| matches!(e.class, Class::NotFound | Class::Denied);
        match looked.or_else(|e| if is_absent(&e) { Ok(()) } else { Err(e) }) {
            Ok(()) => self.note_checked(key),
            Err(e) => {
                self.note_away(&e);
                if !is_here {
                    return Err(refuse(502, Code::Unknown, e.one_line()));
                }
            }
        }
        Ok(())
    }

    /// Whether what is here is the answer: content never changes, a tag that was pushed here is ours, and others are believed for a while.
    fn is_settled(&self, layout: &Layout, name: &str, place: &TagOrDigest, key: &str) -> bool {
        let line = layout.find(name, place).filter(|line| layout.size_wanted(&line.digest).is_some());
        let is_ours = line.is_some_and(|line| matches!(place, TagOrDigest::Digest(_)) || !is_fetched(&line));
        is_ours || locked(&self.checked).get(key).is_some_and(|time| time.elapsed() < FRESH)
    }

    fn look(&self, layout: &Layout, name: &str, place: &TagOrDigest) -> Result<()> {
        let here = layout.find(name, place).filter(|line| layout.size_wanted(&line.digest).is_some());
        if let Some(here) = here
            && self.outside.digest_of(name, place)? == Some(here.digest)
        {
            return Ok(());
        }
        let (media_type, bytes) = self.outside.manifest(name, place)?;
        self.counts.fetched(bytes.len());
        let digest = layout.put(&bytes)?;
        let line = Descriptor::new(&media_type, digest.clone(), bytes.len() as u64);
        // A manifest that an index here names needs no line of its own.
        if matches!(place, TagOrDigest::Digest(_)) && layout.find(name, place).is_some() {
            return Ok(());
        }
        let written = layout.change(|catalog| {
            // Somebody may have pushed the tag meanwhile: then it is ours.
            if catalog.line(name, place).is_none_or(is_fetched) {
                catalog.put(name, place, fetched(line, self.registry()));
            }
            Ok(())
        });
        written.map_err(|refusal| Error::new(Class::System, format!("write down {name} {place}"), refusal.message))
    }

    /// A blob, from here or from outside; None when it is nowhere.
    ///
    /// # Errors
    /// 502 when nobody answers outside, 503 when too many are on their way.
    pub fn blob(&self, layout: &Arc<Layout>, name: &str, digest: &Digest) -> Result<Option<Found>, Refusal> {
        let (arriving, is_new) = {
            let mut all = locked(&self.arriving);
            // It may have come between the look for the file and here.
            if let Some((file, size)) = layout.blob(digest)? {
                return Ok(Some(Found::Here(file, size)));
            }
            if let Some(e) = self.is_away().filter(|_| !all.contains_key(digest)) {
                return Err(refuse(502, Code::Unknown, e.one_line()));
            }
            if all.len() >= MOST && !all.contains_key(digest) {
                return Err(refuse(503, Code::TooManyRequests, "too many blobs are on their way: try again in a minute"));
            }
            let is_new = !all.contains_key(digest);
            (all.entry(digest.clone()).or_default().clone(), is_new)
        };
        if is_new {
            self.fetch(layout, name, digest, &arriving);
        }
        match arriving.wait_for_beginning() {
            Ok(()) => Ok(Some(Found::Arriving(arriving))),
            Err(e) if matches!(e.class, Class::NotFound | Class::Denied) => Ok(None),
            Err(e) => {
                self.note_away(&e);
                Err(refuse(502, Code::Unknown, e.one_line()))
            }
        }
    }

    /// Has a thread fetch it, which goes on when the client that asked has left: the next one will ask, too.
    fn fetch(&self, layout: &Arc<Layout>, name: &str, digest: &Digest, arriving: &Arc<Arriving>) {
        let (layout, outside, counts, all) = (layout.clone(), self.outside.clone(), self.counts.clone(), self.arriving.clone());
        let (name, digest, arrives) = (name.to_string(), digest.clone(), arriving.clone());
        let work = move || {
            let outcome = fetching::fetch(&layout, &outside, &counts, (&name, &digest), &arrives);
            // First struck out: who comes now finds the file, or begins anew.
            locked(&all).remove(&digest);
            arrives.end(outcome);
        };
        if let Err(e) = std::thread::Builder::new().name("fetch".into()).spawn(work) {
            arriving.end(Err(Error::new(Class::System, "start a thread", e.to_string())));
        }
    }

    fn ask_alone(&self, key: &str) -> Asking<'_> {
        let mut asking = locked(&self.asking);
        while asking.contains(key) {
            asking = self.answered.wait(asking).unwrap_or_else(PoisonError::into_inner);
        }
        asking.insert(key.to_string());
        Asking { mirror: self, key: key.to_string() }
    }

    fn note_checked(&self, key: String) {
        let mut checked = locked(&self.checked);
        if checked.len() >= MOST_CHECKED {
            checked.retain(|_, time| time.elapsed() < FRESH);
        }
        if checked.len() < MOST_CHECKED {
            checked.insert(key, Instant::now());
        }
    }

    fn note_away(&self, error: &Error) {
        *locked(&self.away) = Some((Instant::now(), error.clone()));
    }

    fn is_away(&self) -> Option<Error> {
        locked(&self.away).as_ref().filter(|(since, _)| since.elapsed() < AWAY).map(|(_, error)| error.clone())
    }
}

/// Held by the one who asks outside for something.
struct Asking<'a> {
    mirror: &'a Mirror,
    key: String,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        locked(&self.mirror.asking).remove(&self.key);
        self.mirror.answered.notify_all();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A blob on its way here, which is read while it is written.
#[derive(Default)]
pub struct Arriving {
    state: Mutex<State>,
    begun: Condvar,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    total: Option<u64>,
    written: u64,
    outcome: Option<Result<()>>,
}

impl Arriving {
    /// It has begun: here is the file, which is to have so many bytes, if anybody knows.
    pub fn begin(&self, file: File, total: Option<u64>) {
        let mut state = locked(&self.state);
        (state.file, state.total) = (Some(Arc::new(file)), total);
        self.begun.notify_all();
    }

    /// So many bytes are here.
    pub fn reach(&self, written: u64) {
        locked(&self.state).written = written;
    }

    fn end(&self, outcome: Result<()>) {
        locked(&self.state).outcome = Some(outcome);
        self.begun.notify_all();
    }

    fn wait_for_beginning(&self) -> Result<()> {
        let mut state = locked(&self.state);
        loop {
            match &state.outcome {
                Some(Err(e)) => return Err(e.clone()),
                _ if state.file.is_some() => return Ok(()),
                _ => state = self.begun.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The file, and how long it will be.
    pub fn file(&self) -> Option<Arc<File>> {
        locked(&self.state).file.clone()
    }

    pub fn total(&self) -> Option<u64> {
        locked(&self.state).total
    }

    /// How many bytes may be sent on, and whether that is all.
    ///
    /// # Errors
    /// Why it will never be whole.
    pub fn so_far(&self) -> std::result::Result<(u64, bool), String> {
        let state = locked(&self.state);
        match &state.outcome {
            Some(Err(e)) => Err(e.one_line()),
            Some(Ok(())) => Ok((state.written, true)),
            None => Ok((state.written.saturating_sub(1), false)),
        }
    }
}

//! Blobs on their way here: a file aside, and the hash of what has come so far.
//!
//! The hash goes along with the bytes, so that the end of an upload costs no second reading. One request at a time writes to an upload. No
//! file stays open between two requests: a thousand uploads that nobody goes on with cost a thousand small files, for a while.
//!
//! See it: `ls -l /var/lib/onggi/registry/uploads` during a push. Source: distribution specification, "Pushing Blobs".

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Sink, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{Code, Refusal, refuse};
use super::layout::Layout;
use crate::error::Doing;
use crate::id;
use crate::image::digest::{Digest, Hashing};

/// More at once are refused.
const MOST: usize = 1000;
/// So long an upload waits for its next request; one without a byte waits less.
const PATIENCE: Duration = Duration::from_secs(3600);
const PATIENCE_EMPTY: Duration = Duration::from_secs(120);

/// All uploads by their IDs; None while a request writes to it.
pub struct Uploads {
    folder: PathBuf,
    all: Mutex<HashMap<String, Option<Upload>>>,
}

struct Upload {
    name: String,
    hash: Hashing<Sink>,
    length: u64,
    touched: Instant,
}

/// An upload in the hands of one request. Dropped, it waits for the next one.
pub struct Writing<'a> {
    uploads: &'a Uploads,
    pub id: String,
    upload: Option<Upload>,
    file: Option<File>,
}

impl Uploads {
    pub fn new(folder: PathBuf) -> Uploads {
        Uploads { folder, all: Mutex::default() }
    }

    /// A new upload into a repository.
    ///
    /// # Errors
    /// 429 when there are too many.
    pub fn begin(&self, name: &str) -> Result<Writing<'_>, Refusal> {
        self.forget_old();
        let id = id::random()?[..32].to_string();
        let mut all = self.locked();
        if all.len() >= MOST {
            return Err(refuse(429, Code::TooManyRequests, "too many uploads are under way: try again in a minute"));
        }
        all.insert(id.clone(), None);
        let upload = Upload { name: name.into(), hash: Hashing::new(std::io::sink()), length: 0, touched: Instant::now() };
        Ok(Writing { uploads: self, id, upload: Some(upload), file: None })
    }

    /// An upload that was begun.
    ///
    /// # Errors
    /// 404 when there is none in this repository, 409 while another request writes to it.
    pub fn take(&self, id: &str, name: &str) -> Result<Writing<'_>, Refusal> {
        let unknown = || refuse(404, Code::BlobUploadUnknown, "there is no such upload; it may have waited too long");
        let mut all = self.locked();
        let place = all.get_mut(id).ok_or_else(unknown)?;
        match place.take_if(|upload| upload.name == name) {
            Some(upload) => Ok(Writing { uploads: self, id: id.into(), upload: Some(upload), file: None }),
            None if place.is_some() => Err(unknown()),
            None => Err(refuse(409, Code::BlobUploadInvalid, "another request is writing to this upload")),
        }
    }

    /// Forgets the uploads that nobody goes on with.
    pub fn forget_old(&self) {
        let is_old = |upload: &Upload| upload.touched.elapsed() > if upload.length == 0 { PATIENCE_EMPTY } else { PATIENCE };
        let mut all = self.locked();
        let old: Vec<String> = all.iter().filter(|(_, upload)| upload.as_ref().is_some_and(is_old)).map(|(id, _)| id.clone()).collect();
        for id in old {
            all.remove(&id);
            let _ = fs::remove_file(self.folder.join(id));
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Option<Upload>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing<'_> {
    /// How many bytes have come.
    pub fn length(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.length)
    }

    /// More bytes.
    ///
    /// # Errors
    /// 507 on a full disk: then the upload is gone.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let path = self.uploads.folder.join(&self.id);
        let written = match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => OpenOptions::new().append(true).create(true).mode(0o600).open(&path).and_then(|mut file| {
                file.write_all(bytes)?;
                self.file = Some(file);
                Ok(())
            }),
        };
        let _ = upload.hash.write_all(bytes);
        upload.length += bytes.len() as u64;
        if written.is_err() {
            self.forget();
        }
        written.doing(|| "store what was sent".into()).map_err(Refusal::from)
    }

    /// All has come: puts it into the layout.
    ///
    /// # Errors
    /// 400 when it isn't what the digest says, 507 on a full disk; the upload is gone.
    pub fn commit(mut self, layout: &Layout, expected: &Digest) -> Result<(), Refusal> {
        // So that there is a file for a blob of no bytes, too.
        self.write(&[])?;
        let (file, upload) = (self.file.take(), self.upload.take());
        let (Some(file), Some(upload)) = (file, upload) else { return Ok(()) };
        let (_, found, _) = upload.hash.finish();
        let kept = match found == *expected {
            true => layout.keep(&self.uploads.folder.join(&self.id), &file, expected).map_err(Refusal::from),
            false => Err(refuse(400, Code::DigestInvalid, format!("what was sent is {found}, and not {expected}"))),
        };
        self.forget();
        kept
    }

    /// Forgets the upload and removes what has come.
    pub fn forget(&mut self) {
        self.upload = None;
        self.uploads.locked().remove(&self.id);
        let _ = fs::remove_file(self.uploads.folder.join(&self.id));
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            upload.touched = Instant::now();
            self.uploads.locked().insert(std::mem::take(&mut self.id), Some(upload));
        }
    }
}

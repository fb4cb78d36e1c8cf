//! A file that is read while it is still being written: by the unpacker of a layer, or by clients of a mirror.
//!
//! Readers get what is there and wait for more. The end comes only when the writer says that all is right, so that whoever has read to the
//! end has read what the digest names.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The file and how far it is.
#[derive(Default)]
pub struct Growing {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    written: u64,
    end: Option<std::result::Result<(), String>>,
}

impl Growing {
    /// The file is here, with that many bytes.
    pub fn begin(&self, file: File, written: u64) {
        let mut state = self.lock();
        (state.file, state.written) = (Some(Arc::new(file)), written);
        self.moved.notify_all();
    }

    /// It has that many bytes now. Fewer than before means nothing: the same ones are written again.
    pub fn reach(&self, written: u64) {
        let mut state = self.lock();
        state.written = state.written.max(written);
        self.moved.notify_all();
    }

    /// It is whole and right, or will never be.
    pub fn end(&self, outcome: std::result::Result<(), String>) {
        self.lock().end.get_or_insert(outcome);
        self.moved.notify_all();
    }

    /// Reads it from the beginning.
    pub fn reader(&self) -> Reader<'_> {
        Reader { growing: self, at: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file and how much of it there is beyond `at`; 0 at its end.
    fn wait(&self, at: u64) -> Result<(Option<Arc<File>>, u64)> {
        let mut state = self.lock();
        loop {
            match (&state.file, &state.end) {
                (_, Some(Err(why))) => return Err(Error::other(why.clone())),
                (Some(file), _) if state.written > at => return Ok((Some(Arc::clone(file)), state.written - at)),
                (file, Some(Ok(()))) => return Ok((file.clone(), 0)),
                _ => state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// One reader's place in it.
pub struct Reader<'a> {
    growing: &'a Growing,
    pub at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (file, more) = self.growing.wait(self.at)?;
        let Some(file) = file.filter(|_| more > 0) else { return Ok(0) };
        let most = buffer.len().min(usize::try_from(more).unwrap_or(usize::MAX));
        let count = file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::image::testing::Folder;

    #[test]
    fn a_reader_waits_for_bytes_and_for_the_word_that_they_are_right() {
        let folder = Folder::new();
        let file = File::options().create(true).read(true).write(true).truncate(true).open(folder.path().join("x")).unwrap();
        let growing = Growing::default();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut all = String::new();
                growing.reader().read_to_string(&mut all).map(|_| all)
            });
            growing.begin(file.try_clone().unwrap(), 0);
            for (at, letter) in [b"o", b"n", b"g"].iter().enumerate() {
                file.write_all_at(*letter, at as u64).unwrap();
                growing.reach(at as u64 + 1);
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(!reading.is_finished());
            growing.end(Ok(()));
            assert_eq!(reading.join().unwrap().unwrap(), "ong");
        });
        assert_eq!(growing.reader().read(&mut [0; 2]).unwrap(), 2);
    }

    #[test]
    fn a_failure_reaches_every_reader() {
        let growing = Growing::default();
        growing.end(Err("cut off".into()));
        assert_eq!(growing.reader().read(&mut [0; 2]).unwrap_err().to_string(), "cut off");
    }
}

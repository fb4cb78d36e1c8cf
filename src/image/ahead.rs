//! Reading ahead in another thread, so that what is slow to make (gunzip) and what is slow to use (write, hash) go on side by side.
//!
//! See it: `top -H` during a pull.

use std::io::{Error, Read, Result};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// Bytes at once, and so many of these on the way: about 1 MiB in all.
const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 4;

/// What another thread reads for us.
pub struct Ahead {
    chunks: Receiver<Result<Vec<u8>>>,
    /// Emptied ones, to be filled again.
    back: SyncSender<Vec<u8>>,
    now: Vec<u8>,
    at: usize,
    is_over: bool,
}

/// Has another thread open a reader and read from it, until its end or until nobody wants more.
pub fn ahead<'scope, 'env, R: Read>(scope: &'scope Scope<'scope, 'env>, open: impl FnOnce() -> Result<R> + Send + 'scope) -> Ahead {
    let (send, chunks) = sync_channel(CHUNKS);
    let (back, emptied) = sync_channel::<Vec<u8>>(CHUNKS + 2);
    scope.spawn(move || {
        let mut reader = match open() {
            Ok(reader) => reader,
            Err(e) => return drop(send.send(Err(e))),
        };
        loop {
            let mut chunk = emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
            chunk.clear();
            let read = Read::by_ref(&mut reader).take(CHUNK as u64).read_to_end(&mut chunk);
            let is_last = read.is_err() || chunk.is_empty();
            if send.send(read.map(|_| chunk)).is_err() || is_last {
                return;
            }
        }
    });
    Ahead { chunks, back, now: Vec::new(), at: 0, is_over: false }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.at == self.now.len() && !self.is_over {
            let next = self.chunks.recv().map_err(|_| Error::other("the thread that reads ahead has gone"))??;
            let _ = self.back.try_send(std::mem::replace(&mut self.now, next));
            (self.at, self.is_over) = (0, self.now.is_empty());
        }
        let count = buffer.len().min(self.now.len() - self.at);
        buffer[..count].copy_from_slice(&self.now[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_in_order_and_a_failure_after_them() {
        let many: Vec<u8> = (0..600_000u32).flat_map(u32::to_le_bytes).collect();
        std::thread::scope(|scope| {
            let mut read = Vec::new();
            ahead(scope, || Ok(&many[..])).read_to_end(&mut read).unwrap();
            assert!(read == many);
            // At the end is at the end, as often as one asks.
            let mut nothing = ahead(scope, || Ok(&b""[..]));
            assert_eq!((nothing.read(&mut [0; 9]).unwrap(), nothing.read(&mut [0; 9]).unwrap()), (0, 0));
            assert_eq!(ahead(scope, || Err::<&[u8], _>(Error::other("no"))).read(&mut [0; 9]).unwrap_err().to_string(), "no");
            // Who wants no more keeps nobody waiting.
            assert_eq!(ahead(scope, || Ok(std::io::repeat(7))).read(&mut [0; 9]).unwrap(), 9);
        });
    }
}

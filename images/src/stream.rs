//! A bounded pipe of byte chunks from whoever fetches (async or not) to whoever unpacks (a blocking `Read`).

use std::io::{self, Read};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes on their way: some milliseconds of a fast line. Several layers are on their way at once.
const BYTES_MAX: u32 = 1 << 20;
/// Chunks on their way, which have 8 to 256 KiB as a rule and may be smaller.
const CHUNKS: usize = 128;

/// Bytes, and the room that they take in the pipe.
struct Chunk {
    bytes: Box<dyn AsRef<[u8]> + Send>,
    _room: OwnedSemaphorePermit,
}

/// What goes through the pipe; without `End` the reader fails instead of seeing a clean end.
enum Message {
    Chunk(Chunk),
    End,
}

/// The fetching end. Dropped before [`ByteSender::end`], it makes the reader fail.
pub(crate) struct ByteSender {
    sender: Sender<Message>,
    /// One permit for each byte.
    room: Arc<Semaphore>,
}

/// The reader has gone.
#[derive(Debug)]
pub(crate) struct Closed;

/// The unpacking end.
pub(crate) struct ByteReader {
    receiver: Receiver<Message>,
    chunk: Option<Chunk>,
    position: usize,
    ended: bool,
}

/// Returns both ends.
pub(crate) fn pipe() -> (ByteSender, ByteReader) {
    let (sender, receiver) = channel(CHUNKS);
    let room = Arc::new(Semaphore::new(BYTES_MAX as usize));
    (ByteSender { sender, room }, ByteReader { receiver, chunk: None, position: 0, ended: false })
}

impl ByteSender {
    /// Hands a chunk over; waits while the reader is behind.
    pub(crate) async fn send(&self, chunk: impl AsRef<[u8]> + Send + 'static) -> Result<(), Closed> {
        // A chunk that is larger than the pipe has it for itself.
        let bytes = u32::try_from(chunk.as_ref().len()).unwrap_or(BYTES_MAX).min(BYTES_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Closed)?;
        let chunk = Chunk { bytes: Box::new(chunk), _room: room };
        self.sender.send(Message::Chunk(chunk)).await.map_err(|_| Closed)
    }

    /// The same in a thread of the runtime's that may block.
    pub(crate) fn send_blocking(&self, chunk: impl AsRef<[u8]> + Send + 'static) -> Result<(), Closed> {
        Handle::current().block_on(self.send(chunk))
    }

    /// Says that nothing is missing.
    pub(crate) async fn end(self) {
        // A reader that has gone does not need to know.
        let _ = self.sender.send(Message::End).await;
    }

    /// The same in a thread of the runtime's that may block.
    pub(crate) fn end_blocking(self) {
        let _ = self.sender.blocking_send(Message::End);
    }
}

impl Read for ByteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(chunk) = &self.chunk {
                let rest = &(*chunk.bytes).as_ref()[self.position..];
                if !rest.is_empty() {
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.position += count;
                    return Ok(count);
                }
            }
            if self.ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(Message::Chunk(chunk)) => (self.chunk, self.position) = (Some(chunk), 0),
                Some(Message::End) => (self.chunk, self.ended) = (None, true),
                None => return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the transfer broke off")),
            }
        }
    }
}

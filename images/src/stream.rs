//! A bounded pipe of byte chunks from whoever fetches (async or not) to whoever unpacks (a blocking `Read`).

use std::io::{self, Read};

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks on their way. With the 8 to 256 KiB that a connection hands out this is a few MiB at most.
const CHUNKS: usize = 16;

type Chunk = Box<dyn AsRef<[u8]> + Send>;

/// What goes through the pipe; without `End` the reader fails instead of seeing a clean end.
enum Message {
    Chunk(Chunk),
    End,
}

/// The fetching end. Dropped before [`ByteSender::end`], it makes the reader fail.
pub(crate) struct ByteSender(Sender<Message>);

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
    (ByteSender(sender), ByteReader { receiver, chunk: None, position: 0, ended: false })
}

impl ByteSender {
    /// Hands a chunk over; waits while the reader is behind.
    pub(crate) async fn send(&self, chunk: impl AsRef<[u8]> + Send + 'static) -> Result<(), Closed> {
        self.0.send(Message::Chunk(Box::new(chunk))).await.map_err(|_| Closed)
    }

    /// The same outside of async code.
    pub(crate) fn send_blocking(&self, chunk: impl AsRef<[u8]> + Send + 'static) -> Result<(), Closed> {
        self.0.blocking_send(Message::Chunk(Box::new(chunk))).map_err(|_| Closed)
    }

    /// Says that nothing is missing.
    pub(crate) async fn end(self) {
        // A reader that has gone does not need to know.
        let _ = self.0.send(Message::End).await;
    }

    /// The same outside of async code.
    pub(crate) fn end_blocking(self) {
        let _ = self.0.blocking_send(Message::End);
    }
}

impl Read for ByteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(chunk) = &self.chunk {
                let rest = &(**chunk).as_ref()[self.position..];
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

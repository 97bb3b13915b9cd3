//! Logs of steps: bytes exactly as they came, standard output and error merged in the order of arrival, by whole
//! lines where both come at once.
//!
//! `log` holds the bytes, `log.idx` says which of them came when and from which stream. Both are plain files
//! written at once, so a step never waits for a reader and memory does not grow with the output.

mod index;
mod merge;
mod reader;
mod writer;

pub use index::{IndexReader, Stamp};
pub use reader::{LINE_BYTES_MAX, LineStart, LogReader, tail_offset};
pub use writer::{LogFiles, LogWriter};

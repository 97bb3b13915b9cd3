//! What a pull tells while it runs. Whoever prints decides how often.

use std::time::Duration;

/// Hears of a pull. Called from several threads; must return soon.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: PullEvent);
}

/// One moment of a pull.
#[derive(Debug, Clone, PartialEq)]
pub enum PullEvent {
    /// A transfer begins, from a URL or a file.
    Started {
        /// The source, safe to print.
        name: String,
        /// Compressed bytes, if known.
        total: Option<u64>,
    },
    /// Bytes of the source so far; they begin anew when the transfer does.
    Bytes {
        /// Compressed bytes.
        done: u64,
    },
    /// How far one layer of several is.
    Layer {
        /// Its number, from 1.
        number: usize,
        /// How many layers the image has.
        layers: usize,
        /// Compressed bytes so far.
        done: u64,
        /// Compressed bytes in all, if known.
        total: Option<u64>,
        /// Whether it is unpacked and in the store.
        finished: bool,
    },
    /// Another run is pulling the same; we wait for it.
    Waiting {
        /// The source, safe to print.
        name: String,
    },
    /// A try failed and another will follow.
    Retrying {
        /// The number of the coming try; the first was 1.
        attempt: u32,
        /// What went wrong.
        why: String,
        /// The pause before it.
        after: Duration,
    },
    /// The image is there.
    Finished {
        /// Compressed bytes transferred; zero when the store had it.
        bytes: u64,
        /// Seconds since the beginning.
        seconds: f64,
        /// Whether the store had it.
        cached: bool,
    },
}

/// Hears and forgets.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: PullEvent) {}
}

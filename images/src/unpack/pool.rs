//! Buffers on their way round: a bounded number, made when first needed, the one used last taken first.
//!
//! The last one still lies in the processor's cache, so as long as the reader keeps up only a few are in use; the others
//! are there for stretches of many small files, during which the decoder runs ahead.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The threads' shared end.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    returned: Condvar,
    buffer_bytes: usize,
}

struct State {
    spare: Vec<Vec<u8>>,
    not_made: usize,
    closed: bool,
}

impl Pool {
    /// A pool of at most `buffers` of `buffer_bytes` each.
    pub(super) fn new(buffers: usize, buffer_bytes: usize) -> Pool {
        let state = Mutex::new(State { spare: Vec::new(), not_made: buffers, closed: false });
        Pool(Arc::new(Shared { state, returned: Condvar::new(), buffer_bytes }))
    }

    /// Returns a buffer of full length, waiting until there is one; none once the pool is closed.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(buffer) = state.spare.pop() {
                return Some(buffer);
            }
            if state.not_made > 0 {
                state.not_made -= 1;
                return Some(vec![0; self.0.buffer_bytes]);
            }
            state = self.0.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.resize(self.0.buffer_bytes, 0);
        self.lock().spare.push(buffer);
        self.0.returned.notify_one();
    }

    /// Lets nobody wait any longer.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.0.returned.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic happens under the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

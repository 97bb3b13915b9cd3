//! Where events go: into `events.ndjson`, and to whoever shows them.

use std::cell::RefCell;

use super::record::{EventLog, RecordError, timestamp};
use crate::event::{EVENTS_VERSION, Event, What};

/// Shows events; given by the command. Called with `None` about once a second, for what moves by time alone.
pub type Show = Box<dyn FnMut(Option<&Event>)>;

/// One run's events. All its jobs share it; nothing that is called from here sends events itself.
pub struct Feed {
    run: String,
    inner: RefCell<Inner>,
}

struct Inner {
    log: Option<EventLog>,
    show: Show,
    failed: Option<RecordError>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed of the run `run`.
    pub fn new(run: String, log: Option<EventLog>, show: Show) -> Self {
        Self { run, inner: RefCell::new(Inner { log, show, failed: None }) }
    }

    /// Sends an event. A record that cannot be written is kept for [`Feed::failure`]; the show goes on.
    pub fn send(&self, job: Option<&str>, step: Option<&str>, what: What) {
        let event = Event {
            v: EVENTS_VERSION,
            ts: timestamp(),
            run: self.run.clone(),
            job: job.map(str::to_owned),
            step: step.map(str::to_owned),
            what,
        };
        let mut inner = self.inner.borrow_mut();
        if let Some(log) = &mut inner.log
            && let Err(error) = log.append(&event)
        {
            inner.log = None;
            inner.failed.get_or_insert(error);
        }
        (inner.show)(Some(&event));
    }

    /// Lets time pass for the show.
    pub fn tick(&self) {
        (self.inner.borrow_mut().show)(None);
    }

    /// The first record that could not be written, once.
    pub fn failure(&self) -> Option<RecordError> {
        self.inner.borrow_mut().failed.take()
    }
}

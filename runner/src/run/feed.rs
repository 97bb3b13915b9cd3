//! Where events go: into `events.ndjson`, and to whoever shows them.

use super::record::{EventLog, RecordError, timestamp};
use crate::event::{EVENTS_VERSION, Event, What};

/// Shows events; given by the command. Called with `None` about once a second, for what moves by time alone.
pub type Show = Box<dyn FnMut(Option<&Event>)>;

/// One run's events.
pub struct Feed {
    run: String,
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
        Self { run, log, show, failed: None }
    }

    /// Sends an event. A record that cannot be written is kept for [`Feed::failure`]; the show goes on.
    pub fn send(&mut self, job: Option<&str>, step: Option<&str>, what: What) {
        let event = Event {
            v: EVENTS_VERSION,
            ts: timestamp(),
            run: self.run.clone(),
            job: job.map(str::to_owned),
            step: step.map(str::to_owned),
            what,
        };
        if let Some(log) = &mut self.log
            && let Err(error) = log.append(&event)
        {
            self.log = None;
            self.failed.get_or_insert(error);
        }
        (self.show)(Some(&event));
    }

    /// Lets time pass for the show.
    pub fn tick(&mut self) {
        (self.show)(None);
    }

    /// The first record that could not be written, once.
    pub fn failure(&mut self) -> Option<RecordError> {
        self.failed.take()
    }
}

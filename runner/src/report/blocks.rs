//! Steps as blocks, for a service that folds them. Blocks neither nest nor interleave: of steps that run at once, one at most
//! is shown while it runs, the others as a whole when they end, from their logs.

use super::outer::{BAR, Block, Briefing, Note, Outer, parted};
use crate::event::{Event, FailedTest};
use crate::outcome::{Outcome, ServiceResult, StepResult};

/// Errors that a service is told of, and as many warnings: GitHub shows no more of one step of a workflow.
const NOTES_MAX: u64 = 10;
/// Last lines of a failed step that are shown again outside of its block.
pub(super) const LAST_LINES: usize = 20;

/// A step, by job and id.
pub(super) type Key = (String, String);

/// The block that lines go to.
#[derive(Debug)]
pub(super) struct Open {
    key: Key,
    title: String,
    number: u64,
}

/// What has been told to the service.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) outer: Outer,
    pub(super) briefing: Briefing,
    open: Option<Open>,
    count: u64,
    errors: u64,
    warnings: u64,
}

impl Blocks {
    pub(super) fn new(outer: Outer) -> Self {
        Self { outer, briefing: Briefing::default(), open: None, count: 0, errors: 0, warnings: 0 }
    }

    /// Whether a step that starts now can be shown while it runs. One in the background may last as long as the job: it would
    /// keep all others waiting.
    pub(super) fn may_stream(&self, key: &Key, jobs: usize) -> bool {
        let background = self.briefing.steps.get(key).is_some_and(|step| step.background);
        jobs == 1 && self.open.is_none() && !background
    }

    /// Whether lines go to no block.
    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// Begins a block.
    pub(super) fn open(&mut self, key: Key, title: String, event: &Event) -> String {
        self.count += 1;
        let open = Open { key, title, number: self.count };
        let order = self.outer.open(&block(&open, &open.title, event));
        self.open = Some(open);
        order
    }

    /// Ends the block that is open. Returns it, and the order.
    pub(super) fn close(&mut self, event: &Event) -> Option<(Open, Option<String>)> {
        let open = self.open.take()?;
        let order = self.outer.close(&block(&open, &open.title, event));
        Some((open, order))
    }

    /// Begins again what was ended for another one.
    pub(super) fn reopen(&mut self, open: Open, event: &Event) -> String {
        let Open { key, title, .. } = open;
        let title = if title.ends_with(", continued") { title } else { format!("{title}, continued") };
        self.open(key, title, event)
    }

    /// Returns a line of a step as it is shown.
    pub(super) fn inner(text: &str) -> String {
        format!("{BAR}{}", parted(text))
    }

    /// A step has failed for good: what the service is told of it.
    pub(super) fn failed(
        &mut self,
        key: &Key,
        label: &str,
        result: &StepResult,
        text: &str,
    ) -> Option<String> {
        let place = self.briefing.steps.get(key);
        let text = match &result.remedy {
            Some(remedy) => format!("{text}\nhint: {remedy}"),
            None => text.to_owned(),
        };
        let note = Note {
            title: label,
            text: &text,
            file: place.and_then(|place| place.file.as_deref()),
            line: place.map(|place| place.line),
            column: None,
        };
        // Somebody wanted that, or has been told of what made it happen.
        if result.outcome == Outcome::Cancelled {
            return None;
        }
        // What was forgiven does not make the workflow red.
        let (order, told) = match result.conclusion.is_failure() {
            true => (self.outer.error(&note)?, &mut self.errors),
            false => (self.outer.warning(&note)?, &mut self.warnings),
        };
        *told += 1;
        (*told <= NOTES_MAX).then_some(order)
    }

    /// A service has failed without which the job does not go on.
    pub(super) fn service_failed(&mut self, job: &str, result: &ServiceResult) -> Option<String> {
        let place = self.briefing.steps.iter().find(|((of, _), _)| of == job).map(|(_, place)| place);
        let title = format!("service {}", result.name);
        let text = result.cause.as_deref().unwrap_or(result.outcome.as_str());
        let text = result
            .remedy
            .as_ref()
            .map_or_else(|| text.to_owned(), |remedy| format!("{text}\nhint: {remedy}"));
        let file = place.and_then(|place| place.file.as_deref());
        let order = self.outer.error(&Note { title: &title, text: &text, file, ..Note::default() })?;
        self.errors += 1;
        (self.errors <= NOTES_MAX).then_some(order)
    }

    /// Returns the order for a test that failed, at the place where it stands.
    pub(super) fn test_failed(&mut self, test: &FailedTest) -> Option<String> {
        let note = Note {
            title: &test.name,
            text: test.message.as_deref().unwrap_or("the test failed"),
            file: test.file.as_deref(),
            line: test.line.and_then(|line| usize::try_from(line).ok()),
            column: None,
        };
        // On TeamCity a problem of the build would be made of each.
        if self.outer != Outer::GitHub {
            return None;
        }
        let order = self.outer.error(&note)?;
        self.errors += 1;
        (self.errors <= NOTES_MAX).then_some(order)
    }

    /// Returns the order for a warning.
    pub(super) fn warning(&mut self, code: Option<&str>, text: &str, hint: Option<&str>) -> Option<String> {
        let text = hint.map_or_else(|| text.to_owned(), |hint| format!("{text}\nhint: {hint}"));
        let note = Note { title: code.unwrap_or("runner"), text: &text, ..Note::default() };
        let order = self.outer.warning(&note)?;
        self.warnings += 1;
        (self.warnings <= NOTES_MAX).then_some(order)
    }

    /// Returns the notice of what was not told one by one.
    pub(super) fn rest(&self) -> Option<String> {
        let more = |count: u64| count.saturating_sub(NOTES_MAX);
        let text = match (more(self.errors), more(self.warnings)) {
            (0, 0) => return None,
            (errors, 0) => format!("{errors} more errors are in the log"),
            (0, warnings) => format!("{warnings} more warnings are in the log"),
            (errors, warnings) => format!("{errors} more errors and {warnings} more warnings are in the log"),
        };
        self.outer.notice(&text)
    }
}

fn block<'b>(open: &Open, title: &'b str, event: &Event) -> Block<'b> {
    let time = event.ts.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    Block { title, number: open.number, time }
}

//! What is wrong with a job file: code, position, text, hint. How it looks is in `render`.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::bounds::DIAGNOSTICS_MAX;
use crate::codes::{Code, Severity};
use crate::render;
use crate::source::{Position, Source, Span};

/// One thing that is wrong, or that the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What it is about.
    pub code: Code,
    /// Where it is; `None` for the whole file and for values from the command line.
    pub position: Option<Position>,
    /// The file that it is in, where that is not the job file but one that it names.
    pub file: Option<String>,
    /// One sentence, lower case, without a full stop.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The marked bytes, for the excerpt.
    pub(crate) span: Option<Span>,
    /// It is about an override, not about the file.
    pub(crate) from_command_line: bool,
}

impl Diagnostic {
    /// Returns whether this is an error or a warning.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// Everything found in one job file, in the order of the text.
#[derive(Clone)]
pub struct Diagnostics {
    source: Arc<Source>,
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// Sorts by position, drops repetitions (an alias shows its target's problems once) and keeps the first
    /// `DIAGNOSTICS_MAX`, errors before warnings; all are counted.
    pub(crate) fn new(source: Arc<Source>, problems: Problems) -> Diagnostics {
        let mut list: Vec<Diagnostic> =
            problems.0.into_iter().map(|problem| problem.locate(&source)).collect();
        let order = |d: &Diagnostic| (d.span.as_ref().map(|span| span.start), d.severity(), d.code);
        list.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.text.cmp(&b.text)));
        list.dedup_by(same_but_for_the_job);
        let errors = list.iter().filter(|d| d.severity() == Severity::Error).count();
        let warnings = list.len() - errors;
        if list.len() > DIAGNOSTICS_MAX {
            list.sort_by_key(Diagnostic::severity);
            list.truncate(DIAGNOSTICS_MAX);
            list.sort_by_key(order);
        }
        Diagnostics { source, list, errors, warnings }
    }

    /// Returns the number of diagnostics kept, at most `bounds::DIAGNOSTICS_MAX`.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the diagnostics in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Returns how many errors there are, those not kept included.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Returns how many warnings there are, those not kept included.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// Returns the text for people: one block per diagnostic with excerpt, caret and hint, then the count.
    /// Ends with a line break; empty when there is nothing to say. `color` adds ANSI sequences.
    pub fn render(&self, color: bool) -> String {
        render::diagnostics(&self.source, self, color)
    }

    /// Returns `{file, errors, warnings, diagnostics: [{severity, code, file, line, column, text, hint}]}`; `line`
    /// and `column` are null where there is no position.
    pub fn to_json(&self) -> Value {
        let list: Vec<Value> = self
            .iter()
            .map(|d| {
                json!({
                    "severity": d.severity().as_str(),
                    "code": d.code.id(),
                    "file": d.file.as_deref().unwrap_or(self.source.name()),
                    "line": d.position.map(|position| position.line),
                    "column": d.position.map(|position| position.column),
                    "text": d.text,
                    "hint": d.hint,
                })
            })
            .collect();
        json!({
            "file": self.source.name(), "errors": self.errors, "warnings": self.warnings, "diagnostics": list,
        })
    }
}

/// Whether two are one mistake in what several jobs share; the one that stays then names no job.
fn same_but_for_the_job(later: &mut Diagnostic, first: &mut Diagnostic) -> bool {
    if (later.code, &later.span, &later.hint) != (first.code, &first.span, &first.hint) {
        return false;
    }
    let same = later.text == first.text;
    let shared = without_job(&first.text);
    if !same && shared == without_job(&later.text) {
        first.text = shared;
        return true;
    }
    same
}

/// Returns a sentence without " in job `test`".
fn without_job(text: &str) -> String {
    const IN_JOB: &str = " in job `";
    let Some(at) = text.find(IN_JOB) else { return text.to_owned() };
    let end = text[at + IN_JOB.len()..].find('`').map_or(text.len(), |end| at + IN_JOB.len() + end + 1);
    format!("{}{}", &text[..at], &text[end..])
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

impl std::error::Error for Diagnostics {}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The problems found so far; every room adds and none stops at the first.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

/// A problem that is still a range of bytes.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    origin: Origin,
    text: String,
    hint: Option<String>,
    /// The first of two that clash; its line is told after the text.
    first: Option<Span>,
}

/// Where the faulty value came from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The file as a whole.
    File,
    /// These bytes of the file.
    Span(Span),
    /// An override.
    CommandLine,
}

impl From<Span> for Origin {
    fn from(span: Span) -> Origin {
        Origin::Span(span)
    }
}

impl From<&Span> for Origin {
    fn from(span: &Span) -> Origin {
        Origin::Span(span.clone())
    }
}

impl From<Option<Span>> for Origin {
    fn from(span: Option<Span>) -> Origin {
        span.map_or(Origin::File, Origin::Span)
    }
}

impl Problems {
    /// Adds a problem; the reference returned is for its hint.
    pub fn add(&mut self, code: Code, origin: impl Into<Origin>, text: impl Into<String>) -> &mut Problem {
        self.0.push(Problem { code, origin: origin.into(), text: text.into(), hint: None, first: None });
        self.0.last_mut().expect("one was pushed")
    }

    /// Returns whether any of them is an error of the file rather than of the command line.
    pub fn has_errors_of_file(&self) -> bool {
        let of_file = |problem: &&Problem| !matches!(problem.origin, Origin::CommandLine);
        self.0.iter().filter(of_file).any(|problem| problem.code.severity() == Severity::Error)
    }

    /// Takes over what another list has.
    pub fn append(&mut self, other: &mut Problems) {
        self.0.append(&mut other.0);
    }

    /// Returns how many there are, repetitions counted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.code.severity() == Severity::Error)
    }
}

impl Problem {
    /// Says what to do about it.
    pub fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Says where the first of two that clash is.
    pub fn refer_to(&mut self, first: &Span) {
        self.first = Some(first.clone());
    }

    fn locate(mut self, source: &Source) -> Diagnostic {
        let from_command_line = matches!(self.origin, Origin::CommandLine);
        let span = match self.origin {
            Origin::Span(span) => Some(span),
            Origin::File | Origin::CommandLine => None,
        };
        if let Some(first) = self.first {
            let line = source.position(first.start).line;
            let here = span.as_ref().map(|span| source.name_at(span.start));
            let elsewhere =
                Some(source.name_at(first.start)).filter(|name| here.is_some_and(|here| here != *name));
            let of = elsewhere.map_or_else(String::new, |name| format!(" of {name}"));
            self.text.push_str(&format!("; the first is in line {line}{of}"));
        }
        let position = span.as_ref().map(|span| source.position(span.start));
        let file = span.as_ref().and_then(|span| source.other_name_at(span.start)).map(str::to_owned);
        Diagnostic {
            code: self.code,
            position,
            file,
            text: self.text,
            hint: self.hint,
            span,
            from_command_line,
        }
    }
}

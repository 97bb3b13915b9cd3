//! Reports of tests, coverage and findings: files that steps wrote, read, summed up and put into one form.
//!
//! Such a file is as hostile as a step. It is copied out of the workspace as an artifact first, by handles and within bounds;
//! what is read is our copy. No entity is expanded, nothing is fetched, depth and sizes are bounded, numbers that do not add up
//! are counted anew.

mod coverage;
mod findings;
mod gather;
mod junit;
mod write;
mod xml;

pub use gather::{Gathered, Tally, gather};
pub use write::write;

pub use crate::outcome::{Covered, FindingCounts, TestCounts};

use serde::Serialize;

/// The version of the files below `reports/`.
pub const REPORTS_VERSION: u32 = 1;
/// Bytes of one file that are read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Characters that are kept of a name or a message.
const NAME_CHARS_MAX: usize = 500;
/// The same of what a failed test said.
const MESSAGE_CHARS_MAX: usize = 4_000;
/// Tests, files or findings of one job that are listed; all are counted.
const LISTED_MAX: usize = 20_000;

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is larger than reports are.
    #[error("it has more than {FILE_BYTES_MAX} bytes")]
    Large,
    /// Elements within elements without end.
    #[error("it is more than {} elements deep", xml::DEPTH_MAX)]
    Deep,
    /// It is not well-formed.
    #[error("it is not well-formed at byte {offset}: {why}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// It is something else.
    #[error("it is not {expected}")]
    Other {
        /// What it should be.
        expected: &'static str,
    },
    /// Our copy cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
}

/// How one test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestOutcome {
    /// It passed.
    Passed,
    /// It failed, or broke.
    Failed,
    /// It was not run.
    Skipped,
    /// It failed first, and passed then.
    Flaky,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestCase {
    /// The class, module or file that it belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Its own name.
    pub name: String,
    /// How it ended.
    pub outcome: TestOutcome,
    /// How long it took, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_s: Option<f64>,
    /// What it said when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where it stands, relative to the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// In that file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl TestCase {
    /// Returns class and name.
    pub fn full_name(&self) -> String {
        if self.class.is_empty() { self.name.clone() } else { format!("{}.{}", self.class, self.name) }
    }
}

/// One file of a coverage report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoveredFile {
    /// As the report names it.
    pub path: String,
    /// Its lines.
    #[serde(flatten)]
    pub counts: Covered,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `error`, `warning` or `note`.
    pub level: &'static str,
    /// The rule that it breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What.
    pub message: String,
    /// Where, as the report names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// In that file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// Text without controls, cut.
fn cut(text: &str, max: usize) -> String {
    let clean = text.trim().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c });
    let mut cut: String = clean.take(max).collect::<String>().trim_end().to_owned();
    if text.trim().chars().nth(max).is_some() {
        cut.push('…');
    }
    cut
}

/// A path that a report names, from the workspace on; `None` when it lies elsewhere.
fn in_workspace(path: &str) -> Option<String> {
    let path = path.trim().strip_prefix("file://").unwrap_or(path.trim());
    let path = path.strip_prefix(super::command::WORKSPACE).map_or(path, |rest| rest.trim_start_matches('/'));
    let path = path.strip_prefix("./").unwrap_or(path);
    let plain = !path.is_empty()
        && !path.starts_with('/')
        && !path.contains(|c: char| c.is_control() || c == '\\' || c == ':')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && path.len() <= NAME_CHARS_MAX;
    plain.then(|| path.to_owned())
}

#[cfg(test)]
mod properties {
    use super::{coverage, findings, junit};

    /// Pieces of which reports, and what is nearly one, are made.
    const PIECES: &str = "(<testsuite|<testcase|</testcase>|</testsuite>|<failure|</failure>| name='x'| file=\"a.py\"| line='3'|/>|>|<!DOCTYPE a [<!ENTITY b 'c'>]>|&b;|&#65;|<!\\[CDATA\\[|\\]\\]>|<coverage|<report|<class|<line|<counter|SF:a\n|DA:1,2\n|end_of_record\n|\\{|\\}|\\[|\\]|\"runs\":|\"results\":|\"level\":\"error\"|,|null|\\PC){0,40}";

    proptest::proptest! {
        #[test]
        fn whatever_a_step_writes_is_read_or_refused(text in PIECES, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for input in [text.as_bytes(), bytes.as_slice()] {
                let _any = junit::read(input, |_| {});
                let _any = coverage::read(input);
                let _any = findings::read(input);
            }
        }
    }
}

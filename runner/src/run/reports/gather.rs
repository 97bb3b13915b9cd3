//! From copies of files to what a job's reports say together.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{
    Covered, CoveredFile, FILE_BYTES_MAX, Finding, FindingCounts, LISTED_MAX, ReportError, TestCase,
    TestCounts, TestOutcome, coverage, findings, junit,
};
use crate::run::artifacts::{Collected, EntryKind};
use jobs::ReportKind;

/// Tests of one job that are told apart; more are counted one by one.
const KNOWN_MAX: usize = 500_000;

/// What the reports of a job say.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Of tests; none without a report of them.
    pub tests: Option<TestCounts>,
    /// The first of them, failed ones before all others.
    pub cases: Vec<TestCase>,
    /// Of lines.
    pub coverage: Option<Covered>,
    /// File by file.
    pub files: Vec<CoveredFile>,
    /// Of findings.
    pub findings: Option<FindingCounts>,
    /// The first of them.
    pub listed: Vec<Finding>,
}

/// Tests as they come, from one file or attempt after the other: which of them failed and passed later.
#[derive(Debug, Default)]
pub struct Tally {
    /// How each ended so far, and where it is listed.
    known: HashMap<u64, (TestOutcome, Option<usize>)>,
    passed_over: u64,
    seen: bool,
    cases: Vec<TestCase>,
}

impl Tally {
    /// Whether any report of tests was read.
    pub fn is_empty(&self) -> bool {
        !self.seen
    }

    fn add(&mut self, case: TestCase) {
        use TestOutcome::{Failed, Flaky, Passed, Skipped};
        self.seen = true;
        let mut hasher = DefaultHasher::new();
        (&case.class, &case.name).hash(&mut hasher);
        let full = self.known.len() >= KNOWN_MAX;
        let cases = &mut self.cases;
        match self.known.entry(hasher.finish()) {
            Entry::Occupied(mut known) => {
                let (before, place) = *known.get();
                let outcome = match (before, case.outcome) {
                    (Failed | Flaky, Passed | Flaky) | (Passed, Flaky) | (Flaky, Skipped) => Flaky,
                    // Passed first and failed then is no proof that it works.
                    (Passed | Skipped | Failed | Flaky, Failed) => Failed,
                    (Skipped, other) => other,
                    (Passed, Passed | Skipped) => Passed,
                    (Failed, Skipped) => Failed,
                };
                known.insert((outcome, place));
                // What it said when it failed stays with it.
                if let Some(listed) = place.and_then(|place| cases.get_mut(place)) {
                    let message = case.message.or_else(|| listed.message.take());
                    *listed = TestCase { outcome, message, ..case };
                }
            }
            Entry::Vacant(_) if full => self.passed_over += 1,
            Entry::Vacant(new) => {
                let room = cases.len() < LISTED_MAX;
                new.insert((case.outcome, room.then_some(cases.len())));
                if room {
                    cases.push(case);
                }
            }
        }
    }

    fn counts(&self) -> TestCounts {
        let mut counts =
            TestCounts { tests: self.known.len() as u64 + self.passed_over, ..TestCounts::default() };
        for (outcome, _) in self.known.values() {
            match outcome {
                TestOutcome::Passed => {}
                TestOutcome::Failed => counts.failed += 1,
                TestOutcome::Skipped => counts.skipped += 1,
                TestOutcome::Flaky => counts.flaky += 1,
            }
        }
        counts
    }
}

impl Gathered {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.tests.is_none() && self.coverage.is_none() && self.findings.is_none()
    }

    /// Takes what has been counted of tests.
    pub fn settle(&mut self, tally: Tally) {
        if tally.is_empty() {
            return;
        }
        let counts = tally.counts();
        let sum = self.tests.get_or_insert_default();
        *sum = TestCounts {
            tests: sum.tests + counts.tests,
            failed: sum.failed + counts.failed,
            skipped: sum.skipped + counts.skipped,
            flaky: sum.flaky + counts.flaky,
        };
        self.cases.extend(tally.cases);
        let rank = |case: &TestCase| match case.outcome {
            TestOutcome::Failed => 0,
            TestOutcome::Flaky => 1,
            TestOutcome::Passed | TestOutcome::Skipped => 2,
        };
        self.cases.sort_by_key(rank);
        self.cases.truncate(LISTED_MAX);
    }
}

/// Reads the files of one report, which lie in `place`. Returns those that cannot be read, with the reason.
pub fn gather(
    kind: ReportKind,
    place: &Path,
    collected: &Collected,
    tally: &mut Tally,
    gathered: &mut Gathered,
) -> Vec<(String, ReportError)> {
    let mut faults = Vec::new();
    for entry in collected.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
        let path = place.join(OsStr::from_bytes(&entry.path_bytes()));
        let read = opened(&path).and_then(|input| one(kind, input, tally, gathered));
        faults.extend(read.err().map(|error| (entry.path.clone(), error)));
    }
    faults
}

fn opened(path: &Path) -> Result<BufReader<std::io::Take<File>>, ReportError> {
    let file = File::open(path)?;
    if file.metadata()?.len() > FILE_BYTES_MAX {
        return Err(ReportError::Large);
    }
    Ok(BufReader::new(file.take(FILE_BYTES_MAX)))
}

fn one(
    kind: ReportKind,
    input: BufReader<std::io::Take<File>>,
    tally: &mut Tally,
    gathered: &mut Gathered,
) -> Result<(), ReportError> {
    match kind {
        ReportKind::Junit => {
            junit::read(input, |case| tally.add(case))?;
            tally.seen = true;
        }
        ReportKind::Coverage => {
            let mut read = coverage::read(input)?;
            let sum = gathered.coverage.get_or_insert_default();
            sum.lines = sum.lines.saturating_add(read.total.lines);
            sum.covered = sum.covered.saturating_add(read.total.covered);
            let room = LISTED_MAX.saturating_sub(gathered.files.len());
            read.files.truncate(room);
            gathered.files.append(&mut read.files);
        }
        ReportKind::Sarif => {
            let mut read = findings::read(input)?;
            let sum = gathered.findings.get_or_insert_default();
            sum.errors += read.counts.errors;
            sum.warnings += read.counts.warnings;
            sum.notes += read.counts.notes;
            let room = LISTED_MAX.saturating_sub(gathered.listed.len());
            read.listed.truncate(room);
            gathered.listed.append(&mut read.listed);
        }
    }
    Ok(())
}

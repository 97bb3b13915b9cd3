//! What happens during a run, as values: `run` sends them, `report` shows them, `record` writes them.
//!
//! Their JSON is a versioned interface: `runner exec --json` and `events.ndjson`.

use serde::{Serialize, Serializer};

use crate::outcome::{CacheRecord, Covered, FindingCounts, Outcome, ServiceResult, StepResult, TestCounts};

/// The version of the events' JSON.
pub const EVENTS_VERSION: u32 = 1;

/// One line of `events.ndjson`.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// [`EVENTS_VERSION`].
    pub v: u32,
    /// RFC 3339, UTC, microseconds. For display: durations come from the monotonic clock.
    pub ts: String,
    /// The run's id.
    pub run: String,
    /// The job's id, where the event belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The step's id, where the event belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Which of a step's outputs a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far one layer of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerPull {
    /// Its number, from 1.
    pub number: usize,
    /// How many layers the image has.
    pub layers: usize,
    /// Compressed bytes so far.
    pub bytes: u64,
    /// Compressed bytes in all, where known.
    pub total: Option<u64>,
    /// Whether it is unpacked.
    pub finished: bool,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedTest {
    /// Class and name.
    pub name: String,
    /// The first line of what it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where it stands, from the workspace on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// In that file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// The kinds of events.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event")]
pub enum What {
    /// First of a run.
    #[serde(rename = "run.start")]
    RunStart {
        /// The job file as the user named it; absent for `runner run`.
        file: Option<String>,
        /// The plan's name.
        name: String,
        /// How many jobs it has.
        jobs: usize,
        /// Where the records are.
        directory: String,
    },
    /// A job begins: its image is made ready next.
    #[serde(rename = "job.start")]
    JobStart {
        /// The image as the file names it.
        image: String,
        /// How many steps it has.
        steps: usize,
    },
    /// Progress of making the image ready.
    #[serde(rename = "image.pull")]
    ImagePull {
        /// What is pulled.
        image: String,
        /// `started`, `progress`, `waiting`, `retrying`, `finished`, `cached`.
        state: &'static str,
        /// Compressed bytes so far.
        bytes: u64,
        /// Compressed bytes in all, where known.
        total: Option<u64>,
        /// How far one of its layers is.
        #[serde(skip_serializing_if = "Option::is_none")]
        layer: Option<LayerPull>,
        /// Why it waits or tries again.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A step's command gets its go.
    #[serde(rename = "step.start")]
    StepStart {
        /// Its name.
        name: String,
        /// Its number, from 1.
        index: usize,
        /// How many there are.
        steps: usize,
        /// The attempt, from 1.
        #[serde(skip_serializing_if = "is_first")]
        attempt: u32,
    },
    /// A step did not succeed and is tried again.
    #[serde(rename = "step.retry")]
    StepRetry {
        /// Everything about the attempt's end.
        #[serde(flatten)]
        result: Box<StepResult>,
        /// How many attempts there are at most.
        attempts_max: u32,
        /// The pause before the next one, in seconds.
        pause_s: f64,
    },
    /// Output of a step, at most 64 KiB, not split at lines.
    #[serde(rename = "step.log")]
    StepLog {
        /// Where it was written to.
        stream: Stream,
        /// Counts the chunks of this step, from 0.
        seq: u64,
        /// The bytes; in JSON as text, invalid UTF-8 replaced.
        #[serde(rename = "text", serialize_with = "lossy")]
        data: Vec<u8>,
    },
    /// A step is over, its log closed.
    #[serde(rename = "step.end")]
    StepEnd {
        /// Everything about its end.
        #[serde(flatten)]
        result: Box<StepResult>,
    },
    /// A cache is there for the steps.
    #[serde(rename = "cache.restore")]
    CacheRestore {
        /// What it begins with.
        #[serde(flatten)]
        cache: CacheRecord,
    },
    /// A cache is kept.
    #[serde(rename = "cache.save")]
    CacheSave {
        /// What became of it.
        #[serde(flatten)]
        cache: CacheRecord,
    },
    /// A service's command gets its go.
    #[serde(rename = "service.start")]
    ServiceStart {
        /// Its name.
        service: String,
        /// What it runs on.
        image: String,
    },
    /// A service is ready.
    #[serde(rename = "service.ready")]
    ServiceReady {
        /// Its name.
        service: String,
        /// From its start, in seconds.
        ready_s: f64,
        /// What told: `tcp 5432`.
        by: String,
    },
    /// A service is over, its log closed.
    #[serde(rename = "service.end")]
    ServiceEnd {
        /// Everything about its end.
        #[serde(flatten)]
        result: Box<ServiceResult>,
        /// Of one that has failed, the last lines of its log.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tail: Vec<String>,
    },
    /// An artifact has been collected.
    #[serde(rename = "artifact")]
    Artifact {
        /// Its name.
        name: String,
        /// Files in it.
        files: u64,
        /// Bytes in it.
        bytes: u64,
    },
    /// What a job's reports say, before its end.
    #[serde(rename = "reports")]
    Reports {
        /// Of tests.
        #[serde(skip_serializing_if = "Option::is_none")]
        tests: Option<TestCounts>,
        /// The first tests that failed.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        failed: Vec<FailedTest>,
        /// Of lines.
        #[serde(skip_serializing_if = "Option::is_none")]
        coverage: Option<Covered>,
        /// Of findings.
        #[serde(skip_serializing_if = "Option::is_none")]
        findings: Option<FindingCounts>,
    },
    /// A job did not succeed and is tried again.
    #[serde(rename = "job.retry")]
    JobRetry {
        /// How the attempt ended.
        outcome: Outcome,
        /// Its number, from 1.
        attempt: u32,
        /// How many attempts there are at most.
        attempts_max: u32,
        /// The pause before the next one, in seconds.
        pause_s: f64,
    },
    /// A job is over.
    #[serde(rename = "job.end")]
    JobEnd {
        /// How.
        outcome: Outcome,
    },
    /// Last of a run.
    #[serde(rename = "run.end")]
    RunEnd {
        /// How.
        outcome: Outcome,
        /// What `runner exec` exits with.
        exit_code: u8,
        /// Wall time, in seconds.
        wall_s: f64,
        /// Where the records are.
        directory: String,
    },
    /// Something the user should know that stops nothing.
    #[serde(rename = "warning")]
    Warning {
        /// `W411`, where it has a code.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// What.
        text: String,
        /// What to do, one line.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

// Serde passes a reference to the field.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_first(attempt: &u32) -> bool {
    *attempt == 1
}

fn lossy<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(data))
}

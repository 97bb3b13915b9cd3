//! `run.json`, version 1. Field names and meanings change only with [`RECORD_VERSION`].

use serde::{Deserialize, Serialize};

use crate::outcome::{
    CacheRecord, Covered, FindingCounts, ImageRecord, Outcome, ServiceResult, StepResult, TestCounts,
};

/// The version of `run.json`, `result.json` and the artifact manifest.
pub const RECORD_VERSION: u32 = 1;

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Under way, when the lock is held.
    Running,
    /// Over, with an outcome.
    Finished,
    /// Its process is gone without an outcome. Never written: concluded by readers from the free lock.
    Died,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// Its id.
    pub id: String,
    /// Where it is in its life.
    pub state: RunState,
    /// The job file as the user named it; absent for `runner run`.
    pub file: Option<String>,
    /// Of the bytes of the job file, in hex.
    pub file_sha256: Option<String>,
    /// The files that it includes, or whose steps it uses; copies are in `include/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<IncludedFile>,
    /// The plan's name.
    pub name: String,
    /// RFC 3339, UTC, microseconds.
    pub started: String,
    /// The same, when it is over.
    pub ended: Option<String>,
    /// From start to end, in seconds, by the monotonic clock.
    pub wall_s: Option<f64>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// How it counts: differs from the outcome where a step may fail.
    pub conclusion: Option<Outcome>,
    /// What `runner exec` exited with.
    pub exit_code: Option<u8>,
    /// The machine it ran on.
    pub host: HostRecord,
    /// Its jobs, in the plan's order.
    pub jobs: Vec<JobRecord>,
    /// What was collected.
    pub artifacts: Vec<ArtifactRecord>,
    /// What the reports of all jobs say together; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<ReportsRecord>,
    /// What the user should know that stopped nothing.
    pub warnings: Vec<WarningRecord>,
}

/// A file that a job file names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncludedFile {
    /// A URL, or a path that starts where that of the job file does.
    pub name: String,
    /// Of its bytes, in hex.
    pub sha256: String,
    /// Its bytes.
    #[serde(skip)]
    pub text: Vec<u8>,
}

/// The machine of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub arch: String,
    /// CPUs that the runner may use.
    pub cpus: u64,
    /// Memory of the machine, in bytes.
    pub memory: u64,
    /// `v1`, `hybrid`, `v2` or `none`.
    pub cgroup: String,
    /// Whether user namespaces can be made.
    pub userns: bool,
    /// The version of the runner.
    pub runner_version: String,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id in the job file.
    pub id: String,
    /// The values of its cell, a map; absent without a matrix.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub matrix: serde_json::Value,
    /// What its steps ran on.
    pub image: ImageRecord,
    /// It ran with `--untrusted`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// How it counts: differs from the outcome where the job may fail.
    #[serde(default)]
    pub conclusion: Option<Outcome>,
    /// RFC 3339, UTC, microseconds.
    pub started: Option<String>,
    /// The same, when it is over.
    pub ended: Option<String>,
    /// Its steps, in order; those that are over.
    pub steps: Vec<StepResult>,
    /// Its caches, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheRecord>,
    /// Its services, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceResult>,
    /// The attempts before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<JobAttempt>,
}

/// An attempt after which the job was tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobAttempt {
    /// How it ended.
    pub outcome: Outcome,
    /// Why our own part failed, if that was it.
    pub cause: Option<String>,
    /// RFC 3339, UTC, microseconds.
    pub started: Option<String>,
    /// The same, of its end.
    pub ended: Option<String>,
    /// Its steps.
    pub steps: Vec<StepResult>,
    /// Its services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceResult>,
}

/// One collected artifact; `artifacts/manifest.json` lists its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Its name.
    pub name: String,
    /// The job that made it.
    pub job: String,
    /// The step that named it; absent when the job did.
    pub step: Option<String>,
    /// Files and links in it.
    pub files: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// What the reports of a run say; `reports/` has every case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsRecord {
    /// Of tests.
    #[serde(flatten)]
    pub counts: TestCounts,
    /// Of lines; absent without a report of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Covered>,
    /// Of findings; absent without a report of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<FindingCounts>,
}

/// A warning of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningRecord {
    /// `W411`, where it has a code.
    pub code: Option<String>,
    /// What.
    pub text: String,
    /// What to do, one line.
    pub hint: Option<String>,
}

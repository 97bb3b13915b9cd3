//! The result of an examination, as values.

use serde::Serialize;

use super::Host;

/// The version of the examination's JSON.
pub const EXAMINATION_VERSION: u32 = 1;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Pass,
    /// Jobs run, but not all of them, or not as well.
    Warn,
    /// No job can run.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, in two or three words. Stable: scripts may look for it.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// What was found, with its numbers.
    pub found: String,
    /// What that means for whoever runs jobs here. Absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// The one command that mends it. Absent when there is none, or nothing to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    /// All is well.
    pub(super) fn pass(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Pass, found: found.into(), means: None, fix: None }
    }

    /// Something is missing that not every job needs.
    pub(super) fn warn(name: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, found: found.into(), means: Some(means.into()), fix: None }
    }

    /// Something is missing that every job needs.
    pub(super) fn fail(name: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, found: found.into(), means: Some(means.into()), fix: None }
    }

    /// Adds the command that mends it.
    pub(super) fn fixed_by(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }
}

/// What runs that died had left behind, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Runs whose process is gone.
    pub runs: u64,
    /// Cgroups and directories that were removed.
    pub removed: u64,
    /// Processes that were killed.
    pub killed: u64,
    /// What could not be removed, and why.
    pub left: Vec<String>,
}

impl Swept {
    /// Words it as the last check.
    pub fn check(&self) -> Check {
        const NAME: &str = "stale runs";
        if let Some(first) = self.left.first() {
            let found = match self.left.len() {
                1 => first.clone(),
                count => format!("{first}; {} more", count - 1),
            };
            let means = "something of a run that died is still there; every call of runner tries again";
            return Check::warn(NAME, found, means);
        }
        if *self == Self::default() {
            return Check::pass(NAME, "none");
        }
        let Self { runs, removed, killed, .. } = self;
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        Check::pass(
            NAME,
            format!(
                "{runs} run{} had died; {removed} left-over{} removed, {killed} process{} killed",
                plural(*runs),
                plural(*removed),
                if *killed == 1 { "" } else { "es" }
            ),
        )
    }
}

/// All checks, and the facts beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// [`EXAMINATION_VERSION`].
    pub v: u32,
    /// Whether jobs can run: no check has failed.
    pub can_run: bool,
    /// In the order in which they are shown.
    pub checks: Vec<Check>,
    /// The facts that runs record.
    pub host: Host,
}

impl Examination {
    pub(super) fn new(host: Host, checks: Vec<Check>) -> Self {
        let mut examination = Self { v: EXAMINATION_VERSION, can_run: true, checks: Vec::new(), host };
        checks.into_iter().for_each(|check| examination.add(check));
        examination
    }

    /// Adds a check.
    pub fn add(&mut self, check: Check) {
        self.can_run &= check.status != Status::Fail;
        self.checks.push(check);
    }

    /// Returns how many checks went like this.
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

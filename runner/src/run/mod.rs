//! Running a plan: the run directory, logs, artifacts, jobs and steps. Nothing here prints.

pub mod artifacts;
pub mod logs;
pub mod record;

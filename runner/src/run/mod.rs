//! Running a plan: the run directory, logs, artifacts, jobs and steps. Nothing here prints.

pub mod feed;
pub mod identity;
pub mod layer;
pub mod artifacts;
pub mod logs;
pub mod record;
pub mod users;
pub mod workspace;

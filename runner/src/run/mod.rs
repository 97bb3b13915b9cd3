//! Running a plan: the run directory, logs, artifacts, jobs and steps. Nothing here prints.

pub mod artifacts;
pub mod command;
pub mod conduct;
pub mod credentials;
pub mod egress;
pub mod errands;
pub mod error;
pub mod execute;
pub mod feed;
pub mod identity;
pub mod image;
pub mod job;
pub mod layer;
pub mod logs;
pub mod machine;
pub mod record;
pub mod room;
pub mod schedule;
pub mod skeleton;
pub mod step;
pub mod step_files;
pub mod traces;
pub mod users;
pub mod values;
pub mod verdict;
pub mod workspace;

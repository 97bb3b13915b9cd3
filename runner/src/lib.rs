//! The runner: sandbox, cgroups, steps, records, reports.
//!
//! `main -> cli -> commands -> run -> {sandbox, cgroup, overlay} -> sys`; values go right, nothing calls left.

pub mod cgroup;
pub mod cli;
pub mod commands;
pub mod event;
pub mod github;
pub mod host;
pub mod network;
pub mod outcome;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod sys;

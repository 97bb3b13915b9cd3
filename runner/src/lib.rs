//! The runner: sandbox, cgroups, steps, records, reports.

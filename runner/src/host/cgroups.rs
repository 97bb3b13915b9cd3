//! Which caps can be applied, and whether cgroups can really be made.

use super::check::{Check, Status};
use crate::cgroup::{CgroupError, CgroupFacts, Hierarchy, Limit};

const NAME: &str = "cgroups";

/// Looks at what is mounted and delegated, and makes a cgroup in each place.
pub(super) fn check(hierarchy: Result<&Hierarchy, &CgroupError>) -> Check {
    let hierarchy = match hierarchy {
        Ok(hierarchy) => hierarchy,
        Err(error) => return Check::warn(NAME, error.to_string(), no_caps(&Limit::ALL)),
    };
    let facts = hierarchy.describe();
    let refused: Vec<(Limit, CgroupError)> =
        Limit::ALL.into_iter().filter_map(|limit| Some((limit, hierarchy.supports(limit).err()?))).collect();
    let check = match hierarchy.try_out() {
        Err(error) => Check::warn(NAME, format!("{}: {error}", facts.kind), no_caps(&Limit::ALL)),
        Ok(()) if refused.is_empty() => Check::pass(NAME, summary(&facts)),
        Ok(()) => {
            let limits: Vec<Limit> = refused.iter().map(|(limit, _)| *limit).collect();
            let found = format!("{}; {}", summary(&facts), reasons(&refused));
            Check::warn(NAME, found, no_caps(&limits))
        }
    };
    if check.status == Status::Pass { check } else { check.fixed_by(hierarchy.remedy()) }
}

/// `hybrid: cpu, cpuacct, memory, pids, io; cgroup.kill`
fn summary(facts: &CgroupFacts) -> String {
    if facts.controllers.is_empty() {
        return format!("{}: none that this user may use", facts.kind);
    }
    let names: Vec<String> = facts.controllers.iter().map(ToString::to_string).collect();
    let kill = if facts.kill { "; cgroup.kill" } else { "" };
    format!("{}: {}{kill}", facts.kind, names.join(", "))
}

/// The first reason, and how many others there are: mostly they are one, in several directories.
fn reasons(refused: &[(Limit, CgroupError)]) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for (_, error) in refused {
        if let CgroupError::Unsupported { reason, .. } = error
            && !reasons.contains(&reason.as_str())
        {
            reasons.push(reason);
        }
    }
    match reasons.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first, others @ ..] => format!("{first}, and {} more like it", others.len()),
    }
}

fn no_caps(limits: &[Limit]) -> String {
    let keys: Vec<String> = limits.iter().map(|limit| format!("limits.{limit}")).collect();
    format!("jobs that set {} are refused; others run without these caps", keys.join(", "))
}

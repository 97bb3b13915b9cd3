//! The secrets of a job's steps as files of its stage: each step's in a directory of its own, readable by its user alone.

use std::collections::HashSet;

use jobs::{StepPlan, StepSecret};

use super::layer::SECRETS;
use super::room::Plans;
use super::users::StepUser;
use crate::sandbox::ids::Identity;
use crate::sandbox::spec::{Bind, SecretFile};

/// The directory of a step's secrets in the stage, by its index from 0.
fn directory_of(index: usize) -> String {
    format!("step-{}", index + 1)
}

/// The secrets that steps have named, as far as they were given.
pub(super) fn of(plans: &Plans<'_>, users: &[StepUser]) -> Vec<SecretFile> {
    let of_step = |(index, step): (usize, &StepPlan)| {
        let owner = users.get(index).map_or((0, 0), |user| match plans.identity {
            Identity::Root { base } => (base + user.uid, base + user.gid),
            // The caller is the step's user, and 0 is the caller.
            Identity::Subids { .. } | Identity::Single => (0, 0),
        });
        let file = move |secret: &StepSecret| {
            let value = plans.secrets.get(&secret.name)?.to_vec();
            Some(SecretFile { directory: directory_of(index), name: secret.name.clone(), value, owner })
        };
        step.secrets.iter().filter_map(file).collect::<Vec<_>>()
    };
    plans.job.steps.iter().enumerate().flat_map(of_step).collect()
}

/// A step's secrets put into its root, if it names any that were given. `known`: the directories that there are.
pub(super) fn bind(known: &HashSet<String>, index: usize) -> Option<Bind> {
    let directory = directory_of(index);
    let from = format!("secrets/{directory}");
    known.contains(&directory).then(|| Bind { from, to: SECRETS.to_owned(), directory: true })
}

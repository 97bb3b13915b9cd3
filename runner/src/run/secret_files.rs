//! The secrets of a job's steps as files of its stage: each step's in a directory of its own, readable by its user alone.

use std::collections::HashSet;

use jobs::{StepPlan, StepSecret};

use super::layer::SECRETS;
use super::room::Plans;
use super::services::Service;
use super::users::StepUser;
use crate::sandbox::ids::Identity;
use crate::sandbox::spec::{Bind, SecretFile};

/// The directory of a step's secrets in the stage, by its index from 0.
fn directory_of(index: usize) -> String {
    format!("step-{}", index + 1)
}

/// The same for a service.
fn of_service(name: &str) -> String {
    format!("service-{name}")
}

/// The secrets that steps and services have named, as far as they were given.
pub(super) fn of(plans: &Plans<'_>, users: &[StepUser]) -> Vec<SecretFile> {
    let owner = |user: &StepUser| match plans.identity {
        Identity::Root { base } => (base + user.uid, base + user.gid),
        // The caller is the step's user, and 0 is the caller.
        Identity::Subids { .. } | Identity::Single => (0, 0),
    };
    let files = |directory: String, secrets: &[StepSecret], owner: (u32, u32)| {
        let file = |secret: &StepSecret| {
            let (directory, value) = (directory.clone(), plans.secrets.get(&secret.name)?.to_vec());
            Some(SecretFile { directory, name: secret.name.clone(), value, owner })
        };
        secrets.iter().filter_map(file).collect::<Vec<_>>()
    };
    let of_step = |(index, step): (usize, &StepPlan)| {
        let owner = users.get(index).map_or((0, 0), owner);
        files(directory_of(index), &step.secrets, owner)
    };
    let of_services =
        |one: &Service<'_>| files(of_service(&one.plan.name), &one.plan.secrets, owner(&one.user));
    let of_steps = plans.job.steps.iter().enumerate().flat_map(of_step);
    of_steps.chain(plans.services.iter().flat_map(of_services)).collect()
}

/// A step's secrets put into its root, if it names any that were given. `known`: the directories that there are.
pub(super) fn bind(known: &HashSet<String>, index: usize) -> Option<Bind> {
    bind_from(known, directory_of(index))
}

/// The same for a service.
pub(super) fn bind_for_service(known: &HashSet<String>, name: &str) -> Option<Bind> {
    bind_from(known, of_service(name))
}

fn bind_from(known: &HashSet<String>, directory: String) -> Option<Bind> {
    let from = format!("secrets/{directory}");
    known.contains(&directory).then(|| Bind { from, to: SECRETS.to_owned(), directory: true })
}

//! What a job's steps may ask of the kernel: `seccomp`, `privileges` and `--untrusted` to filters and capabilities.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jobs::rights::CAPABILITIES;
use jobs::{JobPlan, Privileges, Seccomp, StepPlan, Workspace as PlanWorkspace};
use thiserror::Error;

use super::command::ROOT_CAPABILITIES;
use super::users::StepUser;
use super::workspace::Workspace;
use crate::outcome::Rights;
use crate::sandbox::filters;
use crate::sandbox::profile::{self, Circumstances, PROFILE_BYTES_MAX, Profile, ProfileError};
use crate::sandbox::seccomp::{self, Choice, FilterError};
use crate::sandbox::spec::Filters;

/// `CAP_SETFCAP`: without it the kernel lets nobody map root into a namespace of his own (user_namespaces(7)).
const SETFCAP: u64 = 1 << 31;
/// Unknown names of a profile that are shown.
const UNKNOWN_SHOWN_MAX: usize = 10;

/// The job file asks for rights that cannot be given.
#[derive(Debug, Error)]
pub enum RightsError {
    /// A profile cannot be read.
    #[error("error[E244]: seccomp profile {} cannot be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A profile has more bytes than any has.
    #[error("error[E244]: seccomp profile {} has more than {PROFILE_BYTES_MAX} bytes", path.display())]
    Large {
        /// Which file.
        path: PathBuf,
    },
    /// A profile is wrong.
    #[error("error[E244]: seccomp profile {}:{source}", path.display())]
    Profile {
        /// Which file.
        path: PathBuf,
        /// What is wrong, beginning with its place.
        source: ProfileError,
    },
    /// What a sandbox inside stores in root's files could count on the machine.
    #[error("error[E242]: `privileges: nested` in step `{step}` with {}, which belongs to root", path.display())]
    RootsFiles {
        /// Which step.
        step: String,
        /// What it could write to.
        path: PathBuf,
    },
    /// Our own filters could not be made.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl RightsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RootsFiles { .. } => Some(
                "a program that gets file capabilities there would have them on this machine: use `workspace: copy`, and mount nothing of root's with `rw`",
            ),
            Self::Profile { .. } => Some(
                "a profile has the form of `linux.seccomp` in OCI's runtime specification: `defaultAction` and `syscalls`",
            ),
            Self::Read { .. } | Self::Large { .. } | Self::Filter(_) => None,
        }
    }
}

/// The rights of a job's steps.
#[derive(Debug, Default)]
pub struct JobRights {
    /// Different filters, each once.
    pub filters: Vec<Filters>,
    /// In the order of the steps.
    pub steps: Vec<StepRights>,
    /// In the order of the services.
    pub services: Vec<StepRights>,
    /// What the user should know.
    pub warnings: Vec<(String, Option<String>)>,
}

/// The rights of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepRights {
    /// Which of [`JobRights::filters`].
    pub filters: usize,
    /// It may make sandboxes of its own.
    pub nested: bool,
    /// Bounding, permitted and effective set, a bit each.
    pub capabilities: u64,
    /// Those that another user than root keeps through execve.
    pub ambient: u64,
}

impl JobRights {
    /// Settles them. `services`: the users that services run as, by their numbers. Relative paths of profiles start at `base`.
    ///
    /// # Errors
    /// A profile that cannot be used; rights that would reach beyond the sandbox.
    pub fn settle(
        job: &JobPlan,
        users: &[StepUser],
        services: &[u32],
        workspace: &Workspace,
        base: &Path,
    ) -> Result<Self, RightsError> {
        let mut rights = Self::default();
        let mut made = Vec::new();
        for (step, user) in job.steps.iter().zip(users) {
            let nested = step.privileges == Privileges::Nested;
            if nested {
                owned_by_nobody_special(job, step, workspace, base)?;
            }
            let asked = (&step.seccomp, &step.privileges);
            let own = rights.of_one(asked, user.uid, job.untrusted, base, &mut made)?;
            rights.steps.push(own);
        }
        for uid in services {
            let asked = (&Seccomp::Default, &Privileges::Default);
            let own = rights.of_one(asked, *uid, job.untrusted, base, &mut made)?;
            rights.services.push(own);
        }
        Ok(rights)
    }

    /// The rights of one sandbox. `made`: filters that there are, with what they are for.
    fn of_one(
        &mut self,
        (seccomp, privileges): (&Seccomp, &Privileges),
        uid: u32,
        untrusted: bool,
        base: &Path,
        made: &mut Vec<(Seccomp, Choice, u64)>,
    ) -> Result<StepRights, RightsError> {
        let nested = *privileges == Privileges::Nested;
        let named = named(privileges);
        let of_user = if uid == 0 { ROOT_CAPABILITIES } else { 0 };
        let of_root = if nested && uid == 0 { SETFCAP } else { 0 };
        let capabilities = of_user | of_root | named;
        let strict = *seccomp == Seccomp::Strict;
        let choice = Choice { strict, untrusted, nested, capabilities: named };
        let key = (seccomp.clone(), choice, capabilities);
        let filters = match made.iter().position(|have| *have == key) {
            Some(found) => found,
            None => {
                let filters = self.filters_of(seccomp, &choice, capabilities, base)?;
                self.filters.push(filters);
                made.push(key);
                made.len() - 1
            }
        };
        let ambient = if uid == 0 { 0 } else { named };
        Ok(StepRights { filters, nested, capabilities, ambient })
    }

    /// Whether a step may make sandboxes of its own.
    pub fn any_nested(&self) -> bool {
        self.steps.iter().any(|step| step.nested)
    }

    fn filters_of(
        &mut self,
        seccomp: &Seccomp,
        choice: &Choice,
        capabilities: u64,
        base: &Path,
    ) -> Result<Filters, RightsError> {
        let late = Vec::new();
        Ok(match seccomp {
            Seccomp::Default | Seccomp::Strict if *choice == Choice::default() => {
                Filters { early: filters::default().map(<[u8]>::to_vec).to_vec(), late }
            }
            Seccomp::Default | Seccomp::Strict => Filters { early: seccomp::compile(choice)?.to_vec(), late },
            Seccomp::Off => Filters { early: vec![seccomp::guard(choice)], late },
            Seccomp::File(path) => {
                let late = vec![self.profile(&base.join(path), capabilities)?];
                Filters { early: vec![seccomp::guard(choice)], late }
            }
        })
    }

    /// The filter of the profile in a file.
    fn profile(&mut self, path: &Path, capabilities: u64) -> Result<Vec<u8>, RightsError> {
        let read = |source| RightsError::Read { path: path.to_path_buf(), source };
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(PROFILE_BYTES_MAX + 1).read_to_end(&mut text))
            .map_err(read)?;
        if text.len() as u64 > PROFILE_BYTES_MAX {
            return Err(RightsError::Large { path: path.to_path_buf() });
        }
        let wrong = |source| match source {
            ProfileError::Filter(error) => RightsError::Filter(error),
            source => RightsError::Profile { path: path.to_path_buf(), source },
        };
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let held = CAPABILITIES.iter().filter(|(number, ..)| capabilities & (1 << number) != 0);
        let around = Circumstances {
            capabilities: held.map(|(_, name, _)| *name).collect(),
            kernel: profile::kernel(&release).unwrap_or_default(),
        };
        let compiled = Profile::parse(&text).and_then(|profile| profile.compile(&around)).map_err(wrong)?;
        if !compiled.unknown.is_empty() {
            let count = compiled.unknown.len();
            let shown = compiled.unknown.get(..UNKNOWN_SHOWN_MAX).unwrap_or(&compiled.unknown).join(", ");
            let more = if count > UNKNOWN_SHOWN_MAX { ", ..." } else { "" };
            let text = format!(
                "seccomp profile {}: {count} of its calls are not known here and get its default action: {shown}{more}",
                path.display()
            );
            self.warnings.push((text, None));
        }
        Ok(compiled.filter)
    }
}

/// What the record says of a step's rights; nothing where it has those of every step.
pub fn record(step: &StepPlan) -> Option<Rights> {
    if (&step.seccomp, &step.privileges) == (&Seccomp::Default, &Privileges::Default) {
        return None;
    }
    let seccomp = match &step.seccomp {
        Seccomp::Default => "default",
        Seccomp::Strict => "strict",
        Seccomp::Off => "off",
        Seccomp::File(path) => path,
    };
    let privileges = match &step.privileges {
        Privileges::Default => Vec::new(),
        Privileges::Nested => vec!["nested".to_owned()],
        Privileges::Capabilities(list) => list.iter().map(|one| one.name().to_owned()).collect(),
    };
    Some(Rights { seccomp: seccomp.to_owned(), privileges })
}

fn named(privileges: &Privileges) -> u64 {
    match privileges {
        Privileges::Default | Privileges::Nested => 0,
        Privileges::Capabilities(list) => list.iter().map(|one| 1 << one.number()).sum(),
    }
}

/// In a namespace of its own a step can give files capabilities; in root's files they would count on the machine, and no
/// sweep comes in time (user_namespaces(7), capabilities(7) "File capabilities").
fn owned_by_nobody_special(
    job: &JobPlan,
    step: &StepPlan,
    workspace: &Workspace,
    base: &Path,
) -> Result<(), RightsError> {
    use std::os::unix::fs::MetadataExt as _;
    let refused = |path: PathBuf| Err(RightsError::RootsFiles { step: step.id.clone(), path });
    if job.workspace == PlanWorkspace::InPlace && workspace.owner.0 == 0 {
        return refused(workspace.path.clone());
    }
    for mount in job.mounts.iter().filter(|mount| !mount.read_only) {
        let path = base.join(&mount.host);
        // One that is not there is refused elsewhere.
        if std::fs::metadata(&path).is_ok_and(|found| found.uid() == 0) {
            return refused(path);
        }
    }
    Ok(())
}

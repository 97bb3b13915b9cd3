//! What a room has for each of the job's services: a root, limits, rights; and the sandboxes made of them.

use std::path::Path;

use images::RootfsKind;

use super::mounts::Mounts;
use super::{Plans, Prepared, Room, make_directory, names, place_for};
use crate::cgroup::{CgroupLimits, Hierarchy};
use crate::run::caps::{self, Warning};
use crate::run::errands::Servants;
use crate::run::error::RunError;
use crate::run::layer::{self, SECRETS, Wishes};
use crate::run::rights::StepRights;
use crate::run::secret_files;
use crate::run::services::Service;
use crate::run::skeleton::{self, Skeleton};
use crate::sandbox::spawn::SandboxError;
use crate::sandbox::spec::{Bind, SandboxSpec, Upper};
use crate::sandbox::zygote::Zygote;

/// A service's own part of the room.
#[derive(Debug)]
pub(super) struct Quarters {
    name: String,
    user: (u32, u32),
    rights: StepRights,
    limits: CgroupLimits,
    shm_bytes: u64,
    /// Where its layers stand in the stage, and how many.
    root: (String, usize),
    binds: Vec<Bind>,
    hand_back: Vec<String>,
    _skeleton: Skeleton,
}

/// Where and with what a service's quarters are made.
pub(super) struct Place<'p> {
    pub(super) plans: &'p Plans<'p>,
    pub(super) hierarchy: &'p Hierarchy,
    pub(super) zygote: &'p Zygote,
    /// What everybody in the job's network finds.
    pub(super) resolv_conf: &'p str,
    /// The service's number, from 0.
    pub(super) index: usize,
}

impl Place<'_> {
    /// Gathers what the stage must hold for it.
    pub(super) fn furnish(
        &self,
        service: &Service<'_>,
        rights: StepRights,
        mounts: &mut Mounts,
        warnings: &mut Vec<Warning>,
    ) -> Result<Quarters, RunError> {
        let (plans, plan, rootfs) = (self.plans, service.plan, service.rootfs);
        let user = (service.user.uid, service.user.gid);
        let (limits, more) = caps::kept(&plan.limits, None, self.hierarchy)?;
        let new: Vec<Warning> = more.into_iter().filter(|one| !warnings.contains(one)).collect();
        warnings.extend(new);
        let below = format!("s/{}", self.index);
        let (mut binds, mut hand_back, mut points) = (Vec::new(), Vec::new(), Vec::new());
        for (index, mount) in plan.mounts.iter().enumerate() {
            let from = format!("{below}/b/{index}");
            let directory = mounts.mount(mount, &from, plans, &[user])?;
            binds.push(Bind { from: place_for(&from, user), to: mount.path.clone(), directory });
            if !rootfs.layers.iter().any(|layer| layer::leads_through_link(layer, &mount.path)) {
                points.push((mount.path.clone(), directory));
            }
            hand_back.extend((!mount.read_only).then(|| mount.path.clone()));
        }
        points.extend((!plan.secrets.is_empty()).then(|| (SECRETS.to_owned(), true)));
        let (layer, parts) = layer::plan(&Wishes {
            hostname: &plan.name,
            mount_points: points,
            resolv_conf: self.resolv_conf.to_owned(),
            host: rootfs.kind == RootfsKind::Host,
            names: names(plans),
            of_step: false,
        });
        let servants = Servants { zygote: self.zygote, identity: plans.identity, user };
        let skeleton = skeleton::obtain(plans.home, &layer, &servants)?;
        let root = format!("{below}/l");
        let layers = mounts.layers(&root, &[&skeleton.path], rootfs, plans.identity)?;
        binds.extend(mounts.host_parts(&format!("{below}/h"), &parts, plans.identity)?);
        binds.extend(secret_files::bind_for_service(&mounts.with_secrets, &plan.name));
        Ok(Quarters {
            name: plan.name.clone(),
            user,
            rights,
            limits,
            shm_bytes: plan.shm_bytes,
            root: (root, layers),
            binds,
            hand_back,
            _skeleton: skeleton,
        })
    }
}

/// The cgroup and directory of a service.
pub fn unit_of_service(name: &str) -> String {
    format!("service-{name}")
}

impl Room {
    /// Starts to build the sandbox of the service with this index, from 0.
    ///
    /// # Errors
    /// The cgroup's or the clone's.
    pub fn prepare_service(&self, index: usize) -> Result<Prepared, RunError> {
        let own = self.quarters.get(index).ok_or(SandboxError::Lost)?;
        let name = unit_of_service(&own.name);
        let upper = self.scratch.join(&name);
        make_directory(&upper).map_err(RunError::io("create", Path::new(&upper)))?;
        let cgroup = self.cgroup.create(&name, &own.limits)?;
        let spec = SandboxSpec {
            hostname: own.name.clone(),
            root: own.root.0.clone(),
            layers: own.root.1,
            upper: Upper::Disk(name),
            binds: own.binds.clone(),
            shm_bytes: own.shm_bytes,
            affinity: Vec::new(),
            user: own.user,
            hand_back: own.hand_back.clone(),
            since: self.since,
            filters: own.rights.filters,
            nested: false,
        };
        self.build(&spec, cgroup, upper)
    }

    /// What a service may ask of the kernel.
    pub fn service_rights(&self, index: usize) -> StepRights {
        self.quarters.get(index).map(|own| own.rights).unwrap_or_default()
    }

    /// The limits of a service as they are applied.
    pub fn service_limits(&self, index: usize) -> CgroupLimits {
        self.quarters.get(index).map(|own| own.limits.clone()).unwrap_or_default()
    }
}

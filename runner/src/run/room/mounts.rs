//! Sources for a job's stage, and what is bound where in its steps' roots.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use images::Rootfs;
use jobs::Mount;

use super::{NODES, Plans, TUN, TUN_INSIDE, distinct, place_for};
use crate::run::command::{self, WORKSPACE};
use crate::run::error::RunError;
use crate::run::layer::{self, NESTED_HOME, SCRIPTS, SECRETS};
use crate::run::secret_files;
use crate::run::users::StepUser;
use crate::sandbox::ids::{Identity, layer_map, workspace_map};
use crate::sandbox::spec::{Bind, Idmap, Kind, Script, SecretFile, SharedOverlay, Source};

/// Sources for the stage and binds for the steps, as they come together.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) sources: Vec<Source>,
    pub(super) binds: Vec<Bind>,
    /// Binds whose source exists once per user.
    pub(super) per_user: Vec<Bind>,
    /// Binds that lie over all others: in the workspace, for example.
    pub(super) topmost: Vec<Bind>,
    /// Paths inside that steps can write to and that belong to the host.
    pub(super) hand_back: Vec<String>,
    /// Mount points for the layer.
    pub(super) points: Vec<(String, bool)>,
    /// The directories of secrets that there are.
    pub(super) with_secrets: HashSet<String>,
}

impl Mounts {
    /// The `mounts` of the job file, once per user.
    pub(super) fn of_the_plan(&mut self, plans: &Plans<'_>, users: &[StepUser]) -> Result<(), RunError> {
        for (index, mount) in plans.job.mounts.iter().enumerate() {
            let from = format!("b/{index}");
            let directory = self.mount(mount, &from, plans, &distinct(users))?;
            // Init makes the others: a directory of ours would cover the image's link, and all that is behind it.
            if !plans.rootfs.layers.iter().any(|layer| layer::leads_through_link(layer, &mount.path)) {
                self.points.push((mount.path.clone(), directory));
            }
            self.per_user.push(Bind { from, to: mount.path.clone(), directory });
            if !mount.read_only {
                self.hand_back.push(mount.path.clone());
            }
        }
        Ok(())
    }

    /// Layers, upper directory, device nodes, the host's parts. Returns the number of layers.
    pub(super) fn of_the_root(
        &mut self,
        plans: &Plans<'_>,
        root: &Path,
        parts: &[PathBuf],
    ) -> Result<usize, RunError> {
        let own: Vec<&Path> = plans.above.into_iter().chain([root]).collect();
        let layers = self.layers("l", &own, plans.rootfs, plans.identity)?;
        let path = fs::canonicalize(plans.scratch).map_err(RunError::io("find", plans.scratch))?;
        let map = layer_map(plans.identity).map_or(Idmap::None, |map| Idmap::Required(map.clone(), map));
        self.source(&path, "up", false, false, map).map_err(RunError::io("use", &path))?;
        let binds = self.host_parts("h", parts, plans.identity)?;
        self.binds.extend(binds);
        for (name, major, minor) in NODES {
            self.sources.push(Source {
                path: format!("/dev/{name}"),
                at: format!("dev/{name}"),
                kind: Kind::Device { major, minor },
                read_only: false,
                recursive: false,
                idmap: Idmap::None,
            });
        }
        Ok(layers)
    }

    /// The layers of a root below this place of the stage, the topmost first: `top`, then the image's. Returns their number.
    pub(super) fn layers(
        &mut self,
        at: &str,
        top: &[&Path],
        rootfs: &Rootfs,
        identity: Identity,
    ) -> Result<usize, RunError> {
        let of_image = rootfs.layers.iter().rev().map(PathBuf::as_path);
        let layers: Vec<&Path> = top.iter().copied().chain(of_image).collect();
        for (index, layer) in layers.iter().enumerate() {
            let map = layer_map(identity).map_or(Idmap::None, |map| Idmap::Required(map.clone(), map));
            let path = fs::canonicalize(layer).map_err(RunError::io("find the layer", layer))?;
            self.source(&path, &format!("{at}/{index}"), true, false, map)
                .map_err(RunError::io("use the layer", layer))?;
        }
        Ok(layers.len())
    }

    /// Parts of the host below this place of the stage, and their binds.
    pub(super) fn host_parts(
        &mut self,
        at: &str,
        parts: &[PathBuf],
        identity: Identity,
    ) -> Result<Vec<Bind>, RunError> {
        let mut binds = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let at = format!("{at}/{index}");
            let map = layer_map(identity).map_or(Idmap::None, |map| Idmap::Wished(map.clone(), map));
            let path = fs::canonicalize(part).map_err(RunError::io("find", part))?;
            self.source(&path, &at, true, false, map).map_err(RunError::io("use", part))?;
            binds.push(Bind { from: at, to: part.display().to_string(), directory: part.is_dir() });
        }
        Ok(binds)
    }

    /// A mount of the job file for these users, each at its own place below `at`. Returns whether it is a directory.
    pub(super) fn mount(
        &mut self,
        mount: &Mount,
        at: &str,
        plans: &Plans<'_>,
        users: &[(u32, u32)],
    ) -> Result<bool, RunError> {
        let path = plans.base.join(&mount.host);
        let wrong = |source: io::Error| RunError::Mount { path: path.clone(), source };
        let canonical = fs::canonicalize(&path).map_err(wrong)?;
        let metadata = fs::metadata(&canonical).map_err(wrong)?;
        let owner = (metadata.uid(), metadata.gid());
        for user in users {
            let map = wished(plans.identity, owner, *user);
            self.source(&canonical, &place_for(at, *user), mount.read_only, true, map).map_err(wrong)?;
        }
        Ok(metadata.is_dir())
    }

    /// The caches: their layers as sources, the overlays to be made of them, their places inside.
    pub(super) fn of_the_caches(&mut self, plans: &Plans<'_>) -> Result<Vec<SharedOverlay>, RunError> {
        let mut overlays = Vec::with_capacity(plans.caches.len());
        for (index, cache) in plans.caches.iter().enumerate() {
            let mut lower = Vec::new();
            for (number, layer) in cache.layers().enumerate() {
                let map =
                    layer_map(plans.identity).map_or(Idmap::None, |map| Idmap::Required(map.clone(), map));
                let at = format!("kl/{index}/{number}");
                self.source(layer, &at, true, false, map).map_err(RunError::io("use the cache", layer))?;
                lower.push(at);
            }
            let at = format!("k/{index}");
            self.topmost.push(Bind { from: at.clone(), to: cache.to.clone(), directory: true });
            let in_workspace = cache.to.starts_with(&format!("{WORKSPACE}/"));
            let linked = |layer: &PathBuf| layer::leads_through_link(layer, &cache.to);
            if !in_workspace && !plans.rootfs.layers.iter().any(linked) {
                self.points.push((cache.to.clone(), true));
            }
            overlays.push(SharedOverlay { at, lower, upper: format!("up/{}", cache.name) });
        }
        // One within another lies over it.
        self.topmost.sort_by_key(|bind| bind.to.len());
        Ok(overlays)
    }

    /// The home of runners inside; and the device of which sandboxes inside make their interfaces, where this machine lets
    /// everybody open it. Returns whether it does.
    pub(super) fn of_sandboxes_inside(&mut self) -> bool {
        self.points.push((NESTED_HOME.to_owned(), true));
        let is_device =
            |found: &fs::Metadata| found.file_type().is_char_device() && found.mode() & 0o006 == 0o006;
        let found = fs::metadata(TUN_INSIDE).is_ok_and(|found| is_device(&found));
        if found {
            let kind = Kind::Device { major: 10, minor: 200 };
            self.sources.push(Source {
                path: TUN_INSIDE.into(),
                at: TUN.into(),
                kind,
                read_only: false,
                recursive: false,
                idmap: Idmap::None,
            });
        }
        found
    }

    pub(super) fn of_the_secrets(&mut self, plans: &Plans<'_>, users: &[StepUser]) -> Vec<SecretFile> {
        let secrets = secret_files::of(plans, users);
        let of_steps = plans.job.steps.iter().any(|step| !step.secrets.is_empty());
        self.points.extend((of_steps && !secrets.is_empty()).then(|| (SECRETS.to_owned(), true)));
        self.with_secrets = secrets.iter().map(|secret| secret.directory.clone()).collect();
        secrets
    }

    /// The steps' scripts, if there are any.
    pub(super) fn of_the_scripts(&mut self, plans: &Plans<'_>) -> Vec<Script> {
        let scripts = command::scripts(plans.job);
        if !scripts.is_empty() {
            self.binds.push(Bind { from: "scripts".into(), to: SCRIPTS.into(), directory: true });
        }
        scripts
    }

    /// The workspace, once per user. Returns the indices of these sources.
    pub(super) fn of_the_workspace(
        &mut self,
        plans: &Plans<'_>,
        users: &[StepUser],
    ) -> Result<Vec<usize>, RunError> {
        let workspace = plans.workspace;
        let mut indices = Vec::new();
        for user in distinct(users) {
            indices.push(self.sources.len());
            let map = wished(plans.identity, workspace.owner, user);
            self.source(&workspace.path, &place_for("ws", user), false, true, map)
                .map_err(RunError::io("use the workspace", &workspace.path))?;
        }
        self.per_user.push(Bind { from: "ws".into(), to: WORKSPACE.into(), directory: true });
        self.hand_back.push(WORKSPACE.into());
        Ok(indices)
    }

    pub(super) fn source(
        &mut self,
        path: &Path,
        at: &str,
        read_only: bool,
        recursive: bool,
        idmap: Idmap,
    ) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if metadata.file_type().is_block_device() || metadata.file_type().is_char_device() {
            return Err(io::Error::other("it is a device"));
        }
        let (device, inode) = (metadata.dev(), metadata.ino());
        let kind =
            if metadata.is_dir() { Kind::Directory { device, inode } } else { Kind::File { device, inode } };
        let path = path.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?.to_owned();
        self.sources.push(Source { path, at: at.to_owned(), kind, read_only, recursive, idmap });
        Ok(())
    }
}

/// The map that makes `owner`'s files the step user's own, if the filesystem can.
fn wished(identity: Identity, owner: (u32, u32), user: (u32, u32)) -> Idmap {
    let maps = workspace_map(identity, owner.0, user.0).zip(workspace_map(identity, owner.1, user.1));
    maps.map_or(Idmap::None, |(uids, gids)| Idmap::Wished(uids, gids))
}

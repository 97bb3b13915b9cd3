//! A job's caches: looked up before its room is made, kept when nothing of its steps lives any more.

use std::os::fd::OwnedFd;
use std::path::Path;

use jobs::bounds::CACHE_KEY_BYTES_MAX;
use jobs::expression::Template;
use jobs::units::format_size;
use jobs::{CacheMode, CachePlan};
use sha2::{Digest as _, Sha256};

use super::steps::hasher;
use super::{Job, JobEnd};
use crate::event::What;
use crate::outcome::{CacheRecord, Outcome};
use crate::run::caches::{self, Caches, Restored, Saved, Use};
use crate::run::command::WORKSPACE;
use crate::run::errands::Servants;
use crate::run::error::RunError;
use crate::run::room::{self, Room, make_directory};
use crate::run::users::{Accounts, StepUser};
use crate::run::values::Values;
use crate::run::workspace::{self, Workspace};
use crate::sandbox::ids::Identity;

impl Job<'_> {
    /// Looks up what the caches begin with, and makes the places where steps write to them.
    ///
    /// # Errors
    /// A key that comes to nothing sensible; those of the file system in the job's own directory.
    pub(super) fn restore_caches(
        &self,
        workspace: &Workspace,
        scratch: &Path,
        end: &mut JobEnd,
    ) -> Result<Vec<Use>, RunError> {
        if self.plan.caches.is_empty() {
            return Ok(Vec::new());
        }
        let asked = self.plan.steps.first().and_then(|step| step.user.as_ref());
        let accounts = Accounts::read(&self.rootfs.layers);
        let user = room::user_of(asked, self.rootfs.config.user.as_deref(), &accounts)?;
        let values = Values::new(self.contexts.clone(), self.plan).with_files(hasher(workspace));
        let flavour = caches::flavour(self.lease.identity, (user.uid, user.gid));
        let opened = Caches::open(self.home);
        let mut uses = Vec::with_capacity(self.plan.caches.len());
        for (index, plan) in self.plan.caches.iter().enumerate() {
            let key = match &plan.key {
                Some(key) => settled(&values, plan, key)?,
                None => self.own_key(plan),
            };
            let others = plan.restore_keys.iter().map(|key| settled(&values, plan, key));
            let others = others.collect::<Result<Vec<_>, _>>()?;
            let mut one = Use::empty(plan, index, inside(&plan.path, &user), key, &flavour);
            match opened.as_ref().map(|caches| one.restore(caches, &others)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.warn_of(plan, &error.to_string()),
                Err(error) => self.warn_of(plan, &error.to_string()),
            }
            self.place(scratch, &one, &user)?;
            end.caches.push(self.say_restored(&one));
            uses.push(one);
        }
        Ok(uses)
    }

    /// The upper directory of a cache, where its steps may write.
    fn place(&self, scratch: &Path, one: &Use, user: &StepUser) -> Result<(), RunError> {
        let place = scratch.join(&one.name);
        for path in [place.clone(), place.join("u"), place.join("w")] {
            make_directory(&path).map_err(RunError::io("create", &path))?;
        }
        if let Identity::Root { .. } = self.lease.identity {
            // Plain ids: the stage maps them.
            let upper = place.join("u");
            std::os::unix::fs::chown(&upper, Some(user.uid), Some(user.gid))
                .map_err(RunError::io("own", &upper))?;
        }
        Ok(())
    }

    /// The key of a cache that has none: the project's, the job's, the path's.
    fn own_key(&self, plan: &CachePlan) -> String {
        let root = workspace::root_of(self.base);
        let root = std::fs::canonicalize(&root).unwrap_or(root);
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let place: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let path: String = plan.path.chars().take(128).collect();
        format!("{name}-{place}/{}/{path}", self.plan.id)
    }

    fn say_restored(&self, one: &Use) -> CacheRecord {
        let (restored, entry) = one.restored();
        let result = match restored {
            Restored::Hit => "hit",
            Restored::Partial => "partial",
            Restored::Miss => "miss",
        };
        let record = CacheRecord {
            path: one.path.clone(),
            key: one.key.clone(),
            result: result.to_owned(),
            restored_from: entry.map(|entry| entry.key.clone()),
            restored_bytes: entry.map_or(0, caches::Entry::bytes),
            saved: false,
            saved_bytes: None,
        };
        self.feed.send(Some(&self.plan.id), None, What::CacheRestore { cache: record.clone() });
        record
    }

    /// Keeps the caches that have changed. One that cannot be kept is no failure of the job.
    pub(super) async fn save_caches(&self, uses: &[Use], scratch: &Path, user: (u32, u32), end: &mut JobEnd) {
        let success = end.outcome == Outcome::Success && end.error.is_none();
        let servants = Servants { zygote: self.zygote, identity: self.lease.identity, user };
        for (one, plan) in uses.iter().zip(&self.plan.caches) {
            if one.mode == CacheMode::Ro || !(success || one.always) {
                continue;
            }
            let saved = match Caches::open(self.home) {
                Ok(caches) => one.save(&caches, scratch, &servants).await,
                Err(error) => Err(error),
            };
            let Some(record) = end.caches.iter_mut().find(|record| record.path == one.path) else { continue };
            match saved {
                Ok(Saved::Unchanged) => {}
                Ok(Saved::Kept(bytes)) => {
                    (record.saved, record.saved_bytes) = (true, Some(bytes));
                    let cache = record.clone();
                    self.feed.send(Some(&self.plan.id), None, What::CacheSave { cache });
                }
                Ok(Saved::TooLarge(bytes)) => {
                    let most = plan.bytes_max.map(format_size).unwrap_or_default();
                    let text = format!("it has {}, more than its `max-size` of {most}", format_size(bytes));
                    self.warn_of(plan, &text);
                }
                Err(error) => self.warn_of(plan, &error.to_string()),
            }
        }
    }

    /// The caches that lie in the workspace, as the steps see them: the workspace itself has empty directories there.
    pub(super) fn caches_in_workspace(&self, room: &Room) -> Vec<(String, OwnedFd)> {
        match room.caches_below(WORKSPACE) {
            Ok(found) => found,
            Err(error) => {
                self.warn(None, format!("caches are not searched for artifacts: {error}"), None);
                Vec::new()
            }
        }
    }

    fn warn_of(&self, plan: &CachePlan, text: &str) {
        self.warn(None, format!("cache {}: {text}", plan.path), None);
    }
}

/// Where steps find a cache.
fn inside(path: &str, user: &StepUser) -> String {
    match path.strip_prefix("~/") {
        Some(below) => format!("{}/{below}", user.home.trim_end_matches('/')),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("{WORKSPACE}/{path}"),
    }
}

fn settled(values: &Values, plan: &CachePlan, key: &Template) -> Result<String, RunError> {
    let wrong = |why: String| RunError::CacheKey { path: plan.path.clone(), why };
    let text = values.text("key", key).map_err(|unsettled| wrong(unsettled.to_string()))?;
    if text.is_empty() || text.len() > CACHE_KEY_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(wrong(format!(
            "`{}` comes to {} bytes; expected 1 to {CACHE_KEY_BYTES_MAX}, none a control character",
            key.source(),
            text.len()
        )));
    }
    Ok(text)
}

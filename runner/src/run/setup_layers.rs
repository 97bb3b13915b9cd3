//! The layers that `setup` makes: what is known of one by its key, where it lies, who uses it, when it goes.
//!
//! `$RUNNER_HOME/setup/KEY.TIME/` has the upper directory of the step that made it (`step/u`), `setup.json`, and a lock that
//! everybody who uses it holds. It appears under its name when it is whole and on the disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jobs::{Command, SetupPlan};
use rustix::fs::{FlockOperation, flock, syncfs};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::errands::Servants;
use super::record::{Durability, RecordError, make_directory, read_json, write_file_atomic};
use crate::sandbox::ids::Identity;
use crate::sandbox::zygote::Zygote;

/// The version of what a key is made of: another one makes other keys.
const KEY_VERSION: u32 = 1;

/// What the names of layers begin with that only their own run can use; no key does.
pub const PASSING: &str = "once-";

/// What a layer is made of besides its own command; whatever a command can see has to be here.
#[derive(Debug, Clone)]
pub struct Ingredients<'i> {
    /// The layer below: the image's digest, or the key of the entry before.
    pub parent: &'i str,
    /// What `reads` names, as `hashFiles` digests it.
    pub reads: &'i str,
    /// Whose ids its files have.
    pub identity: Identity,
}

/// Returns the name of what a command makes of these.
pub fn key(setup: &SetupPlan, ingredients: &Ingredients<'_>) -> String {
    let identity = match ingredients.identity {
        Identity::Root { .. } => "root".to_owned(),
        Identity::Subids { count } => format!("subids {count} {:?}", setup.step.user),
        Identity::Single => format!("single {:?}", setup.step.user),
    };
    let command = match &setup.step.command {
        Command::Script { text, argv, .. } => json!({"script": text, "argv": argv}),
        other => json!(other),
    };
    let all = json!({
        "v": KEY_VERSION,
        "parent": ingredients.parent,
        "command": command,
        "env": setup.step.env.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
        "user": setup.step.user,
        "seccomp": setup.step.seccomp,
        "privileges": setup.step.privileges,
        "network": setup.network,
        "arch": std::env::consts::ARCH,
        "identity": identity,
        "reads": ingredients.reads,
    });
    images::Digest::of(all.to_string().as_bytes()).hex()
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The run that made it.
    pub run: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whose ids its files have.
    pub identity: Identity,
    /// The user that made it, inside.
    pub user: (u32, u32),
}

/// A layer in use.
#[derive(Debug)]
pub struct Layer {
    /// Its directory.
    directory: PathBuf,
    /// What is known of it.
    pub made: Made,
    _lock: File,
}

impl Layer {
    /// The directory that goes below a step's own.
    pub fn path(&self) -> PathBuf {
        self.directory.join("step/u")
    }

    /// How old it is.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(UNIX_EPOCH + Duration::from_millis(self.made.at_ms)).unwrap_or_default()
    }
}

/// All layers below a home directory.
#[derive(Debug, Clone)]
pub struct SetupLayers {
    directory: PathBuf,
}

impl SetupLayers {
    /// Those of this home.
    pub fn of(home: &Path) -> Self {
        Self { directory: home.join("setup") }
    }

    /// Takes the right to make a layer; `None`: somebody else is making it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn try_make(&self, key: &str) -> Result<Option<File>, RecordError> {
        make_directory(&self.directory)?;
        // Locks stay: unlinking one would let two hold "it".
        let locks = self.directory.join("locks");
        make_directory(&locks)?;
        let path = locks.join(&key[..2.min(key.len())]);
        let failed = |source| RecordError::io("lock", &path, source);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Returns the newest layer of this key that is not too old, for use.
    pub fn find(&self, key: &str, max_age: Option<Duration>) -> Option<Layer> {
        let prefix = format!("{key}.");
        let mut names: Vec<String> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect();
        names.sort_unstable();
        let layer = names.iter().rev().find_map(|name| self.open(name))?;
        let fresh = max_age.is_none_or(|max| layer.age(SystemTime::now()) <= max);
        fresh.then_some(layer)
    }

    fn open(&self, name: &str) -> Option<Layer> {
        let directory = self.directory.join(name);
        let lock = File::options().write(true).open(directory.join("lock")).ok()?;
        // Not while it is being removed.
        flock(&lock, FlockOperation::NonBlockingLockShared).ok()?;
        let made: Made = read_json(&directory.join("setup.json")).ok()?;
        // Used now: what nobody uses goes first.
        let _ = lock.set_modified(SystemTime::now());
        directory.join("step/u").is_dir().then_some(Layer { directory, made, _lock: lock })
    }

    /// Takes the private directory of a step, which is gone, as the layer of a key.
    ///
    /// # Errors
    /// Those of the file system; ENOSPC among them.
    pub fn publish(&self, key: &str, step: &Path, made: Made) -> Result<Layer, RecordError> {
        let name = format!("{key}.{:015}", made.at_ms);
        let (hidden, place) = (self.directory.join(format!(".{name}")), self.directory.join(&name));
        if place.exists() {
            // Two of one moment: the first one is as good.
            return self
                .open(&name)
                .ok_or_else(|| RecordError::io("use", &place, io::Error::other("it is damaged")));
        }
        make_directory(&self.directory)?;
        make_directory(&hidden)?;
        if let Err(error) = Self::fill(key, step, &made, &hidden, &place) {
            // A full disk: the step's files go back to where the job's clean-up finds them.
            let _never_left = fs::rename(hidden.join("step"), step);
            let _best_effort = fs::remove_dir_all(&hidden);
            return Err(error);
        }
        self.open(&name).ok_or_else(|| RecordError::io("use", &place, io::Error::other("it is gone again")))
    }

    /// Makes a layer whole in its hidden directory, then visible.
    fn fill(key: &str, step: &Path, made: &Made, hidden: &Path, place: &Path) -> Result<(), RecordError> {
        let failed =
            |action: &'static str| move |source: io::Error| RecordError::io(action, hidden_path(key), source);
        // First whose it is: what a killed run leaves is found by that.
        File::create(hidden.join("lock")).map_err(failed("keep"))?;
        let bytes =
            serde_json::to_vec_pretty(made).map_err(|error| failed("keep")(io::Error::other(error)))?;
        write_file_atomic(&hidden.join("setup.json"), &bytes, Durability::Cheap)?;
        fs::rename(step, hidden.join("step")).map_err(failed("keep"))?;
        let handle = File::open(hidden).map_err(failed("keep"))?;
        // The step's own file system flushed nothing: it was made to be thrown away.
        syncfs(&handle).map_err(|errno| failed("flush")(errno.into()))?;
        fs::rename(hidden, place).map_err(failed("publish"))
    }

    /// Removes layers that nobody has used for so long. Returns how many went; what could not is said to `failed`.
    pub fn prune(
        &self,
        unused: Duration,
        now: SystemTime,
        remove: &mut dyn FnMut(&Made, &Path, &str) -> Result<(), String>,
        failed: &mut Vec<String>,
    ) -> u64 {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut count = 0;
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with('.') {
                continue;
            }
            let directory = self.directory.join(&name);
            let Ok(made) = read_json::<Made>(&directory.join("setup.json")) else { continue };
            let Ok(lock) = File::options().write(true).open(directory.join("lock")) else { continue };
            let used = lock.metadata().and_then(|found| found.modified()).unwrap_or(now);
            let old = now.duration_since(used).unwrap_or_default() >= unused;
            if !old || flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            match remove(&made, &self.directory, &name) {
                Ok(()) => count += 1,
                Err(error) => failed.push(error),
            }
        }
        count
    }

    /// Removes what only a run that is dead had use for: layers of images without a digest, and what it was about to
    /// publish. Returns how many went, and what could not go, in words.
    pub fn discard(&self, run_id: &str, zygote: &Zygote) -> (u64, Vec<String>) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let (mut count, mut left) = (0, Vec::new());
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if !name.starts_with('.') && !name.starts_with(PASSING) {
                continue;
            }
            match read_json::<Made>(&self.directory.join(&name).join("setup.json")) {
                Ok(made) if made.run == run_id => match remove(&made, &self.directory, &name, zygote) {
                    Ok(()) => count += 1,
                    Err(error) => left.push(error),
                },
                _ => {}
            }
        }
        (count, left)
    }

    /// Removes a layer that is of no use to others.
    ///
    /// # Errors
    /// What could not be removed, in words.
    pub fn remove(&self, layer: Layer, zygote: &Zygote) -> Result<(), String> {
        let Layer { directory, made, .. } = layer;
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        remove(&made, &self.directory, name, zygote)
    }
}

/// Removes a layer's directory, with the rights that its files need.
///
/// # Errors
/// What could not be removed, in words.
pub fn remove(made: &Made, directory: &Path, name: &str, zygote: &Zygote) -> Result<(), String> {
    Servants { zygote, identity: made.identity, user: made.user }.remove_below(directory, name)
}

fn hidden_path(key: &str) -> PathBuf {
    PathBuf::from(format!("setup layer {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_cannot_be_kept_goes_back_to_its_job() {
        let home = tempfile::tempdir().unwrap();
        let step = home.path().join("step");
        fs::create_dir_all(step.join("u/of-the-step")).unwrap();
        let made = Made { run: "run".to_owned(), at_ms: 1, identity: Identity::Single, user: (0, 0) };
        let layers = SetupLayers::of(home.path());
        fs::create_dir_all(home.path().join("setup/.key.000000000000001/setup.json/in-the-way")).unwrap();
        layers.publish("key", &step, made.clone()).unwrap_err();
        assert!(step.join("u/of-the-step").is_dir());
        assert_eq!(fs::read_dir(home.path().join("setup")).unwrap().count(), 0);
        assert_eq!(layers.publish("key", &step, made.clone()).unwrap().made, made);
    }
}

//! One request for an image, with everything it needs; what all kinds of sources have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::error::ImageError;
use crate::digest::Digest;
use crate::fetch::FetchSettings;
use crate::progress::{Progress, PullEvent};
use crate::rootfs::{ImageConfig, Rootfs, RootfsKind};
use crate::store::{COLLECT_LOCK, Lease, Locking, Store};
use crate::unpack::Unpacker;

/// Pauses between looks at a lock that another run holds: short first, then calm.
const LOCK_PAUSE_FIRST: Duration = Duration::from_millis(5);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(200);

/// One request for an image. Clones are for the layers that are pulled at once.
#[derive(Clone)]
pub(super) struct Pull {
    /// Safe to print.
    pub(super) name: String,
    pub(super) sha256: Option<Digest>,
    pub(super) store: Store,
    pub(super) unpacker: Arc<dyn Unpacker>,
    pub(super) settings: Arc<FetchSettings>,
    pub(super) progress: Arc<dyn Progress>,
}

impl Pull {
    /// Returns the image with this digest if all its trees are here, in the unpacker's flavour.
    pub(super) fn known(&self, digest: Digest) -> Result<Option<Rootfs>, ImageError> {
        let Some(record) = self.store.image(digest)? else { return Ok(None) };
        let (mut layers, mut leases) = (Vec::new(), Vec::new());
        for tree in record.trees(self.unpacker.flavour()) {
            let Some((path, lease)) = self.store.layer(&tree)? else { return Ok(None) };
            layers.push(path);
            leases.push(lease);
        }
        self.store.touch(digest);
        let mut rootfs = plain(self.name.clone(), layers, RootfsKind::Layers);
        (rootfs.digest, rootfs.config, rootfs.platform) = (Some(digest), record.config, record.platform);
        rootfs._leases = leases;
        Ok(Some(rootfs))
    }

    /// Returns what is known under a key of the store's references.
    pub(super) fn known_reference(&self, key: &str) -> Result<Option<Rootfs>, ImageError> {
        match self.store.reference(key)? {
            Some(record) => self.known(record.digest),
            None => Ok(None),
        }
    }

    /// Compares with the digest that was asked for, if one was.
    pub(super) fn check(&self, found: Digest) -> Result<(), ImageError> {
        match self.sha256 {
            Some(expected) if expected != found => {
                Err(ImageError::Digest { name: self.name.clone(), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock of a pull; waits for another run that has it. Its death frees the lock.
    pub(super) async fn lock(&self, key: &str) -> Result<[Lease; 2], ImageError> {
        let lock = format!("pull-{key}");
        let started = Instant::now();
        let mut pause = LOCK_PAUSE_FIRST;
        let mut told = false;
        loop {
            if let Locking::Held(lease) = self.store.try_lock(&lock)? {
                // What a pull brings belongs to no image until the end: nobody may collect meanwhile.
                return Ok([self.store.lease(COLLECT_LOCK)?, lease]);
            }
            if !told {
                self.progress.event(PullEvent::Waiting { name: self.name.clone() });
                told = true;
            }
            let waited = started.elapsed();
            if waited > self.settings.lock_wait_max {
                return Err(ImageError::Busy { name: self.name.clone(), waited });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOCK_PAUSE_MAX);
        }
    }

    pub(super) fn cached(&self, rootfs: Rootfs, started: Instant) -> Rootfs {
        self.progress.event(finished(0, started, true));
        rootfs
    }

    /// A thread of ours ended as it must not.
    pub(super) fn internal(&self, what: impl ToString) -> ImageError {
        ImageError::Internal { name: self.name.clone(), what: what.to_string() }
    }
}

pub(super) fn finished(bytes: u64, started: Instant, cached: bool) -> PullEvent {
    PullEvent::Finished { bytes, seconds: started.elapsed().as_secs_f64(), cached }
}

pub(super) fn plain(reference: String, layers: Vec<PathBuf>, kind: RootfsKind) -> Rootfs {
    let config = ImageConfig::default();
    Rootfs {
        reference,
        digest: None,
        platform: None,
        layers,
        config,
        kind,
        notes: Vec::new(),
        _leases: Vec::new(),
    }
}

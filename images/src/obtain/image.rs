//! An image with layers, wherever its parts are: from a plan to trees in the store.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use super::error::ImageError;
use super::layer::{LayerProgress, Totals};
use super::merge::merge;
use super::pull::{Pull, finished};
use super::seam::{self, Seam};
use crate::digest::Digest;
use crate::fetch::Session;
use crate::layout::Layout;
use crate::manifest::{ConfigFile, Descriptor, ManifestError, Platform};
use crate::progress::PullEvent;
use crate::rootfs::Rootfs;
use crate::store::{Form, ImageRecord, Lease, layer_name};
use crate::unpack::{UnpackLimits, UnpackOptions};

/// Where the parts of an image are.
#[derive(Clone)]
pub(super) enum Parts {
    Registry(Session),
    Layout(Arc<Layout>),
}

/// By what a layer is found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blob {
    /// Its digest and its bytes, both verified.
    Digest(Digest, u64),
    /// Its name in an archive; the diff id alone proves it.
    Member(String),
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub(super) struct LayerPlan {
    pub(super) blob: Blob,
    pub(super) diff_id: Digest,
}

/// An image as its documents describe it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// What it is known by in the store.
    pub(super) digest: Digest,
    pub(super) config: ConfigFile,
    /// The lowest first.
    pub(super) layers: Vec<LayerPlan>,
    /// Manifest and configuration, as they came.
    pub(super) documents: Vec<Vec<u8>>,
}

impl LayerPlan {
    pub(super) fn of(layers: &[Descriptor], config: &ConfigFile) -> Vec<LayerPlan> {
        let pairs = layers.iter().zip(&config.diff_ids);
        pairs
            .map(|(layer, id)| LayerPlan { blob: Blob::Digest(layer.digest, layer.size), diff_id: *id })
            .collect()
    }
}

/// Whether an image runs here, as far as its configuration says.
pub(super) fn check_platform(config: &ConfigFile) -> Result<(), ManifestError> {
    let (wanted, has) = (Platform::host(), &config.platform);
    if has.architecture.is_empty() || wanted.rank(has).is_some() {
        return Ok(());
    }
    Err(ManifestError::Platform { wanted: wanted.to_string(), available: has.to_string() })
}

impl Pull {
    /// Brings all layers into the store and remembers the image.
    pub(super) async fn image(&self, parts: &Parts, plan: Plan) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let _lock = self.lock(&plan.digest.hex()).await?;
        if let Some(rootfs) = self.known(plan.digest)? {
            return Ok(self.cached(rootfs, started));
        }
        let totals = self.totals(&plan)?;
        let (leases, must_merge) = self.layers(parts, &plan, &totals).await?;
        let seam = match must_merge {
            true => Seam::Impossible,
            false => self.seam(&plan).await?,
        };
        let form = match seam {
            Seam::Needless => Form::Stacked,
            Seam::Tar(tar) => {
                self.sew(&plan, tar).await?;
                Form::Seamed
            }
            Seam::Impossible => {
                merge(self, parts, &plan, &totals).await?;
                Form::Merged
            }
        };
        let rootfs = self.remember(plan, form).await?;
        drop(leases);
        self.progress.event(finished(totals.transferred(), started, false));
        Ok(rootfs)
    }

    /// Tells how much is to be transferred.
    fn totals(&self, plan: &Plan) -> Result<Arc<Totals>, ImageError> {
        let mut total = Some(0);
        for (index, layer) in plan.layers.iter().enumerate() {
            let twice = plan.layers[..index].iter().any(|other| other.diff_id == layer.diff_id);
            if twice || self.store.has_layer(&self.layer_name(layer)) {
                continue;
            }
            let bytes = match layer.blob {
                Blob::Digest(_, bytes) => Some(bytes),
                Blob::Member(_) => None,
            };
            total = total.zip(bytes).map(|(total, bytes): (u64, u64)| total.saturating_add(bytes));
        }
        self.progress.event(PullEvent::Started { name: self.name.clone(), total });
        Ok(Arc::new(Totals::new(self.progress.clone(), plan.layers.len())))
    }

    fn layers_at_once(&self, plan: &Plan) -> usize {
        self.settings.layers_at_once.min(plan.layers.len()).max(1)
    }

    /// How single layers of an image are unpacked: those that are pulled at once share the memory of one.
    pub(super) fn layer_options(&self, plan: &Plan) -> UnpackOptions {
        let mut limits = UnpackLimits::default();
        limits.buffer_bytes_max /= self.layers_at_once(plan) as u64;
        UnpackOptions {
            ownership: self.unpacker.ownership(),
            stack: true,
            limits,
            ..UnpackOptions::default()
        }
    }

    pub(super) fn layer_name(&self, layer: &LayerPlan) -> String {
        layer_name(layer.diff_id, &format!("{}-layer", self.unpacker.flavour()))
    }

    /// Pulls what is missing, a few layers at once. Returns leases on all, and whether one of them needs those below.
    async fn layers(
        &self,
        parts: &Parts,
        plan: &Plan,
        totals: &Arc<Totals>,
    ) -> Result<(Vec<Lease>, bool), ImageError> {
        let at_once = Arc::new(Semaphore::new(self.layers_at_once(plan)));
        let mut pulls = JoinSet::new();
        for (index, layer) in plan.layers.iter().enumerate() {
            if plan.layers[..index].iter().any(|other| other.diff_id == layer.diff_id) {
                continue;
            }
            let (pull, parts, layer, at_once) = (self.clone(), parts.clone(), layer.clone(), at_once.clone());
            let progress = LayerProgress::new(totals.clone(), index + 1);
            let options = self.layer_options(plan);
            pulls.spawn(async move {
                // The semaphore lives as long as this; it is never closed.
                let _permit = at_once.acquire().await;
                pull.layer(&parts, &layer, options, Arc::new(progress)).await
            });
        }
        let (mut leases, mut must_merge) = (Vec::new(), false);
        while let Some(done) = pulls.join_next().await {
            let (lease, foreign) = match done {
                Ok(done) => done?,
                Err(error) => return Err(self.internal(error)),
            };
            leases.push(lease);
            must_merge |= foreign;
        }
        Ok((leases, must_merge))
    }

    /// Finds out what the stack of single layers gets wrong.
    async fn seam(&self, plan: &Plan) -> Result<Seam, ImageError> {
        let names: Vec<String> = plan.layers.iter().map(|layer| self.layer_name(layer)).collect();
        let store = self.store.clone();
        let found = spawn_blocking(move || seam::find(&store, &names)).await;
        Ok(found.map_err(|error| self.internal(error))??)
    }

    async fn remember(&self, plan: Plan, form: Form) -> Result<Rootfs, ImageError> {
        let digest = plan.digest;
        let sizes = plan.layers.iter().map(|layer| match layer.blob {
            Blob::Digest(_, bytes) => bytes,
            Blob::Member(_) => 0,
        });
        let mut record = ImageRecord::image(digest, plan.config, form, sizes.sum());
        let (store, documents) = (self.store.clone(), plan.documents);
        let kept = spawn_blocking(move || {
            record.documents = store.put_blobs(&documents)?;
            store.put_image(&record)
        });
        kept.await.map_err(|error| self.internal(error))??;
        let rootfs =
            self.known(digest)?.ok_or_else(|| self.internal("what was published is not in the store"))?;
        Ok(Rootfs { notes: self.notes(&rootfs), ..rootfs })
    }

    /// Collects what the unpacking left out.
    fn notes(&self, rootfs: &Rootfs) -> Vec<String> {
        let records = rootfs.layers.iter().filter_map(|tree| self.store.layer_record(tree));
        let notes = records.flat_map(|record| record.summary.notes);
        notes.take(crate::unpack::NOTES_MAX).collect()
    }
}

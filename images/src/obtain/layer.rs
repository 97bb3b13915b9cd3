//! One layer: downloaded, digested, decompressed, unpacked and published in one pass, once for all images and runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::spawn_blocking;

use super::error::ImageError;
use super::image::{Blob, LayerPlan, Parts};
use super::pull::Pull;
use super::transfer::{Source, Target, Transfer};
use crate::layout::{Layout, Part};
use crate::progress::{Progress, PullEvent};
use crate::store::{LAYER_RECORD, LayerRecord, Lease, Work};
use crate::unpack::UnpackOptions;

/// What all layers of an image have transferred so far.
pub(super) struct Totals {
    progress: Arc<dyn Progress>,
    layers: usize,
    done: AtomicU64,
}

impl Totals {
    pub(super) fn new(progress: Arc<dyn Progress>, layers: usize) -> Totals {
        Totals { progress, layers, done: AtomicU64::new(0) }
    }

    pub(super) fn transferred(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Tells the progress of one layer as its own, and as a part of the whole.
pub(super) struct LayerProgress {
    totals: Arc<Totals>,
    number: usize,
    done: AtomicU64,
    total: AtomicU64,
}

impl LayerProgress {
    pub(super) fn new(totals: Arc<Totals>, number: usize) -> LayerProgress {
        LayerProgress { totals, number, done: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    fn tell(&self, done: u64, finished: bool) {
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        let (number, layers) = (self.number, self.totals.layers);
        self.totals.progress.event(PullEvent::Layer { number, layers, done, total, finished });
    }
}

impl Progress for LayerProgress {
    fn event(&self, event: PullEvent) {
        match event {
            PullEvent::Started { total, .. } => {
                self.total.store(total.unwrap_or(0), Ordering::Relaxed);
                let lost = self.done.swap(0, Ordering::Relaxed);
                self.totals.done.fetch_sub(lost, Ordering::Relaxed);
                self.tell(0, false);
            }
            PullEvent::Bytes { done } => {
                let more = done.saturating_sub(self.done.swap(done, Ordering::Relaxed));
                let all = self.totals.done.fetch_add(more, Ordering::Relaxed) + more;
                self.tell(done, false);
                self.totals.progress.event(PullEvent::Bytes { done: all });
            }
            PullEvent::Finished { .. } => self.tell(self.done.load(Ordering::Relaxed), true),
            PullEvent::Layer { .. } | PullEvent::Waiting { .. } | PullEvent::Retrying { .. } => {
                self.totals.progress.event(event);
            }
        }
    }
}

impl Pull {
    /// Makes sure that the layer is in the store. Says also whether it has links to files of the layers below.
    pub(super) async fn layer(
        &self,
        parts: &Parts,
        layer: &LayerPlan,
        options: UnpackOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<(Lease, bool), ImageError> {
        let name = self.layer_name(layer);
        if let Some(done) = self.layer_here(&name)? {
            return Ok(done);
        }
        let _lock = self.lock(&name).await?;
        if let Some(done) = self.layer_here(&name)? {
            return Ok(done);
        }
        let source = self.source(parts, layer, &*progress).await?;
        let transfer = self.blob_transfer(layer, options, &progress);
        let done = transfer.run(source, || Ok(Target::Store(Work::new(&self.store)?))).await?;
        self.check_layer(layer, done.bytes, done.summary.tar_sha256)?;
        let Target::Store(work) = done.target else {
            return Err(self.internal("a layer outside of the store"));
        };
        let (unpacker, record, published) =
            (self.unpacker.clone(), LayerRecord::new(done.summary), name.clone());
        let publishing = spawn_blocking(move || {
            work.write_json(LAYER_RECORD, &record)?;
            work.publish(&published, &*unpacker)
        });
        publishing.await.map_err(|error| self.internal(error))??;
        progress.event(PullEvent::Finished { bytes: done.bytes, seconds: 0.0, cached: false });
        self.layer_here(&name)?.ok_or_else(|| self.internal("a published layer is not in the store"))
    }

    fn layer_here(&self, name: &str) -> Result<Option<(Lease, bool)>, ImageError> {
        let Some((tree, lease)) = self.store.layer(name)? else { return Ok(None) };
        let record = self.store.layer_record(&tree);
        Ok(Some((lease, record.is_some_and(|record| record.summary.foreign_links > 0))))
    }

    pub(super) fn blob_transfer<'a>(
        &'a self,
        layer: &LayerPlan,
        options: UnpackOptions,
        progress: &'a Arc<dyn Progress>,
    ) -> Transfer<'a> {
        let sha256 = match layer.blob {
            Blob::Digest(digest, _) => Some(digest),
            Blob::Member(_) => None,
        };
        // A member of an archive is known by its diff id alone.
        let named_by_digest = false;
        Transfer { name: &self.name, sha256, named_by_digest, unpacker: &self.unpacker, options, progress }
    }

    /// Opens a layer's bytes.
    pub(super) async fn source<'a>(
        &'a self,
        parts: &Parts,
        layer: &LayerPlan,
        progress: &'a dyn Progress,
    ) -> Result<Source<'a>, ImageError> {
        let part = |layout: &Layout, name: &str| {
            let Part { file, start, bytes } = layout.part(name)?;
            Ok(Source::Part { file, path: layout.path().join(name), start, bytes })
        };
        match (parts, &layer.blob) {
            (Parts::Registry(session), Blob::Digest(digest, bytes)) => {
                Ok(Source::Download(session.blob(*digest, *bytes, &self.settings, progress).await?))
            }
            (Parts::Layout(layout), Blob::Digest(digest, _)) => part(layout, &Layout::blob_name(*digest)),
            (Parts::Layout(layout), Blob::Member(name)) => part(layout, name),
            (Parts::Registry(_), Blob::Member(_)) => {
                Err(self.internal("a registry knows no names of members"))
            }
        }
    }

    /// Holds what came against what manifest and configuration promised.
    pub(super) fn check_layer(
        &self,
        layer: &LayerPlan,
        bytes: u64,
        diff_id: crate::Digest,
    ) -> Result<(), ImageError> {
        if let Blob::Digest(_, expected) = layer.blob
            && expected != bytes
        {
            return Err(ImageError::LayerSize { name: self.name.clone(), expected, found: bytes });
        }
        if layer.diff_id != diff_id {
            return Err(ImageError::DiffId {
                name: self.name.clone(),
                expected: layer.diff_id,
                found: diff_id,
            });
        }
        Ok(())
    }
}

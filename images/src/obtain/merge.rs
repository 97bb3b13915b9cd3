//! Images that overlayfs cannot stack: all layers go into one tree, one after the other.
//!
//! Rare: a layer with a hard link to a file of another, or one that goes through a symbolic link of another. It costs a
//! second transfer and shares nothing with other images, and is always right.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::error::ImageError;
use super::image::{Parts, Plan};
use super::layer::{LayerProgress, Totals};
use super::pull::Pull;
use super::transfer::Target;
use crate::manifest::chain_id;
use crate::progress::Progress;
use crate::store::{LAYER_RECORD, LayerRecord, ROOTFS, TREE_RECORD, Work, layer_name};
use crate::unpack::{NOTES_MAX, UnpackOptions, UnpackSummary};

/// Makes the merged tree of an image, unless another run was faster.
pub(super) async fn merge(
    pull: &Pull,
    parts: &Parts,
    plan: &Plan,
    totals: &Arc<Totals>,
) -> Result<(), ImageError> {
    let chain = chain_id(&plan.config.diff_ids);
    let name = layer_name(chain, &format!("{}-merged", pull.unpacker.flavour()));
    let _lock = pull.lock(&name).await?;
    if pull.store.has_layer(&name) {
        return Ok(());
    }
    let work = Work::new(&pull.store)?;
    let merged = fill(pull, parts, plan, totals, &work).await;
    let unpacker = pull.unpacker.clone();
    let publishing = spawn_blocking(move || match merged {
        Ok(summary) => {
            work.write_json(LAYER_RECORD, &LayerRecord::new(summary))?;
            Ok(work.publish(&name, &*unpacker)?)
        }
        Err(error) => {
            work.discard(&*unpacker);
            Err(error)
        }
    });
    publishing.await.map_err(|error| pull.internal(error))?
}

async fn fill(
    pull: &Pull,
    parts: &Parts,
    plan: &Plan,
    totals: &Arc<Totals>,
    work: &Work,
) -> Result<UnpackSummary, ImageError> {
    let rootfs = work.make_rootfs()?;
    let options =
        UnpackOptions { ownership: pull.unpacker.ownership(), layer: true, ..UnpackOptions::default() };
    let path = work.path().join(ROOTFS);
    let clone = || {
        rootfs.try_clone().map_err(|source| ImageError::Path { action: "open", path: path.clone(), source })
    };
    let mut whole: Option<UnpackSummary> = None;
    for (index, layer) in plan.layers.iter().enumerate() {
        let progress: Arc<dyn Progress> = Arc::new(LayerProgress::new(totals.clone(), index + 1));
        let source = pull.source(parts, layer, &*progress).await?;
        let transfer = pull.blob_transfer(layer, options.clone(), &progress);
        // A pass that is begun anew over its own beginning ends the same: each entry replaces itself.
        let target = || Ok(Target::Directory { path: path.clone(), handle: clone()?, keep: true });
        let done = transfer.run(source, target).await?;
        pull.check_layer(layer, done.bytes, done.summary.tar_sha256)?;
        whole = Some(add(whole, done.summary));
    }
    let mut whole = whole.ok_or_else(|| pull.internal("an image without layers needs no merging"))?;
    let (unpacker, tree, out) = (pull.unpacker.clone(), clone()?, work.create_file(TREE_RECORD)?);
    let listing = spawn_blocking(move || unpacker.record(tree, out)).await;
    whole.tree_sha256 = Some(listing.map_err(|error| pull.internal(error))??);
    whole.tar_sha256 = chain_id(&plan.config.diff_ids);
    Ok(whole)
}

/// Sums up two layers.
fn add(whole: Option<UnpackSummary>, more: UnpackSummary) -> UnpackSummary {
    let Some(mut whole) = whole else { return more };
    whole.entries += more.entries;
    whole.bytes += more.bytes;
    whole.notes_dropped += more.notes_dropped;
    for note in more.notes {
        if whole.notes.len() < NOTES_MAX { whole.notes.push(note) } else { whole.notes_dropped += 1 }
    }
    whole
}

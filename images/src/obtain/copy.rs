//! The trees of an image for other ids: what is here for one user is not transferred again for another.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::task::spawn_blocking;

use super::error::ImageError;
use crate::digest::Digest;
use crate::store::{COLLECT_LOCK, LAYER_RECORD, LayerRecord, Locking, Store, StoreError, TREE_RECORD, Work};
use crate::tree::{Lines, compare};
use crate::unpack::{UnpackOptions, Unpacker};

/// Makes the trees that `to` makes of an image out of those that `from` made of it.
///
/// Each is packed by the one, unpacked by the other, and held against the list of what it was. Returns false if they are not
/// here, cannot be copied as they are, or are being made by another run: whoever obtains the image then does the rest.
///
/// # Errors
/// The store cannot be read or written.
pub async fn copy_image(
    digest: Digest,
    store: &Store,
    from: Arc<dyn Unpacker>,
    to: Arc<dyn Unpacker>,
) -> Result<bool, ImageError> {
    let store = store.clone();
    let copying = spawn_blocking(move || copy_all(digest, &store, &*from, &*to)).await;
    let name = || digest.to_string();
    Ok(copying.map_err(|error| ImageError::Internal { name: name(), what: error.to_string() })??)
}

fn copy_all(
    digest: Digest,
    store: &Store,
    from: &dyn Unpacker,
    to: &dyn Unpacker,
) -> Result<bool, StoreError> {
    let Some(record) = store.image(digest)? else { return Ok(false) };
    let _not_collected = store.lease(COLLECT_LOCK)?;
    for (source, target) in record.trees(from.flavour()).iter().zip(record.trees(to.flavour())) {
        if !copy(store, (source, from), (&target, to))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy(
    store: &Store,
    (source, from): (&str, &dyn Unpacker),
    (target, to): (&str, &dyn Unpacker),
) -> Result<bool, StoreError> {
    let Locking::Held(_lock) = store.try_lock(&format!("pull-{target}"))? else { return Ok(false) };
    if store.has_layer(target) {
        return Ok(true);
    }
    let Some((tree, _lease)) = store.layer(source)? else { return Ok(false) };
    let Some(record) = store.layer_record(&tree) else { return Ok(false) };
    let work = Work::new(store)?;
    let rootfs = work.make_rootfs()?;
    let failed = |error: io::Error| StoreError::new("copy", &tree, error);
    let opened = File::open(&tree).map_err(failed)?;
    let options = UnpackOptions {
        ownership: to.ownership(),
        // Only the trees of single layers have marks of overlayfs in them.
        stack: source.ends_with("-layer"),
        ..UnpackOptions::default()
    };
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let again = rootfs.try_clone().map_err(failed)?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| from.pack(opened.into(), File::from(writer)));
        let unpacked = to.unpack(Box::new(File::from(reader)), again, None, &options);
        (packing.join(), unpacked)
    });
    let whole = matches!(packed, Ok(Ok(()))) && unpacked.is_ok();
    if !whole || !is_same(store, source, rootfs.into(), to).map_err(failed)? {
        work.discard(to);
        return Ok(false);
    }
    // What the list says of directories without an entry of their own is not in the tree itself.
    let mut list = File::open(store.layer_file(source, TREE_RECORD)).map_err(failed)?;
    io::copy(&mut list, &mut work.create_file(TREE_RECORD)?).map_err(failed)?;
    work.write_json(LAYER_RECORD, &LayerRecord::new(record.summary))?;
    work.publish(target, to)?;
    Ok(true)
}

/// Whether a copy consists of what the list of its original says.
fn is_same(store: &Store, source: &str, copy: File, to: &dyn Unpacker) -> io::Result<bool> {
    let mut list = File::from(memfd_create("list", MemfdFlags::CLOEXEC)?);
    if to.record(copy.into(), list.try_clone()?).is_err() {
        return Ok(false);
    }
    io::Seek::rewind(&mut list)?;
    let was = File::open(store.layer_file(source, TREE_RECORD))?;
    Ok(compare(Lines::new(was)?, Lines::new(list)?, true, 1)?.list.is_empty())
}

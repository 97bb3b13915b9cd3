//! `runner image list`, `inspect`, `remove`, `prune`, `verify`, `export`: what is in the store.

use std::path::Path;
use std::sync::Arc;

use images::{ExportForm, LifeError, PruneLimits, Store, StoredImage, Unpacker, export};

use super::{ids, meant, open};
use crate::cli::ImageSettings;
use crate::commands::{Class, CommandError};
use crate::report::{Sink, image as show};
use crate::run::error::RunError;
use crate::run::image::unpacker;
use crate::sandbox::zygote::Zygote;

pub(super) fn list(settings: &ImageSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let images = open(&settings.home)?.images().map_err(RunError::from)?;
    show::list(out, &images, settings.json);
    Ok(0)
}

pub(super) fn inspect(settings: &ImageSettings, image: &str, out: &mut Sink) -> Result<u8, CommandError> {
    let store = open(&settings.home)?;
    let image = find(&store, image)?;
    let manifest = store.manifest(&image).map_err(RunError::from)?;
    show::inspect(out, &image, manifest.as_ref(), settings.json);
    Ok(0)
}

pub(super) fn remove(
    zygote: &Arc<Zygote>,
    settings: &ImageSettings,
    images: &[String],
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let (store, unpacker) = with_rights(zygote, settings)?;
    for text in images {
        let mut tries = meant(text).into_iter();
        let removed = loop {
            let Some(name) = tries.next() else { return Err(LifeError::Unknown(text.clone()).into()) };
            match store.remove_image(&name, &*unpacker) {
                Err(LifeError::Unknown(_)) => {}
                result => break result?,
            }
        };
        show::removed(out, text, &removed);
    }
    Ok(0)
}

pub(super) fn prune(
    zygote: &Arc<Zygote>,
    settings: &ImageSettings,
    limits: &PruneLimits,
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let (store, unpacker) = with_rights(zygote, settings)?;
    let pruned = store.prune(limits, &*unpacker)?;
    show::pruned(out, &pruned, limits.dry_run, settings.json);
    match pruned.failed.first() {
        None => Ok(0),
        Some(first) => {
            Err(CommandError::new(Class::Host, format!("not everything could be removed: {first}")))
        }
    }
}

pub(super) fn verify(
    zygote: &Arc<Zygote>,
    settings: &ImageSettings,
    images: &[String],
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let (store, unpacker) = with_rights(zygote, settings)?;
    let mut trees = Vec::new();
    for image in images {
        trees.extend(find(&store, image)?.trees(&*unpacker));
    }
    let only = (!images.is_empty()).then_some(&trees[..]);
    let found = store.verify(only, &*unpacker).map_err(RunError::from)?;
    show::verified(out, &found, settings.json);
    let faulty = found.iter().any(|one| !one.faults.is_empty());
    Ok(if faulty { Class::Mismatch.exit_code() } else { 0 })
}

pub(super) fn export_image(
    zygote: &Arc<Zygote>,
    settings: &ImageSettings,
    image: &str,
    (target, form): (&Path, ExportForm),
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let (store, unpacker) = with_rights(zygote, settings)?;
    let image = find(&store, image)?;
    export(&store, &image, form, target, &*unpacker)?;
    show::exported(out, &image, target);
    Ok(0)
}

fn find(store: &Store, text: &str) -> Result<StoredImage, CommandError> {
    for name in meant(text) {
        match store.find_image(&name) {
            Err(LifeError::Unknown(_)) => {}
            result => return Ok(result?),
        }
    }
    Err(LifeError::Unknown(text.to_owned()).into())
}

/// The store, and who may read and remove what is in it.
fn with_rights(
    zygote: &Arc<Zygote>,
    settings: &ImageSettings,
) -> Result<(Store, Arc<dyn Unpacker>), CommandError> {
    let store = open(&settings.home)?;
    let lease = ids(zygote, &settings.home)?;
    Ok((store, unpacker(zygote, lease.identity, (0, 0))))
}

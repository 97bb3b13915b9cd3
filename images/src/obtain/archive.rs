//! Images in files: OCI layouts and `docker save` archives become plans.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::spawn_blocking;

use super::error::ImageError;
use super::image::{Blob, LayerPlan, Parts, Plan, check_platform};
use super::pull::Pull;
use crate::digest::Digest;
use crate::layout::{Layout, LayoutError, docker_image};
use crate::manifest::{
    CONFIG_BYTES_MAX, Descriptor, Document, MANIFEST_BYTES_MAX, ManifestError, Platform, choose, read,
    read_config,
};
use crate::rootfs::Rootfs;
use crate::store::{RefRecord, Seen};

/// As for registries.
const INDEX_DEPTH_MAX: u32 = 3;

impl Pull {
    /// Obtains an image of an OCI layout. Its index is read each time; a known manifest needs nothing more.
    pub(super) async fn layout(&self, path: &Path, tag: Option<&str>) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let (path, tag, pinned) = (path.to_owned(), tag.map(str::to_owned), self.sha256);
        let reading = spawn_blocking(move || {
            let layout = Layout::open(&path)?;
            let plan = layout_plan(&layout, tag.as_deref(), pinned)?;
            Ok::<_, ImageError>((layout, plan))
        });
        let (layout, plan) = reading.await.map_err(|error| self.internal(error))??;
        if let Some(rootfs) = self.known(plan.digest)? {
            return Ok(self.cached(rootfs, started));
        }
        self.named(&Parts::Layout(Arc::new(layout)), plan).await
    }

    /// Obtains the image and gives it the name of the file, for lists.
    async fn named(&self, parts: &Parts, plan: Plan) -> Result<Rootfs, ImageError> {
        let digest = plan.digest;
        let rootfs = self.image(parts, plan).await?;
        let key = Digest::of(format!("file {}", self.name).as_bytes()).hex();
        self.store.put_reference(&key, &RefRecord::new(digest, Seen::Named, &self.name))?;
        Ok(rootfs)
    }

    /// Obtains the image of a `docker save` archive.
    pub(super) async fn archive(&self, path: &Path) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let path = path.to_owned();
        let reading = spawn_blocking(move || {
            let layout = Layout::open(&path)?;
            let image = docker_image(&layout)?;
            Ok::<_, LayoutError>((layout, image))
        });
        let (layout, image) = reading.await.map_err(|error| self.internal(error))??;
        check_platform(&image.config)
            .map_err(|source| ImageError::Manifest { name: self.name.clone(), source })?;
        if let Some(rootfs) = self.known(image.id)? {
            return Ok(self.cached(rootfs, started));
        }
        let pairs = image.layers.into_iter().zip(image.config.diff_ids.clone());
        let layers = pairs.map(|(name, diff_id)| LayerPlan { blob: Blob::Member(name), diff_id }).collect();
        let plan =
            Plan { digest: image.id, config: image.config, layers, documents: vec![image.config_bytes] };
        self.named(&Parts::Layout(Arc::new(layout)), plan).await
    }
}

/// Follows a layout's index to the manifest for this machine.
fn layout_plan(layout: &Layout, tag: Option<&str>, pinned: Option<Digest>) -> Result<Plan, ImageError> {
    let failed = |source: ManifestError| {
        ImageError::Layout(LayoutError::Manifest { path: layout.path().to_owned(), source })
    };
    let mut list = layout.index(tag)?;
    match pinned {
        Some(digest) => list.retain(|entry| entry.digest == digest),
        None => {
            if let Some(error) = tag.is_none().then(|| layout.ambiguous(&list)).flatten() {
                return Err(error.into());
            }
        }
    }
    if let (Some(digest), true) = (pinned, list.is_empty()) {
        let found = format!("no image with the digest {digest}");
        return Err(LayoutError::Which { path: layout.path().to_owned(), found }.into());
    }
    for _ in 0..=INDEX_DEPTH_MAX {
        let entry = choose(&list, &Platform::host()).map_err(failed)?.clone();
        let bytes = document(layout, &entry, MANIFEST_BYTES_MAX)?;
        let said = Some(entry.media_type.as_str()).filter(|kind| !kind.is_empty());
        match read(&bytes, said).map_err(failed)? {
            Document::Index(inner) => list = inner,
            Document::Manifest(manifest) => {
                let config_bytes = document(layout, &manifest.config, CONFIG_BYTES_MAX)?;
                let config = read_config(&config_bytes, &manifest).map_err(failed)?;
                check_platform(&config).map_err(failed)?;
                let layers = LayerPlan::of(&manifest.layers, &config);
                return Ok(Plan {
                    digest: entry.digest,
                    config,
                    layers,
                    documents: vec![bytes, config_bytes],
                });
            }
        }
    }
    let why = format!("indexes lead to indexes, more than {INDEX_DEPTH_MAX} times");
    Err(failed(ManifestError::Malformed { what: "the index", why }))
}

/// Reads a blob that is a document, and verifies it.
fn document(layout: &Layout, entry: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, ImageError> {
    let name = Layout::blob_name(entry.digest);
    let bytes = layout.read(&name, bytes_max)?;
    let found = Digest::of(&bytes);
    if found != entry.digest {
        let name = format!("{} of {}", name, layout.path().display());
        return Err(ImageError::Digest { name, expected: entry.digest, found });
    }
    Ok(bytes)
}

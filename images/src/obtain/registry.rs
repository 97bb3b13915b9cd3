//! Images in registries: from a name to a plan, by the network only where the store does not know.

use std::time::Instant;

use super::error::ImageError;
use super::image::{LayerPlan, Parts, Plan, check_platform};
use super::pull::Pull;
use crate::digest::Digest;
use crate::fetch::{FetchError, Refresh, Session};
use crate::manifest::{
    CONFIG_BYTES_MAX, Descriptor, Document, MANIFEST_BYTES_MAX, Manifest, ManifestError, Platform, choose,
    read, read_config,
};
use crate::reference::RegistryName;
use crate::rootfs::Rootfs;
use crate::store::{RefRecord, Seen};

/// An index may list an index, and so on; real ones have one level, some two.
const INDEX_DEPTH_MAX: u32 = 3;

/// A manifest for this machine, found.
struct Found {
    digest: Digest,
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl Pull {
    /// Obtains an image of a registry. A tag is resolved at most once; a digest needs no registry once it is here.
    pub(super) async fn registry(&self, name: &RegistryName) -> Result<Rootfs, ImageError> {
        let started = Instant::now();
        let pinned = self.pinned(name)?;
        let platform = Platform::host();
        let key = match pinned {
            Some(digest) => Digest::of(format!("digest {digest} {platform}").as_bytes()),
            None => Digest::of(format!("registry {name} {platform}").as_bytes()),
        };
        let key = key.hex();
        if let Some(rootfs) = self.resolved(&key)? {
            return Ok(self.cached(rootfs, started));
        }
        if self.settings.refresh != Refresh::Always || pinned.is_some() || self.settings.offline {
            if let Some(rootfs) = self.known_reference(&key)? {
                rootfs.digest.inspect(|digest| self.settings.resolved.put(&key, *digest));
                return Ok(self.cached(rootfs, started));
            }
            if self.settings.offline {
                return Err(ImageError::Offline { name: self.name.clone() });
            }
        }
        let before = self.store.reference(&key)?;
        let _lock = self.lock(&key).await?;
        // What another run has found while we waited for it is as fresh as what we would find.
        let now = self.store.reference(&key)?;
        if let Some(record) = now.filter(|now| Some(now) != before.as_ref())
            && let Some(rootfs) = self.known(record.digest)?
        {
            return Ok(self.cached(rootfs, started));
        }
        if let Some(rootfs) = self.resolved(&key)? {
            return Ok(self.cached(rootfs, started));
        }
        let mut session = Session::new(name, &self.settings)?;
        let which = match (pinned, name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let found = self.find_manifest(&mut session, name, &which, pinned, &platform).await?;
        let digest = found.digest;
        let rootfs = match self.known(digest)? {
            Some(rootfs) => self.cached(rootfs, started),
            None => {
                let plan = self.plan(&mut session, found).await?;
                self.image(&Parts::Registry(session), plan).await?
            }
        };
        self.settings.resolved.put(&key, digest);
        self.store.put_reference(&key, &RefRecord::new(digest, Seen::Named, &self.name))?;
        Ok(rootfs)
    }

    /// Returns what the name has meant before in this run: a tag that moves meanwhile does not move its jobs.
    fn resolved(&self, key: &str) -> Result<Option<Rootfs>, ImageError> {
        self.settings.resolved.get(key).map_or(Ok(None), |digest| self.known(digest))
    }

    /// Returns the digest that the user asked for, in the name or beside it.
    fn pinned(&self, name: &RegistryName) -> Result<Option<Digest>, ImageError> {
        match (name.digest(), self.sha256) {
            (Some(named), Some(given)) if named != given => {
                Err(ImageError::TwoDigests { name: self.name.clone(), given })
            }
            (named, given) => Ok(named.or(given)),
        }
    }

    async fn find_manifest(
        &self,
        session: &mut Session,
        name: &RegistryName,
        which: &str,
        pinned: Option<Digest>,
        platform: &Platform,
    ) -> Result<Found, ImageError> {
        let failed = |source: ManifestError| ImageError::Manifest { name: self.name.clone(), source };
        let (mut which, mut expected, mut entry): (String, Option<Digest>, Option<Descriptor>) =
            (which.to_owned(), pinned, None);
        for _ in 0..=INDEX_DEPTH_MAX {
            let fetched = session.manifest(&which, &self.settings, &*self.progress).await;
            let fetched = fetched.map_err(|error| self.refused(name, error))?;
            let digest = Digest::of(&fetched.bytes);
            if let Some(expected) = expected.filter(|expected| *expected != digest) {
                return Err(ImageError::Digest { name: self.name.clone(), expected, found: digest });
            }
            // Some registries say nothing or something general; what the index said must hold as well.
            let said = fetched.content_type.as_deref();
            let listed =
                entry.as_ref().map(|entry| entry.media_type.as_str()).filter(|kind| !kind.is_empty());
            read(&fetched.bytes, listed).map_err(failed)?;
            match read(&fetched.bytes, said).map_err(failed)? {
                Document::Manifest(manifest) => return Ok(Found { digest, manifest, bytes: fetched.bytes }),
                Document::Index(list) => {
                    let chosen = choose(&list, platform).map_err(failed)?.clone();
                    if chosen.size > MANIFEST_BYTES_MAX {
                        return Err(failed(ManifestError::Malformed {
                            what: "the manifest",
                            why: format!(
                                "it has {} bytes, more than the limit of {MANIFEST_BYTES_MAX}",
                                chosen.size
                            ),
                        }));
                    }
                    (which, expected) = (chosen.digest.to_string(), Some(chosen.digest));
                    entry = Some(chosen);
                }
            }
        }
        let why = format!("indexes lead to indexes, more than {INDEX_DEPTH_MAX} times");
        Err(failed(ManifestError::Malformed { what: "the index", why }))
    }

    /// Words what a registry's refusal means for the image.
    fn refused(&self, name: &RegistryName, error: FetchError) -> ImageError {
        let registry = name.registry().to_owned();
        match error.status() {
            Some(404) => ImageError::NotThere { name: self.name.clone(), registry },
            Some(401 | 403) => ImageError::Denied { name: self.name.clone(), registry },
            _ => ImageError::Fetch(error),
        }
    }

    async fn plan(&self, session: &mut Session, found: Found) -> Result<Plan, ImageError> {
        let failed = |source: ManifestError| ImageError::Manifest { name: self.name.clone(), source };
        let wanted = &found.manifest.config;
        let max = wanted.size.min(CONFIG_BYTES_MAX);
        let bytes = session.small_blob(wanted.digest, max, &self.settings, &*self.progress).await?;
        let digest = Digest::of(&bytes);
        if digest != wanted.digest {
            return Err(ImageError::Digest {
                name: self.name.clone(),
                expected: wanted.digest,
                found: digest,
            });
        }
        let config = read_config(&bytes, &found.manifest).map_err(failed)?;
        check_platform(&config).map_err(failed)?;
        let layers = LayerPlan::of(&found.manifest.layers, &config);
        Ok(Plan { digest: found.digest, config, layers, documents: vec![found.bytes, bytes] })
    }
}

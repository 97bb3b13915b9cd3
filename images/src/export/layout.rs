//! An OCI layout of an image: its layers packed anew, its own configuration with their digests.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};

use super::{ExportError, Tree, pack, write_file};
use crate::digest::{Digest, Hasher};
use crate::manifest::Platform;
use crate::store::{Store, StoredImage};
use crate::unpack::Unpacker;

/// Bytes between the packer and the compressor.
const BUFFER_BYTES: usize = 128 << 10;

/// One packed layer.
struct Layer {
    digest: Digest,
    bytes: u64,
    diff_id: Digest,
}

/// Fills `directory`, which may exist and is then empty.
pub(super) fn write(
    store: &Store,
    image: &StoredImage,
    trees: &[Tree],
    directory: &Path,
    unpacker: &dyn Unpacker,
) -> Result<(), ExportError> {
    let blobs = directory.join("blobs/sha256");
    let failed = |source| ExportError::Path { action: "create", path: blobs.clone(), source };
    fs::create_dir_all(&blobs).map_err(failed)?;
    let mut layers = Vec::new();
    for (name, tree, _) in trees {
        layers.push(layer(name, tree, &blobs, unpacker)?);
    }
    let blob = |value: &Value| {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let path = blobs.join(digest.hex());
        // Two layers, or two documents, may be the same.
        if !path.exists() {
            write_file(&path, &bytes)?;
        }
        Ok::<_, ExportError>((digest, bytes.len()))
    };
    let config = blob(&configuration(store, image, &layers)?)?;
    let entries: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer.digest, layer.bytes))
        .collect();
    let manifest = blob(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.0, config.1 as u64),
        "layers": entries,
    }))?;
    let mut entry = descriptor(MANIFEST, manifest.0, manifest.1 as u64);
    let name = image.names.iter().find_map(|name| tag_of(name));
    let (tag, repository) = name.unwrap_or(("latest".to_owned(), None));
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    write_file(&directory.join("index.json"), index.to_string().as_bytes())?;
    write_file(&directory.join("oci-layout"), b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    let paths: Vec<String> =
        layers.iter().map(|layer| format!("blobs/sha256/{}", layer.digest.hex())).collect();
    let tags: Vec<String> = repository.map(|repository| format!("{repository}:{tag}")).into_iter().collect();
    let docker =
        json!([{"Config": format!("blobs/sha256/{}", config.0.hex()), "RepoTags": tags, "Layers": paths}]);
    write_file(&directory.join("manifest.json"), docker.to_string().as_bytes())
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(kind: &str, digest: Digest, bytes: u64) -> Value {
    json!({"mediaType": kind, "digest": digest, "size": bytes})
}

/// Returns tag and repository of a name that has both; names of files and URLs have none.
fn tag_of(name: &str) -> Option<(String, Option<String>)> {
    let local = name.strip_prefix("local:");
    let name = local.unwrap_or(name);
    let parsed = crate::reference::RegistryName::parse(name).ok()?;
    let tag = parsed.tag()?.to_owned();
    let repository = if local.is_some() { name.rsplit_once(':')?.0.to_owned() } else { parsed.without_tag() };
    Some((tag, Some(repository)))
}

/// Packs one tree, compresses it and names it by its digest.
fn layer(name: &str, tree: &Path, blobs: &Path, unpacker: &dyn Unpacker) -> Result<Layer, ExportError> {
    let path = blobs.join(format!("{name}.part"));
    let failed = |source| ExportError::Path { action: "write", path: path.clone(), source };
    let file = File::create_new(&path).map_err(failed)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let (written, packed) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(name, tree, File::from(writer), unpacker));
        let written = compress(File::from(reader), &file);
        (written, packing.join())
    });
    packed.map_err(|_| failed(io::Error::other("a thread of ours panicked")))??;
    let layer = written.map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&path, blobs.join(layer.digest.hex())).map_err(failed)?;
    Ok(layer)
}

fn compress(mut reader: impl Read, file: &File) -> io::Result<Layer> {
    let mut inner = Hasher::default();
    // No name and no time in the header: the same tree gives the same bytes.
    let mut encoder =
        GzEncoder::new(Counted { file, hasher: Hasher::default(), bytes: 0 }, Compression::default());
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                inner.update(&buffer[..count]);
                encoder.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let outer = encoder.finish()?;
    Ok(Layer { digest: outer.hasher.finish(), bytes: outer.bytes, diff_id: inner.finish() })
}

/// Counts and digests what passes.
struct Counted<'f> {
    file: &'f File,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The image's own configuration with the new layers. Its history told of the old ones and goes.
fn configuration(store: &Store, image: &StoredImage, layers: &[Layer]) -> Result<Value, ExportError> {
    let mut config = json!({});
    for digest in &image.record.documents {
        let bytes = store.blob(*digest)?.unwrap_or_default();
        // Of manifest and configuration, only the latter has `rootfs`.
        if let Some(found) =
            serde_json::from_slice::<Value>(&bytes).ok().filter(|value| value["rootfs"].is_object())
        {
            config = found;
        }
    }
    let platform = image.platform.clone().unwrap_or_else(Platform::host);
    if let Some(map) = config.as_object_mut() {
        map.remove("history");
        map.entry("architecture").or_insert_with(|| json!(platform.architecture));
        map.entry("os").or_insert_with(|| json!(platform.os));
        map.entry("config").or_insert_with(|| json!({}));
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        map.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
    }
    Ok(config)
}

//! What must hold for any bytes whatever. The fuzz targets try bytes of their own, `images/tests/fuzzed.rs` the corpora.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use images::decode::{DecodeLimits, Decoder};
use images::manifest::{
    Descriptor, Document, INDEX_ENTRIES_MAX, LAYERS_MAX, choose, read, read_archive_config, read_archive_list,
};
use images::{Platform, Reference, UnpackLimits, UnpackOptions, remove_children, unpack};

/// Bounds that small inputs can reach, so that a fuzzer finds what lies beyond them.
fn limits() -> UnpackLimits {
    UnpackLimits {
        bytes_max: 16 << 20,
        entries_max: 500,
        depth_max: 64,
        name_bytes_max: 5000,
        pax_bytes_max: 8 << 10,
        sparse_segments_max: 64,
        xattr_bytes_max: 256,
        hard_links_max: 16,
        ratio_free_bytes: 4 << 20,
        directory_bytes_max: 64 << 10,
        zstd_window_log_max: 22,
        xz_memory_bytes_max: 8 << 20,
        ..UnpackLimits::default()
    }
}

/// A root to unpack into, and a file beside it that must stay as it is; one for all inputs of a process.
struct Places {
    root: PathBuf,
    secret: PathBuf,
}

const SECRET: &str = "untouched";

fn places() -> &'static Places {
    static PLACES: OnceLock<Places> = OnceLock::new();
    PLACES.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        // Removed by the next start of the machine: a fuzzer ends by being killed.
        let outer = tempfile::Builder::new().prefix("images-fuzz-").tempdir_in(directory).unwrap().keep();
        let places = Places { root: outer.join("root"), secret: outer.join("secret") };
        std::fs::create_dir(&places.root).unwrap();
        std::fs::write(&places.secret, SECRET).unwrap();
        places
    })
}

/// Removes what [`tar`] needed. A fuzzer has no end at which it could.
pub fn clean_up() {
    let _gone = std::fs::remove_dir_all(places().root.parent().unwrap());
}

/// Unpacks: as a root filesystem, and over that as a layer.
pub fn tar(bytes: &[u8]) {
    let places = places();
    let root = File::open(&places.root).unwrap();
    for layer in [false, true] {
        let options = UnpackOptions { limits: limits(), layer, ..UnpackOptions::default() };
        if let Ok(summary) = unpack(bytes, root.as_fd(), &options) {
            assert!(summary.bytes <= limits().bytes_max * 2 && summary.entries <= limits().entries_max);
        }
    }
    assert_eq!(std::fs::read_to_string(&places.secret).unwrap(), SECRET);
    let around = std::fs::read_dir(places.root.parent().unwrap()).unwrap().count();
    assert_eq!(around, 2, "something was made beside the root");
    remove_children(&root).unwrap();
    assert_eq!(std::fs::read_dir(&places.root).unwrap().count(), 0);
}

/// Decodes at two paces; both must come to the same.
pub fn compressed(bytes: &[u8]) {
    let [fast, slow] = [1 << 16, 61].map(|output_bytes| decode(bytes, output_bytes));
    match (&fast, &slow) {
        // Whoever stopped early did not see what comes behind.
        (Ok(Decoded { all: false, .. }), _) | (_, Ok(Decoded { all: false, .. })) => {}
        (Ok(fast), Ok(slow)) => assert!(fast.bytes == slow.bytes, "the pace changes what comes out"),
        (Err(_), Err(_)) => {}
        (fast, slow) => panic!("{:?} and {:?}", fast.as_ref().err(), slow.as_ref().err()),
    }
}

struct Decoded {
    bytes: Vec<u8>,
    /// To the end, which was verified.
    all: bool,
}

fn decode(source: &[u8], output_bytes: usize) -> Result<Decoded, String> {
    /// Enough for any frame; what expands further is none of this check's business.
    const DECODED_BYTES_MAX: usize = 1 << 20;
    let limits = DecodeLimits { zstd_window_log_max: 22, xz_memory_bytes_max: 8 << 20 };
    let mut decoder = Decoder::new(source, limits).map_err(|error| error.to_string())?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; output_bytes]);
    while bytes.len() < DECODED_BYTES_MAX {
        let count = decoder.fill(&mut buffer).map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&buffer[..count]);
        if count < buffer.len() {
            assert!(decoder.input_bytes() == source.len() as u64, "it ended before its source did");
            return Ok(Decoded { bytes, all: true });
        }
    }
    Ok(Decoded { bytes, all: false })
}

/// What a reference says of itself is read as the same reference.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let base = Path::new("/base");
    match Reference::parse(text, base) {
        Ok(reference) => {
            let shown = reference.to_string();
            if let Reference::Url(_) = reference {
                // Passwords and queries are not shown.
                return;
            }
            let again = Reference::parse(&shown, base);
            assert_eq!(again.map(|again| again.to_string()).ok(), Some(shown));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Reads as every document that it may be: what is read keeps the limits and is one thing only.
pub fn manifest(bytes: &[u8]) {
    match read(bytes, None) {
        Ok(Document::Index(list)) => {
            assert!(list.len() <= INDEX_ENTRIES_MAX);
            assert!(read(bytes, Some(MANIFEST)).is_err(), "an index is taken for a manifest");
            platforms().iter().for_each(|wanted| choice(&list, wanted));
        }
        Ok(Document::Manifest(manifest)) => {
            assert!(manifest.layers.len() <= LAYERS_MAX);
            assert!(read(bytes, Some(INDEX)).is_err(), "a manifest is taken for an index");
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                assert_eq!(blob.digest.to_string().parse(), Ok(blob.digest));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    configuration(bytes);
    match read_archive_list(bytes) {
        Ok(list) => {
            assert!(list.len() <= INDEX_ENTRIES_MAX);
            assert!(list.iter().all(|entry| entry.layers.len() <= LAYERS_MAX));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn platforms() -> Vec<Platform> {
    let platform = |architecture: &str, variant: Option<&str>| Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    };
    vec![
        Platform::host(),
        platform("amd64", None),
        platform("arm", Some("v6")),
        platform("arm64", Some("v8")),
    ]
}

/// What is chosen is in the list, is the same each time, and is there in whatever order the list has it.
fn choice(list: &[Descriptor], wanted: &Platform) {
    let backwards: Vec<Descriptor> = list.iter().rev().cloned().collect();
    match (choose(list, wanted), choose(list, wanted), choose(&backwards, wanted)) {
        (Ok(one), Ok(again), Ok(other)) => {
            assert!(std::ptr::eq(one, again) && list.contains(other));
            if let (Some(one), Some(other)) = (&one.platform, &other.platform) {
                assert_eq!((&one.os, &one.architecture), (&other.os, &other.architecture));
            }
        }
        (Err(one), Err(again), Err(other)) => {
            assert!(one == again && one == other && !one.to_string().is_empty());
        }
        answers => panic!("the same list, different answers: {answers:?}"),
    }
}

/// A configuration is read only for as many layers as it has, and what goes to a process can go there.
fn configuration(bytes: &[u8]) {
    for layers in [0, 1, 2, 3, LAYERS_MAX, LAYERS_MAX + 1] {
        match read_archive_config(bytes, layers) {
            Ok(file) => {
                assert!(file.diff_ids.len() == layers && layers <= LAYERS_MAX);
                let config = file.config;
                for (name, value) in &config.env {
                    assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
                }
                let texts = config.workdir.iter().chain(&config.user);
                texts.for_each(|text| assert!(!text.is_empty() && !text.contains('\0')));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

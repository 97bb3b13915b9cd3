//! Shared by the tests of pulling: a store, a runtime, a record of events.
#![expect(dead_code, reason = "every test file uses a part of this")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fixtures::tarballs::{Tarball, gzip};
use images::{
    Digest, FetchSettings, ImageError, InProcess, Progress, PullEvent, Reference, Resolved, Rootfs, Store,
    obtain,
};

/// Hears and remembers.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<PullEvent>>);

impl Progress for Heard {
    fn event(&self, event: PullEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// Small numbers, so that every bound is met within a second.
pub fn quick() -> FetchSettings {
    FetchSettings {
        backoff_first: Duration::from_millis(2),
        backoff_max: Duration::from_millis(20),
        retry_after_max: Duration::from_millis(50),
        headers_timeout: Duration::from_millis(600),
        stall_window: Duration::from_millis(600),
        proxy_from_environment: false,
        ..FetchSettings::default()
    }
}

pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub struct Puller {
    pub home: tempfile::TempDir,
    pub store: Store,
    pub settings: FetchSettings,
    pub heard: Arc<Heard>,
}

impl Puller {
    pub fn new() -> Puller {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        Puller { home, store, settings: quick(), heard: Arc::default() }
    }

    pub fn pull(&self, reference: &str, sha256: Option<Digest>) -> Result<Rootfs, ImageError> {
        let reference = Reference::parse(reference, self.home.path())?;
        let unpacker = Arc::new(InProcess::CALLER);
        // Each pull is a run of its own.
        let settings = FetchSettings { resolved: Resolved::default(), ..self.settings.clone() };
        run(obtain(&reference, sha256, &self.store, unpacker, &settings, self.heard.clone()))
    }

    /// Returns the last error's text and that nothing was published.
    pub fn refusal(&self, reference: &str, sha256: Option<Digest>) -> String {
        let error = self.pull(reference, sha256).map(|_| ()).unwrap_err();
        self.assert_nothing_visible();
        error.to_string()
    }

    pub fn assert_nothing_visible(&self) {
        for folder in ["layers/sha256", "images", "refs", "tmp"] {
            assert_eq!(entries(&self.store.path().join(folder)), Vec::<String>::new(), "{folder}");
        }
    }

    /// Whether the last pull was out of the store.
    pub fn was_cached(&self) -> bool {
        let heard = self.heard.0.lock().unwrap();
        matches!(heard.last(), Some(PullEvent::Finished { cached: true, bytes: 0, .. }))
    }

    pub fn retries(&self) -> usize {
        let heard = self.heard.0.lock().unwrap();
        heard.iter().filter(|event| matches!(event, PullEvent::Retrying { .. })).count()
    }
}

pub fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A gzip tarball of some 200 KB that does not compress, so that a transfer has a middle.
pub fn archive() -> Vec<u8> {
    let noise: Vec<u8> =
        (0..50_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ n << 7).to_le_bytes()).collect();
    gzip(&Tarball::new().directory("etc").file("etc/name", "value").file("noise", noise).finish())
}

pub fn assert_is_archive(rootfs: &Rootfs) {
    assert_eq!(rootfs.layers.len(), 1);
    let layer = &rootfs.layers[0];
    assert_eq!(std::fs::read_to_string(layer.join("etc/name")).unwrap(), "value");
    assert_eq!(layer.join("noise").metadata().unwrap().len(), 200_000);
    assert_eq!(rootfs.digest, Some(Digest::of(&archive())));
}

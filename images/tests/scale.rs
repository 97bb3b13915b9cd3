//! Large and hostile archives: what they cost grows as they do and no faster, and memory does not grow with them.
#![expect(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "support/memory.rs"]
mod memory;
mod support;

use std::io::Read;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use fixtures::tarballs::{Header, Tarball, zstd};
use images::{UnpackLimits, UnpackOptions, unpack, unpack_recorded};
use rustix::time::{ClockId, clock_gettime};
use support::Playground;

/// Processor time is the whole process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// How much larger the large archive is.
const TIMES: usize = 4;

/// What the large one may cost in units of the small one: in linear time 4, in square 16.
const RATIO_MAX: f64 = 8.0;

/// Turns of each; the cheapest counts, because nothing makes a turn cheaper than it is.
const TURNS: usize = 2;

/// The archives of a test: of `n` of whatever it is about.
struct Growing {
    n: usize,
    lower: fn(usize) -> Vec<u8>,
    archive: fn(usize) -> Vec<u8>,
    is_layer: bool,
}

fn nothing(_: usize) -> Vec<u8> {
    tar().finish()
}

fn tar() -> Tarball {
    Tarball::new()
}

fn many(n: usize, add: impl FnMut(Tarball, usize) -> Tarball) -> Vec<u8> {
    (0..n).fold(tar(), add).finish()
}

fn options() -> UnpackOptions {
    let limits = UnpackLimits { depth_max: 100_000, ..UnpackLimits::default() };
    UnpackOptions { limits, ..UnpackOptions::default() }
}

fn processor_seconds(work: impl FnOnce()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let before = now();
    work();
    now() - before
}

/// Unpacks and removes archives of two sizes in turn, and compares.
fn assert_linear(growing: &Growing) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let sizes = [growing.n, growing.n * TIMES];
    let archives = sizes.map(|n| ((growing.lower)(n), (growing.archive)(n)));
    let mut best = [[f64::INFINITY; 2]; 2];
    for _ in 0..TURNS {
        for ((lower, archive), best) in archives.iter().zip(&mut best) {
            let playground = Playground::new();
            playground.unpack_with(lower, &options()).unwrap();
            let options = UnpackOptions { layer: growing.is_layer, ..options() };
            let unpacked = processor_seconds(|| drop(playground.unpack_with(archive, &options).unwrap()));
            let parent = std::fs::File::open(playground.root().parent().unwrap()).unwrap();
            let removed = processor_seconds(|| images::remove_tree(&parent, "root").unwrap());
            assert!(!playground.root().exists());
            std::fs::create_dir(playground.root()).unwrap();
            for (best, new) in best.iter_mut().zip([unpacked, removed]) {
                *best = best.min(new);
            }
        }
    }
    for (what, of) in [("unpacking", 0), ("removal", 1)] {
        let (small, large) = (best[0][of], best[1][of]);
        // Below a millisecond the clock tells more of the machine than of us.
        assert!(large < 0.001 || large / small < RATIO_MAX, "{what} of {sizes:?}: {small} s, {large} s");
    }
}

/// One test for each kind of archive, so that a failure says which.
macro_rules! linear {
    ($($name:ident: $n:literal of $archive:expr $(, over $lower:expr)?;)+) => { $(
        #[test]
        fn $name() {
            let over: &[fn(usize) -> Vec<u8>] = &[$($lower)?];
            let lower = over.first().copied().unwrap_or(nothing);
            assert_linear(&Growing { n: $n, lower, archive: $archive, is_layer: !over.is_empty() });
        }
    )+ };
}

/// As many levels as fit into a name: 20,000 of them are 40 KB.
fn chain(levels: usize) -> Vec<u8> {
    tar().long_name("d/".repeat(levels - 1) + "x").file("x", "x").finish()
}

fn old_files(n: usize) -> Vec<u8> {
    many(n, |tar, number| tar.file(format!("d/{number}"), "x"))
}

linear! {
    files_of_one_directory: 10_000 of |n| many(n, |tar, number| tar.file(format!("{number}"), "x"));
    files_with_a_directory_each: 2_000 of |n| many(n, |tar, number| tar.file(format!("{number}/a"), "x"));
    links_to_one_file: 2_000 of |n| {
        (0..n).fold(tar().file("a", "x"), |tar, number| tar.hard_link(format!("{number}"), "a")).finish()
    };
    one_name_again_and_again: 2_000 of |n| many(n, |tar, _| tar.file("a", "x"));
    one_directory_again_and_again: 2_000 of |n| many(n, |tar, _| tar.directory("a"));
    a_chain_of_directories: 2_500 of chain;
    many_deep_names: 100 of |n| {
        let deep = "d/".repeat(500);
        many(n, |tar, number| tar.long_name(format!("{deep}{number}/x")).file("x", "x"))
    };
    deep_names_through_a_link: 100 of |n| {
        let start = tar().long_name("d/".repeat(500)).directory("d").symlink("l", "d/d");
        let deep = "l/".to_owned() + &"d/".repeat(490);
        (0..n).fold(start, |tar, number| tar.long_name(format!("{deep}{number}/x")).file("x", "x")).finish()
    };
    whiteouts_of_old_files: 2_000 of |n| many(n, |tar, number| tar.file(format!("d/.wh.{number}"), "")), over old_files;
    whiteouts_beside_new_files: 1_000 of |n| {
        many(n, |tar, number| tar.file(format!("d/n{number}"), "x").file(format!("d/.wh.{number}"), ""))
    }, over old_files;
    one_whiteout_again_and_again: 1_500 of |n| {
        many(n, |tar, number| tar.file(format!("d/n{number}"), "x").file(".wh.d", ""))
    }, over old_files;
    one_opaque_mark_again_and_again: 1_500 of |n| {
        many(n, |tar, number| tar.file(format!("d/n{number}"), "x").file("d/.wh..wh..opq", ""))
    }, over old_files;
    a_chain_below_a_whiteout: 2_500 of |_| tar().file("new", "x").file(".wh.d", "").finish(), over chain;
    a_chain_below_an_opaque_mark: 2_500 of |_| tar().file("new", "x").file("d/d/.wh..wh..opq", "").finish(), over chain;
}

#[test]
fn twenty_thousand_levels_are_all_there() {
    // One entry in 100 levels, its name the long way.
    let levels = 20_000;
    let archive = (100..=levels)
        .step_by(100)
        .fold(tar(), |tar, level| tar.pax(&[("path", "d/".repeat(level).as_bytes())]).directory("d"))
        .finish();
    let playground = Playground::new();
    let error = playground.unpack(&archive).unwrap_err().to_string();
    assert!(error.contains("directories in one path: more than the limit of 1024"), "{error}");
    drop(playground);
    let playground = Playground::new();
    playground.unpack_with(&archive, &options()).unwrap();
    let mut directory = std::fs::File::open(playground.root()).unwrap();
    for level in 0..levels {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let next = rustix::fs::openat(&directory, "d", flags, rustix::fs::Mode::empty());
        directory = std::fs::File::from(next.unwrap_or_else(|errno| panic!("level {level}: {errno}")));
    }
    let parent = std::fs::File::open(playground.root().parent().unwrap()).unwrap();
    images::remove_tree(&parent, "root").unwrap();
    assert!(!playground.root().exists());
    std::fs::create_dir(playground.root()).unwrap();
}

/// Headers made as they are read, so that the archive itself takes no memory.
struct Headers {
    make: fn(usize) -> Header,
    left: usize,
    block: std::io::Cursor<Vec<u8>>,
}

impl Headers {
    /// An archive of so many entries, the last one first.
    fn new(count: usize, make: fn(usize) -> Header) -> Headers {
        Headers { make, left: count, block: std::io::Cursor::default() }
    }
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.block.read(buffer)?;
        if count > 0 || self.left == 0 {
            return Ok(count);
        }
        self.left -= 1;
        let header = (self.make)(self.left);
        let end = if self.left == 0 { 1024 } else { 0 };
        self.block = std::io::Cursor::new([header.block().to_vec(), vec![0; end]].concat());
        self.block.read(buffer)
    }
}

/// What must be remembered to the end (directories, and what a layer made) is little: at the limit of 24 MiB, which is
/// 340,000 directories, all of it stays below 64 MiB.
#[test]
fn memory_hardly_grows_with_the_entries() {
    const DIRECTORIES: usize = 60_000;
    const BYTES_EACH_MAX: u64 = 150;
    const FIXED_BYTES_MAX: u64 = 12 << 20;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let playground = Playground::new();
    let root = std::fs::File::open(playground.root()).unwrap();
    let layer = UnpackOptions { layer: true, ..UnpackOptions::default() };
    let peak = memory::Peak::start();
    let many = Headers::new(DIRECTORIES, |number| Header::new(b'5', format!("{}/{number}", number / 1000)));
    assert_eq!(unpack(many, root.as_fd(), &layer).unwrap().entries, DIRECTORIES as u64);
    let (grown, max) = (peak.bytes(), FIXED_BYTES_MAX + BYTES_EACH_MAX * DIRECTORIES as u64);
    assert!(grown < max, "{grown} bytes, expected less than {max}");
}

/// A file much larger than memory may be passes through, compressed a thousandfold.
#[test]
fn memory_does_not_grow_with_a_file() {
    const MEMORY_BYTES_MAX: u64 = 16 << 20;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let archive = zstd(&tar().file("zeros", vec![0; 100 << 20]).finish());
    let playground = Playground::new();
    let peak = memory::Peak::start();
    playground.unpack(&archive).unwrap();
    assert!(peak.bytes() < MEMORY_BYTES_MAX, "{} bytes", peak.bytes());
}

/// Files with the list of them: as many as fill a directory's portion of names several times.
#[test]
fn memory_hardly_grows_with_listed_files() {
    const FILES: usize = 150_000;
    /// A sum of each; names come in portions.
    const BYTES_EACH_MAX: u64 = 40;
    const FIXED_BYTES_MAX: u64 = 28 << 20;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let playground = Playground::new();
    let root = std::fs::File::open(playground.root()).unwrap();
    let record = tempfile::tempfile().unwrap();
    let peak = memory::Peak::start();
    // Names of 100 bytes: 15 MB of them in one directory.
    let many = Headers::new(FILES, |number| Header::new(b'0', format!("{number:0>100}")));
    let options = UnpackOptions { stack: true, ..UnpackOptions::default() };
    let summary = unpack_recorded(many, root.as_fd(), Some(record), &options).unwrap();
    assert_eq!((summary.entries, summary.tree_sha256.is_some()), (FILES as u64, true));
    let (grown, max) = (peak.bytes(), FIXED_BYTES_MAX + BYTES_EACH_MAX * FILES as u64);
    assert!(grown < max, "{grown} bytes, expected less than {max}");
}

/// Whiteouts wait for the end, and share the memory of directories.
#[test]
fn memory_of_whiteouts_is_bounded() {
    const WHITEOUTS: usize = 120_000;
    const FIXED_BYTES_MAX: u64 = 12 << 20;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let playground = Playground::new();
    let root = std::fs::File::open(playground.root()).unwrap();
    let stack = |bytes_max| UnpackOptions {
        stack: true,
        limits: UnpackLimits { directory_bytes_max: bytes_max, ..UnpackLimits::default() },
        ..UnpackOptions::default()
    };
    let many = || Headers::new(WHITEOUTS, |number| Header::new(b'0', format!("d/.wh.{number}")));
    let peak = memory::Peak::start();
    unpack(many(), root.as_fd(), &stack(4 << 20)).unwrap();
    let (grown, max) = (peak.bytes(), FIXED_BYTES_MAX + (4 << 20));
    assert!(grown < max, "{grown} bytes, expected less than {max}");
    let error = unpack(many(), root.as_fd(), &stack(1 << 20)).unwrap_err().to_string();
    assert!(error.contains("directories and whiteouts"), "{error}");
}

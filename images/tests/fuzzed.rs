//! What fuzzing has found worth keeping, replayed: `images/fuzz` tries further bytes with the same checks.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;

/// Inputs that each corpus holds at least: fewer means that it was lost.
const INPUTS_MIN: usize = 20;

/// Bytes of all corpora together: they are for finding, not for keeping.
const CORPORA_BYTES_MAX: u64 = 1 << 20;

fn corpora() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"))
}

fn inputs(corpus: &str) -> Vec<std::path::PathBuf> {
    let listed = std::fs::read_dir(corpora().join(corpus)).unwrap();
    let mut inputs: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= INPUTS_MIN, "{corpus}: {} inputs", inputs.len());
    inputs
}

fn replay(corpus: &str, check: fn(&[u8])) {
    for input in inputs(corpus) {
        let bytes = std::fs::read(&input).unwrap();
        let checked = std::panic::catch_unwind(|| check(&bytes));
        assert!(checked.is_ok(), "{}", input.display());
    }
}

#[test]
fn tar() {
    replay("tar", checks::tar);
    checks::clean_up();
}

#[test]
fn compressed() {
    replay("compressed", checks::compressed);
}

#[test]
fn reference() {
    replay("reference", checks::reference);
}

#[test]
fn manifest() {
    replay("manifest", checks::manifest);
}

#[test]
fn the_corpora_are_small() {
    let all = ["tar", "compressed", "reference", "manifest"].into_iter().flat_map(inputs);
    let bytes: u64 = all.map(|input| input.metadata().unwrap().len()).sum();
    assert!(bytes < CORPORA_BYTES_MAX, "{bytes} bytes");
}

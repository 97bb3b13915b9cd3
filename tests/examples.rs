//! Every example job file is right, and runs green where its directory is copied to.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::PathBuf;

use fixtures::{Leftovers, TestContext, require};

/// The examples, by name.
fn examples() -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(fixtures::cache::workspace().join("jobs/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    found.sort();
    assert!(found.iter().any(|(name, _)| name == "hello.yml"), "{found:?}");
    found
}

/// A context with a copy of every example.
fn context() -> TestContext {
    let context = TestContext::new(env!("CARGO_BIN_EXE_runner"));
    for (name, path) in examples() {
        context.write(&name, fs::read(path).unwrap());
    }
    // What they include.
    for part in fs::read_dir(fixtures::cache::workspace().join("jobs/examples/parts")).unwrap() {
        let part = part.unwrap();
        context
            .write(&format!("parts/{}", part.file_name().to_str().unwrap()), fs::read(part.path()).unwrap());
    }
    context
}

#[test]
fn every_example_is_right() {
    let context = context();
    for (name, _) in examples() {
        let ran = context.run(&["check", &name]).expect_code(0);
        let said = ran.stdout_text() + &ran.stderr_text();
        assert!(!said.contains("error"), "{said}");
    }
}

#[test]
fn every_example_runs() {
    require!(Root, Cgroups, Program("cc"));
    let before = Leftovers::now();
    let context = context();
    for (name, _) in examples() {
        context.run(&["exec", &name]).expect_code(0);
    }
    before.assert_nothing_new();
}

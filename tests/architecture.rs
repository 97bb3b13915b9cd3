//! Keeps the promises of ARCHITECTURE.md: which room may know which, what stands where, how long things are.
//!
//! A failure names the file, the line, the promise and its reason. Every promise about source files is proven to bite, by
//! made-up sources beside it in `architecture/checks.rs`.

#[path = "architecture/checks.rs"]
mod checks;
#[path = "architecture/source.rs"]
mod source;

use checks::CHECKS;
use source::Source;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}

#[test]
fn every_promise_is_kept() {
    let files = source::all(&workspace());
    let mut breaches = Vec::new();
    for check in CHECKS {
        for file in &files {
            for (line, what) in (check.breaches)(file) {
                breaches
                    .push(format!("{}:{line}: {what}\n    {}: {}", file.path, check.promise, check.reason));
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn every_promise_bites() {
    for check in CHECKS {
        assert!(!check.bites.is_empty() && !check.spares.is_empty(), "unproven: {}", check.promise);
        for (path, text) in check.bites {
            assert!(
                !(check.breaches)(&Source::new(path, text)).is_empty(),
                "{}: does not bite {path}:\n{text}",
                check.promise
            );
        }
        for (path, text) in check.spares {
            let found = (check.breaches)(&Source::new(path, text));
            assert!(found.is_empty(), "{}: bites {path}: {found:?}\n{text}", check.promise);
        }
    }
}

/// What each crate may depend on of the workspace, and which outside crates only one of them has.
const CRATES: &[(&str, &[&str])] =
    &[("jobs", &[]), ("images", &[]), ("fixtures", &[]), ("runner", &["images", "jobs"])];
const ONLY_IN: &[(&str, &str)] = &[
    ("reqwest", "images"),
    ("rustls", "images"),
    ("clap", "runner"),
    ("clap_complete", "runner"),
    ("clap_mangen", "runner"),
    ("indicatif", "runner"),
    ("libseccomp", "runner"),
    ("cgroups-rs", "runner"),
    ("nix", "runner"),
];

/// Keys of a manifest's section, in any of the ways TOML spells them.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = header == section;
            found.extend(
                header.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned),
            );
        } else if inside && let Some((key, _)) = line.split_once('=') {
            found.insert(key.trim().split('.').next().unwrap_or_default().trim_matches('"').to_owned());
        }
    }
    found
}

fn crate_breaches(name: &str, manifest: &str) -> Vec<String> {
    let known: Vec<&str> = CRATES.iter().map(|(name, _)| *name).collect();
    let (_, allowed) = CRATES.iter().find(|(known, _)| *known == name).expect("every crate is in the table");
    let used = dependencies(manifest, "dependencies");
    let of_ours =
        used.iter().filter(|used| known.contains(&used.as_str()) && !allowed.contains(&used.as_str()));
    let foreign = ONLY_IN.iter().filter(|(outside, owner)| used.contains(*outside) && *owner != name);
    of_ours.cloned().chain(foreign.map(|(outside, _)| (*outside).to_owned())).collect()
}

#[test]
fn crates_know_only_what_they_may() {
    for (name, _) in CRATES {
        let manifest = std::fs::read_to_string(workspace().join(name).join("Cargo.toml")).unwrap();
        assert!(
            !dependencies(&manifest, "dependencies").is_empty() || *name == "jobs",
            "nothing was read of {name}"
        );
        assert_eq!(crate_breaches(name, &manifest), [] as [&str; 0], "dependencies of {name}");
    }
}

#[test]
fn a_forbidden_dependency_is_found() {
    let spellings = [
        "[dependencies]\nrunner = { path = \"../runner\" }\n",
        "[dependencies]\nserde = \"1\"\nrunner.workspace = true\n",
        "[dependencies.runner]\npath = \"../runner\"\n",
    ];
    for manifest in spellings {
        assert_eq!(crate_breaches("jobs", manifest), ["runner"], "{manifest}");
    }
    assert_eq!(crate_breaches("jobs", "[dependencies]\nreqwest = \"1\"\n"), ["reqwest"]);
    assert_eq!(crate_breaches("images", "[dev-dependencies]\nfixtures = \"1\"\n"), [] as [&str; 0]);
}

/// What may lie at the top. A new file there is a decision, not an accident.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".config",
    ".git",
    ".github",
    ".gitignore",
    ".worktrees",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benches",
    "clippy.toml",
    "docs",
    "fixtures",
    "images",
    "jobs",
    "runner",
    "rustfmt.toml",
    "target",
    "tests",
];

#[test]
fn the_top_level_is_what_it_should_be() {
    let entries = std::fs::read_dir(workspace())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let unknown: Vec<String> = entries.filter(|name| !TOP_LEVEL.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "at the top lies {unknown:?}");
    for needed in ["runner", "images", "jobs", "fixtures", "tests", "Cargo.toml", "Makefile", "README.md"] {
        assert!(workspace().join(needed).exists(), "{needed} is missing");
    }
}

/// Starts of absolute paths that exist on one developer's machine only. The exception is the user of the busybox fixture.
fn private_paths(line: &str) -> bool {
    let starts = [concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    starts.iter().any(|start| {
        line.match_indices(start).any(|(at, _)| {
            let stands_first =
                !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "._-}$])".contains(letter));
            let behind = &line[at + start.len()..];
            let is_name = behind.starts_with(|letter: char| letter.is_alphanumeric());
            stands_first && is_name && !behind.starts_with("user")
        })
    })
}

#[test]
fn no_developers_path_is_in_the_project() {
    let extensions = ["rs", "toml", "md", "yml", "yaml", "c", "sh", "json", "snap", ""];
    let mut found = Vec::new();
    for place in ["jobs", "images", "runner", "fixtures", "tests", "benches", "docs", ".ci", ".config"] {
        for path in source::files_below(&workspace().join(place)) {
            let extension =
                path.extension().map_or(String::new(), |extension| extension.to_string_lossy().into_owned());
            let Some(text) = extensions
                .contains(&extension.as_str())
                .then(|| std::fs::read_to_string(&path).ok())
                .flatten()
            else {
                continue;
            };
            let lines = text.lines().enumerate().filter(|(_, line)| private_paths(line));
            found.extend(lines.map(|(index, line)| format!("{}:{}: {line}", path.display(), index + 1)));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_developers_path_is_found() {
    assert!(private_paths(concat!("see /ho", "me/jane/file")) && private_paths(concat!("(\"/wo", "rk/x\")")));
    assert!(
        !private_paths("/home/user:/bin/sh")
            && !private_paths("upper/work/incompat")
            && !private_paths("/home/")
    );
    assert!(!private_paths("/workspace/file") && !private_paths("$base/work/x"));
}

/// Targets of Markdown links that are paths: `](docs/cli.md#exit-codes)` gives `docs/cli.md`.
fn linked_files(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty() && !file.contains("://")).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = ["README.md", "ARCHITECTURE.md", "SECURITY.md"].map(|name| workspace().join(name));
    let more = source::files_below(&workspace().join("docs"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut dead = Vec::new();
    for document in documents.into_iter().chain(more).filter(|path| path.exists()) {
        let text = std::fs::read_to_string(&document).unwrap();
        let place = document.parent().unwrap();
        let lost = linked_files(&text).into_iter().filter(|file| !place.join(file).exists());
        dead.extend(lost.map(|file| format!("{}: {file}", document.display())));
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn links_are_recognized() {
    let text = "see [a](docs/a.md#part), [b](https://example.org/b), [c](#here) and [d](LICENSE-MIT)";
    assert_eq!(linked_files(text), ["docs/a.md", "LICENSE-MIT"]);
}

//! Every file of `fixtures/jobs`: what a good one plans to, and what a bad one is told, to the letter.
//!
//! `UPDATE_FIXTURES=1 cargo test -p jobs` writes the expected files anew; read the difference before
//! committing it.

#![expect(clippy::unwrap_used, reason = "a test that fails is a test that panics")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jobs::codes::Code;
use jobs::{Diagnostics, Overrides, Planned};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/jobs").join(name)
}

fn files(folder: &Path, extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let matching = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    matching.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Reads what the files name from `named` beside them; nothing from the network.
struct Beside<'f>(&'f Path);

impl jobs::Files for Beside<'_> {
    fn read(&mut self, wanted: &jobs::Wanted<'_>) -> Result<Vec<u8>, String> {
        if wanted.sha256.is_some_and(|sha256| sha256.starts_with("00")) {
            return Err("its SHA-256 is another one".to_owned());
        }
        fs::read(self.0.join(wanted.name)).map_err(|_| "it is not there".to_owned())
    }
}

fn plan(folder: &Path, stem: &str) -> Result<Planned, Diagnostics> {
    let text = fs::read(folder.join(format!("{stem}.yml"))).unwrap();
    jobs::plan_with(&format!("{stem}.yml"), stem, &text, &Overrides::default(), &mut Beside(folder))
}

/// Compares with the expected file, or writes it; nothing expected means that there is no such file.
fn expect(path: &Path, found: &str, faults: &mut Vec<String>) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        if found.is_empty() {
            let _ = fs::remove_file(path);
        } else {
            fs::write(path, found).unwrap();
        }
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected != found {
        faults.push(format!("{}\n--- expected\n{expected}--- found\n{found}", path.display()));
    }
}

#[test]
fn good_files_plan_to_what_they_say() {
    let folder = folder("good");
    let stems = files(&folder, "yml");
    assert!(stems.len() >= 10, "{stems:?}");
    let mut faults = Vec::new();
    for stem in &stems {
        let planned = plan(&folder, stem).unwrap_or_else(|errors| panic!("{stem}:\n{errors}"));
        assert_eq!(planned.warnings.errors(), 0, "{stem}");
        let json = serde_json::to_string_pretty(&planned.plan).unwrap() + "\n";
        expect(&folder.join(format!("{stem}.json")), &json, &mut faults);
        expect(&folder.join(format!("{stem}.txt")), &planned.warnings.render(false), &mut faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(files(&folder, "json"), stems, "an expected plan has no job file");
}

#[test]
fn bad_files_are_told_exactly_this() {
    let folder = folder("bad");
    let stems = files(&folder, "yml");
    assert!(stems.len() >= 60, "{}", stems.len());
    let mut faults = Vec::new();
    for stem in &stems {
        let errors = plan(&folder, stem).expect_err(stem);
        assert!(errors.errors() > 0, "{stem}");
        expect(&folder.join(format!("{stem}.txt")), &errors.render(false), &mut faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(files(&folder, "txt"), stems, "an expected message has no job file");
}

#[test]
fn every_code_is_shown_by_a_bad_file() {
    let folder = folder("bad");
    let shown: BTreeSet<Code> = files(&folder, "yml")
        .iter()
        .flat_map(|stem| plan(&folder, stem).unwrap_err().iter().map(|d| d.code).collect::<Vec<_>>())
        .collect();
    // Only the command line can give what the file does not declare, or vouch for nothing; tests/robust.rs shows both.
    let of_the_line = [Code::UnknownParam, Code::Untrusted];
    let missing: Vec<_> =
        Code::ALL.iter().filter(|code| !of_the_line.contains(code) && !shown.contains(code)).collect();
    assert!(missing.is_empty(), "no bad file shows {missing:?}");
}

#[test]
fn diagnostics_come_in_the_order_of_the_text() {
    let folder = folder("bad");
    for stem in files(&folder, "yml") {
        let errors = plan(&folder, &stem).unwrap_err();
        let mut places: Vec<_> = errors.iter().map(|d| (d.file.clone(), d.position)).collect();
        assert!(places.is_sorted_by_key(|(file, _)| file.is_some()), "{stem}: the job file comes first");
        let of_files: Vec<_> = places.iter().map(|(file, _)| file.clone()).collect();
        for file in of_files {
            let of_one = places.iter().filter(|place| place.0 == file);
            assert!(of_one.is_sorted(), "{stem}: {places:?}");
        }
        places.dedup_by_key(|(file, _)| file.clone());
        let runs = places.len();
        assert_eq!(
            places.into_iter().map(|(file, _)| file).collect::<BTreeSet<_>>().len(),
            runs,
            "{stem}: mixed"
        );
    }
}

#[test]
fn nothing_from_the_file_reaches_the_terminal_raw() {
    let folder = folder("bad");
    for stem in files(&folder, "yml") {
        let text = plan(&folder, &stem).unwrap_err().render(false);
        let raw = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(raw, None, "{stem}");
    }
}

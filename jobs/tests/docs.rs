//! The reference and the examples are true: their files plan, and every key and code is told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails is a test that panics")]

use std::fs;
use std::path::Path;

use jobs::codes::Code;
use jobs::{Files, Overrides, Wanted, keys};

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn reference() -> String {
    fs::read_to_string(root("docs/job-file.md")).unwrap()
}

fn plan(name: &str, text: &str, files: &mut dyn Files) -> jobs::Plan {
    let planned = jobs::plan_with(name, "job", text.as_bytes(), &Overrides::default(), files);
    planned.unwrap_or_else(|errors| panic!("{errors}")).plan
}

/// Files as the page shows them, by the name in their first line.
struct Shown<'s>(Vec<(&'s str, &'s str)>);

impl Files for Shown<'_> {
    fn read(&mut self, wanted: &Wanted<'_>) -> Result<Vec<u8>, String> {
        let found = self.0.iter().find(|(name, _)| wanted.name.ends_with(name));
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "the page does not show it".to_owned())
    }
}

/// Files of the disk.
struct Disk;

impl Files for Disk {
    fn read(&mut self, wanted: &Wanted<'_>) -> Result<Vec<u8>, String> {
        fs::read(wanted.name).map_err(|error| error.to_string())
    }
}

#[test]
fn every_example_of_the_reference_plans() {
    let text: &'static str = reference().leak();
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 7, "{}", blocks.len());
    let (parts, whole): (Vec<&str>, Vec<&str>) =
        blocks.into_iter().partition(|block| block.starts_with("# ci/"));
    let name = |block: &'static str| block.lines().next().unwrap().trim_start_matches("# ");
    let mut files = Shown(parts.into_iter().map(|block| (name(block), block)).collect());
    for block in whole {
        plan("docs/job-file.md", block, &mut files);
    }
}

#[test]
fn every_example_file_plans() {
    let entries = fs::read_dir(root("jobs/examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for path in entries.filter(|path| path.extension().is_some_and(|found| found == "yml")) {
        let plan = plan(&path.display().to_string(), &fs::read_to_string(&path).unwrap(), &mut Disk);
        assert_eq!(plan.jobs[0].image.reference, "host", "{}: an example needs no download", path.display());
        count += 1;
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn every_code_and_key_is_told() {
    let text = reference();
    for code in Code::ALL {
        let row = format!("| {} | {} |", code.id(), code.meaning());
        assert!(text.contains(&row), "missing: {row}");
    }
    let all = [
        keys::FILE_KEYS,
        keys::JOB_KEYS,
        keys::PARAM_KEYS,
        keys::NEED_KEYS,
        keys::STEP_KEYS,
        keys::RETRY_KEYS,
        keys::SECRET_KEYS,
        keys::STEP_SECRET_KEYS,
        keys::LIMITS_KEYS,
        keys::INCLUDE_KEYS,
        keys::SETUP_KEYS,
        keys::STEP_FILE_KEYS,
        keys::IO_LIMITS_KEYS,
        keys::NET_LIMITS_KEYS,
        keys::NETWORK_KEYS,
        keys::IMAGE_KEYS,
        keys::MOUNT_KEYS,
        keys::ARTIFACT_KEYS,
        keys::SERVICE_KEYS,
        keys::CACHE_KEYS,
        keys::SERVICE_LIMITS_KEYS,
        keys::READY_KEYS,
    ];
    for key in all.concat() {
        assert!(text.contains(&format!("`{key}`")), "missing: {key}");
    }
}

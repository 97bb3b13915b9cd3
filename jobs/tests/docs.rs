//! The reference and the examples are true: their files plan, and every key and code is told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails is a test that panics")]

use std::fs;
use std::path::Path;

use jobs::{Files, Overrides, Wanted, codes, keys};

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

/// Pages for users, by the path that one sees: all of `docs/`, and those beside it.
fn pages() -> Vec<(String, &'static str)> {
    let docs = fs::read_dir(root("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = docs
        .map(|name| format!("docs/{}", name.to_str().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .chain(["README.md", "SECURITY.md"].map(str::to_owned))
        .collect();
    names.sort();
    let page = |name: String| {
        let text: &'static str = fs::read_to_string(root(&name)).unwrap().leak();
        (name, text)
    };
    names.into_iter().map(page).collect()
}

/// Job files that a page shows. What is of another program stands between other fences, such as `yml`.
fn job_files(page: &'static str) -> Vec<&'static str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_job_file_of_a_page_plans() {
    let mut count = 0;
    for (page, text) in pages() {
        let blocks = job_files(text);
        let (parts, whole): (Vec<&str>, Vec<&str>) =
            blocks.into_iter().partition(|block| block.starts_with("# ci/"));
        let name = |block: &'static str| block.lines().next().unwrap().trim_start_matches("# ");
        let mut files = Shown(parts.into_iter().map(|block| (name(block), block)).collect());
        for block in whole {
            plan(&page, block, &mut files);
            count += 1;
        }
    }
    assert!(count >= 45, "{count}");
}

#[test]
fn the_pages_of_the_guide_show_whole_files() {
    for (page, least) in [("docs/first-job.md", 1), ("docs/recipes.md", 18)] {
        let text: &'static str = fs::read_to_string(root(page)).unwrap().leak();
        let blocks = job_files(text);
        assert!(blocks.len() >= least, "{page}: {}", blocks.len());
        for block in blocks {
            assert!(block.starts_with("# "), "{page}: a file without a name: {block}");
        }
    }
}

/// Codes such as E107 in a text.
fn codes_in(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.len() == 4 && word.starts_with(['E', 'W']))
        .filter(|word| word.bytes().skip(1).all(|digit| digit.is_ascii_digit()))
        .collect()
}

#[test]
fn every_code_that_a_page_names_exists() {
    let known: Vec<&str> = codes::all().into_iter().map(|code| code.id).collect();
    let mut count = 0;
    for (page, text) in pages() {
        for code in codes_in(text) {
            assert!(known.contains(&code), "{page} names {code}, which is none");
            count += 1;
        }
    }
    assert!(count > known.len(), "{count}");
    assert_eq!(codes_in("(E107), `W411`: EPERM, AE107, E1070, E10"), ["E107", "W411"]);
}

/// The command lines that begin with `runner`, a subcommand behind it: in code spans, and in lines of their own.
fn command_lines(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        ["$ ", "run: ", "exec "].iter().fold(line, |line, front| line.strip_prefix(front).unwrap_or(line))
    });
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    lines
        .chain(spans)
        .filter(|line| line.strip_prefix("runner ").is_some_and(|rest| rest.starts_with(char::is_lowercase)))
        .collect()
}

/// What a command line asks of `docs/cli.md`, of which the suite `cli` knows that it has every flag: the verb, and the flags before `--`.
fn asked(line: &str) -> (&str, Vec<&str>) {
    let ours = line.split(" -- ").next().unwrap().split(" | ").next().unwrap();
    let verb = ours.split_whitespace().nth(1).unwrap();
    let flags = ours.split(|letter: char| letter.is_whitespace() || "=[]\\|'\"".contains(letter));
    (verb, flags.filter(|word| word.starts_with("--")).collect())
}

#[test]
fn every_command_that_a_page_shows_is_one() {
    let reference = fs::read_to_string(root("docs/cli.md")).unwrap();
    let mut count = 0;
    for (page, text) in pages() {
        for line in command_lines(text) {
            let (verb, flags) = asked(line);
            let verbs = ["|", " ", "`"].map(|end| format!("runner {verb}{end}"));
            let known = verbs.iter().any(|verb| reference.contains(verb))
                || reference.contains(&format!("`{verb} ")) && verb == "completions";
            assert!(known, "{page}: `{line}`: no such command");
            for flag in flags.into_iter().filter(|flag| *flag != "--help") {
                let told = [" ", "`", ",", "["].iter().any(|end| reference.contains(&format!("{flag}{end}")));
                assert!(told, "{page}: `{line}`: docs/cli.md has no {flag}");
            }
            count += 1;
        }
    }
    assert!(count >= 100, "{count}");
    assert_eq!(asked("runner exec --limits cpus=2 a.yml -- --not-ours"), ("exec", vec!["--limits"]));
    assert_eq!(
        command_lines("    $ runner show\nthe runner sees `runner ps --json` now"),
        ["runner show", "runner ps --json"]
    );
}

/// The anchor of a heading, as the pages of a forge have it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// Headings of a page: lines of a code block are none.
fn headings(text: &str) -> Vec<String> {
    let parts = text.split("```").step_by(2);
    let lines = parts.flat_map(str::lines).filter(|line| line.starts_with('#'));
    lines.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_part_that_a_page_points_to_exists() {
    let mut count = 0;
    for (page, text) in pages() {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()?.split_once('#'));
        for (file, part) in targets.filter(|(file, _)| !file.contains("://")) {
            let path = match file {
                "" => root(&page),
                file => root(&page).parent().unwrap().join(file),
            };
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {file}: {error}"));
            assert!(headings(&text).iter().any(|one| one == part), "{page}: {file} has no part {part}");
            count += 1;
        }
    }
    assert!(count >= 50, "{count}");
    assert_eq!(anchor(" `/proc`, and Who owns it"), "proc-and-who-owns-it");
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
    for code in codes::all() {
        let row = format!("| {} | {} |", code.id, code.meaning);
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
        keys::REPORT_KEYS,
        keys::SERVICE_KEYS,
        keys::CACHE_KEYS,
        keys::SERVICE_LIMITS_KEYS,
        keys::READY_KEYS,
    ];
    for key in all.concat() {
        assert!(text.contains(&format!("`{key}`")), "missing: {key}");
    }
}

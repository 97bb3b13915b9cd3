//! The run directory and its logs, on a real file system.

#![expect(clippy::unwrap_used, reason = "a test whose ground cannot be laid must stop")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use runner::event::{Event, Stream, What};
use runner::outcome::{Caps, LogSummary, Outcome, StepResult, Usage};
use runner::report::Sink;
use runner::report::logs::{LogView, print};
use runner::run::logs::{IndexReader, LogReader, tail_offset};
use runner::run::record::{
    Durability, HostRecord, ImageRecord, JobRecord, RecordError, RunDirectory, RunRecord, RunState, Selector,
    timestamp,
};

fn record(id: &str, state: RunState, outcome: Option<Outcome>) -> RunRecord {
    RunRecord {
        v: 1,
        id: id.to_owned(),
        state,
        file: Some("job.yml".to_owned()),
        included: Vec::new(),
        file_sha256: None,
        name: "hello".to_owned(),
        started: timestamp(),
        ended: None,
        wall_s: None,
        outcome,
        conclusion: outcome,
        exit_code: outcome.map(Outcome::run_exit_code),
        host: HostRecord::default(),
        jobs: vec![JobRecord {
            id: "hello".to_owned(),
            image: ImageRecord::default(),
            untrusted: false,
            outcome,
            started: None,
            ended: None,
            matrix: serde_json::Value::Null,
            conclusion: None,
            steps: Vec::new(),
            services: Vec::new(),
            caches: Vec::new(),
            earlier: Vec::new(),
        }],
        artifacts: Vec::new(),
        warnings: Vec::new(),
    }
}

fn result(id: &str) -> StepResult {
    StepResult {
        id: id.to_owned(),
        name: id.to_owned(),
        index: 1,
        outcome: Outcome::Success,
        conclusion: Outcome::Success,
        exit_code: Some(0),
        signal: None,
        killed_by: None,
        attempts: 1,
        earlier: Vec::new(),
        started: timestamp(),
        ended: timestamp(),
        usage: Usage::default(),
        limits: Caps::default(),
        rights: None,
        oom: None,
        disk: None,
        leftovers: Vec::new(),
        log: LogSummary::default(),
        cause: None,
        remedy: None,
        kept: false,
        reused: None,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_run_is_private_locked_and_the_latest() {
    let home = tempfile::tempdir().unwrap();
    let first = RunDirectory::create(home.path(), None).unwrap();
    let second = RunDirectory::create(home.path(), Some("mine")).unwrap();
    assert_eq!(fs::metadata(second.path()).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(fs::read_link(home.path().join("runs/latest")).unwrap(), Path::new("mine"));
    let lock: serde_json::Value =
        serde_json::from_slice(&fs::read(second.path().join("lock")).unwrap()).unwrap();
    assert_eq!(lock["pid"], std::process::id());
    assert_eq!(lock["boot"].as_str().unwrap().len(), 36);

    let found = RunDirectory::open(home.path(), &Selector::Latest).unwrap();
    assert_eq!(found.id(), "mine");
    assert!(found.is_live() && found.adopt().unwrap().is_none(), "its lock is held");
    drop(second);
    assert!(!found.is_live(), "its lock is free");
    let sweeper = found.adopt().unwrap().unwrap();
    assert!(found.adopt().unwrap().is_none(), "one sweeper at a time");
    drop(sweeper);
    assert!(found.path().join("lock").exists(), "the lock is never unlinked");
    assert_eq!(RunDirectory::all(home.path()).unwrap().len(), 2);
    assert_eq!(names(&home.path().join("runs")), [first.id(), "latest", "mine"]);
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id() {
    let home = tempfile::tempdir().unwrap();
    for id in ["20260101-000000-aaaa", "20260101-000000-aabb", "20260102-000000-aaaa", "2026"] {
        RunDirectory::create(home.path(), Some(id)).unwrap();
    }
    let open = |text: &str| RunDirectory::open(home.path(), &text.parse().unwrap());
    assert_eq!(open("20260102").unwrap().id(), "20260102-000000-aaaa");
    assert_eq!(open("2026").unwrap().id(), "2026", "an id that begins others");
    let ambiguous = open("20260101").unwrap_err();
    assert!(matches!(&ambiguous, RecordError::Ambiguous { count: 2, .. }), "{ambiguous}");
    for missing in ["1999", "", "../runs/2026", "latest-failed"] {
        let error = open(missing).unwrap_err();
        assert!(matches!(error, RecordError::Unknown { .. }) && error.is_usage(), "{missing}: {error}");
    }
    let taken = RunDirectory::create(home.path(), Some("2026")).unwrap_err();
    assert!(matches!(taken, RecordError::Exists { .. }), "{taken}");
    assert!(matches!(RunDirectory::create(home.path(), Some("../x")), Err(RecordError::BadId { .. })));
    assert!(
        !names(&home.path().join("runs")).iter().any(|name| name.starts_with('.')),
        "nothing is left behind"
    );
}

#[test]
fn the_last_failure_keeps_its_link() {
    let home = tempfile::tempdir().unwrap();
    for (id, outcome) in [("a", Outcome::Failure), ("b", Outcome::Oom), ("c", Outcome::Success)] {
        let run = RunDirectory::create(home.path(), Some(id)).unwrap();
        run.conclusion(&record(id, RunState::Finished, Some(outcome))).unwrap().write().unwrap();
    }
    assert_eq!(RunDirectory::open(home.path(), &Selector::LatestFailed).unwrap().id(), "b");
    assert_eq!(RunDirectory::open(home.path(), &Selector::Latest).unwrap().id(), "c");
}

#[test]
fn a_killed_run_is_told_by_what_its_steps_left() {
    let home = tempfile::tempdir().unwrap();
    let run = RunDirectory::create(home.path(), None).unwrap();
    run.write_run(&record(run.id(), RunState::Running, None)).unwrap();
    for (index, id) in [(1, "one"), (2, "two")] {
        let staged = run.stage_step("hello", index, id).unwrap();
        staged.write_script(b"echo \xff").unwrap();
        let (step, _log) = staged.publish(1 << 20, Instant::now()).unwrap();
        step.write_environment(&BTreeMap::from([("A".to_owned(), "b".to_owned())])).unwrap();
        step.write_result(&result(id)).unwrap();
    }
    run.stage_step("hello", 3, "three").unwrap().publish(1 << 20, Instant::now()).unwrap();
    // The turn of these did not come.
    std::mem::forget(run.stage_step("hello", 4, "four").unwrap());
    drop(run.stage_step("hello", 5, "five").unwrap());
    // Killed between two attempts: what the first one left is not lost.
    run.stage_step("hello", 6, "six").unwrap().publish(1 << 20, Instant::now()).unwrap();
    let second = run.stage_step("hello", 6, "six").unwrap();
    second.keep_attempt(1).unwrap();
    std::mem::forget(second);
    let steps = run.path().join("jobs/hello/steps");
    assert_eq!(names(&steps), [".04-four", ".06-six", "01-one", "02-two", "03-three"]);
    let unpublished = [
        ".run.json.1-1",
        "jobs/other/steps/.01-x/script",
        "artifacts/.all.partial/x",
        "jobs/hello/.outputs.json.1-2",
        "jobs/hello/steps/01-one/.result.json.1-3",
    ];
    for path in unpublished.map(|path| run.path().join(path)) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    run.discard_unpublished().unwrap();
    assert_eq!(names(run.path()), ["artifacts", "jobs", "lock", "run.json"]);
    assert!(names(&run.artifacts_path()).is_empty());
    assert_eq!(names(&run.path().join("jobs/hello")), ["steps"]);
    assert_eq!(names(&steps.join("01-one")), ["env.json", "log", "log.idx", "result.json", "script"]);
    assert_eq!(names(&steps), ["01-one", "02-two", "03-three", "06-six"]);
    assert_eq!(names(&steps.join("06-six/attempt-1")), ["log", "log.idx"]);
    assert!(names(&run.path().join("jobs/other/steps")).is_empty());
    assert_eq!(run.read_run().unwrap().state, RunState::Running);
    let selector = Selector::Prefix(run.id().to_owned());
    drop(run);
    let found = RunDirectory::open(home.path(), &selector).unwrap();
    let told = found.read_run().unwrap();
    assert_eq!(told.state, RunState::Died);
    let steps: Vec<&str> = told.jobs[0].steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(steps, ["one", "two"]);
    let directories: Vec<String> =
        found.steps().unwrap().iter().map(|step| step.relative.display().to_string()).collect();
    assert_eq!(directories[2], "jobs/hello/steps/03-three");
    assert_eq!(fs::read(found.steps().unwrap()[0].path.join("script")).unwrap(), b"echo \xff");
}

#[test]
fn events_are_lines_and_output_is_not_among_them() {
    let home = tempfile::tempdir().unwrap();
    let run = RunDirectory::create(home.path(), None).unwrap();
    let mut log = run.event_log().unwrap();
    let event = |what| Event { v: 1, ts: timestamp(), run: "r".to_owned(), job: None, step: None, what };
    log.append(&event(What::Warning { code: None, text: "two\nlines".to_owned(), hint: None })).unwrap();
    log.append(&event(What::StepLog { stream: Stream::Stdout, seq: 0, data: b"x".to_vec() })).unwrap();
    log.append(&event(What::JobEnd { outcome: Outcome::Success })).unwrap();
    let text = fs::read_to_string(run.path().join("events.ndjson")).unwrap();
    let kinds: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["warning", "job.end"]);
}

#[test]
fn a_full_disk_names_the_file_and_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    let run = RunDirectory::create(home.path(), None).unwrap();
    // /dev/full refuses every write with ENOSPC.
    std::os::unix::fs::symlink("/dev/full", run.path().join("events.ndjson")).unwrap();
    let mut log = run.event_log().unwrap();
    let event = Event {
        v: 1,
        ts: timestamp(),
        run: "r".to_owned(),
        job: None,
        step: None,
        what: What::JobEnd { outcome: Outcome::Success },
    };
    let error = log.append(&event).unwrap_err();
    assert!(matches!(error, RecordError::Full { .. }), "{error}");
    assert!(error.to_string().ends_with("events.ndjson: no space left on its file system"), "{error}");
    assert!(error.hint().unwrap().contains("RUNNER_HOME"));

    let hidden = run.path().join("jobs/j/steps/.01-s");
    fs::create_dir_all(&hidden).unwrap();
    std::os::unix::fs::symlink("/dev/full", hidden.join("log")).unwrap();
    let staged = run.stage_step("j", 1, "s").unwrap();
    let (_step, mut writer) = staged.publish(1 << 20, Instant::now()).unwrap();
    let first = writer.append(Stream::Stdout, b"one\n", Instant::now());
    assert!(matches!(first, Err(RecordError::Full { .. })));
    assert!(writer.append(Stream::Stdout, b"two\n", Instant::now()).is_ok(), "told once, then drained");
    assert_eq!(writer.finish().unwrap().dropped_bytes, 4);
}

#[test]
fn replacing_a_file_leaves_no_other_name() {
    let home = tempfile::tempdir().unwrap();
    let run = RunDirectory::create(home.path(), None).unwrap();
    run.write_file_atomic("sweep.json", b"1", Durability::Cheap).unwrap();
    run.write_file_atomic("sweep.json", b"2", Durability::Flushed).unwrap();
    assert_eq!(fs::read(run.path().join("sweep.json")).unwrap(), b"2");
    assert_eq!(names(run.path()), ["jobs", "lock", "sweep.json"]);
    let missing = run.write_file_atomic("no/such/place", b"", Durability::Cheap).unwrap_err();
    assert!(missing.to_string().contains("no/such/place"), "{missing}");
}

/// Writes chunks to a log, one millisecond after the other.
fn write_log(directory: &Path, limit: u64, chunks: &[(Stream, &[u8])]) -> LogSummary {
    let home = directory.join("home");
    let run = RunDirectory::create(&home, Some("r")).unwrap();
    let started = Instant::now();
    let (_step, mut writer) = run.stage_step("j", 1, "s").unwrap().publish(limit, started).unwrap();
    for (count, (stream, data)) in chunks.iter().enumerate() {
        writer.append(*stream, data, started + Duration::from_millis(count as u64)).unwrap();
    }
    writer.finish().unwrap()
}

fn log_path(directory: &Path) -> std::path::PathBuf {
    directory.join("home/runs/r/jobs/j/steps/01-s/log")
}

#[test]
fn a_log_is_byte_exact_and_indexed() {
    let directory = tempfile::tempdir().unwrap();
    let every_byte: Vec<u8> = (0..=255).collect();
    let chunks: [(Stream, &[u8]); 4] = [
        (Stream::Stdout, b"out\n"),
        (Stream::Stderr, &every_byte),
        (Stream::Stdout, b"\nlast"),
        (Stream::Stdout, b""),
    ];
    let summary = write_log(directory.path(), 1 << 20, &chunks);
    assert_eq!((summary.bytes, summary.lines, summary.dropped_bytes), (265, 4, 0));
    assert_eq!(summary.path, "jobs/j/steps/01-s/log");
    let path = log_path(directory.path());
    assert_eq!(fs::read(&path).unwrap(), chunks.map(|(_, data)| data).concat());

    let mut index = IndexReader::open(&path.with_extension("idx")).unwrap();
    let stamps: Vec<_> = [0, 3, 4, 259, 260].map(|offset| index.stamp_at(offset).unwrap().unwrap()).to_vec();
    use Stream::{Stderr, Stdout};
    assert_eq!(
        stamps.iter().map(|stamp| stamp.stream).collect::<Vec<_>>(),
        [Stdout, Stdout, Stderr, Stderr, Stdout]
    );
    assert_eq!(stamps[4].time.duration_since(stamps[0].time).as_millis(), 2);
}

#[test]
fn a_log_stops_at_its_limit_and_counts_on() {
    let directory = tempfile::tempdir().unwrap();
    let chunks: Vec<(Stream, &[u8])> = vec![(Stream::Stdout, b"0123\n"); 10];
    let summary = write_log(directory.path(), 12, &chunks);
    assert_eq!((summary.bytes, summary.lines), (12, 3));
    assert_eq!((summary.dropped_bytes, summary.dropped_lines), (38, 8));
    let text = fs::read_to_string(log_path(directory.path())).unwrap();
    assert_eq!(
        text,
        "0123\n0123\n01\n[runner: log limit reached, the rest is dropped]\n[runner: dropped 38 bytes, 8 lines]\n"
    );
}

fn shown(path: &Path, offset: u64, view: LogView) -> Vec<u8> {
    let target = tempfile::NamedTempFile::new().unwrap();
    let mut sink = Sink::new(Box::new(target.reopen().unwrap()));
    print(&mut sink, &mut LogReader::open(path, offset).unwrap(), view).unwrap();
    drop(sink);
    fs::read(target.path()).unwrap()
}

#[test]
fn logs_are_raw_for_pipes_and_safe_for_terminals() {
    let directory = tempfile::tempdir().unwrap();
    let long = vec![b'x'; 70_000];
    let chunks: [(Stream, &[u8]); 3] =
        [(Stream::Stdout, b"\x1b[2Jfake\xff\n"), (Stream::Stdout, &long), (Stream::Stdout, b"\nend")];
    write_log(directory.path(), 1 << 20, &chunks);
    let path = log_path(directory.path());
    let raw = LogView { raw: true, timestamps: false, color: false };
    assert_eq!(shown(&path, 0, raw), chunks.map(|(_, data)| data).concat());

    let safe = String::from_utf8(shown(&path, 0, LogView { raw: false, ..raw })).unwrap();
    let lines: Vec<&str> = safe.lines().collect();
    assert_eq!(lines[0], "fake\u{fffd}");
    assert_eq!(lines[1].len(), 65536 + " [4464 bytes more]".len());
    assert_eq!(lines[2], "end");

    let stamped = shown(&path, 0, LogView { timestamps: true, ..raw });
    assert_eq!(stamped.len(), shown(&path, 0, raw).len() + 3 * 25, "a stamp for each line, once");
    let text = String::from_utf8_lossy(&stamped).into_owned();
    let times: Vec<&str> = text.lines().map(|line| &line[..24]).collect();
    assert!(times.iter().all(|time| time.parse::<jiff::Timestamp>().is_ok()), "{times:?}");
    assert!(times[0] < times[2]);
}

#[test]
fn tails_begin_at_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let long = "y".repeat(100_000);
    for (text, lines, expected) in [
        ("", 3, (0, 0)),
        ("a", 1, (0, 1)),
        ("a\n", 1, (0, 1)),
        ("a\nb\nc\n", 2, (2, 2)),
        ("a\nb\nc", 2, (2, 2)),
        ("a\nb\nc\n", 9, (0, 3)),
        ("\n\n\n", 2, (1, 2)),
        ("a\n", 0, (2, 0)),
        (&format!("{long}\n{long}\nz"), 2, (100_001, 2)),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(
            tail_offset(&path, lines).unwrap(),
            expected,
            "{lines} of {:?}",
            &text[..text.len().min(20)]
        );
    }
}

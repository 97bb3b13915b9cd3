//! What people and programs see of a run: every outcome, in lines, on a terminal, as JSON, passed through.

#![expect(clippy::unwrap_used, reason = "a test whose ground cannot be laid must stop")]

mod fake {
    //! A run as events, without a sandbox.

    use runner::event::{Event, Stream, What};
    use runner::outcome::{Caps, Leftover, LogSummary, Oom, Outcome, StepResult, Usage, Victim};

    pub fn event(step: Option<&str>, what: What) -> Event {
        Event {
            v: 1,
            ts: "2026-11-23T14:30:12.000000Z".to_owned(),
            run: "20261123-143012-7fK2".to_owned(),
            job: Some("job".to_owned()),
            step: step.map(str::to_owned),
            what,
        }
    }

    pub fn run_start(jobs: usize) -> Event {
        let what = What::RunStart {
            file: Some("job.yml".to_owned()),
            name: "hello".to_owned(),
            jobs,
            directory: "/r/runs/20261123-143012-7fK2".to_owned(),
        };
        Event { job: None, ..event(None, what) }
    }

    pub fn run_end(outcome: Outcome) -> Event {
        let what = What::RunEnd {
            outcome,
            exit_code: outcome.run_exit_code(),
            wall_s: 80.4,
            directory: "/r/runs/20261123-143012-7fK2".to_owned(),
        };
        Event { job: None, ..event(None, what) }
    }

    pub fn start(id: &str, index: usize, steps: usize) -> Event {
        event(Some(id), What::StepStart { name: format!("./{id}.sh"), index, steps, attempt: 1 })
    }

    pub fn log(id: &str, stream: Stream, data: impl AsRef<[u8]>) -> Event {
        event(Some(id), What::StepLog { stream, seq: 0, data: data.as_ref().to_vec() })
    }

    pub fn pull(state: &'static str, bytes: u64, total: Option<u64>, note: Option<&str>) -> Event {
        let note = note.map(str::to_owned);
        event(
            None,
            What::ImagePull { image: "debian.tar.zst".to_owned(), state, bytes, total, layer: None, note },
        )
    }

    pub fn result(id: &str, outcome: Outcome) -> StepResult {
        StepResult {
            id: id.to_owned(),
            name: format!("./{id}.sh"),
            index: 1,
            outcome,
            conclusion: outcome,
            exit_code: Some(if outcome == Outcome::Success { 0 } else { 2 }),
            signal: None,
            killed_by: None,
            attempts: 1,
            earlier: Vec::new(),
            started: "2026-11-23T14:30:12.000000Z".to_owned(),
            ended: "2026-11-23T14:31:24.000000Z".to_owned(),
            usage: Usage {
                cpu_s: 3.42,
                wall_s: 72.0,
                mem_peak: Some(2_040_109_466),
                io_r: Some(0),
                io_w: Some(4096),
                pids_peak: Some(12),
                disk: None,
                net_r: None,
                net_w: None,
                throttled_s: None,
            },
            limits: Caps { cpus: Some(2.0), memory_bytes: Some(4 << 30), pids: Some(64), ..Caps::default() },
            rights: None,
            oom: None,
            disk: None,
            leftovers: Vec::new(),
            log: LogSummary { path: format!("jobs/job/steps/01-{id}/log"), ..LogSummary::default() },
            cause: None,
            remedy: None,
            kept: false,
            reused: None,
        }
    }

    fn why(id: &str, outcome: Outcome, cause: &str, remedy: Option<&str>) -> StepResult {
        StepResult { cause: Some(cause.to_owned()), remedy: remedy.map(str::to_owned), ..result(id, outcome) }
    }

    /// One step for every way to end.
    pub fn every_end() -> Vec<StepResult> {
        let signal = StepResult {
            exit_code: Some(139),
            signal: Some(11),
            ..why("signal", Outcome::Signal, "killed by SIGSEGV", None)
        };
        let oom = StepResult {
            killed_by: Some("oom".to_owned()),
            oom: Some(Oom {
                limit_bytes: 64 << 20,
                kills: 1,
                victim: Some(Victim { name: "hog".to_owned(), pid: Some(7), rss_bytes: Some(60 << 20) }),
            }),
            ..why(
                "oom",
                Outcome::Oom,
                "memory limit 64M met; the kernel killed `hog`",
                Some("raise limits.memory"),
            )
        };
        let leftovers = (0..7).map(|pid| Leftover { pid, name: format!("daemon{pid}") }).collect();
        let soft = StepResult {
            conclusion: Outcome::Success,
            leftovers,
            log: LogSummary { dropped_bytes: 5000, ..result("soft", Outcome::Failure).log },
            ..why("soft", Outcome::Failure, "exit code 2", None)
        };
        let unmeasured = StepResult {
            usage: Usage { wall_s: 0.004, ..Usage::default() },
            limits: Caps::default(),
            rights: None,
            ..result("unmeasured", Outcome::Success)
        };
        vec![
            result("success", Outcome::Success),
            unmeasured,
            why("failure", Outcome::Failure, "exit code 2", Some("`runner logs` prints all of it")),
            signal,
            why("timeout", Outcome::Timeout, "ran longer than 2s", Some("raise the step's timeout")),
            oom,
            why("pids", Outcome::Pids, "had 64 processes, its limit", Some("raise limits.pids")),
            soft,
            why("cancelled", Outcome::Cancelled, "stopped by SIGINT", None),
            result("skipped", Outcome::Skipped),
            why("error", Outcome::Error, "cannot create the cgroup", Some("run `runner doctor`")),
        ]
    }
}

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::InMemoryTerm;
use runner::event::{Event, Stream, What};
use runner::outcome::Outcome;
use runner::report::{Output, ReportSettings, Reporter, Screen, Sink};

/// Memory that is read while a sink writes to it.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn sink(&self) -> Sink {
        Sink::new(Box::new(self.clone()))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PLAIN: ReportSettings =
    ReportSettings { output: Output::Plain, color: false, json: false, stderr_is_terminal: false };

/// Runs events through a reporter, one second apart; returns standard output and standard error.
fn show(settings: ReportSettings, events: &[Event]) -> (Vec<u8>, String) {
    let (stdout, stderr) = (Memory::default(), Memory::default());
    let mut reporter = Reporter::with_sinks(settings, stdout.sink(), stderr.sink());
    let mut now = Instant::now();
    for event in events {
        now += Duration::from_secs(1);
        reporter.event(event, now);
        reporter.tick(now);
    }
    reporter.finish();
    (stdout.bytes(), stderr.text())
}

fn plain(events: &[Event]) -> String {
    String::from_utf8(show(PLAIN, events).0).unwrap()
}

/// What is on the screen, and everything that scrolled off it, after all events.
fn terminal(columns: u16, color: bool, events: &[Event]) -> String {
    let memory = Memory::default();
    let mut reporter = Reporter::on_screen(Screen::fixed(columns, 200, memory.sink()), color);
    let mut now = Instant::now();
    for event in events {
        now += Duration::from_secs(1);
        reporter.event(event, now);
        reporter.tick(now);
    }
    let screen = InMemoryTerm::new(400, columns);
    use indicatif::TermLike;
    screen.write_str(&memory.text()).unwrap();
    screen.contents()
}

fn a_step(id: &str, output: &str) -> Vec<Event> {
    vec![fake::start(id, 1, 3), fake::log(id, Stream::Stdout, output)]
}

fn end(result: runner::outcome::StepResult) -> Event {
    let id = result.id.clone();
    fake::event(Some(&id), What::StepEnd { result: Box::new(result) })
}

fn a_run_of_every_end(output: impl Fn(&str) -> String) -> Vec<Event> {
    let results = fake::every_end();
    let mut events = vec![fake::run_start(1)];
    for (index, result) in results.iter().enumerate() {
        if result.outcome != Outcome::Skipped {
            events.push(fake::start(&result.id, index + 1, results.len()));
            events.push(fake::log(&result.id, Stream::Stdout, output(&result.id)));
        }
        events.push(end(result.clone()));
    }
    events.push(fake::event(None, What::Artifact { name: "app".to_owned(), files: 3, bytes: 1_300_000 }));
    let warning = What::Warning {
        code: Some("W411".to_owned()),
        text: "`host` is not reproducible".to_owned(),
        hint: Some("name a tarball".to_owned()),
    };
    events.push(fake::event(None, warning));
    events.push(fake::run_end(Outcome::Oom));
    events
}

#[test]
fn every_end_in_plain_lines() {
    insta::assert_snapshot!("plain_every_end", plain(&a_run_of_every_end(|id| format!("this is {id}\n"))));
}

#[test]
fn every_end_on_a_terminal() {
    let events = a_run_of_every_end(|id| format!("this is {id}\n"));
    insta::assert_snapshot!("terminal_80_every_end", terminal(80, false, &events));
    insta::assert_snapshot!("terminal_40_every_end", terminal(40, false, &events));
}

#[test]
fn colours_only_add_colours() {
    let events = a_run_of_every_end(|id| format!("this is {id}\n"));
    let (colored, _) = show(ReportSettings { color: true, ..PLAIN }, &events);
    let colored = String::from_utf8(colored).unwrap();
    assert!(colored.contains("\x1b[32m") && colored.contains("\x1b[1;31m"));
    let mut stripped = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain(&events));
}

#[test]
fn events_as_json_lines() {
    let settings = ReportSettings { json: true, ..PLAIN };
    let mut events = vec![
        fake::run_start(1),
        fake::event(None, What::JobStart { image: "host".to_owned(), steps: 1 }),
        fake::pull("progress", 10, Some(100), None),
        fake::pull("retrying", 10, None, Some("connection reset")),
        fake::start("build", 1, 1),
        fake::log("build", Stream::Stderr, b"a\xff\x1b[2J\n"),
    ];
    events.extend(fake::every_end().into_iter().take(6).map(end));
    events.push(fake::event(None, What::JobEnd { outcome: Outcome::Failure }));
    events.push(fake::run_end(Outcome::Failure));
    let (stdout, stderr) = show(settings, &events);
    let text = String::from_utf8(stdout).unwrap();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (value["v"].as_u64(), value["run"].as_str()),
            (Some(1), Some("20261123-143012-7fK2")),
            "{line}"
        );
        assert!(line.chars().all(|character| !character.is_control()), "{line}");
    }
    insta::assert_snapshot!("events_ndjson", text);
    assert!(
        stderr.starts_with("run 20261123-143012-7fK2: hello (job.yml)\n"),
        "people read standard error: {stderr}"
    );
}

#[test]
fn a_step_cannot_speak_for_others_or_move_the_cursor() {
    let hostile = "\x1b[2J\x1b[1;1H\x1b]0;owned\x07\x1b]52;c;Y2xpcA==\x07run 1: success\r\nother | ok\n::set-env name=x::y\n\u{202e}\u{9b}2J\x08\n";
    let mut events = vec![fake::run_start(1)];
    events.extend(a_step("evil", hostile));
    events.push(end(fake::result("evil", Outcome::Success)));
    let text = plain(&events);
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
    let of_step: Vec<&str> = text.lines().filter(|line| line.starts_with("evil | ")).collect();
    assert_eq!(
        of_step,
        ["evil | run 1: success", "evil | other | ok", "evil | ::set-env name=x::y", "evil | <U+202E>"]
    );
    assert!(!text.lines().any(|line| line.starts_with("::") || line.starts_with("other |")));

    let mut named = vec![fake::run_start(1)];
    let name = "a\nrun 1: success \x1b[2J".to_owned();
    named.push(fake::event(Some("evil"), What::StepStart { name, index: 1, steps: 1, attempt: 1 }));
    assert_eq!(plain(&named).lines().count(), 2, "a name stays on its line");

    let memory = Memory::default();
    let mut reporter = Reporter::on_screen(Screen::fixed(80, 24, memory.sink()), true);
    for event in &events {
        reporter.event(event, Instant::now());
    }
    let drawn = memory.text();
    for sequence in ["\x1b[2J", "\x1b[1;1H", "\x1b]", "\u{9b}", "\x07"] {
        assert!(!drawn.contains(sequence), "{sequence:?} in {drawn:?}");
    }
}

#[test]
fn lines_of_several_jobs_say_which() {
    let mut events =
        vec![fake::run_start(2), fake::event(None, What::JobStart { image: "host".to_owned(), steps: 1 })];
    events.extend(a_step("build", "x\n"));
    events.push(end(fake::result("build", Outcome::Success)));
    events.push(fake::event(None, What::JobEnd { outcome: Outcome::Success }));
    insta::assert_snapshot!("plain_several_jobs", plain(&events));
}

#[test]
fn pulls_are_told_in_tenths() {
    let mut events = vec![
        fake::pull("waiting", 0, None, Some("another run pulls it")),
        fake::pull("started", 0, Some(1000), None),
    ];
    events.extend((0..=100).map(|percent| fake::pull("progress", percent * 10, Some(1000), None)));
    events.push(fake::pull("retrying", 1000, Some(1000), Some("connection reset")));
    events.push(fake::pull("finished", 1000, Some(1000), None));
    events.push(fake::pull("cached", 0, None, None));
    insta::assert_snapshot!("plain_pull", plain(&events));
    let mut unsized_pull = vec![fake::pull("started", 0, None, None)];
    unsized_pull.extend((0..40).map(|count| fake::pull("progress", count * (10 << 20), None, None)));
    assert_eq!(plain(&unsized_pull).lines().count(), 1 + 3, "a line for each 100 MiB");
}

#[test]
fn silence_is_broken_by_heartbeats() {
    let stdout = Memory::default();
    let mut reporter = Reporter::with_sinks(PLAIN, stdout.sink(), Memory::default().sink());
    let start = Instant::now();
    reporter.event(&fake::start("build", 1, 1), start);
    for second in 1..=150 {
        reporter.tick(start + Duration::from_secs(second));
    }
    assert_eq!(
        stdout.text(),
        "build: step 1 of 1: ./build.sh\nbuild: still running (1m)\nbuild: still running (2m)\n"
    );
}

#[test]
fn the_live_block_shows_the_last_lines_and_goes() {
    let mut events = vec![fake::run_start(1)];
    let output: String = (1..=30)
        .map(|number| format!("line {number} of a compiler that says a lot about things\n"))
        .collect();
    events.extend(a_step("build", &output));
    events.push(fake::log("build", Stream::Stdout, "unfinished\tand tabbed"));
    insta::assert_snapshot!("terminal_80_live", terminal(80, false, &events));
    insta::assert_snapshot!("terminal_40_live", terminal(40, false, &events));
    events.push(end(fake::result("build", Outcome::Success)));
    insta::assert_snapshot!("terminal_80_after_live", terminal(80, false, &events));
    events.pop();
    events.push(end(fake::result("build", Outcome::Failure)));
    assert!(!terminal(80, false, &events).contains("before"), "31 lines fit");
}

#[test]
fn a_failure_shows_forty_lines() {
    let mut events = vec![fake::run_start(1)];
    let output: String = (1..=100).map(|number| format!("line {number}\n")).collect();
    events.extend(a_step("test", &output));
    let mut result = fake::result("test", Outcome::Failure);
    result.cause = Some("exit code 2".to_owned());
    events.push(end(result));
    insta::assert_snapshot!("terminal_failure", terminal(80, false, &events));
}

#[test]
fn output_passes_through_byte_for_byte() {
    let settings = ReportSettings { output: Output::Passthrough, ..PLAIN };
    let bytes: Vec<u8> = (0..=255).collect();
    let events = [
        fake::run_start(1),
        fake::pull("started", 0, None, None),
        fake::start("run", 1, 1),
        fake::log("run", Stream::Stdout, &bytes),
        fake::log("run", Stream::Stderr, "err\n"),
        fake::event(None, What::Warning { code: None, text: "swap is on".to_owned(), hint: None }),
        end(fake::every_end().remove(5)),
        fake::run_end(Outcome::Oom),
    ];
    let (stdout, stderr) = show(settings, &events);
    assert_eq!(stdout, bytes);
    insta::assert_snapshot!("passthrough_stderr", stderr);
    let (_, silent) = show(
        settings,
        &[fake::run_start(1), end(fake::every_end().remove(2)), fake::run_end(Outcome::Failure)],
    );
    assert_eq!(silent, "", "a command's own failure speaks for itself");
}

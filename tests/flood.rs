//! 100 MiB of output. Alone in its process, because it measures the process's memory.

#![expect(clippy::unwrap_used, reason = "a test whose ground cannot be laid must stop")]

use std::io;
use std::time::Instant;

use runner::event::{Event, Stream, What};
use runner::report::{Output, ReportSettings, Reporter, Screen, Sink};
use runner::run::record::RunDirectory;

const PLAIN: ReportSettings =
    ReportSettings { output: Output::Plain, color: false, json: false, stderr_is_terminal: false };

fn event(what: What) -> Event {
    let (job, step) = (Some("job".to_owned()), Some("flood".to_owned()));
    Event { v: 1, ts: String::new(), run: "r".to_owned(), job, step, what }
}

fn output(data: Vec<u8>) -> Event {
    event(What::StepLog { stream: Stream::Stdout, seq: 0, data })
}

/// Peak resident memory of this process so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_flood_is_shown_in_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let run = RunDirectory::create(&home, None).unwrap();
    let staged = run.stage_step("job", 1, "flood").unwrap();
    let (_step, mut log) = staged.publish(10 << 20, Instant::now()).unwrap();
    let nowhere = || Sink::new(Box::new(io::sink()));
    let mut reporters = [
        Reporter::with_sinks(PLAIN, nowhere(), nowhere()),
        Reporter::with_sinks(ReportSettings { json: true, ..PLAIN }, nowhere(), nowhere()),
        Reporter::on_screen(Screen::fixed(80, 24, nowhere()), true),
    ];
    // A line of 48 MiB, then short lines.
    let mut chunk_event = output(vec![b'x'; 64 * 1024]);
    let lines: Vec<u8> = b"0123456789abcde\n".repeat(4096);
    let before = peak();
    for reporter in &mut reporters {
        reporter.event(
            &event(What::StepStart { name: "flood".to_owned(), index: 1, steps: 1, attempt: 1 }),
            Instant::now(),
        );
    }
    for chunk in 0..1600 {
        if chunk == 768 {
            chunk_event = output(lines.clone());
        }
        let What::StepLog { stream, data, .. } = &chunk_event.what else { unreachable!() };
        log.append(*stream, data, Instant::now()).unwrap();
        // Without optimisation a line costs microseconds; a quarter of the flood is flood enough for two of them.
        let shown = if chunk % 4 == 0 { &mut reporters[..] } else { &mut reporters[2..] };
        for reporter in shown {
            reporter.event(&chunk_event, Instant::now());
        }
    }
    let summary = log.finish().unwrap();
    assert_eq!((summary.bytes, summary.bytes + summary.dropped_bytes), (10 << 20, 100 << 20));
    let grown = peak() - before;
    assert!(grown < 16 << 20, "100 MiB of output took {grown} bytes of memory");
}

//! `make bench`: what a step, a run and an unpacking cost, beside the tools that do the like.
//!
//! Everything is measured in one session, contenders in a new random order every round; figures are medians, and ratios to
//! the floor (`floor.c`: the same system calls and nothing else; for unpacking: decompressing to nowhere). Seconds differ
//! from machine to machine, ratios hardly.
//!
//! Arguments: `--quick` (fewer rounds), `--write-docs` (docs/benchmarks.md), or words out of table titles to measure only those.

#[path = "bench/compare.rs"]
mod compare;
#[path = "bench/lab.rs"]
mod lab;
#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/network.rs"]
mod network;
#[path = "bench/pull.rs"]
mod pull;
#[path = "bench/rivals.rs"]
mod rivals;
#[path = "bench/run.rs"]
mod run;
#[path = "bench/steps.rs"]
mod steps;
#[path = "bench/table.rs"]
mod table;
#[path = "bench/targets.rs"]
mod targets;
#[path = "bench/unpack.rs"]
mod unpack;
#[path = "../tests/world.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "written for tests, which change it in ways that nobody measures"
)]
mod world;

use lab::Lab;
use std::process::ExitCode;
use table::Table;
use targets::Place;

/// A title, and what fills its table.
type Chapter = (&'static str, fn(&Lab) -> Table);

const CHAPTERS: &[Chapter] = &[
    ("step, back to back", |lab| steps::overhead(lab, 0)),
    ("step, after a pause of 40 ms", |lab| steps::overhead(lab, 40)),
    ("gap between two steps", steps::gap),
    ("a job of 10,000 steps", steps::soak),
    ("run of one step, start to exit", run::start_to_exit),
    ("unpack gz to tmpfs", |lab| unpack::table(lab, unpack::Format::Gzip, Place::Memory)),
    ("unpack zst to tmpfs", |lab| unpack::table(lab, unpack::Format::Zstd, Place::Memory)),
    ("unpack gz to disk", |lab| unpack::table(lab, unpack::Format::Gzip, Place::Disk)),
    ("unpack zst to disk", |lab| unpack::table(lab, unpack::Format::Zstd, Place::Disk)),
    ("pull of five layers to tmpfs", |lab| pull::table(lab, Place::Memory)),
    ("pull of five layers to disk", |lab| pull::table(lab, Place::Disk)),
    ("image that is in the store", pull::lookup),
    ("network: 400 MB down", |lab| network::table(lab, network::Way::Down)),
    ("network: 400 MB up", |lab| network::table(lab, network::Way::Up)),
    ("network: connect", |lab| network::table(lab, network::Way::Connect)),
    ("peak memory while streaming", memory::peaks),
];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let is_flag = |flag: &str| words.iter().any(|word| word == flag);
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    if !rustix::process::geteuid().is_root() {
        table::say("the floor needs root: nothing was measured\n");
        return ExitCode::FAILURE;
    }
    let lab = Lab::set_up(is_flag("--quick"));
    table::say(&format!("{}\n", lab.machine()));
    let mut tables = Vec::new();
    for (title, measure) in CHAPTERS {
        if wanted.is_empty() || wanted.iter().any(|word| title.contains(word.as_str())) {
            let measured = measure(&lab).titled(title);
            table::say(&measured.as_text());
            tables.push(measured);
        }
    }
    table::write_json(&tables, &lab);
    if is_flag("--write-docs") {
        table::write_docs(&tables, &lab);
    }
    ExitCode::SUCCESS
}

//! `runner runs`, `ps`, `cancel`, `wait`, `prune`: lists of runs.

use serde::Serialize;
use serde_json::{Value, json};

use super::escape;
use super::format::{self, Paint, count};
use super::plain::show_name;
use super::sink::Sink;
use crate::outcome::Outcome;
use crate::run::living::{LivingJob, LivingRun, Portrait};
use crate::run::prune::PrunedRuns;
use crate::run::record::{RunRecord, RunState};

/// Columns of a run's name in the list.
const NAME_COLUMNS: usize = 40;
/// Columns of a process's command.
const COMMAND_COLUMNS: usize = 100;

/// Prints runs as a table, or an array.
pub fn list(sink: &mut Sink, runs: &[RunRecord], as_json: bool, color: bool) {
    if as_json {
        return print(sink, &runs.iter().map(summary).collect::<Vec<_>>());
    }
    let paint = Paint { color };
    let widest = runs.iter().map(|run| run.id.len()).max().unwrap_or_default();
    if !runs.is_empty() {
        let head = format!("  {:widest$}  {:9}  {:>7}  {:>4}  NAME", "RUN", "OUTCOME", "TIME", "EXIT");
        sink.line(&paint.dim(&head));
    }
    for run in runs {
        let (mark, word) = state(run, paint);
        let time = run.wall_s.map_or_else(|| "-".to_owned(), format::duration);
        let code = run.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let name = escape::fit(&show_name(&run.name), NAME_COLUMNS);
        let file = run.file.as_ref().map(|file| format!(" ({})", show_name(file))).unwrap_or_default();
        sink.line(&format!(
            "{mark} {:widest$}  {word:9}  {time:>7}  {code:>4}  {}{file}",
            run.id,
            name.trim_end()
        ));
    }
    sink.flush();
}

fn state(run: &RunRecord, paint: Paint) -> (String, &'static str) {
    match (run.state, run.outcome) {
        (RunState::Running, _) => (paint.notice("▸"), "running"),
        (RunState::Finished, Some(outcome)) => (paint.mark(outcome), outcome.as_str()),
        (RunState::Died, _) | (RunState::Finished, None) => (paint.mark(Outcome::Error), "died"),
    }
}

fn summary(run: &RunRecord) -> Value {
    json!({
        "id": run.id, "state": run.state, "name": run.name, "file": run.file, "started": run.started,
        "ended": run.ended, "wall_s": run.wall_s, "outcome": run.outcome, "conclusion": run.conclusion,
        "exit_code": run.exit_code,
    })
}

/// Prints what runs just now, as a tree or an array.
pub fn living(sink: &mut Sink, runs: &[LivingRun], as_json: bool, color: bool) {
    if as_json {
        return print(sink, &runs);
    }
    let paint = Paint { color };
    for run in runs {
        let file = run.file.as_ref().map(|file| format!(" ({})", show_name(file))).unwrap_or_default();
        sink.line(&format!("run {} {}{file}", paint.strong(&run.id), show_name(&run.name)));
        for (job, branch, below) in branches(&run.jobs) {
            let waits = if job.steps.is_empty() { ": between steps" } else { "" };
            sink.line(&format!("{branch}job {}{waits}", job.id));
            for ((head, elapsed_s, of_one), branch, deeper) in branches(&parts(job)) {
                let took = elapsed_s.map(|elapsed| format!(", {}", format::duration(elapsed)));
                sink.line(&format!("{below}{branch}{head}{}", took.unwrap_or_default()));
                processes(sink, of_one, &format!("{below}{deeper}"));
            }
        }
    }
    sink.flush();
}

/// What runs of a job, services before steps: what it is called, for how long it has run, its processes.
fn parts(job: &LivingJob) -> Vec<(String, Option<f64>, &[Portrait])> {
    let services = job.services.iter();
    let services =
        services.map(|one| (format!("service {}", one.name), one.elapsed_s, one.processes.as_slice()));
    let steps = job.steps.iter();
    let steps =
        steps.map(|one| (format!("step {} {}", one.index, one.id), one.elapsed_s, one.processes.as_slice()));
    services.chain(steps).collect()
}

fn processes(sink: &mut Sink, processes: &[Portrait], indent: &str) {
    for process in processes {
        let command = escape::fit(&show_name(&process.command), COMMAND_COLUMNS);
        let depth = "  ".repeat(process.depth);
        sink.line(&format!("{indent}{:>7} {}  {depth}{}", process.pid, process.state, command.trim_end()));
    }
}

/// Each with what stands before it in a tree, and before what is below it.
fn branches<T>(list: &[T]) -> impl Iterator<Item = (&T, &'static str, &'static str)> {
    let last = list.len().saturating_sub(1);
    list.iter()
        .enumerate()
        .map(move |(at, one)| if at == last { (one, "└─ ", "   ") } else { (one, "├─ ", "│  ") })
}

/// Says that a run was asked to end.
pub fn cancelled(sink: &mut Sink, run: &str, now: bool) {
    let manner = if now { "is being killed" } else { "is ending" };
    sink.line(&format!("run {run} {manner}; `runner wait {run}` waits for it"));
    sink.flush();
}

/// Says how a run that was waited for ended.
pub fn ended(sink: &mut Sink, run: &RunRecord, color: bool) {
    let paint = Paint { color };
    if let (Some(outcome), Some(code)) = (run.outcome, run.exit_code) {
        sink.line(&super::plain::run_end(&run.id, outcome, code, run.wall_s.unwrap_or_default(), paint));
    }
    sink.flush();
}

/// Prints which runs went, or would go, and what is left.
pub fn pruned(sink: &mut Sink, pruned: &PrunedRuns, dry_run: bool, as_json: bool) {
    if as_json {
        return print(sink, pruned);
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    for run in &pruned.removed {
        sink.line(&format!(
            "{verb} {}: {}, {} old",
            run.id,
            format::size(run.bytes),
            format::duration(run.age_s as f64)
        ));
    }
    let bytes: u64 = pruned.removed.iter().map(|run| run.bytes).sum();
    sink.line(&format!(
        "{verb} {}, {}; {} of {} stay",
        count(pruned.removed.len() as u64, "run"),
        format::size(bytes),
        format::size(pruned.kept_bytes),
        count(pruned.kept, "run")
    ));
    sink.flush();
}

fn print(sink: &mut Sink, value: &impl Serialize) {
    // Strings and numbers only: serialising cannot fail.
    if let Ok(text) = serde_json::to_string_pretty(value) {
        sink.line(&text);
    }
    sink.flush();
}

//! What a step costs besides its command: back to back, and after a pause as steps of a build have it.
//!
//! The command reads the clock when it starts and when it ends (`probe clock`), so a step's cost is seen from inside: from the
//! end of one step's command to the start of the next one's. The runner's own records are not trusted for it.

use crate::compare::{Contender, Measured, Row, compare};
use crate::lab::{Lab, finish, first_column};
use crate::rivals;
use crate::table::Table;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sandboxes per turn.
const COUNT: usize = 20;
const COMMAND: &[&str] = &["/probe", "clock", "0"];

/// A step's overhead; before each there is a pause.
pub fn overhead(lab: &Lab, pause_ms: usize) -> Table {
    let filters = write_filters(lab);
    let host_probe = lab.root.join("probe").display().to_string();
    let mut contenders = vec![
        Contender::new("spawn", "nothing: the program alone", move || {
            lab.time(COUNT, pause_ms, &[&host_probe, "clock", "0"])
        }),
        Contender::new(
            "floor",
            "7 namespaces, cgroups, overlay, masks, filter: the system calls alone",
            move || floor(lab, &filters, pause_ms),
        ),
        Contender::new(
            "runner",
            "a step of a job with log and records; the next one's sandbox is built meanwhile",
            move || steps(lab, pause_ms),
        ),
    ];
    contenders.extend(rivals::all(lab, COUNT / 2, pause_ms, COMMAND));
    Table::new("ms", Some("floor"), compare(contenders, lab.rounds(9)))
}

/// The same, as what a job's user waits for between two commands.
pub fn gap(lab: &Lab) -> Table {
    let contenders = vec![
        Contender::new("after a step of 0 ms", "end of a command to start of the next", move || {
            steps(lab, 0)
        }),
        Contender::new("after a step of 40 ms", "the same", move || steps(lab, 40)),
        Contender::new("after a step of 200 ms", "the same", move || steps(lab, 200)),
    ];
    Table::new("ms", None, compare(contenders, lab.rounds(3)))
}

/// A job so long that whatever a step leaves behind would slow down the later ones.
pub fn soak(lab: &Lab) -> Table {
    const STEPS: usize = 9_999;
    const PART: usize = 1_000;
    let gaps = gaps_of(lab, STEPS, 0);
    let row = |who, part: fn(&[f64]) -> &[f64]| {
        let (mut figures, left_out) = match &gaps {
            Ok(gaps) => (part(gaps).to_vec(), None),
            Err(reason) => (Vec::new(), Some(reason.clone())),
        };
        figures.sort_by(f64::total_cmp);
        Row { who, does: "end of a command to start of the next, in one job", figures, left_out }
    };
    let rows = vec![
        row("the first 1,000 of 10,000 steps", |gaps| &gaps[..PART]),
        row("the last 1,000 of 10,000 steps", |gaps| &gaps[gaps.len() - PART..]),
    ];
    Table::new("ms", None, rows)
}

fn floor(lab: &Lab, filters: &[PathBuf], pause_ms: usize) -> Measured {
    let (out, uppers) = (lab.on_disk("floor.times"), lab.on_disk("uppers"));
    fs::create_dir_all(&uppers).map_err(|error| error.to_string())?;
    let mut command = Command::new(&lab.floor);
    command.arg(&lab.root).arg(uppers).args(filters).arg("--");
    command.args([COUNT.to_string(), pause_ms.to_string()]).arg(&out).args(COMMAND);
    finish(&mut command)?;
    first_column(&out)
}

fn steps(lab: &Lab, pause_ms: usize) -> Measured {
    gaps_of(lab, COUNT, pause_ms)
}

/// One job of many steps; its figures come from the steps' logs.
fn gaps_of(lab: &Lab, count: usize, pause_ms: usize) -> Measured {
    let mut file = format!("image: {}\nworkspace: empty\nnetwork: none\n", lab.tarball.display());
    file.push_str("limits: {cpus: 2, memory: 1G, pids: 4096}\nsteps:\n");
    for index in 0..=count {
        file.push_str(&format!("  - {{id: s{index:05}, run: [/probe, clock, \"{pause_ms}\"]}}\n"));
    }
    let path = lab.on_disk("steps.yml");
    fs::write(&path, file).map_err(|error| error.to_string())?;
    finish(&mut lab.runner(&["exec", &path.display().to_string()]))?;
    let clocks = clocks(&lab.home().join("runs/latest/jobs"))?;
    if clocks.len() != count + 1 {
        return Err(format!("{} of {} steps left their clock in a log", clocks.len(), count + 1));
    }
    Ok(clocks.windows(2).map(|pair| (pair[1].0 - pair[0].1) as f64 / 1e6).collect())
}

/// Start and end of every step's command in nanoseconds, in the order of the steps' directories: the one place that knows
/// the run directory.
fn clocks(jobs: &Path) -> Result<Vec<(i64, i64)>, String> {
    let mut logs: Vec<_> = subdirectories(jobs)?
        .iter()
        .filter_map(|job| subdirectories(&job.join("steps")).ok())
        .flatten()
        .map(|step| step.join("log"))
        .collect();
    // Numbers have two digits at least.
    logs.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    let clock = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut words = text.split_whitespace().filter_map(|word| word.parse().ok());
        words.next().zip(words.next()).ok_or_else(|| format!("{}: no clock", path.display()))
    };
    logs.iter().map(clock).collect()
}

fn subdirectories(path: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

/// The filters a step really gets, for the floor to load.
fn write_filters(lab: &Lab) -> Vec<PathBuf> {
    let write = |(index, filter): (usize, &&[u8])| {
        let path = lab.on_disk(&format!("filter-{index}"));
        fs::write(&path, filter).expect("the place is ours");
        path
    };
    runner::sandbox::filters::default().iter().enumerate().map(write).collect()
}

//! The peak memory of the runner while much more than that passes through it.

use crate::compare::{Contender, Measured, compare};
use crate::lab::{Lab, finish};
use crate::table::Table;
use std::fs;
use std::process::Command;

/// What passes through: far above what may be resident, and soon done.
const STREAMED_BYTES: u64 = 1 << 30;

/// Steps of one job: the most that it may have.
const STEPS: usize = 10_000;

/// Peak resident set of `runner` and what it waited for, in MiB.
pub fn peaks(lab: &Lab) -> Table {
    let layer = lab.in_memory("large.tar");
    let flood = lab.on_disk("flood.yml");
    let image = lab.tarball.display().to_string();
    let text = format!(
        "image: {image}\nworkspace: empty\nnetwork: none\nsteps:\n  - run: [/probe, write-flood, \"{STREAMED_BYTES}\"]\n"
    );
    fs::write(&flood, text).expect("the place is ours");
    fixtures::archive::write_large_tar(&layer, STREAMED_BYTES).expect("memory for a gibibyte");
    let (layer, target) = (layer.display().to_string(), lab.in_memory("large"));
    let flood = flood.display().to_string();
    let many = lab.on_disk("many.yml");
    let mut text = format!("image: {image}\nworkspace: empty\nnetwork: none\nsteps:\n");
    (0..STEPS)
        .for_each(|index| text.push_str(&format!("  - {{id: s{index:05}, run: [/probe, clock, \"0\"]}}\n")));
    fs::write(&many, text).expect("the place is ours");
    let many = many.display().to_string();
    let contenders = vec![
        Contender::new("runner exec, 10,000 steps", "their results are kept to the end", move || {
            peak(lab, &["exec", &many])
        }),
        Contender::new("runner exec, 1 GiB of log", "written, indexed, shown to nobody", move || {
            let measured = peak(lab, &["exec", &flood])?;
            check(logged(lab) == STREAMED_BYTES, measured)
        }),
        Contender::new("runner image unpack, a layer of 1 GiB", "to tmpfs", move || {
            let _gone = fs::remove_dir_all(&target);
            let measured = peak(lab, &["image", "unpack", &layer, &target.display().to_string()])?;
            let length = fs::metadata(target.join("large")).map_or(0, |made| made.len());
            check(length == STREAMED_BYTES, measured)
        }),
    ];
    let rows = compare(contenders, 1);
    let _gone = fs::remove_dir_all(lab.in_memory("large"));
    let _gone = fs::remove_file(lab.in_memory("large.tar"));
    Table::new("MiB", None, rows)
}

/// A small peak is no merit where nothing was done.
fn check(everything_came: bool, measured: Vec<f64>) -> Measured {
    everything_came.then_some(measured).ok_or_else(|| "it ended well and not every byte came".to_owned())
}

/// The length of the last run's only log.
fn logged(lab: &Lab) -> u64 {
    let step = fs::read_dir(lab.home().join("runs/latest/jobs")).into_iter().flatten().flatten().next();
    let steps = step.and_then(|job| fs::read_dir(job.path().join("steps")).ok());
    let log = steps.and_then(|mut steps| steps.next()).and_then(Result::ok);
    log.and_then(|step| fs::metadata(step.path().join("log")).ok()).map_or(0, |log| log.len())
}

fn peak(lab: &Lab, arguments: &[&str]) -> Measured {
    let out = lab.on_disk("rss");
    let mut command = Command::new(&lab.floor);
    command
        .arg("rss")
        .arg(&out)
        .arg(&lab.runner)
        .args(arguments)
        .env("RUNNER_HOME", lab.home())
        .current_dir(lab.on_disk("cwd"));
    finish(&mut command)?;
    let kib: f64 =
        fs::read_to_string(&out).ok().and_then(|text| text.trim().parse().ok()).ok_or("no figure")?;
    Ok(vec![kib / 1024.0])
}

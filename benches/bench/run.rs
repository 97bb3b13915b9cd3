//! A whole run of one step, from the start of the command to its exit, with everything in the store already.

use crate::compare::{Contender, Measured, compare};
use crate::lab::Lab;
use crate::rivals;
use crate::table::Table;
use std::fs;

const COUNT: usize = 5;
const COMMAND: &[&str] = &["/probe", "clock", "0"];

/// `runner exec` and `runner run` against whoever runs one program in a sandbox.
pub fn start_to_exit(lab: &Lab) -> Table {
    let file = lab.on_disk("one.yml");
    let image = lab.tarball.display().to_string();
    let text =
        format!("image: {image}\nworkspace: empty\nnetwork: none\nsteps:\n  - run: [/probe, clock, \"0\"]\n");
    fs::write(&file, text).expect("the place is ours");
    let (file, runner) = (file.display().to_string(), lab.runner.display().to_string());
    let runner_again = runner.clone();
    let host_probe = lab.root.join("probe").display().to_string();
    let mut contenders = vec![
        Contender::new("spawn", "nothing: the program alone", move || {
            lab.time(COUNT, 0, &[&host_probe, "clock", "0"])
        }),
        Contender::new("runner exec", "parse, plan, store, sandbox, log, records", move || {
            runs(lab, &[&runner, "exec", &file])
        }),
        Contender::new("runner run", "the same without a file", move || {
            let line = [runner_again.as_str(), "run", "--network", "none", &image, "--"];
            runs(lab, &[&line, COMMAND].concat())
        }),
    ];
    contenders.extend(rivals::all(lab, COUNT, 0, COMMAND));
    Table::new("ms", Some("bubblewrap"), compare(contenders, lab.rounds(9)))
}

/// Several runs, after one whose output shows that the command really ran: it prints the clock, twice.
fn runs(lab: &Lab, command: &[&str]) -> Measured {
    /// More digits than any other number in the output has: nanoseconds of a machine that is up for ten seconds.
    const DIGITS_MIN: usize = 11;
    let shown = lab.runner(&command[1..]).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned() + &String::from_utf8_lossy(&shown.stderr);
    let is_clock = |word: &&str| word.len() >= DIGITS_MIN && word.bytes().all(|byte| byte.is_ascii_digit());
    if text.split_whitespace().filter(is_clock).count() < 2 {
        let reason = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output");
        return Err(format!("the command did not run: {reason}"));
    }
    lab.time(COUNT, 0, command)
}

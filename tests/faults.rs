//! What happens when the runner, one of its processes, or the disk fails in the middle of a run.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fixtures::{Leftovers, User, require, wait_for};
use lab::Lab;
use rustix::process::{Pid, Signal, kill_process};
use waiting::wait_for_file;

/// Moments at which the runner is killed: as root, and as a user with subids.
const KILLS: [u32; 2] = [60, 40];
/// Whose the workspace is in these tests: not root's, so that a file that stayed root's is seen.
const OWNER: u32 = 4711;

fn start(lab: &Lab) -> Child {
    let mut command = lab.context.command(&["exec", "job.yml"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Processes with this in their environment: ours inherit `RUNNER_HOME`, a step's are given it by the job file.
fn processes_of(mark: &str) -> BTreeSet<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    })
    .collect()
}

/// Children of a process with this name.
fn children_called(parent: u32, name: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let field =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        if field("PPid:") == parent.to_string() && field("Name:") == name {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

/// The init of a step: it waits in the step's cgroup for its go, or for the step's end.
fn init_of(keeper: u32, step: &str) -> Option<Pid> {
    let is_of_step = |init: &Pid| {
        let cgroups =
            fs::read_to_string(format!("/proc/{}/cgroup", init.as_raw_nonzero())).unwrap_or_default();
        cgroups.lines().any(|line| line.ends_with(&format!("/{step}")))
    };
    children_called(keeper, "runner-init").into_iter().find(is_of_step)
}

/// Cgroups of this home's runs, in every hierarchy.
fn cgroups_of(home: &Path) -> Vec<PathBuf> {
    let names: Vec<String> = fs::read_dir(home.join("runs"))
        .unwrap()
        .map(|entry| format!("runner-{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if names.iter().any(|name| entry.file_name() == name.as_str()) {
                    found.push(entry.path());
                }
                directories.push(entry.path());
            }
        }
    }
    found
}

/// Mounts of this namespace that have to do with this directory.
fn mounts_of(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let name = directory.display().to_string();
    mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Directories anywhere below that are hidden: what was made and never published.
fn hidden_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with('.') {
                    found.push(entry.path());
                }
                directories.push(entry.path());
            }
        }
    }
    found
}

fn give(directory: &Path) {
    chown(directory, Some(OWNER), Some(OWNER)).unwrap();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        chown(entry.path(), Some(OWNER), Some(OWNER)).unwrap();
    }
}

/// Twenty steps that write in the workspace and in the root, and leave daemons; an artifact at the end.
fn long_job(mark: &str) -> String {
    let mut job =
        format!("env: {{MARK: \"{mark}\"}}\nartifacts: [{{name: all, paths: [\"out/**\"]}}]\nsteps:\n");
    for step in 0..20 {
        let daemon = if step % 9 == 3 { "/opt/probe leave-daemon 3600; " } else { "" };
        job.push_str(&format!(
            "  - {daemon}mkdir -p out; echo {step} > out/{step}; echo {step} > /var/{step}\n"
        ));
    }
    job
}

fn killed_at_any_moment(user: User, kills: u32) {
    let before = Leftovers::now();
    let lab = Lab::new(user);
    let home = lab.context.home();
    let mark = home.display().to_string();
    let job = long_job(&mark);
    lab.write(&job);
    if user == User::Current {
        give(&lab.context.work());
    }
    let owner = fs::metadata(lab.context.work()).unwrap().uid();
    let clock = Instant::now();
    lab.context.run(&["exec"]).expect_code(0);
    let whole = clock.elapsed();
    for number in 0..kills {
        let mut child = start(&lab);
        // Any moment will do; these are spread over the run, and no two runs of the test hit the same ones.
        let jitter = Duration::from_nanos(u64::from(std::process::id()) * 7919 % 10_000_000);
        std::thread::sleep(whole * number / kills + jitter);
        kill(Pid::from_child(&child));
        child.wait().unwrap();
        assert!(wait_for(|| processes_of(&mark).is_empty()), "kill {number}: {:?}", processes_of(&mark));
        let mounts = mounts_of(&home);
        assert!(mounts.is_empty(), "kill {number}: mounted in the host's namespace: {mounts:?}");
    }
    let doctor = lab.context.run(&["doctor"]);
    assert_eq!(doctor.code(), Some(0), "{}", doctor.stdout_text() + &doctor.stderr_text());
    let cgroups = cgroups_of(&home);
    assert!(cgroups.is_empty(), "{cgroups:?}");
    for directory in ["scratch", "live"] {
        let left = names_in(&home.join(directory));
        let said = doctor.stdout_text() + &doctor.stderr_text();
        assert!(
            left.is_empty(),
            "{directory}: {left:?}; in live: {:?}\n{said}",
            names_in(&home.join("live"))
        );
    }
    let mut hidden = hidden_in(&home.join("runs"));
    // A run that died while its own directory was made is told from one that is being made by its age alone.
    hidden.retain(|path| path.parent() != Some(&home.join("runs")));
    assert!(hidden.is_empty(), "{hidden:?}");
    let files = names_in(&lab.context.work().join("out"));
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(fs::metadata(lab.context.work().join("out").join(&file)).unwrap().uid(), owner, "{file}");
    }
    // What was stored is whole: the next run is green.
    let run = lab.exec(&job, 0);
    assert_eq!((run.log(19).len(), run.step(19)["outcome"].as_str()), (0, Some("success")));
    before.assert_nothing_new();
}

#[test]
fn a_killed_runner_leaves_nothing_after_the_next_call() {
    require!(Root, Cgroups, Busybox);
    killed_at_any_moment(User::Current, KILLS[0]);
}

#[test]
fn with_subids_a_killed_runner_leaves_nothing_after_the_next_call() {
    require!(UserNamespaces, Newuidmap, Busybox);
    killed_at_any_moment(User::WithSubids, KILLS[1]);
}

/// Three steps; the first leaves a daemon, says `ready` and waits for `go`. The third's sandbox does not exist yet then.
const WAITING: &str = "steps:\n\
    \x20 - '/opt/probe leave-daemon 3600; touch ready; while [ ! -e go ]; do sleep 0.02; done'\n\
    \x20 - echo second\n\
    \x20 - echo third\n";

/// Kills what `choose` picks among the keeper's children while the first step runs, and lets the step end.
fn kill_while_it_runs(choose: impl Fn(u32) -> Option<Pid>) -> (Lab, Output) {
    let lab = Lab::new(User::Current);
    lab.write(WAITING);
    let mut child = start(&lab);
    wait_for_file(&lab, &mut child, "ready");
    let mut victim = None;
    assert!(
        wait_for(|| {
            victim = choose(child.id());
            victim.is_some()
        }),
        "the process is there"
    );
    kill(victim.unwrap());
    lab.context.write("go", "");
    (lab, child.wait_with_output().unwrap())
}

/// A run that lost a process of ours ends: with all steps done, or with an error that says so.
#[track_caller]
fn assert_done_or_told(lab: &Lab, output: &Output) {
    let said = said(output);
    if output.status.success() {
        let run = lab.finished(lab.context.run(&["show"]));
        assert_eq!(run.text(2), "third\n");
    } else {
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("error: "), "{said}");
    }
}

#[test]
fn a_killed_init_is_an_error_of_the_step() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let (lab, output) = kill_while_it_runs(|keeper| init_of(keeper, "step-1"));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let run = lab.finished(lab.context.run(&["show"]));
    assert_eq!(run.step(0)["outcome"], "error");
    assert!(said(&output).contains("init was killed"), "{}", said(&output));
    assert_eq!(run.step(1)["outcome"], "skipped");
    before.assert_nothing_new();
}

#[test]
fn a_killed_init_of_the_next_step_is_told() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let (lab, output) = kill_while_it_runs(|keeper| init_of(keeper, "step-2"));
    assert_done_or_told(&lab, &output);
    before.assert_nothing_new();
}

#[test]
fn a_killed_stage_is_told() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let (lab, output) =
        kill_while_it_runs(|keeper| children_called(keeper, "runner-stage").into_iter().next());
    assert_done_or_told(&lab, &output);
    before.assert_nothing_new();
}

#[test]
fn a_killed_zygote_is_told() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let (lab, output) =
        kill_while_it_runs(|keeper| children_called(keeper, "runner-zygote").into_iter().next());
    assert_done_or_told(&lab, &output);
    before.assert_nothing_new();
}

/// Runs a shell script in a mount namespace of its own where `RUNNER_HOME` is a tmpfs with these options.
fn with_home_on(lab: &Lab, options: &str, script: &str) -> Output {
    let script = format!("mount -t tmpfs -o {options} none \"$RUNNER_HOME\"\n{script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "bash", "-c", &script]);
    command.arg(env!("CARGO_BIN_EXE_runner")).current_dir(lab.context.work()).stdin(Stdio::null());
    command.env("RUNNER_HOME", lab.context.home()).env("HOME", lab.context.work());
    command.output().unwrap()
}

#[test]
fn a_full_disk_is_named() {
    require!(Root, Cgroups, Busybox, Program("unshare"));
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let jobs = [
        // A log that does not fit.
        "steps:\n  - run: [/opt/probe, write-flood, \"20000000\"]\n",
        // An artifact that does not fit.
        "artifacts: [{name: big, paths: [big]}]\nsteps:\n  - /opt/probe write-file big 20000000\n",
        // A workspace that does not fit.
        "workspace: copy\nsteps: ['true']\n",
    ];
    for job in jobs {
        lab.write(job);
        let output = with_home_on(&lab, "size=8m", "\"$0\" exec");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(3), "{job}\n{said}");
        assert!(said.to_lowercase().contains("no space left on"), "{job}\n{said}");
        assert!(said.contains("hint: ") && said.contains("space"), "{job}\n{said}");
        assert!(said.contains(&lab.context.home().display().to_string()), "{job}\n{said}");
    }
    before.assert_nothing_new();
}

#[test]
fn after_a_full_disk_the_store_is_whole() {
    require!(Root, Cgroups, Busybox, Program("unshare"));
    let lab = Lab::new(User::Current);
    lab.write("steps: [echo ready]\n");
    lab.context.write(
        "large.yml",
        lab.context.read("job.yml").replace("[echo ready]", "[/opt/probe write-flood 20000000]"),
    );
    let script =
        "\"$0\" exec large.yml; echo first $?; rm -r \"$RUNNER_HOME\"/runs; \"$0\" exec; echo second $?";
    let output = with_home_on(&lab, "size=8m", script);
    let said = said(&output);
    assert!(said.contains("first 3\n") && said.contains("second 0\n"), "{said}");
    assert!(said.contains("from the store"), "the image was kept: {said}");
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    require!(Root, Busybox, Program("unshare"));
    let lab = Lab::new(User::Current);
    lab.write("steps: [touch made]\n");
    let output = with_home_on(&lab, "ro", "\"$0\" exec");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.to_lowercase().contains("read-only file system") && said.contains("error: "), "{said}");
    assert!(said.contains(&lab.context.home().display().to_string()), "{said}");
    assert!(!lab.context.work().join("made").exists());
}

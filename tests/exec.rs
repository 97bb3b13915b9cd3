//! `runner exec` and `runner run` from a job file to exit codes, logs and records, on real sandboxes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fixtures::{Leftovers, Ran, User, require};
use lab::{Lab, Run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use waiting::wait_for_file;

const RUN: [&str; 6] = ["run", "./rootfs.tar", "--network", "none", "--mount", "./probe:/opt/probe"];

/// `runner run`, a busybox and the probe, with these words.
fn run(lab: &Lab, words: &[&str]) -> Ran {
    lab.context.run(&[&RUN[..], words].concat())
}

/// Starts `runner exec job.yml`.
fn start(lab: &Lab, job: &str) -> Child {
    lab.write(job);
    let mut command = lab.context.command(&["exec", "job.yml"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn owners(directory: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.path().symlink_metadata().unwrap();
        found.push((entry.path().display().to_string(), metadata.uid()));
        if metadata.is_dir() {
            found.extend(owners(&entry.path()));
        }
    }
    found
}

#[test]
fn every_exit_code_comes_back() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let mut job = "continue-on-error: true\nsteps:\n".to_owned();
    for code in 0..256 {
        // By a shell and without one in turn.
        let run =
            if code % 2 == 0 { format!("exit {code}") } else { format!("[/opt/probe, exit, \"{code}\"]") };
        job.push_str(&format!("  - {{run: {run}, continue-on-error: true}}\n"));
    }
    let run = lab.exec(job.trim_start_matches("continue-on-error: true\n"), 0);
    for code in 0..256 {
        let step = run.step(code);
        let found = [&step["exit_code"], &step["signal"], &step["outcome"], &step["conclusion"]];
        let outcome = if code == 0 { "success" } else { "failure" };
        assert_eq!(found, [&json!(code), &Value::Null, &json!(outcome), &json!("success")], "{step:#}");
    }
    assert_eq!(run.record["outcome"], "success");
    before.assert_nothing_new();
}

#[test]
fn a_single_commands_exit_code_is_passed_through() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    for code in [0, 1, 2, 3, 42, 125, 126, 127, 128, 130, 255] {
        run(&lab, &["--", "/opt/probe", "exit", &code.to_string()]).expect_code(code);
    }
    // As a shell says it: 128 + number.
    for signal in [9, 11, 15] {
        run(&lab, &["--", "/opt/probe", "signal", &signal.to_string()]).expect_code(128 + signal);
    }
    run(&lab, &["--", "/etc/passwd"]).expect_code(126);
    let ran = run(&lab, &["--", "nowhere"]).expect_code(127);
    assert!(ran.stderr_text().contains("`nowhere` is not in the image"), "{}", ran.stderr_text());
    assert_eq!(ran.stdout_text(), "");
    let ours = lab.context.run(&["run", "./missing.tar", "--", "true"]).expect_code(125);
    assert!(ours.stderr_text().contains("missing.tar"), "{}", ours.stderr_text());
}

#[test]
fn deaths_by_signal_come_back() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let signals = [9, 11, 15];
    let steps = signals
        .map(|signal| format!("  - {{run: [/opt/probe, signal, \"{signal}\"], continue-on-error: true}}\n"));
    let run = lab.exec(&format!("steps:\n{}", steps.concat()), 0);
    for (index, signal) in signals.into_iter().enumerate() {
        let step = run.step(index);
        let found = [&step["signal"], &step["exit_code"], &step["outcome"], &step["conclusion"]];
        assert_eq!(found, [&json!(signal), &json!(128 + signal), &json!("signal"), &json!("success")]);
        assert_eq!(step["killed_by"], Value::Null, "nobody but itself killed it");
    }
    let run = lab.exec("steps: [{run: [/opt/probe, signal, \"11\"]}]", 1);
    assert!(run.step(0)["cause"].as_str().unwrap().contains("SIGSEGV (11)"), "{:#}", run.step(0));
}

#[test]
fn what_cannot_be_executed_is_126_and_what_is_missing_127() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "steps:\n\
        \x20 - {run: [nowhere], continue-on-error: true}\n\
        \x20 - {run: [/etc/passwd], continue-on-error: true}\n\
        \x20 - {run: nowhere, continue-on-error: true}\n\
        \x20 - {run: echo hi, shell: bash, continue-on-error: true}\n\
        \x20 - {run: print(1), shell: python3, continue-on-error: true}\n",
        0,
    );
    let codes: Vec<_> = (0..5).map(|index| run.step(index)["exit_code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [127, 126, 127, 127, 127]);
    let cause = |index| run.step(index)["cause"].as_str().unwrap().to_owned();
    assert_eq!(cause(0), "`nowhere` is not in the image");
    assert_eq!(cause(1), "`/etc/passwd` may not be executed by the step's user");
    assert_eq!(cause(3), "`bash` is not in the image");
    assert_eq!(cause(4), "`python3` is not in the image");
    let shown = run.ran.stdout_text() + &run.ran.stderr_text();
    assert!(shown.contains("name a command or `shell` that the image has"), "{shown}");
}

#[test]
fn expected_codes_are_success_and_others_are_not() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "steps:\n\
        \x20 - {run: exit 3, expect-exit: 3}\n\
        \x20 - {run: exit 4, expect-exit: [3, 4]}\n\
        \x20 - {run: exit 0, expect-exit: [3, 4]}\n",
        1,
    );
    let outcomes: Vec<_> = (0..3).map(|index| run.step(index)["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["success", "success", "failure"]);
    assert_eq!(run.step(2)["cause"], "exit code 0, expected 3 or 4");
}

#[test]
fn a_failing_step_skips_the_rest() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec("steps:\n  - touch first\n  - exit 7\n  - touch third\n", 1);
    let outcomes: Vec<_> = (0..3).map(|index| run.step(index)["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["success", "failure", "skipped"]);
    assert!(lab.context.work().join("first").exists());
    assert!(!lab.context.work().join("third").exists());
    assert_eq!([&run.record["outcome"], &run.record["exit_code"]], [&json!("failure"), &json!(1)]);
    assert_eq!(run.step(2)["exit_code"], Value::Null);
    lab.context.run(&["exec", "--exit-code", "step"]).expect_code(7);
    let failed = fs::canonicalize(lab.context.home().join("runs/latest-failed")).unwrap();
    assert_eq!(failed, fs::canonicalize(lab.context.home().join("runs/latest")).unwrap());
}

#[test]
fn a_bad_job_file_runs_nothing() {
    require!(Busybox);
    let lab = Lab::new(User::Current);
    lab.context.write("bad.yml", "image: host\nsteps:\n  - rum: touch made\n  - run: echo\n    timeout: 5\n");
    let ran = lab.context.run(&["exec", "bad.yml"]).expect_code(2);
    let told = ran.stderr_text();
    assert!(told.contains("bad.yml:3:5: error[E"), "{told}");
    assert!(told.contains("bad.yml:5:14: error[E104]"), "all problems at once: {told}");
    assert!(!lab.context.home().join("runs").exists() && !lab.context.work().join("made").exists());
    let ran = lab.context.run(&["exec", "nowhere.yml"]).expect_code(2);
    assert!(ran.stderr_text().contains("nowhere.yml"), "{}", ran.stderr_text());
}

#[test]
fn records_events_and_digests_agree() {
    require!(Root, Cgroups, Busybox, Program("sha256sum"));
    let lab = Lab::new(User::Current);
    lab.write(
        "artifacts: [{name: app, paths: [\"out/**\"]}]\n\
        steps:\n\
        \x20 - name: Build\n\
        \x20   run: |\n\
        \x20     mkdir -p out/deep\n\
        \x20     echo one > out/one\n\
        \x20     head -c 300000 /dev/zero > out/deep/zeros\n\
        \x20     ln -s one out/link\n\
        \x20     chmod 755 out/one\n\
        \x20     echo to stderr >&2\n\
        \x20 - {id: burn, run: [/opt/probe, burn-cpu, \"0.1\"]}\n",
    );
    let run = lab.finished(lab.context.run(&["exec", "--json"]).expect_code(0));
    let directory = fs::canonicalize(lab.context.home().join("runs/latest")).unwrap();

    let stored = fs::read(directory.join("events.ndjson")).unwrap();
    let lines = run.ran.stdout_text();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Output is in the logs, and progress is for who watches: neither is stored a second time.
    let is_stored = |event: &Value| event["event"] != "step.log" && event["state"] != "progress";
    let kept = lines.split_inclusive('\n').zip(&events).filter(|(_, event)| is_stored(event));
    let kept: String = kept.map(|(line, _)| line).collect();
    assert_eq!(String::from_utf8(stored).unwrap(), kept, "--json prints the lines of events.ndjson");
    let id = run.record["id"].as_str().unwrap();
    assert!(directory.ends_with(id));
    assert!(events.iter().all(|event| event["v"] == 1 && event["run"] == id && event["ts"].is_string()));
    let kind = |event: &Value| event["event"].as_str().unwrap().to_owned();
    assert_eq!(
        (kind(&events[0]).as_str(), kind(&events[events.len() - 1]).as_str()),
        ("run.start", "run.end")
    );
    let of = |name: &str| events.iter().filter(|event| kind(event) == name).collect::<Vec<_>>();
    let ends = of("step.end");
    assert_eq!((ends.len(), of("step.start").len(), of("artifact").len()), (2, 2, 1));
    for (index, end) in ends.iter().enumerate() {
        for field in ["outcome", "exit_code", "usage", "log"] {
            assert_eq!(end[field], run.step(index)[field], "{field}");
        }
    }
    let said: String = of("step.log")
        .iter()
        .filter(|event| event["step"] == "build")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!((said.as_str(), run.text(0).as_str()), ("to stderr\n", "to stderr\n"));

    assert_eq!(run.record["v"], 1);
    assert_eq!(run.record["state"], "finished");
    assert_eq!(run.record["file"], "job.yml");
    assert_eq!(run.record["file_sha256"], sha256sum(&lab.context.work().join("job.yml")));
    let usage = &run.step(1)["usage"];
    assert!(usage["cpu_s"].as_f64().unwrap() > 0.0 && usage["wall_s"].as_f64().unwrap() >= 0.1, "{usage:#}");
    assert!(
        usage["mem_peak"].as_u64().unwrap() > 0 && usage["pids_peak"].as_u64().unwrap() >= 1,
        "{usage:#}"
    );

    assert_digests(&directory, 2);
    assert_eq!(run.record["artifacts"][0]["files"], 3);
    assert!(
        owners(&lab.context.work()).iter().all(|(_, uid)| *uid == 0),
        "{:?}",
        owners(&lab.context.work())
    );
}

/// The manifest's digests are those that another tool finds.
fn assert_digests(directory: &Path, count: usize) {
    let manifest: Value =
        serde_json::from_slice(&fs::read(directory.join("artifacts/manifest.json")).unwrap()).unwrap();
    let files: Vec<&Value> =
        manifest["files"].as_array().unwrap().iter().filter(|file| file["type"] == "file").collect();
    assert_eq!(files.len(), count);
    for file in files {
        let path = directory.join("artifacts/app").join(file["path"].as_str().unwrap());
        assert_eq!(file["sha256"], sha256sum(&path));
    }
}

fn sha256sum(path: &Path) -> String {
    let ran = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(ran.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn logs_are_kept_byte_for_byte() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let bytes = Command::new(lab.context.work().join("probe")).arg("bytes").output().unwrap().stdout;
    assert!(bytes.len() > 1 << 20 && bytes.contains(&0), "the probe's bytes are awkward");
    let run = lab.exec("steps:\n  - run: [/opt/probe, bytes]\n  - /opt/probe bytes >&2\n", 0);
    for index in 0..2 {
        assert!(run.log(index) == bytes, "step {index}: the log differs");
        assert_eq!(run.step(index)["log"]["bytes"], bytes.len());
        assert_eq!(run.step(index)["log"]["dropped_bytes"], 0);
    }
    let raw = lab.context.run(&["logs", "--raw", "--step", "step-1"]).expect_code(0);
    assert!(raw.stdout() == bytes, "`logs --raw` differs from what the step wrote");
    let passed = self::run(&lab, &["--", "/opt/probe", "bytes"]).expect_code(0);
    assert!(passed.stdout() == bytes, "`run` differs from what the command wrote");
    let shown = run.ran.stdout();
    let is_control = |byte: &u8| *byte == 0 || *byte == 0x1b || *byte == 7;
    assert!(!shown.iter().any(is_control), "what is shown holds no control characters");
}

#[test]
fn records_are_read_back() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "steps:\n\
        \x20 - {id: make, run: 'echo built; echo data > app; chmod 750 app', artifacts: [{name: app, paths: [app]}]}\n\
        \x20 - {id: test, run: 'echo one; echo two; exit 3'}\n",
        1,
    );
    let command = |words: &[&str], code| lab.context.run(words).expect_code(code).stdout_text();
    assert_eq!(command(&["logs"], 0), "built\none\ntwo\n");
    assert_eq!(command(&["logs", "latest-failed", "--step", "test", "--tail", "1"], 0), "two\n");
    assert_eq!(command(&["logs", "--step", "nowhere"], 2), "");
    let id = run.record["id"].as_str().unwrap();
    let shown = command(&["show", id], 0);
    assert!(["make", "test", "failure", "exit code 1"].iter().all(|word| shown.contains(word)), "{shown}");
    let as_json: Value = serde_json::from_str(&command(&["show", "latest", "--json"], 0)).unwrap();
    assert_eq!(as_json, run.record);
    let listed = command(&["artifacts", "list"], 0);
    assert!(
        listed.contains("app/app") && listed.contains(&sha256sum(&lab.context.work().join("app"))),
        "{listed}"
    );
    command(&["artifacts", "verify"], 0);
    command(&["artifacts", "get", "latest", "app", "--extract", "got"], 0);
    assert_eq!(lab.context.read("got/app/app"), "data\n");
    assert_eq!(fs::metadata(lab.context.work().join("got/app/app")).unwrap().mode() & 0o777, 0o750);
    let kept = lab.context.home().join("runs").join(id).join("artifacts/app/app");
    fs::write(&kept, "date\n").unwrap();
    assert!(command(&["artifacts", "verify"], 6).contains("app/app"));
}

#[test]
fn leftovers_are_named_and_killed() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    // The sleeper holds the pipes for an hour: a run that waits for it never ends.
    let run = lab.exec("steps:\n  - run: [/opt/probe, leave-daemon, \"3600\"]\n  - 'true'\n", 0);
    let leftovers = run.step(0)["leftovers"].as_array().unwrap();
    assert_eq!((leftovers.len(), &leftovers[0]["name"]), (1, &json!("probe")), "{:#}", run.step(0));
    assert_eq!(run.text(0), "left\n");
    assert_eq!(run.step(1)["leftovers"], json!([]));
    let shown = run.ran.stdout_text() + &run.ran.stderr_text();
    assert!(shown.contains("left behind and killed: 1 process (probe)"), "{shown}");
    before.assert_nothing_new();
}

#[test]
fn late_writers_keep_their_output() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    // What `exec > >(tee log)` is in a shell that has it: the main process ends before its tee.
    let run = lab.exec(
        "steps:\n\
        \x20 - |\n\
        \x20   mkfifo /tmp/pipe\n\
        \x20   tee /tmp/copy < /tmp/pipe &\n\
        \x20   exec > /tmp/pipe\n\
        \x20   seq 1 20000\n",
        0,
    );
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert!(run.text(0) == expected, "{} bytes of {}", run.log(0).len(), expected.len());
    assert_eq!(run.step(0)["leftovers"], json!([]), "it ended by itself");
}

#[test]
fn stdin_is_empty_unless_asked_for() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write("steps: ['cat | wc -c']\n");
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let feed = |words: &[&str]| {
        let mut command = lab.context.command(words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nobody may be reading it.
        let _unread = child.stdin.take().unwrap().write_all(&bytes);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    feed(&["exec"]);
    let run: Run = lab.finished(lab.context.run(&["show"]));
    assert_eq!(run.text(0).trim(), "0");
    let echo = ["--", "/opt/probe", "echo"];
    assert_eq!(feed(&[&RUN[..], &echo[..]].concat()), b"");
    let given = feed(&[&RUN[..], &["-i"], &echo[..]].concat());
    assert!(given == bytes, "{} bytes of {}", given.len(), bytes.len());
}

#[test]
fn the_environment_is_made_and_not_inherited() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.context.write("more.env", "# a comment\nFROM_FILE=file\nBOTH=file\n");
    lab.write(
        "env: {JOB: job, OVER: job, GONE: job}\n\
        steps:\n\
        \x20 - {id: show, run: [env], env: {OVER: step, GONE: null, TZ: null}}\n",
    );
    let mut command =
        lab.context.command(&["exec", "--env-file", "more.env", "-e", "BOTH=flag", "-e", "PASSED"]);
    command.env("PASSED", "ours").env("SECRET_TOKEN", "leaked").env("LD_PRELOAD", "");
    let run = lab.finished(lab.context.finish(&mut command).expect_code(0));
    let text = run.text(0);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let id = run.record["id"].as_str().unwrap();
    let cpus =
        lines.iter().find(|line| line.starts_with("RUNNER_CPUS=")).copied().unwrap_or_default().to_owned();
    let expected = [
        "BOTH=flag",
        "CI=true",
        "FROM_FILE=file",
        "GITHUB_ENV=/run/runner/handed/env",
        "GITHUB_OUTPUT=/run/runner/handed/output",
        "GITHUB_PATH=/run/runner/handed/path",
        "GITHUB_STEP_SUMMARY=/run/runner/handed/summary",
        "HOME=/root",
        "JOB=job",
        "LANG=C.UTF-8",
        "OVER=step",
        "PASSED=ours",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "RUNNER=1",
        "RUNNER_ATTEMPT=1",
        &cpus,
        "RUNNER_ENV=/run/runner/handed/env",
        "RUNNER_JOB=job",
        "RUNNER_OUTPUT=/run/runner/handed/output",
        "RUNNER_PATH=/run/runner/handed/path",
        &format!("RUNNER_RUN_ID={id}"),
        "RUNNER_STEP=show",
        "RUNNER_SUMMARY=/run/runner/handed/summary",
        "RUNNER_WORKSPACE=/workspace",
        "USER=root",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_working_directory_is_made() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "workdir: sub/deep\nsteps:\n  - pwd; touch here\n  - {run: [pwd], workdir: /tmp}\n  - {run: [pwd], workdir: /srv/new}\n",
        0,
    );
    let said: Vec<String> = (0..3).map(|index| run.text(index)).collect();
    assert_eq!(said, ["/workspace/sub/deep\n", "/tmp\n", "/srv/new\n"]);
    assert_eq!(fs::metadata(lab.context.work().join("sub/deep/here")).unwrap().uid(), 0);
}

#[test]
fn a_step_sees_the_workspace_of_the_one_before_and_nothing_else() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.exec(
        "steps:\n\
        \x20 - echo kept > kept; echo gone | tee /etc/gone /tmp/gone /root/gone /dev/shm/gone; rm /etc/os-release\n\
        \x20 - test \"$(cat kept)\" = kept; test -e /etc/os-release; for d in /etc /tmp /root /dev/shm; do test ! -e $d/gone; done\n",
        0,
    );
    assert_eq!(lab.context.read("kept"), "kept\n");
}

#[test]
fn a_copied_or_empty_workspace_leaves_the_directory_alone() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.context.write("src/file", "original");
    let listing = || owners(&lab.context.work()).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    lab.write("");
    let before = listing();
    let run = lab.exec(
        "workspace: copy\n\
        artifacts: [{name: made, paths: [made]}]\n\
        steps:\n\
        \x20 - cat src/file; echo changed > src/file; rm -r job.yml; touch made\n\
        \x20 - cat src/file; test -e made\n",
        0,
    );
    assert_eq!((run.text(0).as_str(), run.text(1).as_str()), ("original", "changed\n"));
    assert_eq!(run.record["artifacts"][0]["files"], 1, "artifacts come from the copy");
    assert_eq!((lab.context.read("src/file").as_str(), listing()), ("original", before.clone()));
    let run = lab.exec("workspace: empty\nsteps:\n  - ls -A | wc -l; touch made\n  - ls -A\n", 0);
    assert_eq!((run.text(0).trim(), run.text(1).as_str()), ("0", "made\n"));
    assert_eq!(listing(), before);
}

/// A step that keeps a file, says when TERM comes, and ends then.
const OBEDIENT: &str = "grace: 10m\n\
    artifacts:\n\
    \x20 - {name: kept, paths: [kept], when: always}\n\
    \x20 - {name: never, paths: [kept]}\n\
    steps:\n\
    \x20 - |\n\
    \x20   echo data > kept\n\
    \x20   trap 'echo got TERM; exit 0' TERM\n\
    \x20   touch ready\n\
    \x20   while :; do sleep 0.05; done\n\
    \x20 - echo never\n";

#[test]
fn one_signal_ends_a_run_gently() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let lab = Lab::new(User::Current);
        let mut child = start(&lab, OBEDIENT);
        wait_for_file(&lab, &mut child, "ready");
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        let run = lab.finished(lab.context.run(&["show"]));
        assert_eq!([&run.record["outcome"], &run.record["exit_code"]], [&json!("cancelled"), &json!(code)]);
        // The whole process group gets it; what the shell says of its `sleep` is its own business.
        assert!(run.text(0).contains("got TERM\n"), "{}", run.text(0));
        let step = run.step(0);
        assert_eq!(
            [&step["outcome"], &step["killed_by"], &step["exit_code"]],
            [&json!("cancelled"), &json!("cancel"), &json!(0)]
        );
        assert_eq!(run.step(1)["outcome"], "skipped");
        let artifacts = run.record["artifacts"].as_array().unwrap();
        assert_eq!(
            (artifacts.len(), &artifacts[0]["name"]),
            (1, &json!("kept")),
            "only `when: always` is collected"
        );
    }
    before.assert_nothing_new();
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    // Nothing but the second signal ends it: it goes on after TERM, and the grace is long.
    let mut child = start(
        &lab,
        "grace: 10m\nsteps:\n  - |\n    trap 'touch termed' TERM\n    touch ready\n    while :; do sleep 0.05 || :; done\n",
    );
    wait_for_file(&lab, &mut child, "ready");
    signal(&child, Signal::INT);
    wait_for_file(&lab, &mut child, "termed");
    signal(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let run = lab.finished(lab.context.run(&["show"]));
    let step = run.step(0);
    assert_eq!([&step["outcome"], &step["signal"]], [&json!("cancelled"), &json!(9)], "{step:#}");
    before.assert_nothing_new();
}

/// As the command would end outside.
#[test]
fn a_single_command_ends_when_nobody_reads_it() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let words = ["run", "./rootfs.tar", "--workspace", "empty", "--", "sh", "-c", "while echo y; do :; done"];
    let mut child = lab.context.command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut byte = [0; 1];
    output.read_exact(&mut byte).unwrap();
    drop(output);
    let ended = child.wait().unwrap();
    assert_eq!((byte, ended.code()), (*b"y", Some(143)));
}

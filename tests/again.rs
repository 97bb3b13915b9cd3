//! What is tried again: steps, jobs, what of each attempt is kept; and steps that fall silent.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::process::Stdio;

use fixtures::{Leftovers, User, require};
use lab::Lab;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use waiting::wait_for_file;

/// Succeeds in its third attempt, if each finds a fresh root and its own files for values.
const FLAKY: &str = "id: flaky\n\
    \x20   run: |\n\
    \x20     echo \"attempt $RUNNER_ATTEMPT\"\n\
    \x20     test ! -e /tmp/mark; touch /tmp/mark; test ! -s \"$RUNNER_OUTPUT\"\n\
    \x20     echo \"x=$RUNNER_ATTEMPT\" >> \"$RUNNER_OUTPUT\"; echo \"FROM=$RUNNER_ATTEMPT\" >> \"$RUNNER_ENV\"\n\
    \x20     echo made >> made; test \"$(wc -l < made)\" -ge 3";

#[test]
fn a_step_is_tried_until_it_succeeds() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        let run = lab.exec(
            &format!(
                "steps:\n  - {FLAKY}\n    retry: 5\n    artifacts: [made]\n\
                \x20 - {{run: 'test \"$X$FROM\" = 33', env: {{X: \"${{{{ steps.flaky.outputs.x }}}}\"}}}}\n"
            ),
            0,
        );
        let step = run.step(0);
        assert_eq!((&step["attempts"], &step["outcome"]), (&json!(3), &json!("success")));
        let earlier = step["earlier"].as_array().unwrap();
        assert_eq!(earlier.len(), 2);
        let directory = fs::canonicalize(lab.context.home().join("runs/latest")).unwrap();
        for (at, attempt) in earlier.iter().enumerate() {
            assert_eq!((&attempt["outcome"], &attempt["exit_code"]), (&json!("failure"), &json!(1)));
            assert_eq!(attempt["cause"], "exit code 1");
            let log = directory.join(attempt["log"]["path"].as_str().unwrap());
            assert_eq!(fs::read_to_string(&log).unwrap(), format!("attempt {}\n", at + 1));
            for name in ["result.json", "script", "env.json", "log.idx"] {
                assert!(log.with_file_name(name).exists(), "{name}");
            }
        }
        assert_eq!(run.text(0), "attempt 3\n");
        let text = run.ran.stdout_text();
        for line in ["; attempt 2 of 6, again\n", "flaky: step 1 of 2, attempt 3: ", "artifact flaky: 1 file"]
        {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        for (words, log) in [(&["--attempt", "2"][..], "attempt 2\n"), (&["--attempt", "3"], "attempt 3\n")] {
            let words = [&["logs", "latest", "--step", "flaky"], words].concat();
            assert_eq!(lab.context.run(&words).expect_code(0).stdout_text(), log);
        }
        let none = lab.context.run(&["logs", "--attempt", "4"]).expect_code(2);
        assert!(none.stderr_text().contains("was attempted 4 times"), "{}", none.stderr_text());
        let events = fs::read_to_string(directory.join("events.ndjson")).unwrap();
        assert_eq!(events.matches("\"event\":\"step.retry\"").count(), 2);
        assert_eq!(events.matches("\"event\":\"step.end\"").count(), 2);
    }
    before.assert_nothing_new();
}

#[test]
fn only_after_the_ends_that_are_named() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let cases = [
        ("exit 7", "{max: 2, on: [exit:7]}", 3, 1),
        ("exit 7", "{max: 2, on: [exit:8, signal, oom, timeout, infra]}", 1, 1),
        ("kill -9 $$", "{max: 1, on: [failure]}", 1, 1),
        ("kill -9 $$", "{max: 1, on: [signal]}", 2, 1),
        ("sleep 600", "{max: 1, on: [timeout]}, timeout: 200ms, grace: 0", 2, 4),
        ("exit 7", "0", 1, 1),
        // The pause does not fit into the job's hour.
        ("exit 7", "{max: 1, delay: 1h}", 1, 1),
    ];
    for (script, retry, attempts, code) in cases {
        let retry = retry.replace(", grace: 0", "");
        let run = lab.exec(&format!("grace: 0\nsteps:\n  - {{run: '{script}', retry: {retry}}}\n"), code);
        assert_eq!(run.step(0)["attempts"], attempts, "{script} {retry}");
        assert_eq!(run.record["jobs"][0]["steps"].as_array().unwrap().len(), 1);
    }
    // A later failure is forgiven as a first one is.
    let run = lab.exec("steps:\n  - {run: exit 7, retry: 1, continue-on-error: true}\n  - 'true'\n", 0);
    assert_eq!((&run.step(0)["attempts"], &run.step(0)["conclusion"]), (&json!(2), &json!("success")));
}

#[test]
fn whoever_cancels_waits_for_no_pause() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.write(
        "timeout: 5h\nsteps: [{run: 'touch tried; exit 3', retry: {max: 9, delay: 1h}}, touch never]\n",
    );
    let mut command = lab.context.command(&["exec", "job.yml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "tried");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    // The signal may come before the step's own end.
    assert!(matches!(output.status.code(), Some(1 | 130)), "{}", String::from_utf8_lossy(&output.stdout));
    let run = lab.finished(lab.context.run(&["show"]));
    assert_eq!(run.step(0)["attempts"], 1);
    assert!(!lab.context.work().join("never").exists());
    before.assert_nothing_new();
}

#[test]
fn a_job_is_tried_again_as_a_whole() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let job = "retry: {max: 3, on: [exit:4]}\n\
        \x20   workspace: empty\n\
        \x20   outputs: {x: \"${{ steps.one.outputs.x }}\"}\n\
        \x20   steps:\n\
        \x20     - {id: one, run: 'echo try $RUNNER_ATTEMPT; test ! -e made; touch made; echo x=$RUNNER_ATTEMPT >> $RUNNER_OUTPUT; echo $RUNNER_ATTEMPT >> $RUNNER_SUMMARY'}\n\
        \x20     - 'test $RUNNER_ATTEMPT = 3 || exit 4'\n\
        \x20   artifacts: [{name: a, paths: [made], when: always}]\n";
    let needs = "  after: {needs: [job], steps: [{run: 'test \"$X\" = 3', env: {X: \"${{ needs.job.outputs.x }}\"}}]}\n";
    for user in [User::Current, User::WithSubids] {
        for several in [false, true] {
            let lab = Lab::new(user);
            let text = match several {
                false => job.replace("\n    ", "\n"),
                true => format!("jobs:\n  job:\n    {job}{needs}"),
            };
            let run = lab.exec(&text, 0);
            let record = &run.record["jobs"][0];
            let earlier = record["earlier"].as_array().unwrap();
            assert_eq!((earlier.len(), &record["outcome"]), (2, &json!("success")));
            let directory = fs::canonicalize(lab.context.home().join("runs/latest")).unwrap();
            for (at, attempt) in earlier.iter().enumerate() {
                assert_eq!(attempt["outcome"], "failure");
                let log = directory.join(attempt["steps"][0]["log"]["path"].as_str().unwrap());
                assert_eq!(fs::read_to_string(log).unwrap(), format!("try {}\n", at + 1));
            }
            assert_eq!(run.text(0), "try 3\n");
            let summary = fs::read_to_string(directory.join("jobs/job/summary.md")).unwrap();
            assert_eq!(summary, "3\n");
            let words = ["logs", "latest", "--step", "one", "--attempt", "2"];
            assert_eq!(lab.context.run(&words).expect_code(0).stdout_text(), "try 2\n");
            assert_eq!(run.record["artifacts"].as_array().unwrap().len(), 1);
            lab.context.run(&["artifacts", "verify", "latest"]).expect_code(0);
            assert!(run.ran.stdout_text().contains("job job: failure; attempt 2 of 4, again\n"));
        }
    }
    let lab = Lab::new(User::Current);
    let run = lab.exec("retry: 1\nsteps: [exit 3]\n", 1);
    assert_eq!(run.record["jobs"][0]["earlier"].as_array().unwrap().len(), 1);
    // What is wrong stays wrong.
    lab.write("retry: 5\nmounts: ['/nowhere:/opt/x']\nsteps: ['true']\n");
    let ran = lab.context.run(&["exec", "job.yml"]).expect_code(2);
    assert!(!ran.stdout_text().contains("attempt"), "{}", ran.stdout_text());
    before.assert_nothing_new();
}

#[test]
fn a_silent_step_is_ended_and_its_processes_are_named() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "quiet-timeout: 400ms\ngrace: 0\nsteps:\n\
        \x20 - 'echo begun; sleep 611 & wait'\n\
        \x20 - {run: 'until test -e /never; do echo x; sleep 0.05; done', timeout: 900ms, if: always()}\n\
        \x20 - {run: sleep 0.6, quiet-timeout: 0, if: always()}\n",
        4,
    );
    let outcomes: Vec<_> = (0..3).map(|at| run.step(at)["outcome"].clone()).collect();
    assert_eq!(outcomes, ["timeout", "timeout", "success"]);
    assert_eq!(run.step(0)["cause"].as_str().unwrap().split(';').next(), Some("no output for 400ms"));
    assert!(run.step(1)["cause"].as_str().unwrap().starts_with("ran longer than its timeout"));
    let log = run.text(0);
    assert!(log.starts_with("begun\n\nrunner: no output for 400ms; its processes:\n"), "{log}");
    let sleep = log.lines().find(|line| line.ends_with("  sleep 611")).unwrap();
    assert!(sleep.contains(" S  "), "{sleep}");
    before.assert_nothing_new();
}

//! Steps that run beside each other: in the background, waited for, ended, in parallel.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::process::Stdio;

use fixtures::{Leftovers, User, require};
use lab::{Lab, Run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use waiting::wait_for_file;

/// The steps' ids, outcomes and conclusions.
fn ends(run: &Run) -> Vec<(&str, &str, &str)> {
    let steps = run.record["jobs"][0]["steps"].as_array().unwrap().iter();
    let texts = steps.map(|step| ["id", "outcome", "conclusion"].map(|key| step[key].as_str().unwrap()));
    texts.map(|[id, outcome, conclusion]| (id, outcome, conclusion)).collect()
}

#[test]
fn a_server_in_the_background_is_reached_and_ended() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        let run = lab.exec(
            "steps:\n\
            \x20 - id: web\n\
            \x20   background: true\n\
            \x20   run: |\n\
            \x20     trap 'echo stopped; exit 0' TERM\n\
            \x20     touch /tmp/own; echo serving\n\
            \x20     while true; do echo hello | nc -l -p 8000 || true; done & wait\n\
            \x20 - id: client\n\
            \x20   run: |\n\
            \x20     test ! -e /tmp/own\n\
            \x20     until nc localhost 8000 < /dev/null > answer 2> /dev/null && grep -q hello answer; do sleep 0.05; done\n\
            \x20     cat answer\n\
            \x20 - {id: stop, cancel: web}\n\
            \x20 - {id: after, run: 'test \"$O/$C\" = cancelled/success', env: {O: \"${{ steps.web.outcome }}\", C: \"${{ steps.web.conclusion }}\"}}\n",
            0,
        );
        let expected = [
            ("web", "cancelled", "success"),
            ("client", "success", "success"),
            ("stop", "success", "success"),
            ("after", "success", "success"),
        ];
        assert_eq!(ends(&run), expected, "{}", run.ran.stdout_text());
        assert_eq!((run.text(0).as_str(), run.text(1).as_str()), ("serving\nstopped\n", "hello\n"));
        assert_eq!(run.record["outcome"], "success");
        let text = run.ran.stdout_text();
        for line in ["web | serving\n", "stop: step 3 of 4: cancel web\n", "web: cancelled in "] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
    before.assert_nothing_new();
}

#[test]
fn members_of_parallel_run_at_once_and_hand_on() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        let run = lab.exec(
            "timeout: 2m\nsteps:\n\
            \x20 - id: both\n\
            \x20   parallel:\n\
            \x20     - {id: a, run: 'touch a; until test -e b; do sleep 0.05; done; echo x=1 >> $RUNNER_OUTPUT; echo A=1 >> $RUNNER_ENV; touch /tmp/own'}\n\
            \x20     - {id: b, run: 'touch b; until test -e a; do sleep 0.05; done; echo x=2 >> $RUNNER_OUTPUT; test ! -e /tmp/own; echo b', artifacts: [b]}\n\
            \x20     - {id: never, run: exit 1, if: failure()}\n\
            \x20     - 'touch c'\n\
            \x20 - {id: after, run: 'test \"$A$X\" = 112; test -e c', env: {X: \"${{ steps.a.outputs.x }}${{ steps.b.outputs.x }}\"}}\n",
            0,
        );
        let ids: Vec<&str> = ends(&run).iter().map(|(id, _, _)| *id).collect();
        assert_eq!(ids, ["a", "b", "never", "step-4", "both", "after"], "in the order of the plan");
        assert_eq!(run.step(2)["outcome"], "skipped");
        assert_eq!(run.text(1), "b\n");
        assert_eq!(run.record["artifacts"][0]["name"], "b");
    }
    before.assert_nothing_new();
}

#[test]
fn a_failure_counts_where_it_is_waited_for() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let bad = "  - {id: bad, run: 'until test -e go; do sleep 0.05; done; exit 5', background: true}\n";
    let run = lab.exec(
        &format!(
            "steps:\n{bad}  - {{id: good, run: 'echo $A; touch go'}}\n  - {{id: w, wait: bad}}\n  - {{id: after, run: 'true'}}\n"
        ),
        1,
    );
    let expected = [
        ("bad", "failure", "failure"),
        ("good", "success", "success"),
        ("w", "failure", "failure"),
        ("after", "skipped", "skipped"),
    ];
    assert_eq!(ends(&run), expected);
    assert_eq!(run.step(2)["cause"], "step `bad` ended so");
    let step = lab.context.run(&["exec", "job.yml", "--exit-code", "step"]).expect_code(5);
    assert!(step.stdout_text().contains("w: failure"), "{}", step.stdout_text());
    // Who waits may forgive.
    let run = lab.exec(
        &format!("steps:\n{bad}  - touch go\n  - {{id: w, wait: all, continue-on-error: true}}\n  - {{id: after, run: 'true'}}\n"),
        0,
    );
    assert_eq!(ends(&run)[2..], [("w", "failure", "success"), ("after", "success", "success")]);
    // Nobody waits: it counts at the end. Which failed before it was to be ended has failed.
    for end in ["'true'", "{cancel: bad}"] {
        let run = lab.exec(
            &format!("steps:\n{bad}  - 'touch go; until test -e $RUNNER_WORKSPACE/never || test -e go; do sleep 1; done; sleep 0.5'\n  - {end}\n"),
            1,
        );
        assert_eq!(run.record["outcome"], "failure", "{end}");
    }
    // What one does not want to know of.
    lab.exec(
        "steps:\n  - {run: exit 3, background: true, continue-on-error: true, id: x}\n  - {wait: x}\n  - parallel: [{run: exit 4, continue-on-error: true}]\n",
        0,
    );
    let run = lab
        .exec("steps:\n  - {id: p, parallel: [exit 4, 'echo fine', {run: sleep 600, timeout: 300ms}]}\n", 1);
    assert_eq!(ends(&run)[3], ("p", "failure", "failure"));
    assert_eq!(run.step(2)["outcome"], "timeout");
    before.assert_nothing_new();
}

#[test]
fn what_still_runs_ends_with_the_job() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids] {
        let lab = Lab::new(user);
        let run = lab.exec(
            "grace: 200ms\nsteps:\n\
            \x20 - {id: one, run: 'trap \"\" TERM; touch one; while true; do sleep 0.1; done', background: true}\n\
            \x20 - {id: two, run: 'touch two; sleep 618', background: true, retry: 3}\n\
            \x20 - {id: main, run: 'until test -e one && test -e two; do sleep 0.05; done'}\n",
            0,
        );
        let expected = [
            ("one", "cancelled", "success"),
            ("two", "cancelled", "success"),
            ("main", "success", "success"),
        ];
        assert_eq!(ends(&run), expected);
        assert!(run.step(0)["cause"].as_str().unwrap().contains("ignored SIGTERM"));
        assert_eq!(run.step(1)["attempts"], 1, "who is ended is not tried again");
    }
    // A signal ends all of them, and what always runs still does.
    let lab = Lab::new(User::Current);
    lab.write(
        "steps:\n\
        \x20 - {id: one, run: 'touch one; sleep 619', background: true}\n\
        \x20 - {id: w, wait: all}\n\
        \x20 - {id: clean, run: touch cleaned, if: always()}\n",
    );
    let mut command = lab.context.command(&["exec", "job.yml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "one");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stdout));
    let run = lab.finished(lab.context.run(&["show"]));
    let expected =
        [("one", "cancelled", "cancelled"), ("w", "cancelled", "cancelled"), ("clean", "success", "success")];
    assert_eq!(ends(&run), expected);
    assert!(lab.context.work().join("cleaned").exists());
    // A killed keeper leaves nothing of any of them.
    lab.write("steps:\n  - {run: 'touch p1; sleep 620', background: true}\n  - 'touch p2; sleep 621'\n");
    let mut command = lab.context.command(&["exec", "job.yml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "p1");
    wait_for_file(&lab, &mut child, "p2");
    child.kill().unwrap();
    child.wait().unwrap();
    let run = lab.exec("steps: ['true']\n", 0);
    assert_eq!(run.record["outcome"], json!("success"));
    before.assert_nothing_new();
}

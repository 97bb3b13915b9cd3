//! `setup`: what all steps start from, made once and used again as long as nothing that it is made of changes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;
use std::process::Stdio;

use fixtures::{Leftovers, User, require, wait_for};
use lab::{Lab, Run};
use serde_json::{Value, json};

/// A job with two layers; the first says whether it ran by a name that nobody else makes.
const JOB: &str = "workspace: copy\nsetup:\n\
    \x20 - {run: 'cat /proc/sys/kernel/random/uuid > /etc/made; echo one > /etc/one', network: none}\n\
    \x20 - {run: 'ls -A > /etc/saw; cat req.txt /etc/one > /etc/two; touch not-kept', reads: [req.txt], network: none}\n\
    steps:\n  - 'cat /etc/made; echo x > /etc/one'\n  - 'cat /etc/saw /etc/two /etc/one; test ! -e not-kept'\n";

fn step<'r>(run: &'r Run, id: &str) -> &'r Value {
    let steps = run.record["jobs"][0]["steps"].as_array().unwrap();
    steps.iter().find(|step| step["id"] == id).unwrap()
}

fn is_reused(run: &Run, id: &str) -> bool {
    step(run, id)["reused"].is_object()
}

#[test]
fn layers_are_made_once_and_anew_when_what_they_are_made_of_changes() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        lab.context.write("req.txt", "r1\n");
        let first = lab.exec(JOB, 0);
        let made = first.text(2);
        assert_eq!(made.len(), 37, "{made}");
        assert_eq!(
            first.text(3),
            "req.txt\nr1\none\none\n",
            "each step starts from the layers, and sees what it reads"
        );
        assert!(!is_reused(&first, "setup-1") && !is_reused(&first, "setup-2"));
        let again = lab.exec(JOB, 0);
        assert_eq!((again.text(2), again.text(3)), (made.clone(), first.text(3)));
        assert_eq!(step(&again, "setup-1")["reused"]["run"], first.record["id"]);
        // What it reads: only that one is made again.
        lab.context.write("req.txt", "r2\n");
        lab.context.write("other.txt", "not read");
        let changed = lab.exec(JOB, 0);
        assert!(is_reused(&changed, "setup-1") && !is_reused(&changed, "setup-2"));
        assert_eq!((changed.text(2), changed.text(3)), (made.clone(), "req.txt\nr2\none\none\n".to_owned()));
        // Its command: that one, and all that stand on it.
        let other = lab.exec(&JOB.replace("echo one", "echo  one"), 0);
        assert!(!is_reused(&other, "setup-1") && !is_reused(&other, "setup-2"));
        let other = lab.exec(&JOB.replace("{run: 'cat", "{env: {A: b}, run: 'cat"), 0);
        assert!(!is_reused(&other, "setup-1"));
        // Its age, or because somebody says so.
        let old = lab.exec(&JOB.replace("network: none}", "network: none, max-age: 1ms}"), 0);
        assert!(!is_reused(&old, "setup-1"));
        lab.write(JOB);
        let anew = lab.finished(lab.context.run(&["exec", "--no-reuse", "job.yml"]).expect_code(0));
        assert_ne!(anew.text(2), made);
        assert_eq!(lab.exec(JOB, 0).text(2), anew.text(2), "the newest counts");
        lab.context.run(&["prune", "--older", "0s"]).expect_code(0);
        let left: Vec<_> = fs::read_dir(lab.context.home().join("setup"))
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left, ["locks"]);
        assert_eq!(fs::read_dir(lab.context.home().join("scratch")).unwrap().count(), 0);
    }
    before.assert_nothing_new();
}

#[test]
fn a_failure_or_an_image_without_a_digest_leaves_no_layer() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let layers = || fs::read_dir(lab.context.home().join("setup")).unwrap().count() - 1;
    let run = lab.exec("setup:\n  - {run: 'echo why >&2; exit 7', network: none}\n  - {run: exit 8, network: none}\nsteps: [exit 9]\n", 1);
    assert_eq!(
        (step(&run, "setup-1")["outcome"].clone(), step(&run, "step-1")["outcome"].clone()),
        (json!("failure"), json!("skipped"))
    );
    assert_eq!((run.text(0), layers()), ("why\n".to_owned(), 0));
    lab.context.write("host.yml", "image: host\nnetwork: none\nsetup: [{run: 'echo a > /etc/of-setup', network: none}]\nsteps: [cat /etc/of-setup]\n");
    for _ in 0..2 {
        let run = lab.finished(lab.context.run(&["exec", "host.yml"]).expect_code(0));
        assert!(!is_reused(&run, "setup-1"));
        assert_eq!((run.text(1), layers()), ("a\n".to_owned(), 0));
    }
    // Nor does it stay when a later entry, or the job, cannot go on.
    for rest in [
        "setup: [{run: 'true', network: none}, {run: 'false', network: none}]\nsteps: ['true']",
        "setup: [{run: 'true', network: none}]\nsteps: [{run: 'true', user: no-such-user}]",
    ] {
        lab.context.write("host.yml", format!("image: host\nnetwork: none\n{rest}\n"));
        assert_ne!(lab.context.run(&["exec", "host.yml"]).code(), Some(0));
        assert_eq!(layers(), 0);
    }
    // A user that the setup makes can run steps.
    let run = lab.exec(
        "setup: [{run: 'echo builder:x:1234:1234::/var/builder:/bin/sh >> /etc/passwd', network: none}]\n\
        steps: [{run: 'id -u; echo $HOME', user: builder}]\n",
        0,
    );
    assert_eq!(run.text(1), "1234\n/var/builder\n");
    lab.write("setup: [{run: x, network: host}]\nsteps: [x]\n");
    let refused = lab.context.run(&["exec", "--untrusted", "job.yml"]).expect_code(2);
    assert!(refused.stderr_text().contains("`network: host` is refused"), "{}", refused.stderr_text());
    before.assert_nothing_new();
}

#[test]
fn two_runs_make_a_layer_once_and_a_killed_one_leaves_nothing() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.write("workspace: empty\nsetup: [{run: 'sleep 1; cat /proc/sys/kernel/random/uuid > /etc/made', network: none}]\nsteps: [cat /etc/made]\n");
    let start = |id: &str| {
        let mut command = lab.context.command(&["exec", "--run-id", id, "job.yml"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let log = |id: &str| {
        fs::read_to_string(lab.context.home().join("runs").join(id).join("jobs/job/steps/01-step-1/log"))
            .unwrap()
    };
    let (mut one, mut two) = (start("one"), start("two"));
    assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
    assert_eq!(log("one"), log("two"));
    let mut killed = lab.context.command(&["exec", "--no-reuse", "--run-id", "killed", "job.yml"]);
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = lab.context.home().join("runs/killed/jobs/job/steps/00-setup-1/log");
    assert!(wait_for(|| begun.exists()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let run = lab.finished(lab.context.run(&["exec", "--run-id", "after", "job.yml"]).expect_code(0));
    assert!(is_reused(&run, "setup-1"));
    assert_eq!(log("after"), log("one"));
    assert_eq!(fs::read_dir(lab.context.home().join("scratch")).unwrap().count(), 0);
    // Nor does one that only its own run can use.
    lab.context.write(
        "host.yml",
        "image: host\nnetwork: none\nsetup: [{run: 'true', network: none}]\nsteps: [sleep 1000]\n",
    );
    let made = || {
        fs::read_dir(lab.context.home().join("setup"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("once-"))
            .count()
    };
    let mut killed = lab.context.command(&["exec", "--run-id", "of-host", "host.yml"]);
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = lab.context.home().join("runs/of-host/jobs/job/steps/01-step-1/log");
    assert!(wait_for(|| begun.exists()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(made(), 1);
    lab.context.run(&["exec", "--run-id", "sweeps", "job.yml"]).expect_code(0);
    assert_eq!(made(), 0);
    before.assert_nothing_new();
}

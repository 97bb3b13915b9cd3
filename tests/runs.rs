//! Looking after runs from outside: which there are, what they do just now, ending them, waiting for them, removing them;
//! and running a part of a file.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::process::{Child, Stdio};

use fixtures::{Leftovers, User, require};
use lab::Lab;
use serde_json::{Value, json};
use waiting::wait_for_file;

fn start(lab: &Lab, job: &str, words: &[&str]) -> Child {
    lab.write(job);
    let mut command = lab.context.command(&[&["exec", "job.yml"], words].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn json_of(lab: &Lab, words: &[&str]) -> Value {
    serde_json::from_str(&lab.context.run(words).expect_code(0).stdout_text()).unwrap()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect()
}

#[test]
fn runs_are_listed_the_newest_first() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    assert_eq!(lab.context.run(&["runs"]).expect_code(0).stdout_text(), "");
    for (id, script, code) in [("a1", "'true'", 0), ("a2", "exit 3", 1), ("a3", "'true'", 0)] {
        lab.write(&format!("name: \"odd: name\"\nsteps: [{script}]\n"));
        lab.context.run(&["exec", "job.yml", "--run-id", id]).expect_code(code);
    }
    assert_eq!(ids(&json_of(&lab, &["runs", "--json"])), ["a3", "a2", "a1"]);
    assert_eq!(ids(&json_of(&lab, &["runs", "--json", "--failed"])), ["a2"]);
    let last = json_of(&lab, &["runs", "--json", "-n", "1"]);
    let expected = json!({"outcome": "success", "exit_code": 0, "state": "finished", "file": "job.yml"});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&last[0][key], value, "{key}");
    }
    let text = lab.context.run(&["runs"]).expect_code(0).stdout_text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 4 && lines[2].contains("a2") && lines[2].contains("failure"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn what_runs_is_seen_and_ended_from_outside() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids] {
        let has_cgroups = matches!(user, User::Current);
        let lab = Lab::new(user);
        let long = "jobs:\n\
            \x20 one: {steps: [{run: 'true'}, {id: long, run: 'touch one; sleep 613 & wait'}, {run: touch cleaned, if: always()}]}\n\
            \x20 two: {steps: ['touch two; sleep 614']}\n";
        let mut child = start(&lab, long, &["--run-id", "mine", "-j", "2"]);
        wait_for_file(&lab, &mut child, "one");
        wait_for_file(&lab, &mut child, "two");
        let seen = json_of(&lab, &["ps", "--json"]);
        assert_eq!(ids(&seen), ["mine"]);
        let jobs = seen[0]["jobs"].as_array().unwrap();
        let steps: Vec<_> = jobs.iter().map(|job| (&job["id"], &job["steps"][0]["index"])).collect();
        assert_eq!(steps, [(&json!("one"), &json!(2)), (&json!("two"), &json!(1))], "{seen:#}");
        let text = lab.context.run(&["ps"]).expect_code(0).stdout_text();
        assert!(text.contains("├─ job one\n│  └─ step 2 long, "), "{text}");
        if has_cgroups {
            let commands: Vec<&str> =
                text.lines().filter(|line| line.contains(" sleep 61")).map(|line| line.trim_end()).collect();
            assert_eq!(commands.len(), 2, "{text}");
        }
        let mut waiting = lab.context.command(&["wait", "mine"]);
        let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = lab.context.run(&["cancel", "mine"]).expect_code(0).stdout_text();
        assert!(said.starts_with("run mine is ending"), "{said}");
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
        let waited = waiting.wait_with_output().unwrap();
        assert_eq!(waited.status.code(), Some(143), "{}", String::from_utf8_lossy(&waited.stderr));
        assert!(String::from_utf8_lossy(&waited.stdout).starts_with("run mine: cancelled in "));
        assert!(lab.context.work().join("cleaned").exists());
        let over = lab.context.run(&["cancel", "mine"]).expect_code(2);
        assert!(over.stderr_text().contains("run mine is not under way"), "{}", over.stderr_text());
        assert_eq!(lab.context.run(&["ps"]).expect_code(0).stdout_text(), "");
        // Now means now, whatever the grace.
        let mut child = start(
            &lab,
            "grace: 1h\nsteps: ['trap \"\" TERM; touch three; while true; do sleep 1; done']\n",
            &["--run-id", "stubborn"],
        );
        wait_for_file(&lab, &mut child, "three");
        lab.context.run(&["cancel", "stub", "--now"]).expect_code(0);
        assert!(matches!(child.wait_with_output().unwrap().status.code(), Some(130 | 143)));
        lab.context.run(&["wait", "nobody"]).expect_code(2);
    }
    before.assert_nothing_new();
}

#[test]
fn old_runs_are_removed_and_living_ones_are_not() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    for id in ["b1", "b2", "b3"] {
        lab.write("workspace: empty\nsteps: ['head -c 300000 /dev/zero > x; exit 1']\nartifacts: [{name: a, paths: [x], when: always}]\n");
        lab.context.run(&["exec", "job.yml", "--run-id", id]).expect_code(1);
    }
    let mut child = start(&lab, "steps: ['touch alive; sleep 615']\n", &["--run-id", "b4"]);
    wait_for_file(&lab, &mut child, "alive");
    let prune = |words: &[&str]| json_of(&lab, &[&["prune", "--json"], words].concat());
    assert_eq!(prune(&["--older", "1h"])["removed"], json!([]));
    let dry = prune(&["--max-size", "0", "--dry-run"]);
    assert_eq!(ids(&dry["removed"]), ["b1", "b2", "b3"]);
    assert_eq!(ids(&json_of(&lab, &["runs", "--json"])).len(), 4, "a dry run removes nothing");
    // Room for one of them and what lives.
    let room = dry["removed"][2]["bytes"].as_u64().unwrap() + dry["kept_bytes"].as_u64().unwrap() + 64 * 1024;
    assert_eq!(ids(&prune(&["--max-size", &format!("{room}B")])["removed"]), ["b1", "b2"]);
    assert_eq!(ids(&prune(&["--older", "0s"])["removed"]), ["b3"]);
    assert_eq!(ids(&json_of(&lab, &["runs", "--json"])), ["b4"]);
    let failed = lab.context.run(&["show", "latest-failed"]).expect_code(2);
    assert!(failed.stderr_text().contains("no run `latest-failed`"), "{}", failed.stderr_text());
    let names: Vec<_> = fs::read_dir(lab.context.home().join("runs")).unwrap().flatten().collect();
    assert_eq!(names.len(), 2, "the run and `latest`: {names:?}");
    // What a killed run left is for the next one to clean up; until then it stays.
    child.kill().unwrap();
    child.wait().unwrap();
    let died = lab.context.run(&["wait", "b4"]).expect_code(3);
    assert!(died.stderr_text().contains("was killed before"), "{}", died.stderr_text());
    assert_eq!(prune(&["--older", "0s"])["removed"], json!([]));
    let run = lab.exec("steps: [echo x]\n", 0);
    assert!(run.ran.stdout_text().contains("cleaned up after run b4"), "{}", run.ran.stdout_text());
    assert_eq!(run.text(0), "x\n");
    assert_eq!(ids(&json_of(&lab, &["runs", "--json", "--failed"])), ["b4"]);
    let said = lab.context.run(&["prune", "--older", "0s"]).expect_code(0).stdout_text();
    assert!(said.contains("removed b4: ") && said.contains("removed 2 runs, "), "{said}");
    before.assert_nothing_new();
}

#[test]
fn a_part_of_a_file_is_run() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write(
        "jobs:\n\
        \x20 build: {steps: [{id: one, run: touch one}, {id: two, run: touch two, if: failure()}], artifacts: [one]}\n\
        \x20 test: {needs: [build], steps: [{id: unit, run: touch unit}]}\n\
        \x20 lint: {steps: [touch lint]}\n",
    );
    let cases: [(&[&str], &[&str]); 6] = [
        (&["lint"], &["lint"]),
        (&["test"], &["one", "unit"]),
        (&["--only", "two"], &["two"]),
        (&["--only", "test/unit"], &["unit"]),
        (&["--until", "one"], &["one"]),
        (&["--from", "two"], &[]),
    ];
    for (words, made) in cases {
        lab.context.run(&[&["exec", "job.yml"], words].concat()).expect_code(0);
        let all = ["one", "two", "unit", "lint"];
        let found: Vec<&str> =
            all.into_iter().filter(|name| lab.context.work().join(name).exists()).collect();
        assert_eq!(found, made, "{words:?}");
        for name in found {
            fs::remove_file(lab.context.work().join(name)).unwrap();
        }
    }
    let runs = ids(&json_of(&lab, &["runs", "--json"])).len();
    let plan = lab.context.run(&["exec", "job.yml", "test", "--dry-run"]).expect_code(0).stdout_text();
    assert!(plan.contains("\ntest: 1 step on") && !plan.contains("lint"), "{plan}");
    assert_eq!(ids(&json_of(&lab, &["runs", "--json"])).len(), runs);
    for (words, text) in [
        (["--only", "uni"], "the file has no step `uni`; did you mean `unit`?"),
        (["--from", "tset/unit"], "the file has no job `tset`; did you mean `test`?"),
    ] {
        let ran = lab.context.run(&[&["exec", "job.yml"], &words[..]].concat()).expect_code(2);
        assert!(ran.stderr_text().contains(text), "{}", ran.stderr_text());
    }
}

//! Files of several jobs: order, values from job to job, side by side, fail-fast, cancel, and what is left.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::process::{Child, Stdio};

use fixtures::{Leftovers, User, require};
use lab::{Lab, Run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use waiting::wait_for_file;

/// Each job with its outcome and conclusion, in the order of the plan.
fn jobs(run: &Run) -> Vec<[&str; 3]> {
    let jobs = run.record["jobs"].as_array().unwrap();
    jobs.iter().map(|job| ["id", "outcome", "conclusion"].map(|key| job[key].as_str().unwrap())).collect()
}

fn start(lab: &Lab, job: &str, words: &[&str]) -> Child {
    lab.write(job);
    let mut command = lab.context.command(&[&["exec", "job.yml"], words].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn made(lab: &Lab, name: &str) -> bool {
    lab.context.work().join(name).exists()
}

#[test]
fn values_and_ends_go_from_job_to_job() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "env: {SHARED: top}\n\
        jobs:\n\
        \x20 publish:\n\
        \x20   needs: [build, test, {job: lint, if: always}]\n\
        \x20   if: needs.build.outputs.version != ''\n\
        \x20   steps:\n\
        \x20     - {run: 'echo \"$V $L $T $SHARED\"', env: {V: \"${{ needs.build.outputs.version }}\", L: \"${{ needs.lint.result }}\", T: \"${{ needs.test.outputs.last }}\"}}\n\
        \x20 build:\n\
        \x20   steps: [{id: v, run: 'echo version=1.2 >> $RUNNER_OUTPUT; touch built'}]\n\
        \x20   outputs: {version: \"${{ steps.v.outputs.version }}\", none: \"${{ steps.v.outputs.none }}\"}\n\
        \x20 lint: {steps: [exit 3], continue-on-error: true}\n\
        \x20 broken: {steps: [exit 4]}\n\
        \x20 after-broken: {needs: [broken], steps: ['touch never']}\n\
        \x20 mend: {needs: [after-broken], if: failure(), steps: ['touch mended']}\n\
        \x20 test:\n\
        \x20   needs: [build]\n\
        \x20   matrix: {n: [1, 2], on: [{name: x}]}\n\
        \x20   steps: [{id: s, run: 'test -e built; echo last=$MATRIX_N >> $RUNNER_OUTPUT; echo $MATRIX_ON'}]\n\
        \x20   outputs: {last: \"${{ matrix.on.name }}${{ steps.s.outputs.last }}\"}\n",
        1,
    );
    let expected = [
        ["publish", "success", "success"],
        ["build", "success", "success"],
        ["lint", "failure", "success"],
        ["broken", "failure", "failure"],
        ["after-broken", "skipped", "skipped"],
        ["mend", "success", "success"],
        ["test@1-x", "success", "success"],
        ["test@2-x", "success", "success"],
    ];
    assert_eq!(jobs(&run), expected, "{}", run.ran.stdout_text());
    let directory = fs::canonicalize(lab.context.home().join("runs/latest")).unwrap();
    // Which cell ends last is nobody's promise.
    let log = run.text(0);
    assert!(["1.2 success x2 top\n", "1.2 success x1 top\n"].contains(&log.as_str()), "{log}");
    let read =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(directory.join(path)).unwrap()).unwrap() };
    assert_eq!(read("jobs/build/outputs.json"), json!({"version": "1.2", "none": ""}));
    assert_eq!(run.record["jobs"][6]["matrix"], json!({"n": 1, "on": {"name": "x"}}));
    assert_eq!((made(&lab, "never"), made(&lab, "mended")), (false, true));
    assert_eq!((&run.record["outcome"], &run.record["exit_code"]), (&json!("failure"), &json!(1)));
    let text = run.ran.stdout_text();
    for line in [
        "job build: started, 1 step on ./rootfs.tar",
        "job after-broken: skipped",
        "test@2-x/s | {\"name\":\"x\"}",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    lab.context.run(&["exec", "job.yml", "--exit-code", "step"]).expect_code(4);
    before.assert_nothing_new();
}

/// Each waits for the other: they end only when both run at once.
const MEETING: &str = "jobs:\n\
    \x20 one: {timeout: 30s, steps: ['touch a; until test -e b; do sleep 0.05; done']}\n\
    \x20 two: {timeout: 30s, steps: ['touch b; until test -e a; do sleep 0.05; done']}\n";

#[test]
fn jobs_run_side_by_side_whoever_calls() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let lab = Lab::new(user);
        lab.write(MEETING);
        let run = lab.finished(lab.context.run(&["exec", "job.yml", "-j", "2"]).expect_code(0));
        assert_eq!(jobs(&run), [["one", "success", "success"], ["two", "success", "success"]]);
        // Each has its own workspace, and what it writes is its own.
        let run = lab.exec(
            "workspace: empty\njobs:\n\
            \x20 one: {user: 1000, steps: ['touch x; ls', 'ls']}\n\
            \x20 two: {user: 1000, steps: ['ls']}\n",
            0,
        );
        let text = run.ran.stdout_text();
        assert!(text.contains("one/step-2 | x") && !text.contains("two/step-1 | x"), "{text}");
        assert!(!made(&lab, "x"));
    }
    before.assert_nothing_new();
}

#[test]
fn no_more_run_at_once_than_may() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let alone = "steps: ['mkdir running', 'rmdir running']";
    let cases = [
        (format!("jobs: {{a: {{{alone}}}, b: {{{alone}}}, c: {{{alone}}}}}\n"), &["-j", "1"][..]),
        (format!("matrix: {{n: [1, 2, 3, 4]}}\nmax-parallel: 1\n{alone}\n"), &[]),
        (format!("limits: {{cpus: 8192}}\njobs: {{a: {{{alone}}}, b: {{{alone}}}}}\n"), &[]),
    ];
    for (job, words) in cases {
        lab.write(&job);
        let run = lab.finished(lab.context.run(&[&["exec", "job.yml"], words].concat()).expect_code(0));
        assert!(jobs(&run).iter().all(|[_, outcome, _]| *outcome == "success"), "{job}");
    }
    lab.context.run(&["exec", "job.yml", "-j", "0"]).expect_code(2);
}

#[test]
fn one_cell_that_fails_cancels_the_others_cleanly() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let job = |fast: bool| {
        format!(
            "matrix: {{n: [1, 2, 3]}}\nmax-parallel: 2\nfail-fast: {fast}\nlimits: {{cpus: 0.5}}\nsteps:\n\
            \x20 - |\n\
            \x20   if test $MATRIX_N = 1; then until test -e ready; do sleep 0.05; done; exit 5; fi\n\
            \x20   touch ready\n\
            \x20   if {fast}; then sleep 600; fi\n\
            \x20 - {{run: 'touch cleaned-$MATRIX_N', if: always()}}\n"
        )
    };
    let run = lab.exec(&job(true), 1);
    let expected = [
        ["job@1", "failure", "failure"],
        ["job@2", "cancelled", "cancelled"],
        ["job@3", "cancelled", "cancelled"],
    ];
    assert_eq!(jobs(&run), expected);
    assert_eq!(["1", "2", "3"].map(|n| made(&lab, &format!("cleaned-{n}"))), [true, true, false]);
    assert_eq!((&run.record["outcome"], &run.record["exit_code"]), (&json!("failure"), &json!(1)));
    lab.context.run(&["exec", "job.yml", "--exit-code", "step"]).expect_code(5);
    fs::remove_file(lab.context.work().join("ready")).unwrap();
    let run = lab.exec(&job(false), 1);
    let outcomes: Vec<&str> = jobs(&run).iter().map(|[_, outcome, _]| *outcome).collect();
    assert_eq!(outcomes, ["failure", "success", "success"]);
    before.assert_nothing_new();
}

const LASTING: &str = "jobs:\n\
    \x20 one: {steps: ['touch one; sleep 600', {run: 'touch cleaned', if: always()}]}\n\
    \x20 two: {steps: ['touch two; sleep 600']}\n\
    \x20 three: {needs: [one], if: always(), steps: ['touch three']}\n";

#[test]
fn a_signal_ends_all_jobs() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let mut child = start(&lab, LASTING, &["-j", "2"]);
    wait_for_file(&lab, &mut child, "one");
    wait_for_file(&lab, &mut child, "two");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    let run = lab.finished(lab.context.run(&["show"]).expect_code(0));
    assert!(jobs(&run).iter().all(|[_, outcome, _]| *outcome == "cancelled"), "{:?}", jobs(&run));
    assert_eq!((made(&lab, "cleaned"), made(&lab, "three")), (true, false));
    before.assert_nothing_new();
}

#[test]
fn what_several_jobs_of_a_killed_run_left_is_swept() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids] {
        let lab = Lab::new(user);
        let mut child = start(&lab, LASTING, &["-j", "2"]);
        wait_for_file(&lab, &mut child, "one");
        wait_for_file(&lab, &mut child, "two");
        child.kill().unwrap();
        child.wait().unwrap();
        let run = lab.exec("steps: ['true']\n", 0);
        assert!(run.ran.stdout_text().contains("cleaned up after run"), "{}", run.ran.stdout_text());
        assert_eq!(fs::read_dir(lab.context.home().join("scratch")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(lab.context.home().join("live")).unwrap().count(), 0);
    }
    before.assert_nothing_new();
}

#[test]
fn a_run_has_a_time_and_each_job_its_own() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    // The image is made ready: that takes no time then.
    lab.exec("steps: ['true']", 0);
    // The one ends by its own time, the other by the run's, and a third never begins.
    lab.write(
        "grace: 0\njobs:\n\
        \x20 short: {timeout: 200ms, continue-on-error: true, steps: [sleep 600]}\n\
        \x20 long: {needs: [short], steps: [sleep 600, {run: touch cleaned, if: always()}]}\n\
        \x20 never: {needs: [long], if: always(), steps: ['touch never']}\n",
    );
    let ran = lab.context.run(&["exec", "job.yml", "--timeout", "5s"]).expect_code(4);
    let run = lab.finished(ran);
    let expected = [
        ["short", "timeout", "success"],
        ["long", "cancelled", "cancelled"],
        ["never", "cancelled", "cancelled"],
    ];
    assert_eq!(jobs(&run), expected, "{}", run.ran.stdout_text());
    assert_eq!(run.record["outcome"], "timeout");
    assert!(run.ran.stdout_text().contains("the run took longer than its timeout of 5s"));
    assert_eq!((made(&lab, "cleaned"), made(&lab, "never")), (true, false));
    before.assert_nothing_new();
}

#[test]
fn artifacts_go_from_job_to_job() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids] {
        let lab = Lab::new(user);
        lab.context.write("out/old", "old");
        let run = lab.exec(
            "workspace: copy\njobs:\n\
            \x20 build:\n\
            \x20   matrix: {n: [1, 2]}\n\
            \x20   steps: ['mkdir -p out/d; echo $MATRIX_N > out/d/$MATRIX_N; echo new$MATRIX_N > out/old; ln -s d out/link; chmod 750 out/d/*']\n\
            \x20   artifacts: [{name: out, paths: [out]}]\n\
            \x20 other: {steps: ['echo x > other'], artifacts: [other]}\n\
            \x20 test:\n\
            \x20   needs: [build, {job: other, artifacts: false}]\n\
            \x20   steps: ['cat out/link/1 out/link/2 out/old; stat -c %a out/d/1; test ! -e other; echo more > out/d/1']\n\
            \x20 bare: {needs: [build], workspace: empty, steps: ['find . -type f | sort; rm -r out']}\n",
            0,
        );
        let log = |job: usize| {
            let path = run.record["jobs"][job]["steps"][0]["log"]["path"].as_str().unwrap();
            fs::read_to_string(lab.context.home().join("runs/latest").join(path)).unwrap()
        };
        assert_eq!(log(3), "1\n2\nnew2\n750\n");
        assert_eq!(log(4), "./out/d/1\n./out/d/2\n./out/old\n");
        assert_eq!(lab.context.read("out/old"), "old", "the project's directory is as it was");
    }
    before.assert_nothing_new();
}

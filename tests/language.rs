//! What the job language promises while a job runs: conditions, values from step to step, params.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;
mod waiting;

use std::fs;
use std::process::Stdio;

use fixtures::{Leftovers, User, require};
use lab::{Lab, Run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use waiting::wait_for_file;

fn outcomes(run: &Run) -> Vec<String> {
    let steps = run.record["jobs"][0]["steps"].as_array().unwrap();
    steps.iter().map(|step| step["outcome"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn values_go_from_step_to_step() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    // Whoever calls and whoever runs the steps: the files can be written and read.
    for (user, inside) in [
        (User::Current, "root"),
        (User::Current, "1000"),
        (User::WithSubids, "root"),
        (User::WithSubids, "1000"),
        (User::OneId, "root"),
    ] {
        let lab = Lab::new(user);
        let run = lab.exec(
            &format!(
                "user: {inside}\nenv: {{A: job, B: job}}\nsteps:\n\
                \x20 - id: one\n\
                \x20   run: |\n\
                \x20     test \"$CI\" = true\n\
                \x20     for file in OUTPUT ENV PATH SUMMARY; do eval test -f \\$RUNNER_$file; done\n\
                \x20     printf 'a=1\\nlines<<E\\nx\\ny\\nE\\n' >> \"$RUNNER_OUTPUT\"\n\
                \x20     echo 'b=two words' >> \"$GITHUB_OUTPUT\"\n\
                \x20     echo A=added >> \"$RUNNER_ENV\"; echo B=added >> \"$GITHUB_ENV\"; echo LD_PRELOAD=/x >> \"$RUNNER_ENV\"\n\
                \x20     echo /opt/first >> \"$RUNNER_PATH\"; echo /opt/second >> \"$GITHUB_PATH\"\n\
                \x20     echo '# one' >> \"$GITHUB_STEP_SUMMARY\"\n\
                \x20 - run: |\n\
                \x20     echo \"$A $B $V [$L] ${{LD_PRELOAD-unset}} $PATH\"\n\
                \x20     printf '# two' >> \"$RUNNER_SUMMARY\"\n\
                \x20     test ! -s \"$RUNNER_OUTPUT\"\n\
                \x20   env:\n\
                \x20     B: step\n\
                \x20     V: ${{{{ steps.one.outputs.a }}}}-${{{{ steps.one.outputs.b }}}}-${{{{ env.A }}}}\n\
                \x20     L: ${{{{ steps.one.outputs.lines }}}}\n"
            ),
            0,
        );
        let text = run.text(1);
        assert!(
            text.starts_with("added step 1-two words-added [x\ny] unset /opt/second:/opt/first:/"),
            "{text}"
        );
        assert!(
            run.ran.stdout_text().contains("LD_PRELOAD of step one is not taken"),
            "{}",
            run.ran.stdout_text()
        );
        let job = fs::canonicalize(lab.context.home().join("runs/latest/jobs/job")).unwrap();
        assert_eq!(fs::read_to_string(job.join("summary.md")).unwrap(), "# one\n# two\n");
        let outputs: Value =
            serde_json::from_slice(&fs::read(job.join("steps/01-one/outputs.json")).unwrap()).unwrap();
        assert_eq!(outputs, json!({"a": "1", "b": "two words", "lines": "x\ny"}));
    }
    before.assert_nothing_new();
}

#[test]
fn conditions_decide_which_steps_run() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "steps:\n\
        \x20 - {id: soft, run: \"echo soft=true >> $RUNNER_OUTPUT; exit 3\", continue-on-error: true}\n\
        \x20 - {run: \"true\", if: \"steps.soft.outcome == 'failure' && steps.soft.conclusion == 'success'\"}\n\
        \x20 - {run: \"false\", if: \"false\"}\n\
        \x20 - {run: \"false\", if: failure()}\n\
        \x20 - {run: \"false\", continue-on-error: \"${{ steps.soft.outputs.soft }}\"}\n\
        \x20 - {id: bad, run: exit 4, continue-on-error: \"${{ steps.soft.outputs.hard }}x\", if: \"false\"}\n\
        \x20 - {id: worse, run: exit 5}\n\
        \x20 - run: \"true\"\n\
        \x20 - {run: 'test \"$S\" = failure', if: failure(), env: {S: \"${{ job.status }}\"}}\n\
        \x20 - {run: exit 6, if: always()}\n\
        \x20 - {run: \"true\", if: \"failure() && steps.worse.outcome == 'failure'\"}\n\
        \x20 - {run: \"true\", if: cancelled()}\n",
        1,
    );
    let expected = [
        "failure", "success", "skipped", "skipped", "failure", "skipped", "failure", "skipped", "success",
        "failure", "success", "skipped",
    ];
    assert_eq!(outcomes(&run), expected, "{}", run.ran.stdout_text());
    assert_eq!((&run.record["outcome"], &run.record["exit_code"]), (&json!("failure"), &json!(1)));
    let step = lab.context.run(&["exec", "job.yml", "--exit-code", "step"]).expect_code(5);
    assert!(step.stdout_text().contains("step-3: skipped\n"), "{}", step.stdout_text());
}

#[test]
fn a_job_whose_condition_fails_is_skipped() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec("if: git.branch == 'main'\nsteps: [exit 1]\n", 0);
    assert_eq!((&run.record["outcome"], outcomes(&run)), (&json!("skipped"), vec!["skipped".to_owned()]));
    fs::create_dir(lab.context.work().join(".git")).unwrap();
    lab.context.write(".git/HEAD", "ref: refs/heads/main\n");
    lab.context.write(".git/refs/heads/main", "abc\n");
    let run =
        lab.exec("if: git.branch == 'main' && git.commit == 'abc' && host.cpus > 0\nsteps: [exit 1]\n", 1);
    assert_eq!(outcomes(&run), ["failure"]);
}

#[test]
fn what_cannot_be_settled_or_understood_fails_its_step() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let failing = [
        ("echo nothing >> $RUNNER_OUTPUT", "$RUNNER_OUTPUT: line 1 is neither NAME=VALUE nor NAME<<MARK"),
        (
            "rm $RUNNER_OUTPUT; ln -s /etc/passwd $RUNNER_OUTPUT",
            "$RUNNER_OUTPUT: it is no longer a regular file",
        ),
        ("rm $RUNNER_ENV; mkfifo $RUNNER_ENV", "$RUNNER_ENV: it is no longer a regular file"),
        (
            "rm -r /run/runner/handed; ln -s /etc /run/runner/handed",
            "$RUNNER_OUTPUT: it is no longer a regular file",
        ),
        ("head -c 1100000 /dev/zero > $RUNNER_SUMMARY", "$RUNNER_SUMMARY: it has more than 1048576 bytes"),
    ];
    for (script, cause) in failing {
        let run =
            lab.exec(&format!("steps:\n  - run: '{script}'\n  - {{run: \"true\", if: failure()}}\n"), 1);
        assert_eq!(outcomes(&run), ["failure", "success"], "{script}");
        assert_eq!(run.step(0)["cause"], cause, "{script}");
    }
    // Whose own end is a failure keeps its cause.
    let run = lab.exec("steps: ['echo nothing >> $RUNNER_OUTPUT; exit 7']\n", 1);
    assert_eq!(run.step(0)["cause"], "exit code 7");
    let run = lab.exec(
        "steps:\n\
        \x20 - {id: one, run: \"true\"}\n\
        \x20 - {run: \"true\", if: \"fromJSON(steps.one.outputs.x)\"}\n\
        \x20 - {run: 'touch ran', if: failure()}\n\
        \x20 - run: 'true'\n",
        1,
    );
    assert_eq!(outcomes(&run), ["success", "failure", "success", "skipped"]);
    let cause = run.step(1)["cause"].as_str().unwrap();
    assert!(cause.starts_with("`if`: `fromJSON` was given what is not JSON"), "{cause}");
    let run = lab.exec("env: {X: \"${{ toJSON(fromJSON(run.id)) }}\"}\nsteps: ['true', 'true']\n", 1);
    assert_eq!(outcomes(&run), ["failure", "skipped"]);
    before.assert_nothing_new();
}

#[test]
fn params_come_from_the_command_line() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write(
        "params:\n\
        \x20 greeting: hello\n\
        \x20 count: {type: int, default: 2}\n\
        \x20 dry-run: {type: bool, default: false}\n\
        \x20 target: {type: choice, options: [debug, release], required: true}\n\
        name: build of ${{ params.target }}\n\
        limits: {pids: \"${{ params.count }}0\"}\n\
        steps:\n\
        \x20 - run: echo \"$PARAM_GREETING $PARAM_DRY_RUN $PARAM_TARGET $TEXT\"\n\
        \x20   env: {TEXT: \"${{ params.greeting }}\"}\n\
        \x20 - {run: echo many, if: params.count > 2 && !params.dry-run}\n",
    );
    // What a param holds is never read as an expression or a script.
    let words = [
        "exec",
        "job.yml",
        "-p",
        "target=release",
        "-p",
        "greeting=${{ run.id }} $(id)",
        "--param",
        "count=3",
    ];
    let run = lab.finished(lab.context.run(&words).expect_code(0));
    assert_eq!(run.text(0), "${{ run.id }} $(id) false release ${{ run.id }} $(id)\n");
    assert_eq!(outcomes(&run), ["success", "success"]);
    assert_eq!(
        (&run.record["name"], &run.step(0)["limits"]["pids"]),
        (&json!("build of release"), &json!(30))
    );
    let misused: [(&[&str], &str); 5] = [
        (&[], "error[E132]: the param `target` has no value"),
        (
            &["-p", "target=fast"],
            "command line: error[E133]: the param `target` cannot be `fast`: it is one of",
        ),
        (
            &["-p", "target=debug", "-p", "tarGet=x"],
            "error[E131]: the file has no param `tarGet`; did you mean `target`?",
        ),
        (
            &["-p", "target=debug", "-p", "count=two"],
            "error[E133]: the param `count` cannot be `two`: it is a whole number",
        ),
        (&["-p", "target"], "invalid value 'target' for --param: it is not NAME=VALUE"),
    ];
    for (words, text) in misused {
        let ran = lab.context.run(&[&["exec", "job.yml"], words].concat()).expect_code(2);
        assert!(ran.stderr_text().contains(text), "{}", ran.stderr_text());
    }
    lab.context.run(&["check", "job.yml"]).expect_code(0);
}

#[test]
fn after_a_signal_the_steps_that_always_run_do() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.write(
        "steps:\n\
        \x20 - 'touch ready; sleep 600'\n\
        \x20 - 'touch never'\n\
        \x20 - {run: 'touch cleaned', if: always()}\n\
        \x20 - {run: 'touch failed', if: failure()}\n\
        \x20 - {run: 'touch cancelled; sleep 600', if: cancelled()}\n\
        \x20 - {run: 'touch too-late', if: always()}\n",
    );
    let mut command = lab.context.command(&["exec", "job.yml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&lab, &mut child, "ready");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    wait_for_file(&lab, &mut child, "cancelled");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let run = lab.finished(lab.context.run(&["show"]));
    let expected = ["cancelled", "skipped", "success", "skipped", "cancelled", "skipped"];
    assert_eq!(outcomes(&run), expected);
    assert_eq!(run.record["outcome"], "cancelled");
    let made = |name: &str| lab.context.work().join(name).exists();
    assert_eq!(["never", "cleaned", "failed", "too-late"].map(made), [false, true, false, false]);
    before.assert_nothing_new();
}

#[test]
fn after_the_jobs_timeout_the_steps_that_always_run_do() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let run = lab.exec(
        "timeout: 300ms\ngrace: 0\nsteps:\n  - sleep 600\n  - 'true'\n  - {run: touch cleaned, if: always()}\n",
        4,
    );
    assert_eq!(outcomes(&run), ["timeout", "skipped", "success"]);
    assert!(lab.context.work().join("cleaned").exists());
}

#[test]
fn a_plan_is_printed_for_the_params_given() {
    let context = fixtures::TestContext::new(env!("CARGO_BIN_EXE_runner"));
    context.write(
        "job.yml",
        "params: {os: {required: true}}\njobs:\n\
        \x20 build: {image: \"dir:/${{ params.os }}\", steps: [make]}\n\
        \x20 test: {needs: [build], image: host, matrix: {n: [1, 2]}, steps: [make test]}\n",
    );
    let print = |words: &[&str], code| {
        let ran = context.run(&[&["check"], words].concat()).expect_code(code);
        ran.stdout_text()
    };
    let plan = print(&["--print", "plan", "-p", "os=debian"], 0);
    assert!(plan.starts_with("job: 3 jobs\n\nbuild: 1 step on dir:/debian\n"), "{plan}");
    let graph = print(&["--print", "graph", "-p", "os=debian"], 0);
    assert!(graph.contains("\"build\" -> \"test\";\n"), "{graph}");
    let resolved: Value =
        serde_json::from_str(&print(&["--print", "resolved", "-p", "os=debian"], 0)).unwrap();
    assert_eq!(resolved["jobs"][2]["matrix"], json!({"n": 2}));
    let missing = print(&["--print", "plan"], 2);
    assert!(missing.contains("error[E132]: the param `os` has no value"), "{missing}");
    assert!(print(&["-p", "os=x y"], 0).contains("job.yml: good, 1 warning\n"));
    assert!(print(&["-p", "so=x"], 2).contains("error[E131]"));
    context.run(&["check", "--print", "plan", "--format", "json"]).expect_code(2);
}

//! Job files that consist of several files, and what they read of the workspace.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;

use fixtures::{Leftovers, User, require};
use lab::Lab;
use serde_json::json;

const LINT: &str = "params: {level: {type: int, default: 1}}\n\
    steps:\n\
    \x20 - {id: check, run: 'echo \"$PARAM_LEVEL $STYLE $FROM\"; echo count=3 >> \"$RUNNER_OUTPUT\"; exit $PARAM_LEVEL'}\n\
    \x20 - {run: exit 9}\n\
    \x20 - {id: mend, run: 'echo mended', if: failure() && params.level == 2}\n\
    outputs: {count: \"${{ steps.check.outputs.count }}\"}\n";

#[test]
fn a_file_is_laid_over_others_and_takes_their_steps() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.context.write("ci/common.yml", "env: {FROM: common, STYLE: common}\nsteps: [exit 7]\n");
    lab.context.write("ci/lint.yml", LINT);
    let run = lab.exec(
        "include: [ci/common.yml]\nsteps:\n\
        \x20 - {id: lint, uses: ci/lint.yml, with: {level: 2}, env: {STYLE: uses}, continue-on-error: true}\n\
        \x20 - {run: 'echo $COUNT', env: {COUNT: \"${{ steps.lint.outputs.count }} ${{ steps.lint.outcome }}\"}}\n\
        \x20 - {id: again, uses: ci/lint.yml, if: failure()}\n",
        0,
    );
    let told: Vec<_> = run.record["jobs"][0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| format!("{} {} {}", step["id"], step["outcome"], step["conclusion"]).replace('"', ""))
        .collect();
    assert_eq!(
        told,
        [
            "lint success success",
            "lint-check failure success",
            "lint-step-2 skipped skipped",
            "lint-mend success success",
            "step-5 success success",
            "again skipped skipped",
            "again-check skipped skipped",
            "again-step-2 skipped skipped",
            "again-mend skipped skipped",
        ]
    );
    assert_eq!((run.text(1), run.text(4)), ("2 uses common\n".to_owned(), "3 failure\n".to_owned()));
    let included = run.record["included"].as_array().unwrap();
    let names: Vec<_> = included.iter().map(|file| file["name"].clone()).collect();
    assert_eq!(names, [json!("ci/common.yml"), json!("ci/lint.yml")]);
    let kept = fs::read_to_string(lab.context.home().join("runs/latest/include/2-lint.yml")).unwrap();
    assert_eq!(kept, LINT);
    // A failure within is the job's where nobody forgives it.
    let run = lab.exec("steps:\n  - {id: lint, uses: ci/lint.yml}\n  - exit 8\n", 1);
    assert_eq!(run.record["outcome"], json!("failure"));
    assert_eq!(run.record["jobs"][0]["steps"][4]["outcome"], json!("skipped"));
    before.assert_nothing_new();
}

#[test]
fn what_a_job_file_names_must_be_there_and_untrusted_ones_stay_in_the_project() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write("include: [../outside.yml, missing.yml]\nsteps: [x]\n");
    fs::write(lab.context.work().parent().unwrap().join("outside.yml"), "env: {A: 'top secret'}\n").unwrap();
    let ran = lab.context.run(&["exec", "job.yml"]).expect_code(2);
    assert!(
        ran.stderr_text().contains("cannot include `missing.yml`: it is not there"),
        "{}",
        ran.stderr_text()
    );
    assert!(!ran.stderr_text().contains("outside.yml`"), "{}", ran.stderr_text());
    let ran = lab.context.run(&["exec", "--untrusted", "job.yml"]).expect_code(2);
    let text = ran.stderr_text();
    assert!(
        text.contains("outside.yml`: it lies outside of the project") && !text.contains("top secret"),
        "{text}"
    );
    let ran = lab.context.run(&["check", "job.yml"]).expect_code(2);
    assert!(ran.stdout_text().contains("error[E123]"), "{}", ran.stdout_text());
}

#[test]
fn a_clean_checkout_has_the_commit_and_expressions_know_the_rest() {
    require!(Root, Cgroups, Busybox, Program("git"));
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
        let mut command = std::process::Command::new("git");
        let said = command.current_dir(lab.context.work()).args(who).args(arguments).output().unwrap();
        assert!(said.status.success(), "{arguments:?}: {said:?}");
    };
    lab.context.write("tracked", "committed");
    git(&["init", "--quiet"]);
    let job = "workspace: git\nsteps:\n\
        \x20 - 'cat tracked; ls; echo built > built; test -d .git; echo $RUNNER_BRANCH'\n\
        \x20 - {run: 'cat built; echo $V', env: {V: \"${{ git.tag }} ${{ git.dirty }} ${{ join(git.changed) }}\"}}\n";
    // Nothing is committed yet.
    let run = lab.exec(job, 2);
    assert!(run.ran.stderr_text().contains("no commit to check out"), "{}", run.ran.stderr_text());
    git(&["add", "tracked"]);
    git(&["commit", "--quiet", "-m", "one"]);
    git(&["tag", "v1"]);
    lab.context.write("tracked", "changed");
    let run = lab.exec(job, 0);
    assert_eq!(
        (run.text(0), run.text(1)),
        ("committedtracked\nmain\n".into(), "built\nv1 true tracked\n".into())
    );
    assert!(!lab.context.work().join("built").exists());
    before.assert_nothing_new();
}

#[test]
fn the_hash_of_files_is_that_of_the_workspace_when_it_is_asked() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.context.write("Cargo.lock", "one");
    let job = "workspace: copy\nsteps:\n\
        \x20 - {run: 'echo $H', env: {H: \"${{ hashFiles('*.lock') }}\"}}\n\
        \x20 - 'echo two > Cargo.lock; ln -s /etc/passwd link.lock'\n\
        \x20 - {run: 'echo $H', env: {H: \"${{ hashFiles('*.lock') }}\"}}\n\
        \x20 - {run: exit 9, if: \"hashFiles('*.none') != ''\"}\n";
    let (first, again) = (lab.exec(job, 0), lab.exec(job, 0));
    assert_eq!((first.text(0).len(), first.text(0)), (65, again.text(0)));
    assert_eq!((first.text(2).len(), first.text(2)), (65, again.text(2)));
    assert_ne!(first.text(0), first.text(2));
    assert_eq!(first.record["jobs"][0]["steps"][3]["outcome"], json!("skipped"));
}

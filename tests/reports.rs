//! Reports of tests, coverage and findings: read from hostile workspaces, summed up, kept, told.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fixtures::{Leftovers, User, require};
use lab::{Lab, Run};
use serde_json::{Value, json};

fn report(lab: &Lab, name: &str) -> Value {
    let path = lab.context.home().join("runs/latest/reports").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn warnings(run: &Run, lab: &Lab) -> Vec<String> {
    let events = fs::read_to_string(lab.context.home().join("runs/latest/events.ndjson")).unwrap();
    assert!(run.record["id"].is_string());
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let warnings = events.filter(|event| {
        event["event"] == "warning" && event["code"].as_str().is_some_and(|code| code.starts_with("W46"))
    });
    warnings
        .map(|event| format!("{} {}", event["code"].as_str().unwrap(), event["text"].as_str().unwrap()))
        .collect()
}

const WRITES: &str = r#"
reports: {coverage: [cov/*.info]}
steps:
  - id: unit
    run: |
      mkdir -p out cov
      printf '<testsuite><testcase classname="m.A" name="ok"/><testcase classname="m.A" name="bad" file="src/a.py" line="3"><failure message="1 != 2">trace</failure></testcase><testcase name="not"><skipped/></testcase></testsuite>' > out/TEST-a.xml
      printf 'SF:a.c\nDA:1,1\nDA:2,0\nDA:3,4\nend_of_record\n' > cov/a.info
      exit 1
    reports: {junit: ["out/TEST-*.xml"]}
    continue-on-error: true
  - id: lint
    run: |
      printf '{"runs":[{"results":[{"level":"error","message":{"text":"e"}},{"message":{"text":"w"}}]}]}' > lint.sarif
    reports: {sarif: [lint.sarif]}
"#;

#[test]
fn reports_are_summed_up_kept_and_told() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids] {
        let lab = Lab::new(user);
        let run = lab.exec(WRITES, 0);
        let said = run.ran.stdout_text();
        let line = "reports: 3 tests, 1 failed, 1 skipped; 66.7 % of 3 lines covered; 1 error, 1 warning found\n  failed: m.A.bad: 1 != 2\n";
        assert!(said.contains(line), "{said}");
        assert_eq!(
            run.record["reports"],
            json!({"tests": 3, "failed": 1, "skipped": 1, "flaky": 0, "coverage": {"lines": 3, "covered": 2},
                "findings": {"errors": 1, "warnings": 1, "notes": 0}})
        );
        let junit = report(&lab, "junit.json");
        assert_eq!((&junit["v"], &junit["jobs"][0]["job"]), (&json!(1), &json!("job")));
        assert_eq!(
            junit["jobs"][0]["cases"][0],
            json!({"class": "m.A", "name": "bad", "outcome": "failed", "message": "1 != 2", "file": "src/a.py", "line": 3})
        );
        assert_eq!(report(&lab, "coverage.json")["jobs"][0]["percent"], 66.67);
        assert_eq!(report(&lab, "sarif.json")["jobs"][0]["results"][1]["level"], "warning");
        let names: Vec<&str> = run.record["artifacts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|artifact| artifact["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["junit", "sarif", "coverage"], "the originals are kept");
        assert!(lab.context.home().join("runs/latest/artifacts/junit/out/TEST-a.xml").exists());
        assert_eq!(warnings(&run, &lab), [] as [String; 0]);
        assert_eq!(run.text(0), "");
        lab.context.run(&["artifacts", "verify"]).expect_code(0);
    }
    before.assert_nothing_new();
}

#[test]
fn a_test_that_passes_in_another_attempt_is_flaky() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let job = r#"
steps:
  - id: unit
    retry: 2
    reports: {junit: [r.xml]}
    run: |
      case $RUNNER_ATTEMPT in
        1) bad='<failure message="first"/>' worse='<failure/>' ;;
        2) bad='' worse='<failure/>' ;;
        3) bad='' worse='<failure message="always"/>' ;;
      esac
      printf '<testsuite><testcase name="a">%s</testcase><testcase name="b">%s</testcase><testcase name="c"/></testsuite>' "$bad" "$worse" > r.xml
      exit 1
  - {id: more, if: 'always()', run: 'printf "<testsuite><testcase name=\"a\"/></testsuite>" > s.xml', reports: {junit: [s.xml]}}
"#;
    let run = lab.exec(job, 1);
    assert_eq!(
        run.record["reports"],
        json!({"tests": 4, "failed": 1, "skipped": 0, "flaky": 1}),
        "each step has its own tests"
    );
    let cases = report(&lab, "junit.json")["jobs"][0]["cases"].clone();
    assert_eq!(cases[0], json!({"name": "b", "outcome": "failed", "message": "always"}));
    assert_eq!(cases[1], json!({"name": "a", "outcome": "flaky", "message": "first"}));
    let left = fs::read_dir(lab.context.home().join("runs/latest/")).unwrap();
    let left: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

#[test]
fn what_is_missing_broken_or_hostile_is_a_warning() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let job = r#"
steps:
  - id: odd
    run: |
      mkdir r; echo '<html/>' > r/other.xml; printf '<testsuite><testcase name="x"' > r/torn.xml; : > r/empty.xml
      ln -s /etc/passwd r/link.xml; mkfifo r/fifo.xml; mkdir r/directory.xml
      { printf '<!DOCTYPE a [<!ENTITY b "'; head -c 100000 /dev/zero | tr '\0' x; printf '">]><testsuite>'; for n in $(seq 1 500); do printf '<testcase name="&b;%s"/>' $n; done; printf '</testsuite>'; } > r/bomb.xml
      for n in $(seq 1 2000); do printf '<testsuite>'; done > r/deep.xml
      dd if=/dev/zero of=r/huge.xml bs=1M count=0 seek=70 2>/dev/null
      printf '<testsuite><testcase name="::error::x\r##[error]y"><failure message="::stop-commands::z&#10;second"/></testcase></testsuite>' > r/orders.xml
      echo x > not.info; echo '{"runs": 1}' > not.sarif
    reports: {junit: ["r/*.xml", "!r/link.xml"], coverage: ["*.info"], sarif: ["*.sarif"]}
  - {id: absent, run: 'true', reports: {junit: ["out/**/TEST-*.xml"]}}
  - {id: leads-out, run: 'true', reports: {junit: ["r/link.xml"]}}
"#;
    lab.write(job);
    let mut command = lab.context.command(&["exec"]);
    let run = lab.finished(lab.context.finish(command.env("GITHUB_ACTIONS", "true")).expect_code(0));
    let found = warnings(&run, &lab);
    for (code, what) in [
        ("W462", "r/other.xml"),
        ("W462", "r/torn.xml"),
        ("W462", "r/empty.xml"),
        ("W462", "r/deep.xml"),
        ("W462", "r/huge.xml"),
        ("W462", "not.info"),
        ("W462", "not.sarif"),
        ("W461", "of step absent: `out/**/TEST-*.xml`"),
        ("W462", "leads out of the workspace"),
    ] {
        assert_eq!(
            found.iter().filter(|line| line.starts_with(code) && line.contains(what)).count(),
            1,
            "{what}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 9, "{found:#?}");
    assert_eq!(run.record["reports"], json!({"tests": 501, "failed": 1, "skipped": 0, "flaky": 0}));
    let text = run.ran.stdout_text();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("::error")).collect();
    assert_eq!(errors, ["::error title=%3A%3Aerror%3A%3Ax ##[error]y::::stop-commands::z"], "{text}");
    before.assert_nothing_new();
}

#[test]
fn a_secret_in_a_report_is_a_leak_and_one_between_its_lines_is_masked() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let path = lab.context.write("secrets", "TOKEN=tok3n-Wn7xZz\n");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let exec = |script: &str, code: i32| {
        lab.write(&format!(
            "secrets: [TOKEN]\nsteps: [{{id: s, secrets: [TOKEN], run: '{script}', reports: {{junit: [r.xml]}}}}]\n"
        ));
        lab.finished(lab.context.run(&["exec", "job.yml", "--secrets-file", "secrets"]).expect_code(code))
    };
    let plain =
        "printf \"<testsuite><testcase name=\\\"$(cat /run/secrets/TOKEN)\\\"/></testsuite>\" > r.xml";
    let run = exec(plain, 6);
    assert_eq!(run.step(0)["outcome"], "leak");
    assert!(!lab.context.home().join("runs/latest/artifacts/junit").exists());
    // As numbers of characters it is not found in the file, but what is made of it would tell.
    let coded = "printf \"<testsuite><testcase name=\\\"a\\\"><failure message=\\\"&#116;ok3n-Wn7xZz\\\"/></testcase></testsuite>\" > r.xml";
    let run = exec(coded, 0);
    let said = run.ran.stdout_text();
    assert!(said.contains("failed: a: ***"), "{said}");
    assert!(
        !fs::read_to_string(lab.context.home().join("runs/latest/reports/junit.json"))
            .unwrap()
            .contains("tok3n")
    );
    assert!(
        !fs::read_to_string(lab.context.home().join("runs/latest/events.ndjson")).unwrap().contains("tok3n")
    );
}

#[test]
fn a_workflow_gets_failed_tests_where_they_stand() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let cases: String = (0..12)
        .map(|n| format!("<testcase name=\"t{n}\" file=\"/workspace/src/t.py\" line=\"{n}7\"><failure message=\"no\"/></testcase>"))
        .collect();
    lab.write(
        "steps:\n  - {id: s, run: 'exit 1', reports: {junit: [r.xml]}}\n  - {id: t, if: 'always()', run: 'true', artifacts: [r.xml]}\n",
    );
    lab.context.write("r.xml", format!("<testsuite>{cases}</testsuite>"));
    let mut command = lab.context.command(&["exec"]);
    let summary = lab.context.path("summary");
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let run = lab.finished(lab.context.finish(&mut command).expect_code(1));
    let text = run.ran.stdout_text();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("::error")).collect();
    assert_eq!(errors.len(), 10, "{text}");
    assert_eq!(errors[0], "::error title=s,file=job.yml,line=5::failure (exit code 1)");
    assert_eq!(errors[1], "::error title=t0,file=src/t.py,line=7::no");
    assert!(text.contains("  failed: t9: no\n  and 2 more\n"), "{text}");
    assert!(text.ends_with("::notice::1 more errors are in the log\n"), "{text}");
    assert!(fs::read_to_string(summary).unwrap().contains("\n12 tests: 12 failed, 0 skipped, 0 flaky\n"));
}

#[test]
fn reports_do_not_go_to_jobs_that_need_theirs() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let xml = "<testsuite><testcase name=\\\"a\\\"/></testsuite>";
    let step = |id: &str, name: &str| {
        format!(
            "{{id: {id}, run: \"echo '{xml}' > {name}\", reports: {{junit: [\"*.xml\"]}}, artifacts: [{{name: {id}, paths: [job.yml]}}]}}"
        )
    };
    let run = lab.exec(
        &format!(
            "workspace: copy\njobs:\n  one: {{steps: [{}]}}\n  two: {{needs: [one], steps: [{}]}}\n",
            step("first", "a.xml"),
            step("second", "b.xml")
        ),
        0,
    );
    assert_eq!(run.record["reports"]["tests"], 2, "each test once: {}", run.ran.stdout_text());
    let text = run.ran.stdout_text();
    assert!(
        text.contains("job one: reports: 1 test, none failed\n")
            && text.contains("job two: reports: 1 test, none failed\n"),
        "{text}"
    );
}

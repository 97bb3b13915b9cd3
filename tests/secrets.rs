//! Secrets: who sees them, and that nobody else does: no terminal, log, event, record or artifact.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fixtures::{Leftovers, User, require};
use lab::{Lab, Run};
use serde_json::json;

const TOKEN: &str = "tok3n-Wn7/x+Zz";
const KEY: &str = "-----BEGIN-----\nMIIabcDEF0123\n4567ghiJKL89\n-----END-----\n";

/// Every file below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(path) = left.pop() {
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}

/// Writes the files of secrets that only their owner reads, and runs the job with them.
fn exec(lab: &Lab, job: &str, code: i32) -> Run {
    lab.write(job);
    for (name, text) in [("secrets", format!("# ours\nTOKEN={TOKEN}\n")), ("key.pem", KEY.to_owned())] {
        let path = lab.context.write(name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let words = ["exec", "job.yml", "--secrets-file", "secrets", "--secret", "KEY=@key.pem", "--json"];
    lab.finished(lab.context.run(&words).expect_code(code))
}

/// None of these is anywhere in what the run said or recorded.
#[track_caller]
fn assert_nowhere(lab: &Lab, run: &Run, texts: &[&str]) {
    let records = files(&lab.context.home().join("runs"));
    assert!(records.len() > 5, "{records:?}");
    let said = [run.ran.stdout_text(), run.ran.stderr_text()];
    for text in texts {
        assert!(said.iter().all(|said| !said.contains(text)), "{text} was said: {said:?}");
        for record in &records {
            let bytes = fs::read(record).unwrap();
            assert!(
                !bytes.windows(text.len()).any(|part| part == text.as_bytes()),
                "{text} in {}",
                record.display()
            );
        }
    }
}

#[test]
fn a_step_sees_the_secrets_it_names_and_nobody_else_does() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        for inside in ["root", "1000"] {
            let lab = Lab::new(user);
            let job = format!(
                "user: {inside}\nsecrets: {{TOKEN: {{env: NPM_TOKEN}}, KEY: , ABSENT: {{required: false, env: ABSENT}}}}\nsteps:\n\
                \x20 - id: all\n\
                \x20   secrets: [TOKEN, KEY, ABSENT]\n\
                \x20   run: |\n\
                \x20     ls /run/secrets; stat -c '%a %U' /run/secrets/TOKEN; stat -c %u /run/secrets/KEY; id -u\n\
                \x20     test \"$NPM_TOKEN\" = \"$(cat /run/secrets/TOKEN)\"; test -z \"${{ABSENT-}}\"; test -z \"${{KEY-}}\"\n\
                \x20     test \"$(wc -c < /run/secrets/KEY)\" = {}\n\
                \x20     ! (echo x > /run/secrets/TOKEN) 2> /dev/null\n\
                \x20     ! touch /run/secrets/other 2> /dev/null\n\
                \x20     grep -q ' /run/secrets .*ro' /proc/self/mountinfo\n\
                \x20     echo done\n\
                \x20 - {{id: none, run: 'ls -A /run/secrets | wc -l; echo \"${{NPM_TOKEN-unset}}\"; test ! -e /run/secrets/TOKEN'}}\n\
                \x20 - {{id: one, secrets: {{KEY: {{env: K}}}}, run: 'ls /run/secrets; test \"$(echo \"$K\")\" = \"$(cat /run/secrets/KEY)\"'}}\n",
                KEY.len()
            );
            let run = exec(&lab, &job, 0);
            let text = run.text(0);
            let mut lines = text.lines();
            let head: Vec<&str> = lines.by_ref().take(3).collect();
            assert_eq!(head[..2], ["KEY", "TOKEN"], "{text}");
            assert!(head[2].starts_with("400 "), "{text}");
            let ids: Vec<&str> = lines.by_ref().take(2).collect();
            assert_eq!(
                (ids[0], lines.next()),
                (ids[1], Some("done")),
                "the file is the step's user's: {text}"
            );
            assert_eq!((run.text(1).as_str(), run.text(2).as_str()), ("0\nunset\n", "KEY\n"));
            let environment = lab.context.home().join("runs/latest/jobs/job/steps/01-all/env.json");
            assert!(fs::read_to_string(environment).unwrap().contains("\"NPM_TOKEN\": \"***\""));
            assert_nowhere(&lab, &run, &[TOKEN, "MIIabcDEF0123"]);
        }
    }
    before.assert_nothing_new();
}

#[test]
fn what_is_printed_is_masked_however_it_is_encoded_and_cut() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let run = exec(
        &lab,
        "secrets: [TOKEN, KEY]\nsteps:\n\
        \x20 - id: print\n\
        \x20   secrets: [TOKEN, KEY]\n\
        \x20   run: |\n\
        \x20     T=$(cat /run/secrets/TOKEN)\n\
        \x20     echo \"plain $T end\"; echo \"error $T end\" >&2\n\
        \x20     printf tok3n-; sleep 0.1; printf 'Wn7/x+Z'; sleep 0.1; echo z\n\
        \x20     printf %s \"$T\" | base64; echo \"$T\" | base64; printf 'user:%s' \"$T\" | base64\n\
        \x20     printf %s \"$T\" | od -An -tx1 | tr -d ' \\n'; echo\n\
        \x20     cat /run/secrets/KEY; sed -n 2p /run/secrets/KEY; base64 < /run/secrets/KEY\n\
        \x20     echo \"$T\" >> \"$RUNNER_SUMMARY\"\n\
        \x20     printf 'tok3n-and nothing more'\n\
        \x20 - {run: cp /run/secrets/TOKEN in-the-workspace, secrets: [TOKEN]}\n\
        \x20 - {id: other, run: cat in-the-workspace}\n",
        0,
    );
    let text = run.text(0);
    for line in ["plain *** end", "error *** end", "***", "tok3n-and nothing more"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert_eq!(run.text(2), "***", "whoever prints it");
    let summary = fs::read_to_string(lab.context.home().join("runs/latest/jobs/job/summary.md")).unwrap();
    assert_eq!(summary, "***\n");
    let hidden = [
        TOKEN,
        "dG9rM24tV243L3grWn",
        "746f6b336e2d576e372f782b5a7a",
        "MIIabcDEF0123",
        "4567ghiJKL89",
        "LS0tLS1CRUdJTi0tLS0tCk1JSWFiY0RFRjAxMjMKNDU2N2doaUpLTDg5Ci0tLS0tRU5E",
    ];
    assert_nowhere(&lab, &run, &hidden);
    before.assert_nothing_new();
}

#[test]
fn a_secret_is_neither_handed_on_nor_kept_as_an_artifact() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    for (file, before) in [("RUNNER_OUTPUT", "a="), ("RUNNER_ENV", "A="), ("GITHUB_PATH", "/")] {
        let run = exec(
            &lab,
            &format!(
                "secrets: {{TOKEN: , KEY: {{required: false}}}}\nsteps:\n\
                \x20 - {{secrets: [TOKEN], run: 'echo \"{before}$(cat /run/secrets/TOKEN)\" >> ${file}'}}\n"
            ),
            1,
        );
        assert!(
            run.step(0)["cause"].as_str().unwrap().ends_with("holds the secret TOKEN"),
            "{}",
            run.step(0)
        );
        assert_nowhere(&lab, &run, &[TOKEN]);
    }
    let job = |artifact: &str| {
        format!(
            "secrets: [TOKEN, KEY]\nsteps:\n\
            \x20 - secrets: [TOKEN]\n\
            \x20   run: 'mkdir -p out; head -c 700000 /dev/zero > out/app; base64 /run/secrets/TOKEN >> out/app; echo fine > fine'\n\
            \x20   artifacts: [{artifact}, fine]\n"
        )
    };
    let run = exec(&lab, &job("{name: app, paths: [out]}"), 6);
    assert_eq!((&run.step(0)["outcome"], &run.record["exit_code"]), (&json!("leak"), &json!(6)));
    let cause = run.step(0)["cause"].as_str().unwrap();
    assert_eq!(cause, "error[E310]: artifact `app`: the secret TOKEN is in `out/app`, at byte 700000");
    assert!(!lab.context.home().join("runs/latest/artifacts/app").exists());
    assert_nowhere(&lab, &run, &[TOKEN, "dG9rM24tV243L3grWn"]);
    let words = [
        "exec",
        "job.yml",
        "--secrets-file",
        "secrets",
        "--secret",
        "KEY=@key.pem",
        "--allow-secret-in-artifacts",
    ];
    lab.context.run(&words).expect_code(0);
    // A job's own artifacts too.
    let run = exec(
        &lab,
        "secrets: [TOKEN, KEY]\nsteps: [{run: cp /run/secrets/TOKEN plain, secrets: [TOKEN]}]\nartifacts: [plain]\n",
        6,
    );
    assert_eq!(run.record["outcome"], "leak");
    before.assert_nothing_new();
}

#[test]
fn values_come_from_where_nobody_else_sees_them() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.exec("steps: ['test ! -e /run/secrets/TOKEN']\n", 0);
    lab.write("secrets: {TOKEN: {env: T}}\nsteps: [{run: 'test \"$T\" = from-Env-1', secrets: [TOKEN]}]\n");
    let mut command = lab.context.command(&["exec", "job.yml", "--secret", "TOKEN"]);
    assert_eq!(command.env("TOKEN", "from-Env-1").output().unwrap().status.code(), Some(0));
    lab.context.write("open", "TOKEN=from-File-1\n");
    fs::set_permissions(lab.context.work().join("open"), fs::Permissions::from_mode(0o640)).unwrap();
    lab.context.write("weak", "true");
    lab.context.write("binary", [0xff, 0xfe, 0, 1, 2, 3, 4, 5]);
    let misused: [(&[&str], &str); 8] = [
        (&[], "error[E308]: the secret `TOKEN` has no value"),
        (&["--secret", "TOKEN"], "the secret TOKEN is not set here"),
        (&["--secret", "TOKEN=visible-to-all"], "every user of this machine sees a command line"),
        (&["--secret", "TOKEN=@nowhere"], "cannot read the secret TOKEN: nowhere"),
        (
            &["--secret", "TOKEN=@weak"],
            "error[E302]: the secret `TOKEN` cannot be hidden in output: it has fewer than 6 bytes",
        ),
        (&["--secret", "TOKEN=@binary"], "error[E302]: the secret `TOKEN` cannot be a variable"),
        (&["--secrets-file", "open"], "error[E304]: others may read or write it (mode 0640)"),
        (&["--secret", "TOKN=@weak"], "error[E309]: no job declares the secret `TOKN`"),
    ];
    for (words, text) in misused {
        let ran = lab.context.run(&[&["exec", "job.yml"], words].concat()).expect_code(2);
        assert!(ran.stderr_text().contains(text), "{words:?}: {}", ran.stderr_text());
        assert!(!ran.stderr_text().contains("visible-to-all"));
    }
}

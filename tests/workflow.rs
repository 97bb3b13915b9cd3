//! `runner step`: the `shell:` of a workflow. What the script sees, what it hands on, and what it cannot do to the workflow.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use fixtures::{Leftovers, Ran, User, require};
use lab::Lab;
use rustix::process::{Pid, Signal, kill_process};

/// A step of a workflow as the agent runs it: a script in a file of its own, files for values, variables.
struct Workflow {
    lab: Lab,
    handed: Option<String>,
}

impl Workflow {
    fn new(job: &str) -> Self {
        Self::of(User::Current, job)
    }

    fn of(user: User, job: &str) -> Self {
        let lab = Lab::new(user);
        lab.write(job);
        lab.context.write("temp/.keep", "");
        lab.context.run(&["image", "pull", "./rootfs.tar"]).expect_code(0);
        Self { lab, handed: None }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.lab.context.work().join("temp").join(name)
    }

    /// The command that the agent starts for this script.
    fn command(&self, words: &[&str], script: &str) -> Command {
        let script = self.lab.context.write("temp/9f1b2c.sh", script);
        let mut all = vec!["step", "--job", "job.yml"];
        all.extend(words);
        all.extend(["--", "sh", "-e", script.to_str().unwrap()]);
        self.around(&all)
    }

    fn around(&self, words: &[&str]) -> Command {
        let mut command = self.lab.context.command(words);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", self.lab.context.work());
        command.env("RUNNER_TEMP", self.file(""));
        command.env("GITHUB_SHA", "0123abc").env("RUNNER_OS", "Linux").env("GITHUB_RUN_ID", "77");
        for (name, value) in [
            ("GITHUB_TOKEN", "ghs_token"),
            ("ACTIONS_RUNTIME_TOKEN", "eyJ"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x"),
            ("GITHUB_EVENT_PATH", "/x"),
            ("RUNNER_TOOL_CACHE", "/x"),
            ("OWN", "mine"),
        ] {
            command.env(name, value);
        }
        for (variable, name) in [
            ("GITHUB_OUTPUT", "output"),
            ("GITHUB_ENV", "env"),
            ("GITHUB_PATH", "path"),
            ("GITHUB_STEP_SUMMARY", "summary"),
        ] {
            self.lab.context.write(&format!("temp/{name}"), "");
            command.env(variable, self.file(name));
        }
        if let Some(handed) = &self.handed {
            command.env("SANDBOX_HANDED", handed);
        }
        command
    }

    fn run(&self, words: &[&str], script: &str) -> Ran {
        self.lab.context.finish(&mut self.command(words, script))
    }

    /// What a file of values has, as the agent reads it.
    fn values(&self, name: &str) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.file(name)).unwrap();
        let mut values = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let (name, mark) = line.split_once("<<").unwrap();
            let value: Vec<&str> = lines.by_ref().take_while(|line| *line != mark).collect();
            values.insert(name.to_owned(), value.join("\n"));
        }
        values
    }

    /// Takes over what the script has handed to later ones, as the agent does.
    fn next(&mut self) {
        if let Some(handed) = self.values("env").remove("SANDBOX_HANDED") {
            self.handed = Some(handed);
        }
    }
}

const JOB: &str = "env: {OF_JOB: job, FOO: job}\nlimits: {files: 77}\nsteps: [{run: 'echo the own steps do not run; exit 9'}]\n";

#[test]
fn a_script_runs_in_the_jobs_sandbox_and_the_workspace() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    for user in [User::Current, User::WithSubids, User::OneId] {
        let workflow = Workflow::of(user, JOB);
        let script = "\
            echo \"$OF_JOB $GITHUB_SHA $RUNNER_OS $GITHUB_ACTIONS $GITHUB_WORKSPACE $RUNNER_TEMP $PWD $CI\"\n\
            env | grep -E '^(GITHUB_TOKEN|ACTIONS_|GITHUB_EVENT_PATH|RUNNER_TOOL_CACHE|OWN|GITHUB_STATE|SANDBOX_)' && exit 1\n\
            test $(ulimit -n) = 77\n\
            echo made > made.txt; echo gone > /tmp/gone\n\
            echo err >&2; exit 7\n";
        let ran = workflow.run(&[], script).expect_code(7);
        assert_eq!(
            ran.stdout_text(),
            "job 0123abc Linux true /workspace /tmp /workspace true\n",
            "{}",
            ran.stderr_text()
        );
        // Before it, an ordinary user may be warned of limits that this machine does not give him.
        assert!(ran.stderr_text().ends_with("err\n"), "{}", ran.stderr_text());
        assert_eq!(workflow.lab.context.read("made.txt"), "made\n");
        workflow
            .run(&["-e", "OWN"], "test $OWN = mine; test -e made.txt; test ! -e /tmp/gone")
            .expect_code(0);
        let run = workflow.lab.finished(workflow.run(&[], "true"));
        assert_eq!(run.step(0)["id"], "script");
        assert_eq!(run.text(0), "");
        assert_eq!(workflow.lab.exec(JOB, 1).step(0)["exit_code"], 9, "the same file runs as a whole");
    }
    before.assert_nothing_new();
}

#[test]
fn values_go_to_the_workflow_and_to_later_scripts() {
    require!(Root, Cgroups, Busybox);
    let mut workflow = Workflow::new(JOB);
    let script = "\
        printf 'a=1\\nb<<E\\nx\\nghadelimiter_\\nE\\n' >> $GITHUB_OUTPUT\n\
        printf 'FOO=bar\\nLD_PRELOAD=/evil\\nGITHUB_SHA=evil\\nMULTI<<E\\n1\\n2\\nE\\n' >> $GITHUB_ENV\n\
        echo /workspace/bin >> $GITHUB_PATH; echo /opt/tool/bin >> $GITHUB_PATH\n\
        echo '# Summary' >> $GITHUB_STEP_SUMMARY\n\
        mkdir -p bin; printf '#!/bin/sh\\necho tool\\n' > bin/tool; chmod +x bin/tool\n";
    let ran = workflow.run(&[], script).expect_code(0);
    let warnings: Vec<String> = ran.stderr_text().lines().map(str::to_owned).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings
            .iter()
            .all(|line| line.starts_with("::warning title=runner::") && line.contains("is not taken"))
    );
    let got: Vec<(String, String)> = workflow.values("output").into_iter().collect();
    assert_eq!(got, [("a".into(), "1".into()), ("b".into(), "x\nghadelimiter_".into())]);
    assert_eq!(fs::read_to_string(workflow.file("summary")).unwrap(), "# Summary\n");
    assert_eq!(
        workflow.values("env").keys().collect::<Vec<_>>(),
        ["SANDBOX_HANDED"],
        "nothing outside is changed"
    );
    assert_eq!(fs::read_to_string(workflow.file("path")).unwrap(), "");
    workflow.next();
    let more = "test \"$FOO\" = bar; test \"$MULTI\" = \"$(printf '1\\n2')\"; tool; echo FOO=baz >> $GITHUB_ENV; echo \"$PATH\"";
    let ran = workflow.run(&[], more).expect_code(0);
    let text = ran.stdout_text();
    assert!(text.starts_with("tool\n/opt/tool/bin:/workspace/bin:/"), "{text}");
    workflow.next();
    let last = "echo $FOO; echo \"$MULTI\"";
    assert_eq!(workflow.run(&[], last).expect_code(0).stdout_text(), "baz\n1\n2\n");
    assert_eq!(workflow.run(&["-e", "FOO=over"], last).expect_code(0).stdout_text(), "over\n1\n2\n");
}

#[test]
fn what_leaves_the_sandbox_is_asked_for() {
    require!(Root, Cgroups, Busybox);
    let workflow = Workflow::new(JOB);
    let script = "echo FOO=bar >> $GITHUB_ENV\n\
        printf '/workspace/bin\\n/usr/evil\\n/workspace/../evil\\n/workspace/two\\n' >> $GITHUB_PATH\n";
    let ran = workflow.run(&["--export", "env", "--export", "path"], script).expect_code(0);
    assert_eq!(workflow.values("env").get("FOO").map(String::as_str), Some("bar"));
    let work = workflow.lab.context.work().display().to_string();
    assert_eq!(fs::read_to_string(workflow.file("path")).unwrap(), format!("{work}/bin\n{work}/two\n"));
    assert_eq!(ran.stderr_text().matches("is not in the workspace").count(), 2, "{}", ran.stderr_text());
}

#[test]
fn a_script_gives_the_workflow_no_orders() {
    require!(Root, Cgroups, Busybox);
    let workflow = Workflow::new(JOB);
    let script = "\
        echo '::set-env name=X::1'; echo '##[error]x' >&2; echo '::add-matcher::/etc/passwd'\n\
        printf 'x\\r::error::y\\n'; printf ' ::stop-commands::z'\n";
    let ran = workflow.run(&[], script).expect_code(0);
    assert_eq!(
        ran.stdout_text(),
        "| ::set-env name=X::1\n| ::add-matcher::/etc/passwd\n| ::error::y\n|  ::stop-commands::z\n"
    );
    assert_eq!(ran.stderr_text(), "##\\[error]x\n");
}

#[test]
fn the_script_is_found_wherever_it_is_named() {
    require!(Root, Cgroups, Busybox);
    let workflow = Workflow::new(&format!("{JOB}# \n"));
    let script = workflow.lab.context.write("temp/a.sh", "echo \"ran $0 in $PWD\"\n");
    let script = script.to_str().unwrap();
    fs::create_dir(workflow.lab.context.work().join("sub")).unwrap();
    let source = format!(". '{script}' && echo sourced");
    for (words, said) in
        [(vec!["sh", script], "ran /run/runner/scripts/"), (vec!["sh", "-c", &source], "ran sh in ")]
    {
        let mut all = vec!["step", "--job", "job.yml:job", "--"];
        all.extend(words);
        let mut command = workflow.around(&all);
        let ran = workflow
            .lab
            .context
            .finish(command.current_dir(workflow.lab.context.work().join("sub")))
            .expect_code(0);
        assert!(
            ran.stdout_text().starts_with(said) && ran.stdout_text().contains("in /workspace/sub"),
            "{}",
            ran.stdout_text()
        );
    }
    // Outside of a workflow, too.
    let ran = workflow.lab.context.run(&["step", "--job", "job.yml", "--", "sh", "temp/a.sh"]).expect_code(0);
    assert!(ran.stdout_text().contains("in /workspace\n"), "{}", ran.stdout_text());
}

#[test]
fn a_script_does_not_change_what_later_ones_run_under() {
    require!(Root, Cgroups, Busybox);
    let mut workflow = Workflow::new(JOB);
    workflow.run(&[], "echo 'network: host' >> job.yml; cp job.yml other.yml").expect_code(0);
    workflow.next();
    let ran = workflow.run(&[], "echo ran").expect_code(125);
    assert!(ran.stderr_text().contains("job.yml has changed since an earlier step"), "{}", ran.stderr_text());
    assert_eq!(ran.stdout_text(), "");
    workflow.lab.write(JOB);
    workflow.run(&[], "true").expect_code(0);
    // Nor by way of a file that the job file names.
    workflow.lab.context.write("base.yml", "env: {OF_BASE: base}\n");
    workflow.handed = None;
    workflow.lab.write(&format!("include: [base.yml]\n{JOB}"));
    workflow.run(&[], "test $OF_BASE = base; echo 'network: host' >> base.yml").expect_code(0);
    workflow.next();
    let ran = workflow.run(&[], "echo ran").expect_code(125);
    assert!(
        ran.stderr_text().contains("base.yml has changed since an earlier step"),
        "{}",
        ran.stderr_text()
    );
}

#[test]
fn misuse_is_told_and_nothing_runs() {
    require!(Root, Cgroups, Busybox);
    let workflow = Workflow::new(JOB);
    let two = "image: ./rootfs.tar\nnetwork: none\njobs: {a: {steps: ['true']}, b: {steps: ['true']}}\n";
    workflow.lab.context.write("two.yml", two);
    let script = workflow.lab.context.write("temp/a.sh", "true\n");
    let script = script.to_str().unwrap();
    for (words, expected) in [
        (
            vec!["step", "--job", "job.yml", "--", "sh", "-c", "true"],
            "none of the arguments behind `--` is a script",
        ),
        (vec!["step", "--job", "absent.yml", "--", "sh", script], "absent.yml: no such file"),
        (vec!["step", "--job", "job.yml:other", "--", "sh", script], "the file has no job `other`"),
        (
            vec!["step", "--job", "two.yml", "--", "sh", script],
            "stands for 2 jobs, and one is wanted%0Ahint: say which: a, b",
        ),
        (vec!["step", "--job", "job.yml", "--untrusted", "--", "sh", script], "--untrusted works on a copy"),
        (vec!["step", "--job", "job.yml", "--secret", "OWN", "--", "sh", script], "E309"),
        (vec!["step", "--", "sh", script], "--job"),
        (vec!["step", "--job", "job.yml"], "SHELL"),
    ] {
        let ran = workflow.lab.context.finish(&mut workflow.around(&words)).expect_code(125);
        assert!(ran.stderr_text().contains(expected), "{words:?}: {}", ran.stderr_text());
    }
    for handed in ["x", "{\"env\":{\"LD_PRELOAD\":\"/x\"}}", "{\"path\":[\"x\"]}", "{\"env\":{\"a b\":\"\"}}"]
    {
        let mut command = workflow.command(&[], "true");
        let ran = workflow.lab.context.finish(command.env("SANDBOX_HANDED", handed)).expect_code(125);
        assert!(ran.stderr_text().contains("cannot understand SANDBOX_HANDED"), "{}", ran.stderr_text());
    }
}

#[test]
fn secrets_are_shown_to_the_script_and_hidden_from_the_log() {
    require!(Root, Cgroups, Busybox);
    let workflow =
        Workflow::new(&format!("secrets: {{TOKEN: {{env: NPM_TOKEN}}, MORE: {{required: false}}}}\n{JOB}"));
    let mut command = workflow
        .command(&["--secret", "TOKEN"], "test -n \"$NPM_TOKEN\"; echo \"t $NPM_TOKEN\"; ls /run/secrets");
    let ran = workflow.lab.context.finish(command.env("TOKEN", "tok3n-Wn7/x+Zz")).expect_code(0);
    assert_eq!(ran.stdout_text(), "::add-mask::tok3n-Wn7/x+Zz\nt ***\nTOKEN\n");
}

#[test]
fn a_cancelled_step_ends_within_the_agents_patience() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let workflow = Workflow::new(JOB);
    let script = "trap 'echo ended; exit 3' TERM; touch started; while :; do sleep 0.1; done";
    let stubborn = "trap '' TERM INT; touch started; while :; do sleep 0.1; done";
    for (script, signals) in [(script, 1), (stubborn, 2)] {
        let _absent = fs::remove_file(workflow.lab.context.work().join("started"));
        let mut command = workflow.command(&[], script);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !workflow.lab.context.work().join("started").exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::INT).unwrap();
        if signals == 2 {
            std::thread::sleep(std::time::Duration::from_millis(200));
            kill_process(pid, Signal::TERM).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(if signals == 1 { 3 } else { 137 }), "{said}");
        assert_eq!(said, if signals == 1 { "ended\n" } else { "" });
    }
    before.assert_nothing_new();
}

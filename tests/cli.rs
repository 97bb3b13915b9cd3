//! The command line as typed, and the commands that read records.

#![expect(clippy::unwrap_used, reason = "a test whose ground cannot be laid must stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use runner::cli::{self, Command, Environment, ExitCodeOf, Stop};
use runner::commands::{CommandError, artifacts, check, explain, init, logs, runs, show};
use runner::event::Stream;
use runner::outcome::{Caps, LogSummary, Outcome, StepResult, Usage};
use runner::report::{Output, Sink, Terminals};
use runner::run::artifacts::{ArtifactLimits, CollectRequest, Patterns, collect};
use runner::run::record::{
    ArtifactRecord, HostRecord, ImageRecord, JobRecord, RunDirectory, RunRecord, RunState, WarningRecord,
};

fn environment(variables: &[(&str, &str)]) -> Environment {
    let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut all: BTreeMap<String, String> = pairs.collect();
    all.entry("RUNNER_HOME".to_owned()).or_insert_with(|| "/r".to_owned());
    Environment::new(all, Terminals::default(), false)
}

fn parse_in(environment: &Environment, arguments: &[&str]) -> Result<Command, Stop> {
    let arguments = std::iter::once("runner").chain(arguments.iter().copied()).map(Into::into).collect();
    cli::parse(arguments, environment)
}

fn parse(arguments: &[&str]) -> Result<Command, Stop> {
    parse_in(&environment(&[]), arguments)
}

const COMMANDS: &[&[&str]] = &[
    &[],
    &["exec"],
    &["run"],
    &["check"],
    &["logs"],
    &["show"],
    &["artifacts"],
    &["artifacts", "list"],
    &["artifacts", "get"],
    &["artifacts", "verify"],
    &["image"],
    &["image", "unpack"],
    &["doctor"],
    &["runs"],
    &["ps"],
    &["cancel"],
    &["wait"],
    &["prune"],
    &["init"],
    &["explain"],
    &["schema"],
    &["completions"],
    &["man"],
];

#[test]
fn every_help_shows_an_example_and_exits_with_zero() {
    for command in COMMANDS {
        let stop = parse(&[command, &["--help"][..]].concat()).unwrap_err();
        assert!(stop.asked_for && stop.exit_code == 0, "{command:?}");
        let example = stop.text.split_once("Example:\n").map(|(_, after)| after.trim_start());
        let verb = [&["runner"], *command].concat().join(" ");
        assert!(example.is_some_and(|line| line.starts_with(&verb)), "{command:?}: {}", stop.text);
        assert!(!stop.text.contains('\x1b'), "no colours where none are wanted");
    }
    let version = parse(&["--version"]).unwrap_err();
    assert_eq!((version.text.trim(), version.exit_code), (concat!("runner ", env!("CARGO_PKG_VERSION")), 0));
    let forced = environment(&[("CLICOLOR_FORCE", "1")]);
    assert!(parse_in(&forced, &["--help"]).unwrap_err().text.contains('\x1b'));
}

#[test]
fn the_examples_of_help_are_accepted() {
    for command in COMMANDS {
        let text = parse(&[command, &["--help"][..]].concat()).unwrap_err().text;
        let example = text.split_once("Example:\n").unwrap().1.lines().next().unwrap().trim();
        let words: Vec<&str> = example.split(' ').skip(1).collect();
        assert!(parse(&words).is_ok(), "{example}: {:?}", parse(&words));
    }
}

#[test]
fn every_flag_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = fs::read_to_string(path).unwrap();
    for command in COMMANDS {
        let text = parse(&[command, &["--help"][..]].concat()).unwrap_err().text;
        let flags = text.split(|letter: char| letter.is_whitespace() || ",=[".contains(letter));
        for flag in flags.filter(|word| word.starts_with("--") && word.len() > 2) {
            let known = ["--help", "--version"].contains(&flag)
                || page.contains(&format!("{flag} "))
                || page.contains(&format!("{flag}`"));
            assert!(known, "{command:?} has {flag}, docs/cli.md has not");
        }
    }
}

#[test]
fn flags_become_settings() {
    let words = "exec ci.yml -e A=1 -e B -e C= --limits cpus=1.5,memory=64M --limits pids=9,log=1K --network host \
                 --timeout 1m30s --json --artifacts-dir out --run-id mine --exit-code step";
    let environment = environment(&[("B", "two")]);
    let Ok(Command::Exec(exec)) = parse_in(&environment, &words.split_whitespace().collect::<Vec<_>>())
    else {
        panic!("not exec");
    };
    let variable = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    assert_eq!(exec.overrides.env, [variable("A", "1"), variable("B", "two"), variable("C", "")]);
    let limits = &exec.overrides.limits;
    assert_eq!(
        (limits.cpus, limits.memory_bytes, limits.pids, limits.log_bytes),
        (Some(1.5), Some(64 << 20), Some(9), Some(1024))
    );
    assert_eq!(exec.overrides.network, Some(jobs::Network::Host));
    assert_eq!(exec.overrides.timeout, Some(Duration::from_secs(90)));
    assert_eq!((exec.file.as_path(), exec.home.as_path()), (Path::new("ci.yml"), Path::new("/r")));
    assert_eq!(
        (exec.exit_code, exec.report.json, exec.report.output),
        (ExitCodeOf::Step, true, Output::Plain)
    );
    assert_eq!(
        (exec.run_id.as_deref(), exec.artifacts_dir.as_deref()),
        (Some("mine"), Some(Path::new("out")))
    );

    let Ok(Command::Exec(bare)) = parse(&["exec"]) else { panic!("not exec") };
    assert_eq!((bare.file.as_path(), bare.overrides), (Path::new("job.yml"), jobs::Overrides::default()));

    let words = "run host -i --mount /srv:/data:rw --user 1000:100 --workspace copy --hostname h --workdir sub -- ls -l --help";
    let Ok(Command::Run(run)) = parse(&words.split(' ').collect::<Vec<_>>()) else { panic!("not run") };
    assert_eq!(run.command, ["ls", "-l", "--help"]);
    assert_eq!(
        (run.workspace, run.interactive, run.mounts[0].read_only),
        (jobs::Workspace::Copy, true, false)
    );
    assert_eq!(run.report.output, Output::Passthrough);
}

#[test]
fn files_of_variables_are_read_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("env");
    fs::write(&file, "# comment\n\nA=one=1\r\nB=\"quoted\" \n  C\n").unwrap();
    let environment = environment(&[("C", "ours")]);
    let path = file.to_str().unwrap();
    let Ok(Command::Exec(exec)) = parse_in(&environment, &["exec", "--env-file", path, "-e", "A=2"]) else {
        panic!("not exec");
    };
    let all: Vec<(&str, &str)> =
        exec.overrides.env.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap())).collect();
    assert_eq!(all, [("A", "one=1"), ("B", "\"quoted\" "), ("C", "ours"), ("A", "2")]);
    fs::write(&file, "A=1\nMISSING\n").unwrap();
    let stop = parse(&["exec", "--env-file", path]).unwrap_err();
    assert!(stop.text.contains(":2: MISSING is not set here"), "{}", stop.text);
}

#[test]
fn misuse_is_told_and_nothing_runs() {
    let table: &[(&str, u8, &str)] = &[
        ("", 2, "Usage"),
        ("fly", 2, "unrecognized subcommand 'fly'"),
        ("exec a.yml --only x --from y", 2, "cannot be used with"),
        ("exec a.yml --dry-run --json", 2, "cannot be used with"),
        ("runs --last few", 2, "invalid value 'few'"),
        ("cancel", 2, "<RUN>"),
        ("prune", 2, "<--older <TIME>|--max-size <SIZE>>"),
        ("prune --dry-run", 2, "<--older <TIME>|--max-size <SIZE>>"),
        ("prune --older 5", 2, "invalid value '5' for --older"),
        ("prune --max-size all", 2, "for --max-size"),
        ("completions cmd", 2, "possible values: bash, elvish, fish"),
        ("man fly", 2, "there is no command 'fly'; runner has exec, run"),
        ("man image fly", 2, "image has pull, import"),
        ("init --type cobol", 2, "possible values: rust, node"),
        ("exec --limits cpus", 2, "invalid value 'cpus' for --limits: expected KEY=VALUE"),
        ("exec --limits memory=64", 2, "invalid value 'memory=64' for --limits: a bare number has no unit"),
        (
            "exec --limits disks=1G",
            2,
            "expected one of cpus, cpu-weight, memory, swap, pids, files, log, disk",
        ),
        ("exec --limits pids=-1", 2, "expected a whole number"),
        ("exec --timeout 90", 2, "invalid value '90' for --timeout"),
        ("exec --network fulll", 2, "possible values: full, none, services, host"),
        ("exec --output loud", 2, "possible values: auto, plain, tty"),
        (
            "exec -e NOT_SET_ANYWHERE",
            2,
            "NOT_SET_ANYWHERE is not set here; NOT_SET_ANYWHERE= sets it to nothing",
        ),
        ("exec --env-file /no/such/file", 2, "cannot read /no/such/file"),
        ("run host", 125, "<CMD>"),
        ("run host ls", 125, "unexpected argument 'ls'"),
        ("run Alpine:3.20 -- ls", 125, "invalid value 'Alpine:3.20' for IMAGE"),
        ("run host --mount /a -- ls", 125, "expected `host:path`"),
        ("run host --user a:b:c -- ls", 125, "invalid value 'a:b:c' for --user"),
        ("run x.tar --sha256 abc -- ls", 125, "invalid value 'abc' for --sha256"),
        ("--nothing run host -- ls", 125, "unexpected argument '--nothing'"),
        ("logs --tail many", 2, "invalid value 'many'"),
        ("artifacts get", 2, "--extract"),
        ("image unpack x.tar", 2, "<DIRECTORY>"),
        ("image unpack x.tar d --max-bytes lots", 2, "for --max-bytes"),
        ("image pull", 2, "<IMAGE>"),
        ("image pull Alpine", 2, "must be lower-case"),
        ("image import x.tar UPPER", 2, "for NAME"),
        ("image prune", 2, "--older"),
        ("image prune --older soon", 2, "for --older"),
        ("image prune --max-size lots", 2, "for --max-size"),
        ("exec --offline --refresh", 2, "cannot be used with"),
        ("exec --config /no/such/config.yml", 2, "cannot read /no/such/config.yml"),
    ];
    for (words, exit_code, expected) in table {
        let stop = parse(&words.split_whitespace().collect::<Vec<_>>()).unwrap_err();
        assert_eq!((stop.exit_code, stop.asked_for), (*exit_code, false), "{words}: {}", stop.text);
        assert!(stop.text.contains(expected), "{words}: expected {expected:?} in {}", stop.text);
    }
    let homeless = Environment::new(BTreeMap::new(), Terminals::default(), false);
    assert!(parse_in(&homeless, &["show"]).unwrap_err().text.contains("RUNNER_HOME"));
    assert!(parse_in(&homeless, &["check"]).is_ok(), "checking needs no records");
}

fn step(index: usize, id: &str, outcome: Outcome) -> StepResult {
    let (cause, remedy) = match outcome {
        Outcome::Success | Outcome::Skipped => (None, None),
        _ => (
            Some("memory limit 64M met; the kernel killed `hog`".to_owned()),
            Some("raise limits.memory".to_owned()),
        ),
    };
    StepResult {
        kept: false,
        reused: None,
        id: id.to_owned(),
        name: id.to_owned(),
        index,
        outcome,
        conclusion: outcome,
        exit_code: if outcome == Outcome::Skipped {
            None
        } else {
            Some(u8::from(outcome != Outcome::Success) * 137)
        },
        signal: None,
        killed_by: None,
        attempts: 1,
        earlier: Vec::new(),
        started: "2026-11-23T14:30:12.000000Z".to_owned(),
        ended: "2026-11-23T14:30:13.000000Z".to_owned(),
        usage: Usage {
            cpu_s: 0.25,
            wall_s: 1.5,
            mem_peak: Some(64 << 20),
            pids_peak: Some(3),
            ..Usage::default()
        },
        limits: Caps { cpus: None, memory_bytes: Some(64 << 20), pids: Some(4096), ..Caps::default() },
        rights: None,
        oom: None,
        disk: None,
        leftovers: Vec::new(),
        log: LogSummary::default(),
        cause,
        remedy,
    }
}

/// Records a run as `runner exec` would, with two steps that printed something, and one artifact.
fn record_a_run(home: &Path) {
    let run = RunDirectory::create(home, Some("20261123-143012-7fK2")).unwrap();
    let steps = vec![
        step(1, "build", Outcome::Success),
        step(2, "hog", Outcome::Oom),
        step(3, "deploy-to-a-place-with-a-very-long-name", Outcome::Skipped),
    ];
    for (step, text) in steps.iter().zip(["one\ntwo\nthree\n", "four\n\x1b[2Jfive"]) {
        let staged = run.stage_step("job", step.index, &step.id).unwrap();
        let (directory, mut log) = staged.publish(1 << 20, Instant::now()).unwrap();
        log.append(Stream::Stdout, text.as_bytes(), Instant::now()).unwrap();
        log.finish().unwrap();
        directory.write_result(step).unwrap();
    }
    collect_an_artifact(home, &run);
    run.conclusion(&a_record(run.id(), steps)).unwrap().write().unwrap();
}

fn collect_an_artifact(home: &Path, run: &RunDirectory) {
    let workspace = home.join("workspace");
    fs::create_dir_all(workspace.join("out")).unwrap();
    fs::write(workspace.join("out/app"), "binary").unwrap();
    std::os::unix::fs::symlink("app", workspace.join("out/link")).unwrap();
    collect(&CollectRequest {
        workspace: std::os::fd::AsFd::as_fd(&fs::File::open(&workspace).unwrap()),
        over: &[],
        name: "app",
        patterns: &Patterns::new(&["out".to_owned()]),
        optional: false,
        destination: &run.artifacts_path(),
        job: "job",
        step: None,
        owner: None,
        limits: ArtifactLimits::default(),
        secrets: None,
    })
    .unwrap();
}

fn a_record(id: &str, steps: Vec<StepResult>) -> RunRecord {
    let host = HostRecord {
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        cpus: 2,
        memory: 24 << 30,
        cgroup: "hybrid".to_owned(),
        userns: true,
        runner_version: "0.1.0".to_owned(),
    };
    RunRecord {
        v: 1,
        id: id.to_owned(),
        state: RunState::Finished,
        file: Some("job.yml".to_owned()),
        included: Vec::new(),
        file_sha256: None,
        name: "hello".to_owned(),
        started: "2026-11-23T14:30:12.000000Z".to_owned(),
        ended: Some("2026-11-23T14:31:32.400000Z".to_owned()),
        wall_s: Some(80.4),
        outcome: Some(Outcome::Oom),
        conclusion: Some(Outcome::Oom),
        exit_code: Some(5),
        host,
        jobs: vec![JobRecord {
            id: "job".to_owned(),
            image: ImageRecord { reference: "host".to_owned(), digest: None, platform: None },
            matrix: serde_json::Value::Null,
            conclusion: None,
            untrusted: false,
            outcome: Some(Outcome::Oom),
            started: None,
            ended: None,
            steps,
            services: Vec::new(),
            caches: Vec::new(),
            earlier: Vec::new(),
        }],
        artifacts: vec![ArtifactRecord {
            name: "app".to_owned(),
            job: "job".to_owned(),
            step: None,
            files: 2,
            bytes: 6,
        }],
        warnings: vec![WarningRecord {
            code: Some("W411".to_owned()),
            text: "`host` is not reproducible".to_owned(),
            hint: None,
        }],
    }
}

/// Runs a command that reads records; returns its exit code and standard output.
fn read(home: &Path, terminal: bool, words: &str) -> Result<(u8, String), CommandError> {
    let variables = BTreeMap::from([
        ("RUNNER_HOME".to_owned(), home.to_str().unwrap().to_owned()),
        ("NO_COLOR".to_owned(), "1".to_owned()),
    ]);
    let environment =
        Environment::new(variables, Terminals { stdin: terminal, stdout: terminal, stderr: terminal }, false);
    let command = parse_in(&environment, &words.split_whitespace().collect::<Vec<_>>()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut sink = Sink::new(Box::new(file.reopen().unwrap()));
    let code = match &command {
        Command::Show(settings) => show::show(settings, &mut sink),
        Command::Logs(settings) => logs::logs(settings, &mut sink),
        Command::Artifacts(settings) => artifacts::artifacts(settings, &mut sink),
        Command::Check(settings) => check::check(settings, &mut sink),
        Command::Runs(settings) => runs::runs(|| unreachable!("nothing is kept"), settings, &mut sink),
        Command::Explain(settings) => explain::explain(settings, &mut sink),
        Command::Init(settings) => init::init(settings, &mut sink),
        Command::Print(text) => {
            sink.write(text);
            Ok(0)
        }
        Command::Exec(_)
        | Command::Run(_)
        | Command::Shell(_)
        | Command::ImageUnpack(_)
        | Command::Image(_)
        | Command::Cache(_)
        | Command::Doctor(_) => {
            unreachable!("{words}")
        }
    }?;
    Ok((code, fs::read_to_string(file.path()).unwrap()))
}

#[test]
fn a_run_is_shown_as_a_table_and_as_its_record() {
    let home = tempfile::tempdir().unwrap();
    record_a_run(home.path());
    let (code, table) = read(home.path(), false, "show 2026").unwrap();
    assert_eq!(code, 0);
    insta::assert_snapshot!("show_table", table.replace(home.path().to_str().unwrap(), "/r"));
    let (_, json) = read(home.path(), false, "show --json").unwrap();
    assert_eq!(json, fs::read_to_string(home.path().join("runs/latest/run.json")).unwrap());
    let error = read(home.path(), false, "show 1999").unwrap_err();
    assert_eq!((error.class.exit_code(), error.hint.is_some()), (2, true));
}

#[test]
fn logs_are_chosen_by_step_and_tail() {
    let home = tempfile::tempdir().unwrap();
    record_a_run(home.path());
    let logs =
        |terminal, words: &str| read(home.path(), terminal, &format!("logs latest {words}")).unwrap().1;
    assert_eq!(logs(false, ""), "one\ntwo\nthree\nfour\n\x1b[2Jfive");
    assert_eq!(logs(false, "--step job/build"), "one\ntwo\nthree\n");
    assert_eq!(logs(false, "--tail 3"), "three\nfour\n\x1b[2Jfive");
    assert_eq!(logs(false, "--tail 2"), "four\n\x1b[2Jfive");
    assert_eq!(logs(true, ""), "── build ──\none\ntwo\nthree\n── hog ──\nfour\nfive\n");
    assert_eq!(logs(true, "--step hog"), "four\nfive\n");
    assert_eq!(logs(true, "--step hog --raw"), "four\n\x1b[2Jfive");
    assert_eq!(
        logs(false, "--timestamps --tail 1").len(),
        "2026-11-23T14:30:12.000Z ".len() + "\x1b[2Jfive".len()
    );
    let error = read(home.path(), false, "logs --step nothing").unwrap_err();
    assert_eq!(error.hint.unwrap(), "it has build, hog");
}

#[test]
fn artifacts_are_listed_checked_and_given_out() {
    let home = tempfile::tempdir().unwrap();
    record_a_run(home.path());
    let (_, list) = read(home.path(), false, "artifacts list").unwrap();
    insta::assert_snapshot!("artifacts_list", list);
    assert_eq!(
        read(home.path(), false, "artifacts verify").unwrap(),
        (0, "2 files, 6B hashed: all as collected\n".to_owned())
    );
    let out = home.path().join("out");
    let get = format!("artifacts get latest app --extract {}", out.display());
    assert_eq!(read(home.path(), false, &get).unwrap().0, 0);
    assert_eq!(fs::read(out.join("app/out/link")).unwrap(), b"binary");
    assert_eq!(read(home.path(), false, &get).unwrap_err().class.exit_code(), 2, "files exist");
    fs::write(home.path().join("runs/latest/artifacts/app/out/app"), "BINARY").unwrap();
    let (code, text) = read(home.path(), false, "artifacts verify").unwrap();
    assert_eq!(code, 6);
    assert!(
        text.contains("app/out/app: sha256 ") && text.ends_with("2 files, 0B hashed: 1 difference\n"),
        "{text}"
    );
    let error = read(home.path(), false, &format!("{get} --force")).unwrap_err();
    assert_eq!(error.class.exit_code(), 6);
}

#[test]
fn job_files_are_checked_without_running() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(home.path().join(name), text).unwrap();
        home.path().join(name).display().to_string()
    };
    let good = file("good.yml", "image: ./rootfs.tar.zst\nsteps: [echo hello]\n");
    let bad = file("bad.yml", "image: host\nstep: [echo hello]\n");
    assert_eq!(read(home.path(), false, &format!("check {good}")).unwrap(), (0, format!("{good}: good\n")));
    let (code, text) = read(home.path(), false, &format!("check {good} {bad}")).unwrap();
    assert_eq!(code, 2);
    assert!(text.contains("bad.yml:2:1: error[E103]"), "{text}");
    let (code, json) = read(home.path(), false, &format!("check {good} {bad} --format json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, all[0]["errors"].as_u64()), (2, Some(0)));
    let lines: Vec<u64> = all[1]["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|problem| problem["line"].as_u64())
        .collect();
    assert!(lines.contains(&2), "{json}");
    let missing = read(home.path(), false, "check no-such.yml").unwrap_err();
    assert_eq!(missing.class.exit_code(), 2);
}

/// Codes that stand in the sources of a crate as they are printed: `error[E123]`, `"E123"`.
fn printed_codes(folder: &str) -> BTreeSet<String> {
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)];
    let mut found = BTreeSet::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices(['[', '"']) {
            let code = text.get(at + 1..at + 5).unwrap_or_default();
            let is_code = code.starts_with(['E', 'W']) && code[1..].bytes().all(|byte| byte.is_ascii_digit());
            if is_code && text[at + 5..].starts_with([']', '"']) {
                found.insert(code.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_code_that_can_be_printed_is_explained() {
    let home = tempfile::tempdir().unwrap();
    let (_, list) = read(home.path(), false, "explain").unwrap();
    let listed: BTreeSet<&str> = list.lines().map(|line| &line[..4]).collect();
    assert_eq!(listed.len(), list.lines().count());
    let printed: BTreeSet<String> =
        ["runner/src", "images/src", "jobs/src"].iter().flat_map(|folder| printed_codes(folder)).collect();
    assert!(printed.contains("E261") && printed.contains("E107") && printed.contains("E522"), "{printed:?}");
    let missing: Vec<&String> = printed.iter().filter(|code| !listed.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "not explained: {missing:?}");
    let reference =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/job-file.md")).unwrap();
    for line in list.lines() {
        let (id, meaning) = line.split_once("  ").unwrap();
        let (code, page) = read(home.path(), false, &format!("explain {}", id.to_lowercase())).unwrap();
        assert_eq!(code, 0);
        assert!(page.starts_with(&format!("{id}: {meaning}\n\n")), "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 110), "{page}");
        assert!(page.lines().nth(2).is_some_and(|line| line.len() > 30), "{page}");
        assert!(reference.contains(&format!("| {id} | {meaning} |")), "docs/job-file.md lacks {id}");
    }
    let (_, page) = read(home.path(), false, "explain error[E107]").unwrap();
    insta::assert_snapshot!("explain", page);
    let error = read(home.path(), false, "explain E999").unwrap_err();
    assert_eq!((error.class.exit_code(), error.to_string().as_str()), (2, "there is no code `E999`"));
}

#[test]
fn what_is_known_of_the_program_itself_is_printed() {
    let home = tempfile::tempdir().unwrap();
    let print = |words: &str| read(home.path(), false, words).unwrap().1;
    assert_eq!(print("schema"), jobs::SCHEMA);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = print(&format!("completions {shell}"));
        assert!(script.contains("suggest-network"), "{shell}");
    }
    for command in COMMANDS {
        let page = print(&[&["man"], *command].concat().join(" "));
        let title = [&["runner"], *command].concat().join("\\-");
        assert!(page.contains(".TH ") && page.contains(".SH NAME") && page.contains(&title), "{page}");
    }
}

#[test]
fn a_first_job_file_is_written_once() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("Makefile"), "all:\n").unwrap();
    let words = format!("init {}", home.path().display());
    assert_eq!(read(home.path(), false, &words).unwrap().0, 0);
    let text = fs::read_to_string(home.path().join("job.yml")).unwrap();
    assert!(text.contains("make -j"), "{text}");
    assert_eq!(read(home.path(), false, &format!("{words} --print")).unwrap().1, text);
    assert!(read(home.path(), false, "init --print --type go").unwrap().1.contains("go test"));
    let error = read(home.path(), false, &words).unwrap_err();
    assert_eq!((error.class.exit_code(), error.hint.is_some()), (2, true));
}

//! CI services around us: what each is told of a run, and that nobody but us tells it anything.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use fixtures::{Leftovers, Ran, User, require};
use lab::Lab;

/// What each service sets.
const SERVICES: [(&str, &str); 4] = [
    ("github", "GITHUB_ACTIONS"),
    ("gitlab", "GITLAB_CI"),
    ("buildkite", "BUILDKITE"),
    ("teamcity", "TEAMCITY_VERSION"),
];

/// The command inside a service.
fn inside(lab: &Lab, service: &str, words: &[&str]) -> Command {
    let mut command = lab.context.command(words);
    let (_, variable) = SERVICES.iter().find(|(name, _)| *name == service).unwrap();
    command.env(variable, "true").env("CI", "true");
    command
}

/// The command inside a step of a workflow, with the files of one.
fn in_workflow(lab: &Lab, words: &[&str]) -> Command {
    let mut command = inside(lab, "github", words);
    command.env("GITHUB_WORKSPACE", lab.context.work());
    for (variable, name) in [
        ("GITHUB_OUTPUT", "output"),
        ("GITHUB_ENV", "env"),
        ("GITHUB_PATH", "path"),
        ("GITHUB_STEP_SUMMARY", "summary"),
    ] {
        let path = lab.context.path(name);
        fs::write(&path, "").unwrap();
        command.env(variable, path);
    }
    command
}

/// With the times of sections replaced.
fn filtered(ran: &Ran) -> String {
    let mut out = String::new();
    for line in ran.filtered().split_inclusive('\n') {
        match line.split_once(":17") {
            Some((start, rest)) if start.contains("section_") => {
                out.push_str(start);
                out.push_str(":[UNIX]");
                out.push_str(rest.trim_start_matches(|c: char| c.is_ascii_digit()));
            }
            _ => out.push_str(line),
        }
    }
    out
}

const EVERY_KIND: &str = "\
steps:
  - {id: build, name: 'make: all, 100% | [x]', run: 'echo built'}
  - {id: soft, run: 'echo soft; exit 3', continue-on-error: true}
  - {id: never, if: 'failure()', run: 'true'}
  - id: test
    run: |
      seq 1 30
      exit 7
    artifacts: [{name: none, paths: [none], when: always, optional: true}]
  - {id: after, run: 'true'}
";

#[test]
fn every_service_is_told_in_its_own_words() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    // The image is in the store then, whoever comes first.
    lab.exec(EVERY_KIND, 1);
    for (service, _) in SERVICES {
        let ran = lab.context.finish(&mut inside(&lab, service, &["exec"])).expect_code(1);
        insta::assert_snapshot!(format!("{service}_run"), filtered(&ran));
        let asked =
            lab.context.finish(&mut lab.context.command(&["exec", "--output", service])).expect_code(1);
        assert_eq!(filtered(&asked), filtered(&ran), "asked for, and found out");
    }
}

/// Names that the agent of GitHub obeys.
const REGISTERED: [&str; 15] = [
    "group",
    "endgroup",
    "error",
    "warning",
    "notice",
    "debug",
    "add-mask",
    "stop-commands",
    "echo",
    "add-matcher",
    "remove-matcher",
    "set-output",
    "save-state",
    "set-env",
    "add-path",
];

/// What the agent of GitHub takes for orders, as its source reads lines: at every newline and carriage return; `::name ...::`
/// behind white space, `##[name ...]` anywhere. Then act's own patterns, which are anchored.
fn github_orders(output: &str) -> Vec<String> {
    let known = |text: &str| {
        let name = text.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        REGISTERED.contains(&name.as_str()).then_some(name)
    };
    let order = |line: &str| {
        if let Some((name, _)) = line.trim_start().strip_prefix("::").and_then(|rest| rest.split_once("::")) {
            return known(name);
        }
        let (_, rest) = line.split_once("##[")?;
        known(rest.split_once(']')?.0)
    };
    output.split(['\n', '\r']).filter_map(order).collect()
}

/// GitLab's, Buildkite's and TeamCity's.
fn orders(service: &str, output: &str) -> Vec<String> {
    let lines = output.split('\n');
    match service {
        "github" => github_orders(output),
        "gitlab" => {
            let marks = output.match_indices("section_").map(|(at, _)| &output[at..]);
            let word = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
            marks.filter(|text| text.split('\n').next().unwrap().contains("\r\x1b[0K")).map(word).collect()
        }
        "buildkite" => {
            let starts = ["--- ", "+++ ", "~~~ ", "^^^ "];
            let heads = lines.filter(|line| starts.iter().any(|start| line.trim_start().starts_with(start)));
            heads.map(|line| line.trim_start()[..3].to_owned()).collect()
        }
        _ => {
            let messages = output.match_indices("##teamcity[").map(|(at, _)| &output[at + 11..]);
            messages.map(|text| text.split([' ', ']']).next().unwrap_or_default().to_owned()).collect()
        }
    }
}

/// What a hostile step prints. `printf` takes the escapes.
const ATTACKS: [&str; 34] = [
    r"::set-env name=PATH::/evil\n",
    r"::add-path::/evil\n",
    r"::set-output name=x::y\n",
    r"::save-state name=x::y\n",
    r"::add-matcher::/etc/passwd\n",
    r"::add-mask::a\n",
    r"::stop-commands::x\n",
    r"::x::\n",
    r"::endgroup::\n",
    r"::group::mine\n",
    r"::error file=a,line=1::lie\n",
    r"  \t ::error::behind white space\n",
    r"\302\240::error::behind another white space\n",
    r"\xe2\x80\x8b::error::behind a space without width\n",
    r"text\r::error::behind a carriage return\n",
    r"text\r\r\n::error::x\n",
    r"::error::lone\r",
    r"\n::error::after an empty line",
    r"\n##[error]legacy\n",
    r"text ##[error]within\n",
    r"###[set-env name=x]y\n",
    r"##[add-matcher]/etc/passwd\n",
    r"\033[31m##\033[0m[error]coloured\n",
    r"#\342\200\215#[error]joined\n",
    r"\033]0;::error::title\007##[error]\n",
    r"\033[2K\033[1G::error::cursor\n",
    r"\0::error::nul\n",
    r"\377::error::not UTF-8\n",
    r"section_end:1:runner_step_1\r\033[0K\n",
    r"\033[0Ksection_start:1:mine\r\033[0Kmine\n",
    r"--- mine\n+++ mine\n~~~ mine\n^^^ +++\n",
    r"##teamcity[buildStop comment='x']\n",
    r"text ##teamcity[setParameter name='a' value='b']\n",
    r"\033]1339;url=https://e.example\007 ##vso[task.setvariable variable=x]y\n",
];

/// A script that prints all of it, to both streams, in pieces, and ends within a line that would be an order.
fn attack() -> String {
    let mut script = String::new();
    for (index, text) in ATTACKS.iter().enumerate() {
        let stream = if index % 2 == 0 { "" } else { " >&2" };
        script.push_str(&format!("      printf '{}'{stream}\n", text.replace('\'', "'\\''")));
        if index % 3 == 0 {
            script.push_str("      printf '::'; printf ':: ' >&2; sleep 0.02; printf 'error::torn\\n'; echo error::torn >&2\n");
        }
    }
    script.push_str("      printf '::stop-commands::end' >&2; printf '##[error]last'\n");
    script
}

#[test]
fn no_step_gives_a_service_an_order() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    let script = attack();
    let hostile = "'::error::name ##[error]x ##teamcity[x] +++ y'";
    for (service, _) in SERVICES {
        for end in ["exit 1", "exit 0"] {
            let job = |script: &str, name: &str| {
                format!(
                    "steps:\n  - {{id: first, run: 'true'}}\n  - id: loud\n    name: {name}\n    run: |\n{script}      {end}\n"
                )
            };
            let run = |script: &str, name: &str| {
                lab.write(&job(script, name));
                let code = i32::from(end == "exit 1");
                lab.context.finish(&mut inside(&lab, service, &["exec"])).expect_code(code)
            };
            let (quiet, loud) = (run("      echo hello\n", "quiet"), run(&script, hostile));
            let (quiet, text) = (quiet.stdout_text(), loud.stdout_text());
            assert!(!orders(service, &quiet).is_empty(), "{service}: {quiet}");
            assert_eq!(orders(service, &text), orders(service, &quiet), "{service}: {text}");
            assert_eq!(orders(service, &loud.stderr_text()), [] as [String; 0]);
            assert!(
                text.contains("behind white space") && text.contains("torn"),
                "it is shown all the same: {text}"
            );
        }
    }
    before.assert_nothing_new();
}

#[test]
fn nor_where_output_is_passed_through_or_printed_later() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let script = attack().replace("      ", "");
    for (service, _) in SERVICES {
        let words = ["run", "./rootfs.tar", "--network", "none", "--", "sh", "-c", &script];
        let ran = lab.context.finish(&mut inside(&lab, service, &words)).expect_code(0);
        for text in [ran.stdout_text(), ran.stderr_text()] {
            assert_eq!(orders(service, &text), [] as [String; 0], "{service}: {text}");
        }
        assert!(ran.stderr_text().contains("behind white space"), "{}", ran.stderr_text());
        let logs = lab.context.finish(&mut inside(&lab, service, &["logs"])).expect_code(0);
        assert_eq!(orders(service, &logs.stdout_text()), [] as [String; 0], "{service}");
        assert!(logs.stdout_text().contains("behind white space"));
        let raw = lab.context.finish(&mut inside(&lab, service, &["logs", "--raw"])).expect_code(0);
        assert!(!orders(service, &raw.stdout_text()).is_empty(), "--raw is every byte");
    }
    // Of what is no order, nothing changes: neither what is captured, nor its colours, nor patches.
    let plain = "printf 'a\\033[31mb\\033[0m\\n--- a/file\\n+++ b/file\\n [x] #[test] ## h\\n'";
    let words = ["run", "./rootfs.tar", "--network", "none", "--", "sh", "-c", plain];
    let ran = lab.context.finish(&mut inside(&lab, "github", &words)).expect_code(0);
    assert_eq!(ran.stdout_text(), "a\x1b[31mb\x1b[0m\n--- a/file\n+++ b/file\n [x] #[test] ## h\n");
    let words =
        ["run", "./rootfs.tar", "--network", "none", "--output", "raw", "--", "printf", "::x\\r\\0##[y]"];
    let ran = lab.context.finish(&mut inside(&lab, "github", &words)).expect_code(0);
    assert_eq!(ran.stdout(), b"::x\r\0##[y]", "raw is asked for");
}

#[test]
fn json_lines_hold_no_order_and_say_the_same() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    lab.write("steps: [{id: a, run: 'echo \"##[error]x \\\\[ ##teamcity[y]\"'}]\n");
    let ran = lab.context.finish(&mut inside(&lab, "github", &["exec", "--json"])).expect_code(0);
    let text = ran.stdout_text();
    assert!(!text.contains("##[") && !text.contains("##teamcity["), "{text}");
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let said: Vec<String> = events
        .filter(|event| event["event"] == "step.log")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said, ["##[error]x \\[ ##teamcity[y]\n"]);
}

#[test]
fn blocks_of_jobs_and_steps_that_run_at_once_do_not_interleave() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    // Each waits for the other, so that both are in the middle.
    let turns = |own: &str, other: &str| {
        format!(
            "for n in 1 2 3; do echo {own} $n; touch {own}$n; until test -e {other}$n; do sleep 0.02; done; done"
        )
    };
    let (a, b) = (turns("aa", "bb"), turns("bb", "aa"));
    let head = "image: ./rootfs.tar\nnetwork: none\n";
    let jobs = format!(
        "{head}jobs:\n  one: {{image: ./rootfs.tar, network: none, limits: {{cpus: 0.5}}, steps: [{{id: s, run: '{a}'}}]}}\n  two: {{image: ./rootfs.tar, network: none, limits: {{cpus: 0.5}}, steps: [{{id: s, run: '{b}'}}]}}\n"
    )
    .replacen(head, "", 1);
    let beside = format!(
        "{head}steps:\n  - {{id: back, background: true, run: '{a}'}}\n  - {{id: front, run: '{b}; sleep 0.2; echo bb 4'}}\n  - {{id: wait, wait: back}}\n"
    );
    for (job, lines) in [(jobs, 6), (beside, 7)] {
        for (service, _) in SERVICES {
            for name in ["aa", "bb"] {
                for number in 1..=3 {
                    let _absent = fs::remove_file(lab.context.work().join(format!("{name}{number}")));
                }
            }
            lab.context.write("job.yml", &job);
            let ran = lab.context.finish(&mut inside(&lab, service, &["exec", "-j", "2"])).expect_code(0);
            let text = ran.stdout_text();
            let mut seen = Vec::new();
            let mut whose = None;
            for line in text.lines() {
                let ordered = orders(service, &format!("{line}\n"));
                if !ordered.is_empty() {
                    whose = None;
                }
                if let Some(said) = line.strip_prefix("| ") {
                    let name = &said[..2];
                    assert!(whose.is_none_or(|whose| whose == name), "{service}: {text}");
                    whose = Some(name);
                    seen.push(said.to_owned());
                }
            }
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), lines, "{service}: {text}");
        }
    }
}

const WORKFLOW: &str = "\
secrets: [TOKEN, KEY]
outputs: {version: '${{ steps.build.outputs.version }}', result: mine}
steps:
  - id: build
    name: '<img src=x> | `a` [l](https://e.example)'
    secrets: [TOKEN]
    run: |
      printf 'version<<E\\n1.2\\nghadelimiter_x\\nevil=1\\nE\\n' >> $RUNNER_OUTPUT
      echo '# Of the step' >> $RUNNER_SUMMARY
      mkdir -p out; echo data > 'out/a|b<i>.txt'
      cat /run/secrets/TOKEN
    artifacts: [{name: app, paths: [out]}]
";

/// Reads a file of values as the agent does.
fn values(text: &str) -> Vec<(String, String)> {
    let mut values = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, mark) = line.split_once("<<").unwrap();
        assert!(!name.contains('='), "{line}");
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != mark).collect();
        values.push((name.to_owned(), value.join("\n")));
    }
    values
}

#[test]
fn a_workflow_gets_masks_outputs_and_a_summary() {
    require!(Root, Cgroups, Busybox);
    let before = Leftovers::now();
    let lab = Lab::new(User::Current);
    lab.write(WORKFLOW);
    let path = lab.context.write("key.pem", "-----BEGIN-----\nMIIabcDEF0123\n}\n-----END-----\n");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let words = ["exec", "job.yml", "--secret", "TOKEN", "--secret", "KEY=@key.pem"];
    let mut command = in_workflow(&lab, &words);
    let run = lab.finished(lab.context.finish(command.env("TOKEN", "tok3n:50%,x")).expect_code(0));
    let text = run.ran.stdout_text();
    let masks: Vec<&str> = text.lines().take_while(|line| line.starts_with("::add-mask::")).collect();
    assert_eq!(
        masks,
        [
            "::add-mask::-----BEGIN-----",
            "::add-mask::-----END-----",
            "::add-mask::MIIabcDEF0123",
            "::add-mask::tok3n:50%25,x"
        ]
    );
    assert_eq!(text.matches("tok3n").count(), 1, "{text}");
    assert_eq!(run.text(0), "***");
    let id = run.record["id"].as_str().unwrap();
    let artifacts = lab.context.home().join("runs").join(id).join("artifacts");
    let got = values(&fs::read_to_string(lab.context.path("output")).unwrap());
    let expected = [
        ("result", "mine"),
        ("version", "1.2\nghadelimiter_x\nevil=1"),
        ("exit-code", "0"),
        ("result", "success"),
        ("run", id),
        ("artifacts-dir", artifacts.to_str().unwrap()),
    ];
    assert_eq!(got, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let summary = fs::read_to_string(lab.context.path("summary")).unwrap();
    let step = summary.lines().find(|line| line.contains("**build**")).unwrap();
    assert_eq!(step.matches('|').count(), 8, "as many cells as the head has: {step}");
    assert!(!summary.contains("<img") && !summary.contains("a|b<i>") && !summary.contains("]("), "{summary}");
    assert!(summary.contains("\n# Of the step\n") && summary.contains("| app | out"), "{summary}");
    let digest =
        serde_json::from_slice::<serde_json::Value>(&fs::read(artifacts.join("manifest.json")).unwrap())
            .unwrap();
    assert!(summary.contains(digest["files"][0]["sha256"].as_str().unwrap()), "{summary}");
    before.assert_nothing_new();
}

#[test]
fn a_workflow_is_told_where_and_why() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let exec = |job: &str, code: i32| {
        lab.context.write("ci/job.yml", job);
        lab.context.finish(&mut in_workflow(&lab, &["exec", "ci/job.yml"])).expect_code(code)
    };
    let head = "image: ../rootfs.tar\nnetwork: none\n";
    let ran = exec(&format!("{head}steps:\n  - 'true'\n  - id: a-b\n    run: exit 3\n"), 1);
    let errors = |text: &str| {
        text.lines().filter(|line| line.starts_with("::error")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        errors(&ran.stdout_text()),
        ["::error title=a-b,file=ci/job.yml,line=5::failure (exit code 3)"],
        "one, with its place"
    );
    assert_eq!(
        values(&fs::read_to_string(lab.context.path("output")).unwrap())[0],
        ("exit-code".to_owned(), "1".to_owned())
    );
    let ran = exec("image: host\nsteps: [{rum: 'true'}]\nlimits: {cpus: -1}\n", 2);
    let told = errors(&ran.stderr_text());
    assert!(told.len() >= 2 && told.iter().all(|line| line.contains(",file=ci/job.yml,line=")), "{told:?}");
    let got = values(&fs::read_to_string(lab.context.path("output")).unwrap());
    let expected = [("exit-code", "2"), ("result", "error"), ("run", ""), ("artifacts-dir", "")];
    assert_eq!(got, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let ran = exec("image: ../absent.tar\nnetwork: none\nsteps: ['true']\n", 3);
    let told = errors(&ran.stderr_text());
    assert_eq!(told.len(), 1, "{}", ran.stderr_text());
    assert!(told[0].starts_with("::error title=runner::") && told[0].contains("absent.tar"), "{told:?}");
}

#[test]
fn what_is_beyond_ten_is_one_notice() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let steps: String = (0..13).map(|n| format!("  - {{id: s{n}, if: 'always()', run: exit 1}}\n")).collect();
    let soft: String = (0..12)
        .map(|n| format!("  - {{id: t{n}, if: 'always()', run: exit 1, continue-on-error: true}}\n"))
        .collect();
    lab.write(&format!("steps:\n{steps}{soft}"));
    let ran = lab.context.finish(&mut in_workflow(&lab, &["exec"])).expect_code(1);
    let text = ran.stdout_text();
    let orders = github_orders(&text);
    let count = |name: &str| orders.iter().filter(|order| *order == name).count();
    assert_eq!((count("error"), count("warning"), count("notice")), (10, 10, 1), "{text}");
    assert!(text.ends_with("::notice::3 more errors and 2 more warnings are in the log\n"), "{text}");
}

#[test]
fn a_service_that_dies_is_told_and_a_cancelled_step_is_no_error() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let job = "network: services\nservices: {db: {image: ./rootfs.tar, run: [sh, -c, 'echo ::error::mine; exit 3'], ready: {log: never}}}\nsteps: [{id: a, run: 'true'}]\n";
    lab.write(job);
    let ran = lab.context.finish(&mut in_workflow(&lab, &["exec"])).expect_code(1);
    let text = ran.stdout_text();
    assert_eq!(github_orders(&text), ["error"], "{text}");
    let error = "::error title=service db,file=job.yml::ended before it was ready: exit code 3";
    assert!(text.lines().any(|line| line.starts_with(error)), "{text}");
    let job = "image: ./rootfs.tar\nnetwork: none\njobs:\n  m: {matrix: {n: [1, 2]}, limits: {cpus: 0.5}, steps: [{id: s, run: 'if test $MATRIX_N = 1; then until test -e go; do sleep 0.02; done; exit 1; else touch go; sleep 600; fi'}]}\n";
    lab.context.write("job.yml", job);
    let ran = lab.context.finish(&mut in_workflow(&lab, &["exec", "-j", "2"])).expect_code(1);
    let text = ran.stdout_text();
    assert_eq!(github_orders(&text).iter().filter(|order| *order == "error").count(), 1, "{text}");
    assert!(text.contains("job m@2: cancelled"), "{text}");
}

#[test]
fn in_a_file_output_is_as_it_is_and_masks_are_not() {
    require!(Root, Cgroups, Busybox);
    let lab = Lab::new(User::Current);
    let attack = "echo ::error::out; echo ::error::err >&2";
    let words = ["run", "./rootfs.tar", "--network", "none", "--", "sh", "-c", attack];
    let file = lab.context.path("captured");
    let mut command = inside(&lab, "github", &words);
    command.stdout(fs::File::create(&file).unwrap()).stderr(std::process::Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "::error::out\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("| ::error::err\n") && github_orders(&said).is_empty(), "{said}");
    lab.write("secrets: [TOKEN]\nsteps: [{id: a, run: 'true'}]\n");
    let mut command = in_workflow(&lab, &["exec", "job.yml", "--secret", "TOKEN"]);
    command.env("TOKEN", "tok3n-Wn7xZz").stdout(fs::File::create(&file).unwrap());
    assert!(command.status().unwrap().success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("::group::") && !text.contains("tok3n"), "{text}");
}

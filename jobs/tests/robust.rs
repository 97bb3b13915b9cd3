//! No input panics, and limits hold: arbitrary bytes, mutated good files, bombs, files of every size.

#![expect(clippy::unwrap_used, reason = "a test that fails is a test that panics")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use jobs::bounds::{DIAGNOSTICS_MAX, FILE_BYTES_MAX};
use jobs::codes::Code;
use jobs::expression::Template;
use jobs::{Diagnostics, Facts, LimitsOverride, Network, Overrides, Planned, User};
use proptest::prelude::*;

fn plan(text: &[u8]) -> Result<Planned, Diagnostics> {
    jobs::plan("job.yml", "job", text, &Overrides::default())
}

fn codes(text: &[u8]) -> Vec<Code> {
    plan(text).unwrap_err().iter().map(|d| d.code).collect()
}

fn good_files() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/jobs/good");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == "yml"));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Plans and shows; what matters is that all of it returns.
fn exercise(text: &[u8]) {
    let list = match plan(text) {
        Ok(planned) => {
            serde_json::to_string(&planned.plan).unwrap();
            assert_eq!(planned.warnings.errors(), 0);
            planned.warnings
        }
        Err(errors) => {
            assert!(errors.errors() > 0);
            errors
        }
    };
    assert!(list.len() <= DIAGNOSTICS_MAX);
    assert!(list.render(true).len() >= list.render(false).len());
    assert_eq!(list.to_json()["diagnostics"].as_array().unwrap().len(), list.len());
}

#[derive(Debug, Clone)]
enum Mutation {
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let tokens: [&[u8]; 24] = [
        b"\n",
        b"  ",
        b"\t",
        b": ",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!int ",
        b"\"",
        b"'",
        b"|\n",
        b"${{ x }}",
        b"\x00",
        b"\xff",
        b"null",
        b"-1",
        b"---\n",
        "é".as_bytes(),
        b"99999999999",
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), 1..30usize).prop_map(|(at, n)| Mutation::Remove(at, n)),
        (any::<prop::sample::Index>(), prop::sample::select(tokens.map(<[u8]>::to_vec).to_vec()))
            .prop_map(|(at, token)| Mutation::Insert(at, token)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..60usize)
            .prop_map(|(from, to, n)| Mutation::Copy(from, to, n)),
    ]
}

fn mutate(text: &mut Vec<u8>, mutation: &Mutation) {
    match mutation {
        Mutation::Remove(at, count) => {
            let at = at.index(text.len() + 1);
            let end = (at + count).min(text.len());
            text.drain(at..end);
        }
        Mutation::Insert(at, token) => {
            let at = at.index(text.len() + 1);
            text.splice(at..at, token.iter().copied());
        }
        Mutation::Copy(from, to, count) => {
            let from = from.index(text.len() + 1);
            let piece = text[from..(from + count).min(text.len())].to_vec();
            let to = to.index(text.len() + 1);
            text.splice(to..to, piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn arbitrary_text(text in "[ \\n\\-:\\[\\]{}&*!|>'\"#a-c0-2,?%@~.]{0,120}") {
        exercise(text.as_bytes());
    }

    #[test]
    fn mutated_files(
        file in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 1..8),
    ) {
        let mut text = file.get(&good_files()).clone();
        mutations.iter().for_each(|mutation| mutate(&mut text, mutation));
        exercise(&text);
    }
}

#[test]
fn a_file_may_be_as_large_as_the_limit_and_no_larger() {
    let mut text = b"image: host\nsteps: [echo]\n#".to_vec();
    text.resize(FILE_BYTES_MAX, b'x');
    plan(&text).unwrap();
    text.push(b'x');
    assert_eq!(codes(&text), [Code::FileTooBig]);
}

#[test]
fn bombs_end_early() {
    let head = "image: host\nsteps: [echo]\n";
    let many_values = format!("{head}x-a: [{}]\n", "1,".repeat(210_000));
    assert_eq!(codes(many_values.as_bytes()), [Code::FileTooBig]);
    let long = "y".repeat(90_000);
    let many_bytes = format!("x-a: &a {long}\nx-b: [{}]\n{head}", "*a,".repeat(100));
    assert_eq!(codes(many_bytes.as_bytes()), [Code::FileTooBig]);
    let merges: String =
        (1..40).map(|n| format!("x-{n}: &m{n} {{<<: [*m{0}, *m{0}], k{n}: v}}\n", n - 1)).collect();
    let merges = format!("x-0: &m0 {{a: b}}\n{merges}{head}");
    assert!(codes(merges.as_bytes()).contains(&Code::FileTooBig));
    let env: String = (0..2_000).map(|n| format!("  name_of_variable_{n}: value\n")).collect();
    let many_steps = format!("image: host\nenv:\n{env}steps:\n{}", "  - a\n".repeat(1_000));
    assert!(codes(many_steps.as_bytes()).contains(&Code::FileTooBig));
    let shell = format!("image: host\nshell: [perl, \"{{0}}\", \"{}\"]\nsteps: [echo]\n", "x".repeat(5_000));
    assert!(codes(shell.as_bytes()).contains(&Code::TooLong));
    for open in ["[", "{a: ", "- ", "? "] {
        exercise(open.repeat(FILE_BYTES_MAX / 8).as_bytes());
    }
}

#[test]
fn every_error_is_counted_when_not_every_one_is_kept() {
    let keys: String = (0..500).map(|n| format!("q{n}: 1\n")).collect();
    let errors = plan(format!("image: host\nsteps: [echo]\n{keys}").as_bytes()).unwrap_err();
    assert_eq!((errors.errors(), errors.len()), (500, DIAGNOSTICS_MAX));
    let last = errors.render(false).lines().last().unwrap().to_owned();
    assert_eq!(last, "500 errors, 1 warning, 401 of them not shown");
}

#[test]
fn colour_is_only_added() {
    let errors = plan(b"image: host\nsteps: [{rnu: make}]\n").unwrap_err();
    let coloured = errors.render(true);
    assert!(coloured.contains("\x1b[1;31merror[E103]\x1b[0m"));
    let mut plain = coloured;
    for sequence in ["\x1b[1;31m", "\x1b[1;33m", "\x1b[1m", "\x1b[34m", "\x1b[0m"] {
        plain = plain.replace(sequence, "");
    }
    assert_eq!(plain, errors.render(false));
}

#[test]
fn json_has_what_the_text_has() {
    let errors = plan(b"image: host\nnaem: x\nsteps: [echo]\n").unwrap_err();
    let json = errors.to_json();
    assert_eq!(
        (&json["errors"], &json["warnings"], &json["file"]),
        (&1.into(), &1.into(), &"job.yml".into())
    );
    let error = &json["diagnostics"][1];
    assert_eq!((&error["code"], &error["severity"]), (&"E103".into(), &"error".into()));
    assert_eq!((&error["line"], &error["column"]), (&2.into(), &1.into()));
}

const JOB: &[u8] =
    b"image: host\nenv: {A: file, B: file}\nuser: me\ntimeout: 5m\nlimits: {memory: 1G, pids: 9}\n\
    steps:\n  - {run: a, env: {A: step}, user: root, workdir: /tmp}\n  - b\n";

#[test]
fn the_command_line_wins() {
    let overrides = Overrides {
        instead: None,
        env: vec![("A".into(), Some("line".into())), ("B".into(), None), ("C".into(), Some("new".into()))],
        limits: LimitsOverride {
            memory_bytes: Some(5),
            swap_bytes: Some(6),
            cpus: Some(0.5),
            ..Default::default()
        },
        network: Some(Network::Host),
        params: Vec::new(),
        facts: Facts::default(),
        timeout: Some(Duration::from_secs(7)),
        grace: Some(Duration::ZERO),
        user: Some("12:34".into()),
        workdir: Some("sub".into()),
        hostname: Some("here".into()),
        untrusted: false,
        pull: None,
    };
    let plan = jobs::plan("job.yml", "job", JOB, &overrides).unwrap().plan;
    let job = &plan.jobs[0];
    assert_eq!((job.limits.memory_bytes, job.limits.swap_bytes, job.limits.pids), (Some(5), 6, 9));
    assert_eq!(
        (job.limits.cpus, job.network.clone(), job.network_defaulted),
        (Some(0.5), Network::Host, false)
    );
    assert_eq!((job.timeout, job.grace), (Duration::from_secs(7), Duration::ZERO));
    assert_eq!(job.hostname, "here");
    for step in &job.steps {
        let env = [("A", Some("line")), ("B", None), ("C", Some("new"))];
        let text = |value: &str| Template::literal(value.to_owned());
        assert_eq!(step.env, env.map(|(name, value)| (name.to_owned(), value.map(text))));
        assert_eq!(step.user, Some(User::Id { uid: 12, gid: Some(34) }));
        assert_eq!(step.workdir.as_deref(), Some("sub"));
    }
    let job = jobs::plan("job.yml", "job", JOB, &Overrides::default()).unwrap().plan.jobs.remove(0);
    assert_eq!(job.steps[0].user, Some(User::Root));
    assert_eq!(job.steps[1].user, Some(User::Caller));
    assert!(job.network_defaulted);
}

#[test]
fn the_command_line_is_tested_like_the_file() {
    let overrides = Overrides {
        instead: None,
        env: vec![("1A".into(), None), ("B".into(), Some("x\0".into()))],
        limits: LimitsOverride {
            cpus: Some(f64::NAN),
            memory_bytes: Some(0),
            cpu_weight: Some(10_001),
            swap_bytes: Some(0),
            pids: Some(0),
            files: Some(u64::MAX),
            log_bytes: Some(0),
            disk_bytes: Some(1),
        },
        network: Some(Network::Host),
        params: vec![("P".into(), String::new())],
        facts: Facts::default(),
        timeout: Some(Duration::ZERO),
        grace: Some(Duration::MAX),
        user: Some("a b".into()),
        workdir: Some("..".into()),
        hostname: Some("-".into()),
        untrusted: true,
        pull: None,
    };
    let errors = jobs::plan("job.yml", "job", JOB, &overrides).unwrap_err();
    assert_eq!(errors.errors(), 16, "{errors}");
    let text = errors.render(false);
    assert!(text.starts_with("command line: error[E"), "{text}");
    assert_eq!(text.matches("command line: error[").count(), 16, "{text}");
    assert!(!plan(JOB).unwrap().warnings.render(false).contains("command line"));
}

#[test]
fn what_nobody_vouches_for_stays_in_the_sandbox() {
    let untrusted = Overrides { untrusted: true, ..Overrides::default() };
    let plan = |text: &str| jobs::plan("job.yml", "job", text.as_bytes(), &untrusted);
    for (key, what) in [
        ("network: host", "`network: host`"),
        ("mounts: ['/etc:/x']", "`mounts`"),
        ("seccomp: off", "`seccomp`"),
        ("seccomp: ./profile.json", "`seccomp`"),
        ("privileges: nested", "`privileges`"),
        ("privileges: [CAP_SYS_CHROOT]", "`privileges`"),
    ] {
        let text = format!("image: host\n{key}\nsteps: [echo]\n");
        let errors = plan(&text).expect_err(key).render(false);
        assert!(errors.contains("job.yml:2:") && errors.contains("error[E248]"), "{key}: {errors}");
        assert!(errors.contains(what) && errors.contains("is refused with `--untrusted`"), "{key}: {errors}");
        assert!(jobs::plan("job.yml", "job", text.as_bytes(), &Overrides::default()).is_ok(), "{key}");
    }
    let step = "image: host\nsteps:\n  - {run: echo, privileges: nested}\n";
    assert!(plan(step).expect_err("a step's").render(false).contains("job.yml:3:"));
    let good = "image: host\nseccomp: strict\nprivileges: default\nworkspace: .\nsteps: [echo]\n";
    let job = plan(good).unwrap().plan.jobs.remove(0);
    assert_eq!((job.untrusted, job.workspace), (true, jobs::Workspace::Copy));
    let empty = plan("image: host\nworkspace: empty\nsteps: [echo]\n").unwrap().plan.jobs.remove(0);
    assert_eq!(empty.workspace, jobs::Workspace::Empty);
}

#[test]
fn names_of_runs_come_from_the_file_or_its_stem() {
    let name =
        |text: &[u8], stem: &str| jobs::plan("f", stem, text, &Overrides::default()).unwrap().plan.name;
    assert_eq!(name(b"image: host\nname: mine\nsteps: [echo]\n", "stem"), "mine");
    assert_eq!(name(b"image: host\nsteps: [echo]\n", "stem"), "stem");
    assert_eq!(name(b"image: host\nsteps: [echo]\n", "\n"), "job");
    assert_eq!(name(b"image: host\nsteps: [echo]\n", &"ü".repeat(200)), "ü".repeat(128));
}

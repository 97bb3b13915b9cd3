//! The promises about source files, as a table. Each has a reason, and made-up sources that it must and must not bite.

use crate::source::Source;

/// A promise about every file of the workspace.
pub struct Check {
    /// What is promised.
    pub promise: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Line and what stands there, for every breach.
    pub breaches: fn(&Source) -> Vec<(usize, String)>,
    /// Path and content of files that break the promise.
    pub bites: &'static [(&'static str, &'static str)],
    /// Path and content of files that look like a breach and are none.
    pub spares: &'static [(&'static str, &'static str)],
}

/// Lines of a file before its tests.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// What a room of `runner` may name besides itself: a whole room, or single modules and types of one, which are values that
/// travel and not calls back.
pub const ROOMS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("outcome", &[]),
    ("event", &["outcome"]),
    ("cgroup", &["sys", "outcome", "event"]),
    ("network", &["sys", "outcome", "event"]),
    ("sandbox", &["sys", "outcome", "event", "network::link", "network::Addresses"]),
    ("overlay", &["sys", "outcome", "event"]),
    ("host", &["sys", "cgroup", "network::Addresses", "network::resolvers", "outcome", "event"]),
    (
        "report",
        &[
            "outcome",
            "event",
            "run::record",
            "run::logs",
            "run::living",
            "run::caches",
            "run::prune",
            "github::command",
            "run::artifacts::Manifest",
            "run::artifacts::ManifestEntry",
            "run::artifacts::EntryKind",
            "run::artifacts::Extracted",
            "run::artifacts::Verification",
            "host::Check",
            "host::Examination",
            "host::Status",
            "host::Swept",
            "commands::CommandError",
            "commands::Class",
        ],
    ),
    (
        "github",
        &[
            "outcome",
            "event",
            "run::record",
            "run::artifacts::Manifest",
            "run::artifacts::ManifestEntry",
            "run::artifacts::EntryKind",
        ],
    ),
    (
        "run",
        &[
            "sandbox",
            "cgroup",
            "network",
            "overlay",
            "host",
            "outcome",
            "event",
            "sys::process",
            "sys::watch",
        ],
    ),
    (
        "commands",
        &["cli", "run", "report", "host", "github", "sandbox", "cgroup", "overlay", "outcome", "event"],
    ),
    ("cli", &["commands", "host", "report", "outcome", "event"]),
];

/// All promises about single files.
pub const CHECKS: &[Check] = &[
    Check {
        promise: "a room names only rooms to its right",
        reason: "values go right and nothing calls left, so a room can be read and tested without what uses it",
        breaches: wrong_rooms,
        bites: &[
            ("runner/src/sys/mount.rs", "use crate::sandbox::spec::Spec;\n"),
            ("runner/src/report/plain.rs", "use crate::{event::Event, run::schedule};\n"),
            ("runner/src/cgroup/v2.rs", "fn f() { crate::run::log() }\n"),
            ("runner/src/run/step.rs", "use crate::sys::mount;\n"),
            ("runner/src/overlay.rs", "use super::run::record;\n"),
            ("runner/src/attic.rs", "use crate::sys;\n"),
        ],
        spares: &[
            ("runner/src/sandbox/child.rs", "use crate::sys::mount;\nuse super::spec::Spec;\n"),
            ("runner/src/lib.rs", "pub use crate::sandbox::Spec;\n"),
            ("runner/src/sys/mount.rs", "// crate::run knows more\n"),
        ],
    },
    Check {
        promise: "rooms that isolate know neither jobs nor images",
        reason: "what a sandbox does must follow from its spec alone",
        breaches: |file| {
            let isolating = ["sandbox", "cgroup", "network", "sys", "host"];
            let concerned = file.path.starts_with("runner/src/") && isolating.contains(&room(file));
            words_if(concerned, file, &["jobs::", "images::"])
        },
        bites: &[
            ("runner/src/sandbox/ops.rs", "use jobs::Plan;\n"),
            ("runner/src/host.rs", "fn f(store: &images::Store) {}\n"),
        ],
        spares: &[
            ("runner/src/run/step.rs", "use jobs::Plan;\n"),
            ("runner/src/sandbox/ops.rs", "// unlike jobs::Plan\nuse my_jobs::x;\n"),
        ],
    },
    Check {
        promise: "`unsafe` stands in runner/src/sys and fixtures/src/raw.rs only",
        reason: "whoever audits memory safety reads two places",
        breaches: |file| {
            let allowed = ["runner/src/sys.rs", "fixtures/src/raw.rs"].contains(&file.path.as_str())
                || file.path.starts_with("runner/src/sys/");
            words_if(!allowed, file, &["unsafe", "unsafe_code"])
        },
        bites: &[
            ("runner/src/sandbox/child.rs", "fn f() { unsafe { g() } }\n"),
            ("tests/limits.rs", "unsafe fn f() {}\n"),
            ("images/src/lib.rs", "#![expect(unsafe_code, reason = \"\")]\n"),
        ],
        spares: &[
            ("runner/src/sys/clone.rs", "fn f() { unsafe { g() } }\n"),
            ("images/src/lib.rs", "//! unsafe would be needed\nlet x = \"unsafe\";\n"),
        ],
    },
    Check {
        promise: "only runner/src/report prints",
        reason: "output is an interface: one place keeps it legible, escaped and in order",
        breaches: |file| {
            let concerned = is_product(file) && !file.path.starts_with("runner/src/report/");
            words_if(
                concerned,
                file,
                &["print!", "println!", "eprint!", "eprintln!", "stdout()", "stderr()", "dbg!"],
            )
        },
        bites: &[
            ("runner/src/run/step.rs", "fn f() { println!(\"x\"); }\n"),
            ("images/src/fetch.rs", "fn f() { std::io::stderr().write_all(b\"x\"); }\n"),
        ],
        spares: &[
            ("runner/src/report/plain.rs", "fn f() { std::io::stdout().lock(); }\n"),
            ("runner/src/run/step.rs", "fn f(child: Child) { child.stdout(pipe); sprintln!(); }\n"),
            ("jobs/src/lib.rs", "#[cfg(test)]\nmod tests {\n    fn f() { println!(\"x\"); }\n}\n"),
        ],
    },
    Check {
        promise: "init and payload neither allocate texts, nor format, nor read the environment, nor panic",
        reason: "they run between clone and exec with the step's secrets near and nobody to print for",
        breaches: |file| {
            let names = ["child", "payload"];
            let concerned = names.iter().any(|name| file.path == format!("runner/src/sandbox/{name}.rs"));
            let mut found = words_if(
                concerned,
                file,
                &["format!", "String", "to_string", "to_owned", "vec!", "Mutex", "log!"],
            );
            found.extend(words_if(concerned, file, CANNOT_FAIL));
            found
        },
        bites: &[
            ("runner/src/sandbox/child.rs", "fn f() { let name = format!(\"x\"); }\n"),
            ("runner/src/sandbox/payload.rs", "fn f() { std::env::var(\"X\"); }\n"),
            ("runner/src/sandbox/payload.rs", "fn f() { g().unwrap(); }\n"),
            ("runner/src/sandbox/child.rs", "fn f() { assert!(g()); }\n"),
        ],
        spares: &[
            ("runner/src/sandbox/ops.rs", "fn f() { let name = format!(\"x\"); }\n"),
            (
                "runner/src/sandbox/child.rs",
                "/// Not a String.\nfn f() { g().unwrap_or(0); debug_assert_eq!(1, 1); }\n",
            ),
        ],
    },
    Check {
        promise: "zygote, stage, shared and sweep neither read the environment nor panic",
        reason: "their message to the keeper is a value; a panic there would be a silent end of the job",
        breaches: |file| {
            let names = ["zygote", "stage", "servant", "shared", "sweep"];
            let concerned = names.iter().any(|name| file.path == format!("runner/src/sandbox/{name}.rs"));
            words_if(concerned, file, CANNOT_FAIL)
        },
        bites: &[("runner/src/sandbox/stage.rs", "fn f() { panic!(\"x\") }\n")],
        spares: &[("runner/src/sandbox/stage.rs", "fn f() { format!(\"x\"); }\n")],
    },
    Check {
        promise: "only the command line reads arguments and environment",
        reason: "a value that comes in through a parameter can be tested, shown and reproduced",
        breaches: |file| {
            let may = ["main", "cli", "commands"];
            let concerned =
                is_product(file) && !(file.path.starts_with("runner/") && may.contains(&room(file)));
            words_if(concerned, file, READS_ENVIRONMENT)
        },
        bites: &[
            ("runner/src/run/mod.rs", "fn f() { std::env::var_os(\"HOME\"); }\n"),
            ("images/src/store.rs", "fn f() { env::temp_dir(); }\n"),
        ],
        spares: &[
            ("runner/src/cli.rs", "fn f() { std::env::var_os(\"HOME\"); }\n"),
            ("runner/src/run/mod.rs", "fn f() { step.env.get(name); }\n"),
        ],
    },
    Check {
        promise: "only images/src/fetch and runner/src/network open connections",
        reason: "whoever asks what leaves this machine reads one room",
        breaches: |file| {
            let may = ["images/src/fetch", "runner/src/network/"];
            let concerned = is_product(file) && !may.iter().any(|place| file.path.starts_with(place));
            let words =
                ["reqwest", "hickory", "rustls", "TcpStream", "TcpListener", "UdpSocket", "TcpSocket"];
            let mut found = words_if(concerned, file, &words);
            // A parsed address connects to nothing.
            found.retain(|(line, _)| !file.line(*line).contains("reqwest::Url"));
            found
        },
        bites: &[
            ("images/src/store.rs", "use reqwest::Client;\n"),
            ("runner/src/run/step.rs", "use std::net::TcpStream;\n"),
        ],
        spares: &[
            ("images/src/fetch/registry.rs", "use reqwest::Client;\n"),
            ("images/src/reference.rs", "pub struct ImageUrl(reqwest::Url);\n"),
            ("runner/src/sandbox/wire.rs", "use std::os::unix::net::UnixStream;\n"),
        ],
    },
    Check {
        promise: "`jobs` touches no file, network, clock or chance",
        reason: "the same text gives the same plan everywhere",
        breaches: |file| {
            let words = [
                "std::fs",
                "fs::",
                "File::",
                "std::net",
                "Instant",
                "SystemTime",
                "std::process",
                "std::thread",
                "random",
            ];
            words_if(file.crate_name() == "jobs" && !file.is_test(), file, &words)
        },
        bites: &[
            ("jobs/src/plan.rs", "use std::fs;\n"),
            ("jobs/src/check.rs", "let now = SystemTime::now();\n"),
        ],
        spares: &[("jobs/src/file.rs", "pub struct JobFile;\n"), ("images/src/store.rs", "use std::fs;\n")],
    },
    Check {
        promise: "a file has at most 600 lines before its tests",
        reason: "beyond that nobody reads it whole",
        breaches: |file| match file.length() {
            lines if lines > FILE_LINES_MAX => vec![(lines, format!("{lines} lines"))],
            _ => Vec::new(),
        },
        bites: &[("runner/src/run/mod.rs", TOO_LONG)],
        spares: &[("runner/src/run/mod.rs", LONG_TESTS)],
    },
    Check {
        promise: "a function has at most 70 lines",
        reason: "a longer one holds two ideas",
        breaches: |file| {
            let long = file.functions().into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
            long.map(|(line, name, lines)| (line, format!("fn {name} has {lines} lines"))).collect()
        },
        bites: &[("runner/src/run/mod.rs", LONG_FUNCTION)],
        spares: &[("runner/src/run/mod.rs", "fn a() {\n}\nfn b() {\n}\n")],
    },
    Check {
        promise: "nothing is left for later without an issue, no test is switched off",
        reason: "what is not done does not exist; a switched-off test is a lie in the count",
        breaches: |file| {
            let mut found = words_if(true, file, &["todo!", "unimplemented!", "ignore]", "#[ignore"]);
            for (index, line) in file.text.lines().enumerate() {
                let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
                let marked = marks.iter().filter(|mark| super::source::contains_word(line, mark));
                found.extend(marked.map(|mark| (index + 1, (*mark).to_owned())));
            }
            found
        },
        bites: &[
            ("runner/src/run/mod.rs", "fn f() { todo!() }\n"),
            ("tests/limits.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n"),
            ("runner/src/run/mod.rs", concat!("// TO", "DO: later\n")),
        ],
        spares: &[("runner/src/run/mod.rs", "fn ignore_signals(todo: List) {}\n")],
    },
];

const READS_ENVIRONMENT: &[&str] = &[
    "env::var",
    "env::var_os",
    "env::vars",
    "env::vars_os",
    "env::args",
    "env::args_os",
    "env::temp_dir",
    "env::home_dir",
];

const CANNOT_FAIL: &[&str] = &[
    "unwrap()",
    ".expect(",
    "panic!",
    "assert!",
    "assert_eq!",
    "assert_ne!",
    "unreachable!",
    "std::env",
    "env::var",
    "env::vars",
    "env::args",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
];

fn wrong_rooms(file: &Source) -> Vec<(usize, String)> {
    let here = room(file);
    if !file.path.starts_with("runner/src/") || here == "lib" || here == "main" {
        return Vec::new();
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == here) else {
        return vec![(1, format!("`{here}` is no room that this table knows"))];
    };
    let is_allowed = |path: &str| {
        let lies_in = |place: &str| {
            path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        // Items of the crate's root that are no rooms (`crate::Result`) start with a capital letter.
        lies_in(here)
            || allowed.iter().any(|place| lies_in(place))
            || path.starts_with(|letter: char| letter.is_uppercase())
    };
    let foreign = file.paths_used().into_iter().filter(|(_, path)| !is_allowed(path));
    foreign.map(|(line, path)| (line, format!("`{here}` names `{path}`"))).collect()
}

/// The room of a file of `runner`: the first directory or file below `src`.
fn room(file: &Source) -> &str {
    let below = file.path.split_once("/src/").map_or("", |(_, below)| below);
    below.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Whether the file is part of what users get.
fn is_product(file: &Source) -> bool {
    ["jobs", "images", "runner"].contains(&file.crate_name()) && !file.is_test()
}

fn words_if(concerned: bool, file: &Source, words: &[&str]) -> Vec<(usize, String)> {
    if !concerned {
        return Vec::new();
    }
    file.lines_with(words).into_iter().map(|(line, word)| (line, format!("`{word}`"))).collect()
}

/// Text repeated at compile time.
macro_rules! ten_times {
    ($text:expr) => {
        concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
    };
}
const TOO_LONG: &str = ten_times!(ten_times!(ten_times!("const A: u8 = 1;\n")));
const LONG_TESTS: &str = concat!(
    "fn f() {}\n#[cfg(test)]\nmod tests {\n",
    ten_times!(ten_times!(ten_times!("let a = 1;\n"))),
    "}\n"
);
const LONG_FUNCTION: &str = concat!("fn f() {\n", ten_times!(ten_times!("g();\n")), "}\n");

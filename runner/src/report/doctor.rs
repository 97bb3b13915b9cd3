//! `runner doctor`: what this machine can do, check by check, and a verdict as the last line.

use unicode_width::UnicodeWidthStr as _;

use super::escape::{self, Colors};
use super::format::{self, Paint};
use super::sink::Sink;
use crate::host::{Check, Examination, Status};

/// Columns of the checks' names.
const NAME_COLUMNS: usize = 18;

/// Columns before what was found: mark, word, name.
const INDENT_COLUMNS: usize = NAME_COLUMNS + 10;
/// The least that is left for text; a narrower terminal wraps by itself.
const TEXT_COLUMNS_MIN: usize = 40;

/// Prints the examination for people. `columns`: lines are broken to fit; commands never, for they are copied.
pub fn doctor(sink: &mut Sink, examination: &Examination, color: bool, columns: Option<usize>) {
    let paint = Paint { color };
    for check in &examination.checks {
        show(sink, check, paint, columns);
    }
    sink.line("");
    sink.line(&verdict(examination, paint));
    sink.flush();
}

/// Returns how many columns standard output has, if it is a terminal.
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Prints it as one JSON object.
pub fn doctor_json(sink: &mut Sink, examination: &Examination) {
    // Strings and numbers only: there is nothing in it that JSON cannot say.
    let text = serde_json::to_string_pretty(examination).unwrap_or_default();
    sink.line(&text);
    sink.flush();
}

fn show(sink: &mut Sink, check: &Check, paint: Paint, columns: Option<usize>) {
    let mark = match check.status {
        Status::Pass => paint.good("✓ pass"),
        Status::Warn => paint.notice("! warn"),
        Status::Fail => paint.bad("✗ FAIL"),
    };
    let text_columns =
        columns.map_or(usize::MAX, |all| all.saturating_sub(INDENT_COLUMNS).max(TEXT_COLUMNS_MIN));
    let mut front = format!("{mark}  {:NAME_COLUMNS$}  ", check.name);
    let indent = " ".repeat(INDENT_COLUMNS);
    for text in [Some(&check.found), check.means.as_ref()].into_iter().flatten() {
        for line in broken(&safe(text), text_columns) {
            sink.line(&format!("{front}{line}"));
            front.clone_from(&indent);
        }
    }
    if let Some(fix) = &check.fix {
        sink.line(&format!("{indent}{} {}", paint.strong("fix:"), safe(fix)));
    }
}

/// Breaks a text between words into lines of at most so many columns.
fn broken(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What was found may quote names of files and users.
fn safe(text: &str) -> String {
    escape::line(text.as_bytes(), Colors::Strip)
}

fn verdict(examination: &Examination, paint: Paint) -> String {
    let counted = |status, thing| format::count(examination.count(status) as u64, thing);
    let warnings = counted(Status::Warn, "warning");
    if !examination.can_run {
        let failed = counted(Status::Fail, "check");
        return paint.bad(&format!("jobs cannot run on this machine: {failed} failed, {warnings}"));
    }
    match examination.count(Status::Warn) {
        0 => paint.good("jobs can run on this machine, with everything on"),
        _ => paint.notice(&format!("jobs can run on this machine, with {warnings}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cgroup::{CgroupFacts, Kind};
    use crate::host::{Host, Swept};

    /// Memory that is read while a sink writes to it.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        fn sink(&self) -> Sink {
            Sink::new(Box::new(self.clone()))
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn check(name: &'static str, status: Status, found: &str, more: Option<(&str, &str)>) -> Check {
        let (means, fix) = more.unzip();
        Check {
            name,
            status,
            found: found.to_owned(),
            means: means.map(str::to_owned),
            fix: fix.map(str::to_owned),
        }
    }

    fn examination(checks: Vec<Check>) -> Examination {
        let cgroup = CgroupFacts {
            kind: Kind::V2,
            controllers: Vec::new(),
            kill: true,
            missing: Vec::new(),
            bases: Vec::new(),
        };
        let host = Host {
            kernel: "6.1.0".into(),
            arch: "x86_64".into(),
            cpus: 2,
            memory_bytes: 1 << 30,
            cgroup,
            userns: true,
            runner_version: "1.0.0",
        };
        let mut examination = Examination { v: 1, can_run: true, checks: Vec::new(), host };
        checks.into_iter().for_each(|check| examination.add(check));
        examination
    }

    fn shown(examination: &Examination) -> String {
        let memory = Memory::default();
        doctor(&mut memory.sink(), examination, false, Some(80));
        memory.text()
    }

    #[test]
    fn the_last_line_is_the_verdict() {
        let pass = || check("machine", Status::Pass, "Linux 6.1.0", None);
        let warn = check(
            "identity",
            Status::Warn,
            "jane\u{1b}[31m, no range",
            Some(("one id", "sudo usermod jane")),
        );
        let fail =
            check("seccomp", Status::Fail, "refused: EINVAL", Some(("no filter", "boot another kernel")));
        insta::assert_snapshot!(shown(&examination(vec![pass()])), @r"
        ✓ pass  machine             Linux 6.1.0

        jobs can run on this machine, with everything on
        ");
        insta::assert_snapshot!(shown(&examination(vec![pass(), warn.clone()])), @r"
        ✓ pass  machine             Linux 6.1.0
        ! warn  identity            jane, no range
                                    one id
                                    fix: sudo usermod jane

        jobs can run on this machine, with 1 warning
        ");
        insta::assert_snapshot!(shown(&examination(vec![warn, fail, Swept::default().check()])), @r"
        ! warn  identity            jane, no range
                                    one id
                                    fix: sudo usermod jane
        ✗ FAIL  seccomp             refused: EINVAL
                                    no filter
                                    fix: boot another kernel
        ✓ pass  stale runs          none

        jobs cannot run on this machine: 1 check failed, 1 warning
        ");
    }

    #[test]
    fn long_lines_are_broken_and_commands_are_not() {
        let long = "a ".repeat(30).trim_end().to_owned();
        let text = shown(&examination(vec![check("x", Status::Warn, &long, Some((&long, &long)))]));
        let lines: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lines[..5], [79, 35, 79, 35, 92], "{text}");
        assert_eq!(broken("", 10), [""]);
        assert_eq!(broken("12345678901 2", 10), ["12345678901", "2"]);
    }

    #[test]
    fn the_json_has_every_check_and_the_facts() {
        let memory = Memory::default();
        doctor_json(
            &mut memory.sink(),
            &examination(vec![check("clock", Status::Warn, "1970", Some(("old", "set it")))]),
        );
        let value: serde_json::Value = serde_json::from_str(&memory.text()).unwrap();
        assert_eq!(value["v"], 1);
        assert_eq!(value["can_run"], true);
        assert_eq!(value["checks"][0]["status"], "warn");
        assert_eq!(value["checks"][0]["fix"], "set it");
        assert_eq!(value["host"]["cgroup"]["kind"], "v2");
    }

    #[test]
    fn what_was_swept_is_counted() {
        let swept = Swept { runs: 1, removed: 3, killed: 2, left: Vec::new() };
        assert_eq!(swept.check().found, "1 run had died; 3 left-overs removed, 2 processes killed");
        let left = Swept { left: vec!["cannot remove x".into(), "y".into()], ..swept };
        assert_eq!(
            (left.check().status, left.check().found),
            (Status::Warn, "cannot remove x; 1 more".into())
        );
    }
}

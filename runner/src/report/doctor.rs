//! `runner doctor`: what this machine can do, check by check, and a verdict as the last line.

use super::escape::{self, Colors};
use super::format::{self, Paint};
use super::sink::Sink;
use crate::host::{Check, Examination, Status};

/// Columns of the checks' names.
const NAME_COLUMNS: usize = 18;

/// Prints the examination for people.
pub fn doctor(sink: &mut Sink, examination: &Examination, color: bool) {
    let paint = Paint { color };
    for check in &examination.checks {
        show(sink, check, paint);
    }
    sink.line("");
    sink.line(&verdict(examination, paint));
    sink.flush();
}

/// Prints it as one JSON object.
pub fn doctor_json(sink: &mut Sink, examination: &Examination) {
    // Strings and numbers only: there is nothing in it that JSON cannot say.
    let text = serde_json::to_string_pretty(examination).unwrap_or_default();
    sink.line(&text);
    sink.flush();
}

fn show(sink: &mut Sink, check: &Check, paint: Paint) {
    let mark = match check.status {
        Status::Pass => paint.good("✓ pass"),
        Status::Warn => paint.notice("! warn"),
        Status::Fail => paint.bad("✗ FAIL"),
    };
    sink.line(&format!("{mark}  {:NAME_COLUMNS$}  {}", check.name, safe(&check.found)));
    let more = [("", &check.means), ("fix: ", &check.fix)];
    for (label, text) in more.into_iter().filter_map(|(label, text)| Some((label, text.as_ref()?))) {
        sink.line(&format!("{:28}{}{}", "", paint.strong(label), safe(text)));
    }
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
    use super::super::sink::tests::Memory;
    use super::*;
    use crate::cgroup::{CgroupFacts, Kind};
    use crate::host::{Host, Swept};

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
        doctor(&mut memory.sink(), examination, false);
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

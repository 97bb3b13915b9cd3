//! What is said of services: one line when one is ready, and why one has failed.

use std::path::Path;

use super::escape::{self, Colors};
use super::format::{self, Paint};
use super::plain::show_name;
use crate::event::What;
use crate::outcome::{Outcome, ServiceResult};

/// The lines of an event of a service; none for what goes as it should. `job`: which, where there are several.
pub(super) fn lines(what: &What, job: Option<&str>, directory: &Path, paint: Paint) -> Vec<String> {
    let label = |name: &str| match job {
        Some(job) => format!("service {job}/{name}"),
        None => format!("service {name}"),
    };
    match what {
        What::ServiceReady { service, ready_s, by } => {
            let took = format::duration(*ready_s);
            vec![format!("{} {} {took} ({by})", label(service), paint.good("ready"))]
        }
        What::ServiceEnd { result, tail } if result.outcome != Outcome::Success => {
            let mut lines = vec![format!("{}: {}", label(&result.name), outcome(result, paint))];
            lines.extend(
                tail.iter().map(|line| format!("  | {}", escape::line(line.as_bytes(), Colors::Strip))),
            );
            lines.extend(notes(result));
            if !result.log.path.is_empty() {
                lines.push(format!("  log: {}", directory.join(&result.log.path).display()));
            }
            lines
        }
        _ => Vec::new(),
    }
}

/// Why it ended, and that the job goes on all the same.
fn notes(result: &ServiceResult) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(result.cause.as_ref().map(|cause| format!("  cause: {}", show_name(cause))));
    lines.extend(result.remedy.as_ref().map(|remedy| format!("  hint: {}", show_name(remedy))));
    if result.optional {
        lines.push("  goes on: the service is optional".to_owned());
    }
    lines
}

fn outcome(result: &ServiceResult, paint: Paint) -> String {
    let took = format::duration(result.usage.wall_s);
    match result.outcome {
        Outcome::Success => format!("{} in {took}", paint.good("success")),
        Outcome::Skipped => "not started".to_owned(),
        other => format!("{} in {took}", paint.bad(other.as_str())),
    }
}

/// The lines of a service in the summary of a run.
pub(super) fn summary(result: &ServiceResult, paint: Paint) -> Vec<String> {
    let ready = match (result.ready_s, &result.ready_by) {
        (Some(took), Some(by)) => format!(", ready in {} ({by})", format::duration(took)),
        _ => String::new(),
    };
    let name = escape::fit(&result.name, 32);
    let mark = paint.mark(result.outcome);
    let mut lines = vec![format!("  {mark} service {}: {}{ready}", name.trim_end(), outcome(result, paint))];
    if result.outcome != Outcome::Success {
        lines.extend(notes(result).into_iter().map(|line| format!("  {line}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ImageRecord;

    #[test]
    fn a_service_is_one_line_when_it_is_ready_and_tells_why_it_has_failed() {
        let (paint, directory) = (Paint { color: false }, Path::new("/run"));
        let ready = What::ServiceReady { service: "db".into(), ready_s: 1.2, by: "tcp 5432".into() };
        assert_eq!(lines(&ready, None, directory, paint), ["service db ready 1.2s (tcp 5432)"]);
        assert_eq!(lines(&ready, Some("test"), directory, paint), ["service test/db ready 1.2s (tcp 5432)"]);
        let mut result = ServiceResult::new("db", ImageRecord::default(), true);
        let ended = |result: &ServiceResult| What::ServiceEnd {
            result: Box::new(result.clone()),
            tail: vec!["\x1b[31mno disk\x1b[0m".to_owned()],
        };
        result.outcome = Outcome::Success;
        assert_eq!(lines(&ended(&result), None, directory, paint), [] as [&str; 0]);
        result.outcome = Outcome::Failure;
        result.usage.wall_s = 0.5;
        result.cause = Some("ended before it was ready: exit code 1".to_owned());
        result.log.path = "jobs/job/services/db/log".to_owned();
        let expected = [
            "service db: failure in 500ms",
            "  | no disk",
            "  cause: ended before it was ready: exit code 1",
            "  goes on: the service is optional",
            "  log: /run/jobs/job/services/db/log",
        ];
        assert_eq!(lines(&ended(&result), None, directory, paint), expected);
    }
}

//! A run as Markdown, for the page of a workflow. Names and paths come from job files and from steps: in what stands here of
//! them no character means anything to Markdown or HTML.

use std::time::Duration;

use crate::outcome::{Outcome, StepResult};
use crate::run::artifacts::{EntryKind, ManifestEntry};
use crate::run::record::{JobRecord, RunRecord};

/// Characters of a cell.
const CELL_CHARS_MAX: usize = 120;
/// Files of artifacts that are listed.
const FILES_MAX: usize = 100;
/// What is left for the words that say what was left out.
const REST_BYTES: usize = 256;

/// Returns the summary, of at most `room` bytes. `own`: what the steps of each job have written themselves.
pub fn markdown(run: &RunRecord, files: &[ManifestEntry], own: &[(String, Vec<u8>)], room: usize) -> String {
    let mut page = Page { text: String::new(), room: room.saturating_sub(REST_BYTES), left_out: 0 };
    page.add(&heading(run));
    steps(run, &mut page);
    tests(run, &mut page);
    artifacts(files, &mut page);
    for (job, text) in own {
        // Valid UTF-8 or not, it is the steps' own page.
        let text = String::from_utf8_lossy(text);
        let several = if run.jobs.len() > 1 { format!("\n#### {}\n", cell(job)) } else { String::new() };
        page.add(&format!("{several}\n{text}\n"));
    }
    if page.left_out > 0 && room > REST_BYTES {
        page.text.push_str(&format!("\n{} more lines or parts have no room here.\n", page.left_out));
    }
    page.text
}

struct Page {
    text: String,
    room: usize,
    left_out: usize,
}

impl Page {
    /// Adds a part as a whole, or counts it.
    fn add(&mut self, part: &str) {
        if self.text.len() + part.len() > self.room {
            self.left_out += 1;
        } else {
            self.text.push_str(part);
        }
    }
}

fn heading(run: &RunRecord) -> String {
    let outcome = run.outcome.unwrap_or(Outcome::Error);
    let took = run.wall_s.map_or_else(String::new, |wall_s| format!(" in {}", duration(wall_s)));
    format!("### {} {}: {}{took}\n", mark(outcome), cell(&run.name), outcome.as_str())
}

fn steps(run: &RunRecord, page: &mut Page) {
    page.add("\n| | step | result | wall | CPU | memory | |\n|---|---|---|--:|--:|--:|---|\n");
    for job in &run.jobs {
        for step in &job.steps {
            page.add(&row(run, job, step));
        }
    }
}

fn row(run: &RunRecord, job: &JobRecord, step: &StepResult) -> String {
    let label = if run.jobs.len() > 1 { format!("{}/{}", job.id, step.id) } else { step.id.clone() };
    let name = if step.name == step.id { String::new() } else { format!(" {}", cell(&step.name)) };
    let result = match (step.outcome, step.exit_code) {
        (Outcome::Failure, Some(code)) => format!("failure, exit code {code}"),
        (outcome, _) => outcome.as_str().to_owned(),
    };
    let result = if step.attempts > 1 { format!("{result}, attempt {}", step.attempts) } else { result };
    let (wall, cpu, memory) = match step.outcome {
        Outcome::Skipped => (String::new(), String::new(), String::new()),
        _ => (duration(step.usage.wall_s), duration(step.usage.cpu_s), memory(step)),
    };
    let cause = step.cause.as_deref().map(cell).unwrap_or_default();
    let mark = mark(step.outcome);
    format!("| {mark} | **{}**{name} | {result} | {wall} | {cpu} | {memory} | {cause} |\n", cell(&label))
}

fn memory(step: &StepResult) -> String {
    let Some(peak) = step.usage.mem_peak else { return String::new() };
    let limit = step.limits.memory_bytes.map(|limit| format!(" of {}", jobs::units::format_size(limit)));
    format!("{}{}", jobs::units::format_size(peak), limit.unwrap_or_default())
}

fn tests(run: &RunRecord, page: &mut Page) {
    let Some(reports) = &run.reports else { return };
    let counts = reports.counts;
    if counts.tests > 0 {
        page.add(&format!(
            "\n{} tests: {} failed, {} skipped, {} flaky\n",
            counts.tests, counts.failed, counts.skipped, counts.flaky
        ));
    }
    if let Some(coverage) = reports.coverage {
        page.add(&format!("\n{:.1} % of {} lines covered\n", coverage.percent(), coverage.lines));
    }
    if let Some(found) = reports.findings {
        page.add(&format!(
            "\n{} errors, {} warnings, {} notes found\n",
            found.errors, found.warnings, found.notes
        ));
    }
}

fn artifacts(files: &[ManifestEntry], page: &mut Page) {
    if files.is_empty() {
        return;
    }
    page.add("\n| artifact | file | size | SHA-256 |\n|---|---|--:|---|\n");
    for file in files.iter().take(FILES_MAX) {
        let digest = match (&file.sha256, file.kind) {
            (Some(digest), _) => format!("`{}`", output_digits(digest)),
            (None, EntryKind::Symlink) => {
                format!("link to {}", cell(file.target.as_deref().unwrap_or_default()))
            }
            (None, EntryKind::File) => String::new(),
        };
        let (name, path) = (cell(&file.artifact), cell(&file.path));
        page.add(&format!("| {name} | {path} | {} | {digest} |\n", jobs::units::format_size(file.size)));
    }
    page.left_out += files.len().saturating_sub(FILES_MAX);
}

/// A digest as we write them; from a record that somebody changed, nothing else.
fn output_digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_hexdigit).collect()
}

/// Returns text in which no character means anything: letters, digits and spaces as they are, everything else of ASCII by its
/// number, which Markdown takes for text and nothing but text.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == CELL_CHARS_MAX {
            out.push('…');
            break;
        }
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' => out.push(character),
            '\0'..='\x7f' if character.is_ascii_control() => out.push(' '),
            '\0'..='\x7f' => out.push_str(&format!("&#{};", u32::from(character))),
            // Marks that turn the direction of what follows, and breaks of lines.
            '\u{80}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            _ => out.push(character),
        }
    }
    out
}

fn duration(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "?".to_owned(), jobs::units::format_duration)
}

fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "✅",
        Outcome::Skipped => "⏭️",
        Outcome::Cancelled => "⏹️",
        _ => "❌",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_of_a_name_means_anything() {
        let hostile = "a|b <img src=x onerror=y> [l](https://e.example) `c` **d** @user #1 ~~e~~ \\| &lt; www.x.y\r\n| new row |\u{2028}\u{202e}";
        let shown = cell(hostile);
        let mut rest = shown.as_str();
        while let Some(at) = rest.find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != ' ') {
            let entity = &rest[at..];
            let end = entity.find(';').unwrap_or_default();
            assert!(
                entity.starts_with("&#") && entity[2..end].bytes().all(|b| b.is_ascii_digit()),
                "{shown}"
            );
            rest = &entity[end + 1..];
        }
        assert!(!shown.contains(['\u{2028}', '\u{202e}', '\n', '\r']));
        assert_eq!(cell("übung 1"), "übung 1");
        assert_eq!(cell(&"x".repeat(500)).chars().count(), CELL_CHARS_MAX + 1);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut page = Page { text: String::new(), room: 10, left_out: 0 };
        page.add("12345");
        page.add("123456");
        page.add("12345");
        assert_eq!((page.text.as_str(), page.left_out), ("1234512345", 1));
    }
}

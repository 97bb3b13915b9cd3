//! When which step ran: a row for each, on one scale.

use jiff::Timestamp;

use super::ansi::push_text;
use super::class;
use crate::outcome::{Outcome, StepResult};
use crate::report::format;
use crate::run::record::{JobRecord, RunRecord};

/// Rows that are drawn.
const ROWS_MAX: usize = 500;
/// Marks on the axis.
const MARKS: u32 = 4;

/// The time that the page shows.
struct Scale {
    start: f64,
    length: f64,
}

impl Scale {
    fn of(run: &RunRecord) -> Option<Self> {
        let start = seconds(&run.started)?;
        let of_steps = run.jobs.iter().flat_map(|job| &job.steps).map(|step| step.ended.as_str());
        let ends = run
            .jobs
            .iter()
            .filter_map(|job| job.ended.as_deref())
            .chain(run.ended.as_deref())
            .chain(of_steps);
        let end = ends.filter_map(seconds).fold(start, f64::max);
        (end > start).then_some(Self { start, length: end - start })
    }

    /// Where a time from here to there is, in percent.
    fn place(&self, from: &str, to: &str) -> Option<(f64, f64)> {
        let (from, to) = (seconds(from)?, seconds(to)?);
        let left = ((from - self.start) / self.length * 100.0).clamp(0.0, 100.0);
        let width = ((to - from) / self.length * 100.0).clamp(0.0, 100.0 - left);
        Some((left, width))
    }
}

fn seconds(text: &str) -> Option<f64> {
    text.parse::<Timestamp>().ok().map(|time| time.as_microsecond() as f64 / 1e6)
}

/// Adds the rows of all jobs.
pub(super) fn push(out: &mut String, run: &RunRecord) {
    let Some(scale) = Scale::of(run) else { return };
    out.push_str("<h2>Timeline</h2><div class=\"panel\"><div class=\"axis\"><span></span><div>");
    for mark in 0..=MARKS {
        out.push_str("<span>");
        push_text(out, &format::duration(scale.length * f64::from(mark) / f64::from(MARKS)));
        out.push_str("</span>");
    }
    out.push_str("</div><span></span></div>");
    let mut rows = 0;
    for (number, job) in run.jobs.iter().enumerate() {
        if run.jobs.len() > 1 {
            push_job(out, job, &scale);
            rows += 1;
        }
        for step in job.steps.iter().filter(|step| step.outcome != Outcome::Skipped) {
            rows += 1;
            if rows <= ROWS_MAX {
                push_step(out, number, step, &scale);
            }
        }
    }
    if rows > ROWS_MAX {
        out.push_str(&format!("<p class=\"pad soft\">and {} more</p>", rows - ROWS_MAX));
    }
    out.push_str("</div>");
}

fn push_job(out: &mut String, job: &JobRecord, scale: &Scale) {
    out.push_str("<div class=\"row job\"><span class=\"name\">");
    push_text(out, &job.id);
    out.push_str("</span><div class=\"track\">");
    if let (Some(from), Some(to)) = (&job.started, &job.ended) {
        push_bar(out, scale.place(from, to), job.outcome.unwrap_or(Outcome::Error), 1.0);
    }
    out.push_str("</div><span class=\"time\">");
    push_text(out, job.outcome.map_or("", Outcome::as_str));
    out.push_str("</span></div>");
}

fn push_step(out: &mut String, job: usize, step: &StepResult, scale: &Scale) {
    out.push_str(&format!("<div class=\"row\"><a class=\"name\" href=\"#s{job}-{}\" title=\"", step.index));
    push_text(out, &step.name);
    out.push_str("\">");
    push_text(out, &step.id);
    out.push_str("</a><div class=\"track\">");
    for attempt in &step.earlier {
        push_bar(out, scale.place(&attempt.started, &attempt.ended), attempt.outcome, 0.45);
    }
    push_bar(out, scale.place(&step.started, &step.ended), step.outcome, 0.9);
    out.push_str("</div><span class=\"time\">");
    push_text(out, &format::duration(step.usage.wall_s));
    out.push_str("</span></div>");
}

fn push_bar(out: &mut String, place: Option<(f64, f64)>, outcome: Outcome, opacity: f64) {
    let Some((left, width)) = place else { return };
    let opacity = if opacity < 0.9 { format!(";opacity:{opacity}") } else { String::new() };
    out.push_str(&format!(
        "<span class=\"bar {}\" style=\"left:{left:.3}%;width:{width:.3}%{opacity}\"></span>",
        class(outcome)
    ));
}

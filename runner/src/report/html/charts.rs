//! What steps used, as bars: inline SVG, which needs nothing from anywhere. The largest come first; the numbers stand beside
//! them.

use super::ansi::push_text;
use crate::outcome::{Outcome, StepResult};
use crate::report::format;

/// Steps that are drawn.
const BARS_MAX: usize = 16;
/// The drawing is this wide, whatever the page makes of it.
const WIDTH: f64 = 560.0;
/// Where bars begin, and how long the longest is.
const BAR_START: f64 = 150.0;
const BAR_LENGTH: f64 = 310.0;
/// Height of a step.
const STEP_HEIGHT: f64 = 30.0;
/// Characters of a label that have room.
const LABEL_CHARS_MAX: usize = 22;

/// One step of a chart.
struct Bar {
    label: String,
    /// Value and colour, the first above the second.
    values: Vec<(f64, &'static str)>,
    /// Where a limit stands.
    limit: Option<f64>,
    shown: String,
}

/// Returns time and CPU time of the steps.
pub(super) fn times(steps: &[(String, &StepResult)]) -> Option<String> {
    let bar = |(label, step): &(String, &StepResult)| Bar {
        label: label.clone(),
        values: vec![(step.usage.wall_s, "--wall"), (step.usage.cpu_s, "--cpu")],
        limit: None,
        shown: format!("{} · {}", format::duration(step.usage.wall_s), format::duration(step.usage.cpu_s)),
    };
    chart(steps.iter().filter(|(_, step)| ran(step)).map(bar).collect())
}

/// Returns peak memory of the steps, and their limits.
pub(super) fn memory(steps: &[(String, &StepResult)]) -> Option<String> {
    let bar = |(label, step): &(String, &StepResult)| {
        let peak = step.usage.mem_peak.filter(|_| ran(step))?;
        // A limit far beyond what is used would make a dot of the bar.
        let limit = step.limits.memory_bytes.filter(|limit| *limit <= peak.saturating_mul(4));
        let of = step.limits.memory_bytes.map(|limit| format!(" of {}", format::size(limit)));
        Some(Bar {
            label: label.clone(),
            values: vec![(peak as f64, "--memory")],
            limit: limit.map(|limit| limit as f64),
            shown: format!("{}{}", format::size(peak), of.unwrap_or_default()),
        })
    };
    chart(steps.iter().filter_map(bar).collect())
}

fn ran(step: &StepResult) -> bool {
    step.outcome != Outcome::Skipped
}

fn chart(mut bars: Vec<Bar>) -> Option<String> {
    let first = |bar: &Bar| bar.values.first().map_or(0.0, |(value, _)| *value);
    bars.sort_by(|one, other| first(other).total_cmp(&first(one)));
    bars.truncate(BARS_MAX);
    let all = bars.iter().flat_map(|bar| bar.values.iter().map(|(value, _)| *value).chain(bar.limit));
    let most = all.fold(0.0, f64::max);
    if bars.is_empty() || most <= 0.0 {
        return None;
    }
    let height = STEP_HEIGHT * bars.len() as f64;
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for (index, bar) in bars.iter().enumerate() {
        push_bar(&mut out, bar, STEP_HEIGHT * index as f64, most);
    }
    out.push_str("</svg>");
    Some(out)
}

fn push_bar(out: &mut String, bar: &Bar, top: f64, most: f64) {
    let middle = top + STEP_HEIGHT / 2.0;
    out.push_str(&format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">", BAR_START - 10.0, middle + 4.0));
    push_text(out, &shortened(&bar.label));
    out.push_str("</text>");
    let thick = if bar.values.len() > 1 { 8.0 } else { 14.0 };
    let mut y = middle - thick * bar.values.len() as f64 / 2.0;
    for (value, color) in &bar.values {
        let length = (value / most * BAR_LENGTH).max(1.0);
        out.push_str(&format!(
            "<rect x=\"{BAR_START}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"var({color})\"/>",
            thick - 1.0
        ));
        y += thick;
    }
    let mut end = bar.values.iter().map(|(value, _)| *value).fold(0.0, f64::max);
    if let Some(limit) = bar.limit {
        let x = BAR_START + limit / most * BAR_LENGTH;
        out.push_str(&format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"var(--bad)\" stroke-width=\"2\"/>",
            middle - 10.0,
            middle + 10.0
        ));
        end = end.max(limit);
    }
    let x = BAR_START + end / most * BAR_LENGTH + 8.0;
    out.push_str(&format!("<text class=\"v\" x=\"{x:.1}\" y=\"{}\">", middle + 4.0));
    push_text(out, &bar.shown);
    out.push_str("</text>");
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL_CHARS_MAX {
        return label.to_owned();
    }
    let start: String = label.chars().take(LABEL_CHARS_MAX - 1).collect();
    start + "…"
}

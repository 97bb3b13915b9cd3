//! `reports/junit.json`, `coverage.json`, `sarif.json`: what all jobs of a run say, in one form whatever they wrote.

use serde_json::{Value, json};

use super::{Covered, FindingCounts, Gathered, REPORTS_VERSION, TestCounts};
use crate::run::record::{Durability, RecordError, ReportsRecord, RunDirectory, make_directory};
use crate::run::secrets::Secrets;

/// Writes the reports of the jobs so far, and returns their sums.
///
/// # Errors
/// A file that cannot be written.
pub fn write(
    run: &RunDirectory,
    jobs: &[(String, Gathered)],
    secrets: &Secrets,
) -> Result<ReportsRecord, RecordError> {
    make_directory(&run.path().join("reports"))?;
    let mut sums = ReportsRecord::default();
    let (mut tests, mut coverage, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for (job, reports) in jobs {
        if let Some(counts) = reports.tests {
            sums.counts = added(sums.counts, counts);
            tests.push(with(job, json!(counts), "cases", json!(reports.cases)));
        }
        if let Some(covered) = reports.coverage {
            let sum = sums.coverage.get_or_insert_default();
            *sum = Covered {
                lines: sum.lines.saturating_add(covered.lines),
                covered: sum.covered.saturating_add(covered.covered),
            };
            let mut counts = json!(covered);
            counts["percent"] = json!((covered.percent() * 100.0).round() / 100.0);
            coverage.push(with(job, counts, "files", json!(reports.files)));
        }
        if let Some(counts) = reports.findings {
            let sum = sums.findings.get_or_insert_default();
            *sum = FindingCounts {
                errors: sum.errors + counts.errors,
                warnings: sum.warnings + counts.warnings,
                notes: sum.notes + counts.notes,
            };
            findings.push(with(job, json!(counts), "results", json!(reports.listed)));
        }
    }
    for (name, list) in [("junit", tests), ("coverage", coverage), ("sarif", findings)] {
        if list.is_empty() {
            continue;
        }
        let text = json!({"v": REPORTS_VERSION, "jobs": list}).to_string();
        // Decoded, a text may have a secret that the file did not have as it stood.
        let text = secrets.masked(&text).into_owned() + "\n";
        run.write_file_atomic(&format!("reports/{name}.json"), text.as_bytes(), Durability::Cheap)?;
    }
    Ok(sums)
}

fn with(job: &str, mut counts: Value, key: &str, list: Value) -> Value {
    counts["job"] = json!(job);
    counts[key] = list;
    counts
}

fn added(one: TestCounts, other: TestCounts) -> TestCounts {
    TestCounts {
        tests: one.tests + other.tests,
        failed: one.failed + other.failed,
        skipped: one.skipped + other.skipped,
        flaky: one.flaky + other.flaky,
    }
}

//! Figures as text, JSON and Markdown.

use crate::compare::Row;
use crate::lab::Lab;
use serde_json::json;
use std::io::Write as _;

/// One chapter's figures.
pub struct Table {
    title: &'static str,
    unit: &'static str,
    base: Option<&'static str>,
    rows: Vec<Row>,
    left_out: Option<&'static str>,
}

impl Table {
    /// Rows in `unit`; ratios are to the row called `base`.
    pub fn new(unit: &'static str, base: Option<&'static str>, rows: Vec<Row>) -> Self {
        Self { title: "", unit, base, rows, left_out: None }
    }

    /// A chapter that could not be measured.
    pub fn left_out(unit: &'static str, reason: &'static str) -> Self {
        Self { title: "", unit, base: None, rows: Vec::new(), left_out: Some(reason) }
    }

    /// With its title.
    pub fn titled(mut self, title: &'static str) -> Self {
        self.title = title;
        self
    }

    fn ratio(&self, row: &Row) -> Option<f64> {
        let base = self.rows.iter().find(|row| Some(row.who) == self.base)?;
        Some(row.median()? / base.median()?)
    }

    /// Who, median, p95, ratio, what it does.
    fn cells(&self) -> Vec<[String; 5]> {
        let header = ["", &format!("p50 {}", self.unit), "p95", "ratio", "does"].map(str::to_owned);
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        let rows = self.rows.iter().map(|row| {
            let does = row
                .left_out
                .as_ref()
                .map_or_else(|| row.does.to_owned(), |reason| format!("left out: {}", shortened(reason)));
            [
                row.who.to_owned(),
                number(row.median()),
                number(row.quantile(0.95)),
                number(self.ratio(row)),
                does,
            ]
        });
        std::iter::once(header).chain(rows).collect()
    }

    /// For a terminal.
    pub fn as_text(&self) -> String {
        let mut text = format!("\n{}\n", self.title);
        if let Some(reason) = self.left_out {
            return format!("{text}  left out: {reason}\n");
        }
        for [who, median, p95, ratio, does] in self.cells() {
            text.push_str(&format!("  {who:<38} {median:>9} {p95:>9} {ratio:>7}  {does}\n"));
        }
        text
    }

    fn as_markdown(&self) -> String {
        let mut text = format!("\n## {}\n\n", self.title);
        if let Some(reason) = self.left_out {
            return format!("{text}Left out: {reason}.\n");
        }
        for (index, [who, median, p95, ratio, does]) in self.cells().into_iter().enumerate() {
            text.push_str(&format!("| {who} | {median} | {p95} | {ratio} | {does} |\n"));
            if index == 0 {
                text.push_str("| --- | ---: | ---: | ---: | --- |\n");
            }
        }
        text
    }

    fn as_json(&self) -> serde_json::Value {
        let rows: Vec<serde_json::Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "who": row.who, "does": row.does, "count": row.figures.len(), "median": row.median(),
                    "p95": row.quantile(0.95), "min": row.quantile(0.0), "ratio": self.ratio(row), "left_out": row.left_out,
                })
            })
            .collect();
        json!({"title": self.title, "unit": self.unit, "base": self.base, "rows": rows, "left_out": self.left_out})
    }
}

fn shortened(reason: &str) -> String {
    const LETTERS_MAX: usize = 60;
    reason.chars().take(LETTERS_MAX).collect()
}

/// Writes to stdout; whoever closed it does not want to know.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _unheard = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `target/bench.json`: version 1, the machine, all tables.
pub fn write_json(tables: &[Table], lab: &Lab) {
    let path = fixtures::cache::target_directory().join("bench.json");
    let all: Vec<serde_json::Value> = tables.iter().map(Table::as_json).collect();
    let text = json!({"v": 1, "machine": lab.machine(), "tables": all}).to_string();
    std::fs::write(&path, text).expect("the target directory takes a file");
    say(&format!("\nwritten: {}\n", path.display()));
}

/// `docs/benchmarks.md`, as a whole.
pub fn write_docs(tables: &[Table], lab: &Lab) {
    let mut text = String::from(
        "# Benchmarks\n\nWritten by `make bench BENCH=--write-docs`. Medians of one session, contenders in random order in every round. The\n\
         ratio is to the row without which nothing can be done: the floor (`benches/floor.c`, the system calls of a step alone),\n\
         bubblewrap for whole runs, decompressing to nowhere for unpacking. Seconds are this machine's; ratios travel.\n\n",
    );
    text.push_str(&format!("{}\n", lab.machine()));
    tables.iter().for_each(|table| text.push_str(&table.as_markdown()));
    let path = fixtures::cache::workspace().join("docs/benchmarks.md");
    std::fs::write(&path, text).expect("the documentation takes a file");
    say(&format!("written: {}\n", path.display()));
}

//! Coverage: Cobertura's and JaCoCo's XML, lcov's text. Only lines are counted.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::xml::{self, Part};
use super::{Covered, CoveredFile, LISTED_MAX, NAME_CHARS_MAX, ReportError, cut};

/// Lines of one file whose numbers are kept, so that none counts twice.
const LINES_MAX: usize = 2_000_000;
/// Bytes of a line of lcov's text.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    pub total: Covered,
    /// The first of them.
    pub files: Vec<CoveredFile>,
}

/// Reads a file, whichever of the three it is.
pub(super) fn read(mut input: impl BufRead) -> Result<Coverage, ReportError> {
    let start = input.fill_buf()?;
    let first = start.iter().copied().find(|byte| !byte.is_ascii_whitespace() && !byte.is_ascii_control());
    // A byte-order mark is none of the ASCII that decides.
    if first.is_some_and(|byte| byte == b'<' || byte == 0xef) { of_xml(input) } else { of_lcov(input) }
}

/// Lines by file and number: a file may stand there for each of its classes, a line for each of its methods.
#[derive(Default)]
struct Lines {
    files: BTreeMap<String, BTreeMap<u64, bool>>,
    count: usize,
}

impl Lines {
    fn hit(&mut self, file: &str, line: u64, hit: bool) {
        if self.count >= LINES_MAX {
            return;
        }
        if !self.files.contains_key(file) {
            self.files.insert(file.to_owned(), BTreeMap::new());
        }
        let Some(lines) = self.files.get_mut(file) else { return };
        match lines.entry(line) {
            std::collections::btree_map::Entry::Occupied(mut known) => *known.get_mut() |= hit,
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(hit);
                self.count += 1;
            }
        }
    }

    fn sum(self) -> Coverage {
        let mut coverage = Coverage::default();
        for (path, lines) in self.files {
            let covered = lines.values().filter(|hit| **hit).count() as u64;
            coverage.add(path, Covered { lines: lines.len() as u64, covered });
        }
        coverage
    }
}

impl Coverage {
    fn add(&mut self, path: String, counts: Covered) {
        self.total.lines = self.total.lines.saturating_add(counts.lines);
        self.total.covered = self.total.covered.saturating_add(counts.covered);
        if self.files.len() < LISTED_MAX {
            self.files.push(CoveredFile { path: cut(&path, NAME_CHARS_MAX), counts });
        }
    }
}

#[derive(PartialEq)]
enum Kind {
    Cobertura,
    Jacoco,
}

fn of_xml(input: impl BufRead) -> Result<Coverage, ReportError> {
    let (mut kind, mut lines, mut jacoco) = (None, Lines::default(), Coverage::default());
    let (mut file, mut package, mut methods) = (String::new(), String::new(), 0_usize);
    // A report without lines still has their sums.
    let mut sums = Covered::default();
    xml::read(input, |part| {
        match part {
            Part::Start(element) => match (element.depth, element.name.as_str(), &kind) {
                (0, "coverage", _) => {
                    kind = Some(Kind::Cobertura);
                    let number = |name| element.number(name).unwrap_or_default();
                    sums = Covered { lines: number("lines-valid"), covered: number("lines-covered") };
                }
                (0, "report", _) => kind = Some(Kind::Jacoco),
                (0, ..) => {
                    return Err(ReportError::Other {
                        expected: "Cobertura's XML, JaCoCo's XML or lcov's text",
                    });
                }
                (_, "class", Some(Kind::Cobertura)) => {
                    file = element.get("filename").unwrap_or_default().to_owned()
                }
                (_, "methods", _) => methods += 1,
                (_, "line", Some(Kind::Cobertura)) if methods == 0 => {
                    if let Some(line) = element.number("number") {
                        lines.hit(&file, line, element.number("hits").unwrap_or_default() > 0);
                    }
                }
                (_, "package", Some(Kind::Jacoco)) => {
                    package = element.get("name").unwrap_or_default().to_owned()
                }
                (_, "sourcefile", Some(Kind::Jacoco)) => {
                    file = format!("{package}/{}", element.get("name").unwrap_or_default());
                }
                (_, "counter", Some(Kind::Jacoco))
                    if !file.is_empty() && element.get("type") == Some("LINE") =>
                {
                    let number = |name| element.number(name).unwrap_or_default();
                    let (missed, covered) = (number("missed"), number("covered"));
                    jacoco.add(file.clone(), Covered { lines: missed.saturating_add(covered), covered });
                }
                _ => {}
            },
            Part::Text(_) => {}
            Part::End("methods") => methods = methods.saturating_sub(1),
            Part::End("sourcefile" | "class") => file.clear(),
            Part::End(_) => {}
        }
        Ok(())
    })?;
    if kind == Some(Kind::Jacoco) {
        return Ok(jacoco);
    }
    let mut coverage = lines.sum();
    if coverage.total.lines == 0 && sums.covered <= sums.lines {
        coverage.total = sums;
    }
    Ok(coverage)
}

fn of_lcov(mut input: impl BufRead) -> Result<Coverage, ReportError> {
    let mut lines = Lines::default();
    let (mut file, mut known, mut offset) = (String::new(), false, 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        match text.split_once(':') {
            Some(("SF", path)) => {
                known = true;
                path.clone_into(&mut file);
            }
            Some(("DA", rest)) if !file.is_empty() => {
                let mut numbers =
                    rest.split(',').map(|number| number.trim().parse::<u64>().unwrap_or_default());
                if let (Some(number), Some(hits)) = (numbers.next(), numbers.next()) {
                    lines.hit(&file, number, hits > 0);
                }
            }
            _ if text == "end_of_record" => file.clear(),
            Some((word, _)) if word.len() <= 8 && word.bytes().all(|byte| byte.is_ascii_uppercase()) => {}
            _ if text.is_empty() || text.starts_with('#') => {}
            _ => return Err(ReportError::Malformed { offset, why: "no line of lcov's".to_owned() }),
        }
        offset += read as u64;
    }
    match known {
        true => Ok(lines.sum()),
        false => Err(ReportError::Other { expected: "Cobertura's XML, JaCoCo's XML or lcov's text" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summed(text: &str) -> (u64, u64, Vec<String>) {
        let coverage = read(text.as_bytes()).unwrap();
        let files =
            coverage.files.iter().map(|f| format!("{} {}/{}", f.path, f.counts.covered, f.counts.lines));
        (coverage.total.covered, coverage.total.lines, files.collect())
    }

    #[test]
    fn the_three_forms_are_told_apart_and_counted() {
        let cobertura = r#"<?xml version="1.0" ?><!DOCTYPE coverage SYSTEM "http://x/coverage.dtd">
<coverage line-rate="0.1" lines-valid="999" lines-covered="1"><packages><package><classes>
<class filename="a.py"><methods><method name="f"><lines><line number="1" hits="0"/></lines></method></methods>
<lines><line number="1" hits="3"/><line number="2" hits="0"/></lines></class>
<class filename="a.py"><lines><line number="2" hits="1"/></lines></class>
<class filename="b.py"><lines><line number="9" hits="0"/></lines></class>
</classes></package></packages></coverage>"#;
        assert_eq!(summed(cobertura), (2, 3, vec!["a.py 2/2".into(), "b.py 0/1".into()]));
        assert_eq!(summed("<coverage lines-valid=\"10\" lines-covered=\"4\"/>"), (4, 10, vec![]));
        let jacoco = r#"<report name="x"><package name="org/x"><class name="org/x/A"><counter type="LINE" missed="1" covered="1"/></class>
<sourcefile name="A.java"><line nr="1" mi="0"/><counter type="BRANCH" missed="9" covered="9"/><counter type="LINE" missed="2" covered="6"/></sourcefile>
<counter type="LINE" missed="2" covered="6"/></package><counter type="LINE" missed="2" covered="6"/></report>"#;
        assert_eq!(summed(jacoco), (6, 8, vec!["org/x/A.java 6/8".into()]));
        let lcov = "TN:\nSF:src/a.c\nFN:1,f\nDA:1,5\nDA:2,0\nLH:1\nLF:2\nend_of_record\nSF:src/b.c\nDA:1,1,abc\nend_of_record\n";
        assert_eq!(summed(lcov), (2, 3, vec!["src/a.c 1/2".into(), "src/b.c 1/1".into()]));
    }

    #[test]
    fn what_is_something_else_is_refused() {
        for text in
            ["", "hello world", "<html></html>", "TN:\n", "<coverage>", "{\"a\": 1}", "SF:a\nwhat is this\n"]
        {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        let lies = "<coverage lines-valid=\"1\" lines-covered=\"18446744073709551615\"/>";
        assert_eq!(summed(lies), (0, 0, vec![]));
    }
}

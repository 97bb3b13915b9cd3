//! JUnit's XML: `testcase` elements, wherever they stand. The sums in the file are not believed.

use std::io::BufRead;

use super::xml::{self, Part};
use super::{MESSAGE_CHARS_MAX, NAME_CHARS_MAX, ReportError, TestCase, TestOutcome, cut, in_workspace};

/// Reads the tests of a file, in its order.
pub(super) fn read(input: impl BufRead, mut take: impl FnMut(TestCase)) -> Result<(), ReportError> {
    let mut case: Option<Case> = None;
    // Files and names of the suites that are open: what their cases do not say, they say.
    let mut suites: Vec<(Option<String>, Option<String>)> = Vec::new();
    xml::read(input, |part| {
        match part {
            Part::Start(element) => {
                if element.depth == 0 && !matches!(element.name.as_str(), "testsuites" | "testsuite") {
                    return Err(ReportError::Other { expected: "JUnit's XML: its root is no `testsuites`" });
                }
                match element.name.as_str() {
                    "testsuite" => {
                        let own = |name| element.get(name).map(|text| cut(text, NAME_CHARS_MAX));
                        suites.push((own("file"), own("name")));
                    }
                    "testcase" => case = Some(Case::of(element, suites.last())),
                    name => {
                        if let Some(case) = &mut case {
                            case.inner(name, element);
                        }
                    }
                }
            }
            Part::Text(text) => {
                if let Some(case) = case.as_mut().filter(|case| case.listens) {
                    case.text.push_str(text);
                }
            }
            Part::End(name) => match name {
                "testcase" => {
                    if let Some(case) = case.take() {
                        take(case.done());
                    }
                }
                "testsuite" => drop(suites.pop()),
                _ => {
                    if let Some(case) = &mut case {
                        case.listens = false;
                    }
                }
            },
        }
        Ok(())
    })
}

/// A test whose element is open.
struct Case {
    case: TestCase,
    failed: bool,
    skipped: bool,
    flaky: bool,
    /// The text of the first failure.
    text: String,
    headline: Option<String>,
    listens: bool,
}

impl Case {
    fn of(element: &xml::Element, suite: Option<&(Option<String>, Option<String>)>) -> Self {
        let text = |name: &str| element.get(name).map(|text| cut(text, NAME_CHARS_MAX));
        let (file, of) = suite.cloned().unwrap_or_default();
        let case = TestCase {
            class: text("classname").filter(|class| !class.is_empty()).or(of).unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            outcome: TestOutcome::Passed,
            time_s: element.get("time").and_then(|time| time.replace(',', "").trim().parse().ok()),
            message: None,
            file: element.get("file").map(str::to_owned).or(file).and_then(|file| in_workspace(&file)),
            line: element.number("line").or_else(|| element.number("lineno")),
        };
        let (text, headline) = (String::new(), None);
        Self { case, failed: false, skipped: false, flaky: false, text, headline, listens: false }
    }

    fn inner(&mut self, name: &str, element: &xml::Element) {
        match name {
            "failure" | "error" => {
                self.listens = !self.failed;
                if !self.failed {
                    self.headline = element.get("message").map(|text| cut(text, MESSAGE_CHARS_MAX));
                }
                self.failed = true;
            }
            "skipped" => self.skipped = true,
            // It passed in the end; `rerunFailure` stands beside a `failure`.
            "flakyFailure" | "flakyError" => self.flaky = true,
            _ => {}
        }
    }

    fn done(mut self) -> TestCase {
        let case = &mut self.case;
        case.outcome = match (self.failed, self.flaky, self.skipped) {
            (true, _, _) => TestOutcome::Failed,
            (false, true, _) => TestOutcome::Flaky,
            (false, false, true) => TestOutcome::Skipped,
            (false, false, false) => TestOutcome::Passed,
        };
        case.time_s = case.time_s.filter(|time: &f64| time.is_finite() && *time >= 0.0);
        if self.failed {
            let text = cut(&self.text, MESSAGE_CHARS_MAX);
            if case.line.is_none()
                && let Some((file, line)) = place(&text)
            {
                (case.file, case.line) = (Some(file), Some(line));
            }
            let headline = self.headline.filter(|headline| !headline.is_empty());
            case.message = headline.or_else(|| Some(text).filter(|text| !text.is_empty()));
        }
        self.case
    }
}

/// The last place in a file of the workspace that a text names, `path:line`: compilers, assertions and traces do.
fn place(text: &str) -> Option<(String, u64)> {
    let words = text.split(|c: char| c.is_whitespace() || "()[]'\"`,".contains(c));
    let mut found = words.filter_map(|word| {
        let mut parts = word.split(':');
        let path = parts.next().filter(|path| path.contains('.'))?;
        let line = parts.next()?.parse().ok().filter(|line| *line > 0)?;
        Some((in_workspace(path)?, line))
    });
    found.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(text: &str) -> Result<Vec<TestCase>, ReportError> {
        let mut cases = Vec::new();
        read(text.as_bytes(), |case| cases.push(case)).map(|()| cases)
    }

    #[test]
    fn every_dialect_is_understood() {
        let text = r#"<?xml version="1.0"?>
<!DOCTYPE x [<!ENTITY a "aaaa">]>
<testsuites tests="999">
  <testsuite name="suite" file="/workspace/tests/a.py">
    <properties><property name="x" value="y"/></properties>
    <testcase classname="c.D" name="one &lt;1&gt;" time="1,234.5"/>
    <testcase name="two" line="7"><failure message="boom &amp; bang" type="E">trace
at x</failure><system-out>noise</system-out></testcase>
    <testcase name="three"><error><![CDATA[thread panicked at src/lib.rs:10:5: no]]></error></testcase>
    <testcase name="four"><skipped/></testcase>
    <testcase name="five"><flakyFailure message="once">x</flakyFailure></testcase>
    <testcase name="six"><failure>&a;&#65;</failure><rerunFailure>again</rerunFailure></testcase>
    <testsuite name="inner"><testcase name="seven" time="x"/></testsuite>
  </testsuite>
</testsuites>"#;
        let cases = cases(text).unwrap();
        let shown: Vec<_> = cases
            .iter()
            .map(|case| {
                let file =
                    case.file.as_deref().map(|file| format!("{file}:{}", case.line.unwrap_or_default()));
                (case.full_name(), case.outcome, case.message.as_deref(), file)
            })
            .collect();
        let own = |text: &str| Some(text.to_owned());
        use TestOutcome::{Failed, Flaky, Passed, Skipped};
        assert_eq!(
            shown,
            [
                ("c.D.one <1>".to_owned(), Passed, None, own("tests/a.py:0")),
                ("suite.two".to_owned(), Failed, Some("boom & bang"), own("tests/a.py:7")),
                (
                    "suite.three".to_owned(),
                    Failed,
                    Some("thread panicked at src/lib.rs:10:5: no"),
                    own("src/lib.rs:10")
                ),
                ("suite.four".to_owned(), Skipped, None, own("tests/a.py:0")),
                ("suite.five".to_owned(), Flaky, None, own("tests/a.py:0")),
                ("suite.six".to_owned(), Failed, Some("A"), own("tests/a.py:0")),
                ("inner.seven".to_owned(), Passed, None, None),
            ]
        );
        assert_eq!(cases[0].time_s, Some(1234.5));
    }

    #[test]
    fn what_is_hostile_or_broken_is_refused_and_cheap() {
        let deep = "<testsuite>".repeat(100_000);
        let bomb = format!(
            "<!DOCTYPE b [<!ENTITY a \"{}\"><!ENTITY b \"{}\">]><testsuite><testcase name=\"&b;\"><failure>&b;</failure></testcase></testsuite>",
            "x".repeat(1000),
            "&a;".repeat(1000)
        );
        assert!(matches!(cases(&deep), Err(ReportError::Deep)));
        let bombed = cases(&bomb).unwrap();
        assert_eq!(
            (bombed[0].name.as_str(), bombed[0].message.as_deref()),
            ("&b;", None),
            "it is not expanded"
        );
        for broken in [
            "",
            "x",
            "<testsuite>",
            "<testsuite><testcase></testsuite>",
            "<a/>",
            "<testsuite><testcase name='x",
        ] {
            assert!(cases(broken).is_err(), "{broken}");
        }
        let outside = "<testsuite file='/etc/passwd'><testcase name='a' file='../../x'/><testcase name='b'/></testsuite>";
        assert!(cases(outside).unwrap().iter().all(|case| case.file.is_none()));
        let long = format!(
            "<testsuite><testcase name='{0}'><failure>{0}</failure></testcase></testsuite>",
            "y".repeat(9_000_000)
        );
        let cut = cases(&long).unwrap().remove(0);
        assert!(cut.name.len() <= NAME_CHARS_MAX + 3 && cut.message.unwrap().len() <= MESSAGE_CHARS_MAX + 3);
    }
}

//! CI services that read our output and take some of its lines for orders: how each is told of steps, errors and warnings, and
//! what a line that is no order of ours must not look like.
//!
//! Whole lines only are ever written, each made here. A line that repeats what a step, a file's name or a registry said has its
//! control characters taken away before ([`super::escape`]); then no order can begin it, and none that may stand within a line
//! is left whole. Nothing has to be switched off and on again, so nothing depends on how streams, steps and jobs interleave.

mod teamcity;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::github::command::Order;

/// A CI service outside of us that reads our output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    /// GitHub Actions, and what follows its grammar: Gitea, Forgejo, act.
    GitHub,
    /// GitLab.
    GitLab,
    /// Buildkite.
    Buildkite,
    /// `TeamCity`.
    TeamCity,
}

/// What a service can be told that is in no event.
#[derive(Debug, Clone, Default)]
pub struct Briefing {
    /// What is known of each step, by job and step.
    pub steps: BTreeMap<(String, String), StepPlace>,
    /// What the service has to hide; lines of text.
    pub masks: Vec<String>,
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlace {
    /// The file in which it stands, from the root of the repository on.
    pub file: Option<String>,
    /// Its line there.
    pub line: usize,
    /// It runs beside those that follow.
    pub background: bool,
}

/// A step's block, as services fold them.
#[derive(Debug)]
pub(super) struct Block<'b> {
    /// For people.
    pub title: &'b str,
    /// Unique in the output.
    pub number: u64,
    /// Seconds since 1970.
    pub time: i64,
}

/// An error or a warning that a service shows apart from the output.
#[derive(Debug, Default)]
pub(super) struct Note<'n> {
    /// For people.
    pub title: &'n str,
    /// What, in lines.
    pub text: &'n str,
    /// Where in the repository.
    pub file: Option<&'n str>,
    /// In that file, from 1.
    pub line: Option<usize>,
    /// In that line, from 1.
    pub column: Option<usize>,
}

impl Outer {
    /// Whether its pages show colours.
    pub const fn has_colors(self) -> bool {
        match self {
            Self::GitHub | Self::GitLab | Self::Buildkite => true,
            Self::TeamCity => false,
        }
    }

    /// Returns the line that begins a block.
    pub(super) fn open(self, block: &Block<'_>) -> String {
        match self {
            Self::GitHub => Order::new("group").data(block.title),
            Self::GitLab => {
                let (time, number) = (block.time, block.number);
                format!(
                    "\x1b[0Ksection_start:{time}:runner_step_{number}[collapsed=true]\r\x1b[0K{}",
                    parted(block.title)
                )
            }
            Self::Buildkite => format!("--- {}", parted(block.title)),
            Self::TeamCity => teamcity::message("blockOpened", &[("name", block.title)]),
        }
    }

    /// Returns the line that ends a block, where there is one.
    pub(super) fn close(self, block: &Block<'_>) -> Option<String> {
        match self {
            Self::GitHub => Some(Order::new("endgroup").data("")),
            Self::GitLab => {
                Some(format!("\x1b[0Ksection_end:{}:runner_step_{}\r\x1b[0K", block.time, block.number))
            }
            Self::Buildkite => None,
            Self::TeamCity => Some(teamcity::message("blockClosed", &[("name", block.title)])),
        }
    }

    /// What stands before a line that nobody should have to look for: on Buildkite it opens a block that is not folded.
    pub(super) const fn loud(self) -> &'static str {
        match self {
            Self::Buildkite => "+++ ",
            Self::GitHub | Self::GitLab | Self::TeamCity => "",
        }
    }

    /// What stands before a line of ours between blocks, which would otherwise belong to the last one.
    pub(super) const fn quiet(self) -> &'static str {
        match self {
            Self::Buildkite => "--- ",
            Self::GitHub | Self::GitLab | Self::TeamCity => "",
        }
    }

    /// Returns the order that shows an error, where there is one.
    pub(super) fn error(self, note: &Note<'_>) -> Option<String> {
        match self {
            Self::GitHub => Some(github_note("error", note)),
            Self::TeamCity => {
                let text = format!("{}: {}", note.title, note.text);
                Some(teamcity::message("buildProblem", &[("description", text.as_str())]))
            }
            Self::GitLab | Self::Buildkite => None,
        }
    }

    /// Returns the order that shows a warning, where there is one.
    pub(super) fn warning(self, note: &Note<'_>) -> Option<String> {
        match self {
            Self::GitHub => Some(github_note("warning", note)),
            Self::TeamCity => {
                let text = format!("{}: {}", note.title, note.text);
                Some(teamcity::message("message", &[("text", text.as_str()), ("status", "WARNING")]))
            }
            Self::GitLab | Self::Buildkite => None,
        }
    }

    /// Returns the order that shows a notice, where there is one.
    pub(super) fn notice(self, text: &str) -> Option<String> {
        (self == Self::GitHub).then(|| Order::new("notice").data(text))
    }

    /// Returns the orders that hide these texts.
    pub(super) fn masks(self, masks: &[String]) -> Vec<String> {
        match self {
            Self::GitHub => masks.iter().map(|mask| Order::new("add-mask").data(mask)).collect(),
            Self::GitLab | Self::Buildkite | Self::TeamCity => Vec::new(),
        }
    }
}

fn github_note(name: &'static str, note: &Note<'_>) -> String {
    let mut order = Order::new(name).property("title", note.title);
    if let Some(file) = note.file {
        order = order.property("file", file);
        if let Some(line) = note.line {
            order = order.property("line", &line.to_string());
            if let Some(column) = note.column {
                order = order.property("col", &column.to_string());
            }
        }
    }
    order.data(note.text)
}

/// Stands before a line of a step, so that the line can be neither an order nor a word of ours.
pub(super) const BAR: &str = "| ";

impl Outer {
    /// Returns a line that the service does not obey: one that would begin an order stands behind a bar, and where an order may
    /// stand anywhere, as `##[error]` and `##teamcity[...]` may, a backslash parts it.
    pub(super) fn harmless(self, line: &str) -> Cow<'_, str> {
        let parted = parted(line);
        if self.begins_order(&parted) { Cow::Owned(format!("{BAR}{parted}")) } else { parted }
    }

    /// What is compared is what is seen: the agent of GitHub compares by the rules of a language, where characters without a
    /// width do not count.
    fn begins_order(self, line: &str) -> bool {
        let beginnings: &[&str] = match self {
            Self::GitHub => &["::"],
            Self::Buildkite => &["---", "+++", "~~~", "^^^"],
            Self::GitLab | Self::TeamCity => &[],
        };
        let seen = line.chars().filter(|character| !is_ignorable(*character));
        let start: String = seen.skip_while(|character| character.is_whitespace()).take(3).collect();
        beginnings.iter().any(|beginning| start.starts_with(beginning))
    }
}

/// Puts a backslash before each `[` that stands behind `##`, or behind `##` and a name.
pub(super) fn parted(line: &str) -> Cow<'_, str> {
    parted_by(line, "\\[")
}

/// The same for a line of JSON, where it can only stand in a string: there its number says the same.
pub(super) fn parted_json(line: &str) -> Cow<'_, str> {
    parted_by(line, "\\u005b")
}

fn parted_by<'l>(line: &'l str, bracket: &str) -> Cow<'l, str> {
    if !line.contains('[') || !line.contains('#') {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 2);
    // How many `#` stand before, and whether letters follow them.
    let (mut hashes, mut named) = (0_usize, false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // A colour: it may be taken away by who reads, and is no part of the text.
            '\x1b' if characters.peek() == Some(&'[') => {
                out.push(character);
                for part in characters.by_ref() {
                    out.push(part);
                    if part != '[' && ('@'..='~').contains(&part) {
                        break;
                    }
                }
                continue;
            }
            '#' if named => (hashes, named) = (1, false),
            '#' => hashes += 1,
            '[' if hashes >= 2 => {
                out.push_str(bracket);
                (hashes, named) = (0, false);
                continue;
            }
            letter if letter.is_ascii_alphabetic() && hashes >= 2 => named = true,
            other if is_ignorable(other) => {}
            _ => (hashes, named) = (0, false),
        }
        out.push(character);
    }
    Cow::Owned(out)
}

/// Characters that take no room and are passed over where texts are compared: controls, soft hyphens, joiners, marks of
/// direction, selectors of variants, tags (Default_Ignorable_Code_Point of Unicode).
const fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x08'
            | '\x0e'..='\x1f'
            | '\x7f'..='\u{84}'
            | '\u{86}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_an_order_stands_behind_a_bar() {
        let github = [
            "::set-env name=X::1",
            " \t::error::x",
            "\u{a0}::x",
            "\u{200d}::error::x",
            ":\u{ad}:error::x",
            "\u{feff}:\u{200b}\u{200b}:x",
        ];
        let buildkite = ["--- step", "+++ x", " ~~~ x", "^^^ +++"];
        for (outer, lines) in [(Outer::GitHub, &github[..]), (Outer::Buildkite, &buildkite[..])] {
            for line in lines {
                assert_eq!(outer.harmless(line), format!("| {line}"), "{line:?}");
            }
        }
        let fine = [
            "", "a ::b", ": :x", "std::vec", "-- x", "- - -", "++ x", "[1] x", "#[test]", "# [x]", "## x [1]",
        ];
        for line in fine {
            assert_eq!(Outer::GitHub.harmless(line), line);
            assert_eq!(Outer::Buildkite.harmless(line), line);
        }
        assert_eq!(Outer::GitHub.harmless("--- a/file"), "--- a/file", "a patch is a patch");
    }

    #[test]
    fn an_order_within_a_line_is_parted() {
        for (line, expected) in [
            ("a ##[error]b", "a ##\\[error]b"),
            ("###[error]", "###\\[error]"),
            ("##[a]##[b]", "##\\[a]##\\[b]"),
            ("##teamcity[x name='y']", "##teamcity\\[x name='y']"),
            ("##vso[task]", "##vso\\[task]"),
            ("##TeamCity[x]", "##TeamCity\\[x]"),
            ("##x##[y]", "##x##\\[y]"),
            ("#\u{200d}#\u{ad}[error]", "#\u{200d}#\u{ad}\\[error]"),
            ("##\x1b[31m[error]", "##\x1b[31m\\[error]"),
            ("\x1b[1m####\x1b[0m 40 %", "\x1b[1m####\x1b[0m 40 %"),
            ("## [link](x)", "## [link](x)"),
            ("#[derive(Debug)]", "#[derive(Debug)]"),
        ] {
            assert_eq!(parted(line), expected, "{line:?}");
        }
        let json = serde_json::json!({"text": "\\[ ##[error]x"}).to_string();
        assert_eq!(parted_json(&json), r#"{"text":"\\[ ##\u005berror]x"}"#);
    }

    proptest::proptest! {
        /// Whatever the text: nothing is lost, and no order is left that a reader might find who passes over what has no width.
        #[test]
        fn no_text_keeps_an_order(text in "[#\\[\\]a-z: \u{200d}\u{ad}\u{1b}m0-9]{0,40}") {
            let parted = parted(&text);
            proptest::prop_assert_eq!(parted.replace("\\[", "["), text.replace("\\[", "["));
            let seen: String = parted.chars().filter(|c| !is_ignorable(*c)).collect();
            for (at, _) in seen.match_indices("##") {
                let name = seen[at..].trim_start_matches('#').trim_start_matches(|c: char| c.is_ascii_alphabetic());
                // What is left of a colour whose escape was passed over is no name of an order.
                let colour = parted.contains('\u{1b}');
                proptest::prop_assert!(colour || !name.starts_with('['), "{:?}", parted);
            }
        }
    }

    #[test]
    fn each_service_is_told_in_its_own_words() {
        let block = Block { title: "a: 100% [x] 'y'", number: 3, time: 17 };
        let shown: Vec<(String, Option<String>)> =
            [Outer::GitHub, Outer::GitLab, Outer::Buildkite, Outer::TeamCity]
                .map(|outer| (outer.open(&block), outer.close(&block)))
                .to_vec();
        let own = |text: &str| text.to_owned();
        assert_eq!(
            shown,
            [
                (own("::group::a: 100%25 [x] 'y'"), Some(own("::endgroup::"))),
                (
                    own("\x1b[0Ksection_start:17:runner_step_3[collapsed=true]\r\x1b[0Ka: 100% [x] 'y'"),
                    Some(own("\x1b[0Ksection_end:17:runner_step_3\r\x1b[0K"))
                ),
                (own("--- a: 100% [x] 'y'"), None),
                (
                    own("##teamcity[blockOpened name='a: 100% |[x|] |'y|'']"),
                    Some(own("##teamcity[blockClosed name='a: 100% |[x|] |'y|'']"))
                ),
            ]
        );
        let note = Note { title: "t,1", text: "x\ny", file: Some("ci/job.yml"), line: Some(7), column: None };
        assert_eq!(
            Outer::GitHub.error(&note).as_deref(),
            Some("::error title=t%2C1,file=ci/job.yml,line=7::x%0Ay")
        );
        let problem = "##teamcity[buildProblem description='t,1: x|ny']";
        assert_eq!(Outer::TeamCity.error(&note).as_deref(), Some(problem));
        assert_eq!(Outer::GitLab.error(&note), None);
    }
}

//! What a YAML parser stumbled over, in our words and with a remedy where one is known.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use crate::bounds::DEPTH_MAX;
use crate::codes::Code;
use crate::diagnostic::Problems;
use crate::source::char_boundary;

/// Remedy for what looks odd only because something before it is still open.
const UNCLOSED: &str = "a bracket or quote above may not be closed";

/// Reports the error that ended the reading of a text that lies at `at` among all texts.
pub(super) fn report(text: &str, at: usize, error: &ScanError, problems: &mut Problems) {
    let start = char_boundary(text, error.marker().byte_offset().unwrap_or(text.len()));
    let end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
    let (code, sentence, hint) = explain(error.kind(), &text[start..], in_indentation(text, start));
    let problem = problems.add(code, at + start..at + end, sentence);
    if let Some(hint) = hint {
        problem.hint(hint);
    }
}

/// Returns whether only blanks stand before the offset on its line, and the place has a tab.
fn in_indentation(text: &str, start: usize) -> bool {
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let blank = |c: char| c == ' ' || c == '\t';
    text[line_start..start].chars().all(blank)
        && (text[start..].starts_with('\t') || text[line_start..start].contains('\t'))
}

// The parser's enum is large and open; what it says itself is good enough for the rest.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, non-exhaustive enum of 70 variants")]
fn explain(kind: &ErrorKind, rest: &str, tab: bool) -> (Code, String, Option<&'static str>) {
    if tab {
        let hint = "YAML is indented with spaces";
        return (Code::Yaml, "a tab is used for indentation".to_owned(), Some(hint));
    }
    let (sentence, hint): (String, Option<&'static str>) = match kind {
        ErrorKind::RecursionLimitExceeded => {
            let text = format!("values are nested deeper than {DEPTH_MAX} levels");
            return (Code::FileTooBig, text, None);
        }
        ErrorKind::MappingValueNotAllowed => (
            "a second `: ` on one line, or a key where none can be".to_owned(),
            Some("put quotes around a value that contains `: `, or write it as a block after `|`"),
        ),
        ErrorKind::UnclosedFlowCollection { open } => (format!("`{open}` is never closed"), None),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            (format!("`{open}` is closed by `{close}`"), None)
        }
        ErrorKind::MisplacedFlowCollectionEnd => {
            ("a closing bracket without an opening one".to_owned(), None)
        }
        ErrorKind::UnclosedQuotedScalar => ("the quote is never closed".to_owned(), None),
        ErrorKind::ExpectedBlockMappingKey => (
            "expected a key at the indentation of the map around it".to_owned(),
            Some("keys of one map start in the same column"),
        ),
        ErrorKind::ExpectedBlockSequenceEntry => (
            "expected `- ` or less indentation".to_owned(),
            Some("entries of one list start with `- ` in the same column"),
        ),
        ErrorKind::BlockSequenceEntryNotAllowed => {
            ("a list cannot start here".to_owned(), Some("put `- ` on a line of its own below the key"))
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            ("expected `:` after this key".to_owned(), None)
        }
        ErrorKind::ExpectedFlowMappingSeparator => ("expected `,` or `}`".to_owned(), Some(UNCLOSED)),
        ErrorKind::ExpectedFlowSequenceSeparator => ("expected `,` or `]`".to_owned(), Some(UNCLOSED)),
        ErrorKind::InvalidColonPlacement => ("`:` cannot stand here".to_owned(), Some(UNCLOSED)),
        ErrorKind::UnexpectedCharacter { character } if matches!(character, '@' | '`' | '%') => {
            (format!("a value cannot start with `{character}`"), Some("put quotes around it"))
        }
        ErrorKind::UnexpectedCharacter { character } => {
            (format!("the character U+{:04X} cannot stand here", u32::from(*character)), None)
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar => (
            "text follows the closing quote".to_owned(),
            Some("a single quote inside single quotes is written twice: ''"),
        ),
        ErrorKind::InvalidTrailingDoubleQuotedScalar => (
            "text follows the closing quote".to_owned(),
            Some("a double quote inside double quotes is written \\\""),
        ),
        ErrorKind::UnknownQuotedScalarEscape => (
            "unknown escape sequence in double quotes".to_owned(),
            Some("write \\\\ for a backslash, or use single quotes"),
        ),
        ErrorKind::UndeclaredTagHandle => ("the tag's prefix is not declared".to_owned(), None),
        ErrorKind::UnsupportedYamlMajorVersion => ("only YAML 1.x is read".to_owned(), None),
        other if rest.is_empty() => (format!("the file ends too early: {other}"), None),
        other => (other.to_string(), None),
    };
    (Code::Yaml, sentence, hint)
}

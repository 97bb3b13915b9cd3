//! Diagnostics as text for people. Nothing from the file reaches the terminal unescaped.

use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::codes::{Code, Severity};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{Source, char_boundary};

/// Widest excerpt in terminal columns; a longer line is cut around the mark.
const EXCERPT_COLUMNS_MAX: usize = 110;
/// How much of a cut line stays before the mark.
const EXCERPT_COLUMNS_BEFORE: usize = 40;
/// Columns that a tab is shown as; YAML has none in its indentation, scripts may.
const TAB: &str = "    ";
/// Longest quotation of a value inside a sentence, in characters.
const QUOTE_CHARS_MAX: usize = 60;

struct Palette {
    error: &'static str,
    warning: &'static str,
    bold: &'static str,
    frame: &'static str,
    reset: &'static str,
}

const PLAIN: Palette = Palette { error: "", warning: "", bold: "", frame: "", reset: "" };
const ANSI: Palette = Palette {
    error: "\x1b[1;31m",
    warning: "\x1b[1;33m",
    bold: "\x1b[1m",
    frame: "\x1b[34m",
    reset: "\x1b[0m",
};

/// Returns all diagnostics with excerpts, then one line that counts them.
pub(crate) fn diagnostics(source: &Source, list: &Diagnostics, color: bool) -> String {
    let palette = if color { ANSI } else { PLAIN };
    let mut out = String::new();
    for diagnostic in list {
        headline(&mut out, source, diagnostic, &palette);
        excerpt(&mut out, source, diagnostic, &palette);
    }
    if !list.is_empty() {
        let _ = writeln!(out, "{}", counts(list));
    }
    out
}

fn headline(out: &mut String, source: &Source, diagnostic: &Diagnostic, palette: &Palette) {
    let Palette { bold, reset, .. } = palette;
    let place = match diagnostic.position {
        Some(position) => {
            let name = diagnostic.file.as_deref().unwrap_or(source.name());
            format!("{}:{}:{}", printable(name), position.line, position.column)
        }
        None if diagnostic.from_command_line => "command line".to_owned(),
        None => printable(source.name()),
    };
    let severity = diagnostic.severity();
    let tint = match severity {
        Severity::Error => palette.error,
        Severity::Warning => palette.warning,
    };
    let (word, id, text) = (severity.as_str(), diagnostic.code.id(), printable(&diagnostic.text));
    let _ = writeln!(out, "{bold}{place}:{reset} {tint}{word}[{id}]{reset}: {bold}{text}{reset}");
}

/// Writes the line in question, the mark below it, and the hint.
fn excerpt(out: &mut String, source: &Source, diagnostic: &Diagnostic, palette: &Palette) {
    let Palette { frame, reset, .. } = palette;
    let mut gutter = String::new();
    // A secret is not repeated where even more people read it.
    let span = diagnostic.span.as_ref().filter(|_| diagnostic.code != Code::SecretValue);
    if let (Some(position), Some(span)) = (diagnostic.position, span) {
        let number = position.line.to_string();
        gutter = " ".repeat(number.len());
        let (start, line) = source.line(span.start);
        let from = char_boundary(line, span.start.saturating_sub(start));
        let end = span.end.saturating_sub(start).min(line.trim_end().len());
        let to = char_boundary(line, end).max(from);
        let (line, indent, width) = window(line, from, to);
        let tint = match diagnostic.severity() {
            Severity::Error => palette.error,
            Severity::Warning => palette.warning,
        };
        let carets = "^".repeat(width.max(1));
        let _ = writeln!(out, " {frame}{number} |{reset} {line}");
        let _ = writeln!(out, " {frame}{gutter} |{reset} {}{tint}{carets}{reset}", " ".repeat(indent));
    }
    if let Some(hint) = &diagnostic.hint {
        for (index, line) in hint.lines().enumerate() {
            let label = if index == 0 { "hint:" } else { "     " };
            let _ = writeln!(out, " {gutter} {frame}={reset} {label} {}", printable(line));
        }
    }
}

/// Cuts a line around its marked bytes. Returns the text to show, and the mark's column and width in it.
fn window(line: &str, from: usize, to: usize) -> (String, usize, usize) {
    let (before, marked, after) = (shown(&line[..from]), shown(&line[from..to]), shown(&line[to..]));
    let (mut indent, mut width) = (before.width(), marked.width());
    let mut text = before;
    if indent + width + after.width() > EXCERPT_COLUMNS_MAX && indent > EXCERPT_COLUMNS_BEFORE {
        let skip = indent - EXCERPT_COLUMNS_BEFORE;
        let mut gone = 0;
        let cut = text.char_indices().find(|(_, c)| {
            let done = gone >= skip;
            gone += c.width().unwrap_or(0);
            done
        });
        text = format!("…{}", &text[cut.map_or(text.len(), |(at, _)| at)..]);
        indent = text.width();
    }
    text.push_str(&marked);
    text.push_str(&after);
    if text.width() > EXCERPT_COLUMNS_MAX {
        let mut columns = 0;
        let end = text.char_indices().find(|(_, c)| {
            columns += c.width().unwrap_or(0);
            columns >= EXCERPT_COLUMNS_MAX
        });
        text.truncate(end.map_or(text.len(), |(at, _)| at));
        text.push('…');
        width = width.min(text.width().saturating_sub(indent));
    }
    (text.trim_end().to_owned(), indent, width)
}

/// Returns the text with tabs as spaces and control characters made visible.
fn shown(text: &str) -> String {
    printable(&text.trim_start_matches('\u{feff}').replace('\t', TAB))
}

/// Returns the text with each control character (and each that reorders text) replaced by U+FFFD.
fn printable(text: &str) -> String {
    let hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns a value between backquotes for a sentence: on one line, controls escaped, at most 60 characters.
pub(crate) fn quote(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let mut out = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == QUOTE_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('`');
    out
}

/// Returns the last line: `3 errors, 1 warning`, and how many were left out.
fn counts(list: &Diagnostics) -> String {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    if list.errors() > 0 {
        parts.push(count(list.errors(), "error"));
    }
    if list.warnings() > 0 {
        parts.push(count(list.warnings(), "warning"));
    }
    let hidden = list.errors() + list.warnings() - list.len();
    if hidden > 0 {
        parts.push(format!("{hidden} of them not shown"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_harmless() {
        assert_eq!(quote("a\tb\x1b[0m"), "`a\\tb\\u{1b}[0m`");
        assert_eq!(quote(&"x".repeat(100)), format!("`{}…`", "x".repeat(60)));
    }

    #[test]
    fn windows_keep_the_mark_below_its_text() {
        assert_eq!(window("a: bad", 3, 6), ("a: bad".into(), 3, 3));
        assert_eq!(window("界: x", 5, 6), ("界: x".into(), 4, 1));
        let long = format!("{}HERE{}", "x".repeat(300), "y".repeat(300));
        let (text, indent, width) = window(&long, 300, 304);
        assert_eq!(text.chars().skip(indent).take(width).collect::<String>(), "HERE");
        assert_eq!(text.chars().count(), EXCERPT_COLUMNS_MAX);
    }
}

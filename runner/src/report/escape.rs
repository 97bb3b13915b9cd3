//! Makes output of steps safe to show: a step must not move the cursor, set the title, or speak for us.
//!
//! Escape sequences are removed, colours excepted where they are wanted; other control characters are made
//! visible. Colours end with their line. Logs on disk keep every byte; this is for eyes only.

use unicode_width::UnicodeWidthChar;

/// Narrower than this, breaking lines makes more of a mess than the terminal's own way.
const MIN_WRAP_COLUMNS: usize = 8;

/// What happens to colours (SGR sequences).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colors {
    /// They stay, and are reset at the end of the line.
    Keep,
    /// They go, like every other sequence.
    Strip,
}

/// Longest parameters of a colour that is kept; `38;2;255;255;255` is 16.
const SGR_LENGTH_MAX: usize = 64;
/// Columns between tab stops.
const TAB_COLUMNS: usize = 8;

/// Returns one line (without its newline) as it may be shown.
///
/// Of a line that was written over with carriage returns, the last writing is shown, as a terminal would.
pub fn line(bytes: &[u8], colors: Colors) -> String {
    let bytes = last_writing(bytes);
    if bytes.iter().all(|&byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut escaper =
        Escaper { out: String::with_capacity(bytes.len()), state: State::Ground, colors, colored: false };
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| escaper.push(character));
        if !chunk.invalid().is_empty() {
            escaper.push(char::REPLACEMENT_CHARACTER);
        }
    }
    if escaper.colored {
        escaper.out.push_str("\x1b[0m");
    }
    escaper.out
}

fn last_writing(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != b'\r').map_or(0, |at| at + 1);
    let start = bytes[..end].iter().rposition(|&byte| byte == b'\r').map_or(0, |at| at + 1);
    &bytes[start..end]
}

/// Where in a sequence we are: ECMA-48, as terminals read it.
enum State {
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate character, as in `ESC ( B`.
    Intermediate,
    /// In a control sequence: its parameters so far, or `None` when it cannot be a colour any more.
    Control(Option<String>),
    /// In a string for the terminal (title, clipboard, device control), up to BEL or ST.
    Text,
    /// After ESC in such a string.
    TextEscape,
}

struct Escaper {
    out: String,
    state: State,
    colors: Colors,
    colored: bool,
}

impl Escaper {
    fn push(&mut self, character: char) {
        let state = std::mem::replace(&mut self.state, State::Ground);
        self.state = match state {
            State::Ground => self.ground(character),
            State::Escape => self.escape(character),
            State::Intermediate => match character {
                ' '..='/' => State::Intermediate,
                '0'..='~' => State::Ground,
                _ => self.ground(character),
            },
            State::Control(parameters) => self.control(parameters, character),
            State::Text => match character {
                '\x07' | '\u{9c}' => State::Ground,
                '\x1b' => State::TextEscape,
                _ => State::Text,
            },
            State::TextEscape if character == '\\' => State::Ground,
            State::TextEscape => self.escape(character),
        };
    }

    fn ground(&mut self, character: char) -> State {
        match character {
            '\x1b' => return State::Escape,
            '\u{9b}' => return State::Control(Some(String::new())),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => return State::Text,
            '\t' => self.out.push('\t'),
            // Bells and backspaces of progress displays say nothing on a still line.
            '\x07' | '\x08' => {}
            '\0'..='\x1f' => {
                self.out.push('^');
                self.out.push(char::from(character as u8 ^ 0x40));
            }
            '\x7f' => self.out.push_str("^?"),
            '\u{80}'..='\u{9f}' => self.out.push(char::REPLACEMENT_CHARACTER),
            // Line separators, and marks that turn the direction of what follows, ours included.
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                self.out.push_str(&format!("<U+{:04X}>", u32::from(character)));
            }
            _ => self.out.push(character),
        }
        State::Ground
    }

    fn escape(&mut self, character: char) -> State {
        match character {
            '[' => State::Control(Some(String::new())),
            ']' | 'P' | 'X' | '^' | '_' => State::Text,
            ' '..='/' => State::Intermediate,
            '0'..='~' => State::Ground,
            _ => self.ground(character),
        }
    }

    fn control(&mut self, parameters: Option<String>, character: char) -> State {
        match character {
            '0'..='9' | ';' | ':' => {
                State::Control(parameters.filter(|text| text.len() < SGR_LENGTH_MAX).map(|mut text| {
                    text.push(character);
                    text
                }))
            }
            ' '..='?' => State::Control(None),
            'm' => {
                if let (Colors::Keep, Some(parameters)) = (self.colors, parameters) {
                    self.out.push_str("\x1b[");
                    self.out.push_str(&parameters);
                    self.out.push('m');
                    self.colored = !matches!(parameters.as_str(), "" | "0");
                }
                State::Ground
            }
            '@'..='~' => State::Ground,
            '\x1b' => State::Escape,
            // Terminals obey a control character inside a sequence and go on with the sequence.
            '\0'..='\x1f' | '\x7f' => State::Control(parameters),
            _ => self.ground(character),
        }
    }
}

/// Cuts a line without colours to `columns` on the screen, with an ellipsis, tabs expanded.
pub fn fit(text: &str, columns: usize) -> String {
    let mut fitted = String::with_capacity(text.len().min(columns * 4));
    let mut used = 0;
    // How much of `fitted` leaves room for the ellipsis.
    let mut safe_length = 0;
    for character in text.chars() {
        let width = match character {
            '\t' => TAB_COLUMNS - used % TAB_COLUMNS,
            _ => character.width().unwrap_or(0),
        };
        if used + width > columns {
            fitted.truncate(safe_length);
            if columns > 0 {
                fitted.push('…');
            }
            return fitted;
        }
        used += width;
        match character {
            '\t' => fitted.extend(std::iter::repeat_n(' ', width)),
            _ => fitted.push(character),
        }
        if used < columns {
            safe_length = fitted.len();
        }
    }
    fitted
}

/// Breaks a line, which may have colours, at `columns` on the screen: a terminal that wraps begins the rest
/// at its edge, where a step could imitate a line of ours. Colours go on in the next piece.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(MIN_WRAP_COLUMNS);
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut colors = String::new();
    let mut used = 0;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(end) = rest.starts_with("\x1b[").then(|| rest.find('m')).flatten() {
            let (sequence, after) = rest.split_at(end + 1);
            colors.push_str(sequence);
            if matches!(sequence, "\x1b[0m" | "\x1b[m") {
                colors.clear();
            }
            piece.push_str(sequence);
            rest = after;
            continue;
        }
        let width = match character {
            '\t' => TAB_COLUMNS - used % TAB_COLUMNS,
            _ => character.width().unwrap_or(0),
        };
        if used + width > columns {
            if !colors.is_empty() {
                piece.push_str("\x1b[0m");
            }
            pieces.push(std::mem::replace(&mut piece, colors.clone()));
            used = 0;
        }
        match character {
            '\t' => piece.extend(std::iter::repeat_n(' ', width.min(columns))),
            _ => piece.push(character),
        }
        used += width;
        rest = &rest[character.len_utf8()..];
    }
    pieces.push(piece);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_and_controls_show() {
        let table: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            (b"tab\tstays", "tab\tstays"),
            (b"crlf\r", "crlf"),
            (b"10%\r50%\r100%", "100%"),
            (b"\x1b[2J\x1b[1;1Hfake", "fake"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]0;title\x1b\\after", "after"),
            (b"\x1b]52;c;Y2xpcA==", ""),
            (b"\x1bP1$qm\x1b\\x", "x"),
            (b"\x1b(Bx\x1b=y", "xy"),
            (b"\xc2\x9b2Jx", "x"),
            (b"\xc2\x9d0;title\xc2\x9cx", "x"),
            (b"\xc2\x85x", "\u{fffd}x"),
            (b"\x9b2Jx", "\u{fffd}2Jx"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"nul\0vt\x0bdel\x7f", "nul^@vt^Kdel^?"),
            (b"bell\x07back\x08", "bellback"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b[?25lx\x1b[>4;2mx", "xx"),
            (b"\x1b", ""),
            (b"\x1b[", ""),
            (b"\x1b[31", ""),
            (b"\x1b[31\x1b[2Kx", "x"),
            (b"\x1b]0;a\x1b[31mx", "x"),
            ("\u{202e}evil\u{2069}\u{2028}".as_bytes(), "<U+202E>evil<U+2069><U+2028>"),
            ("grün ✓ 日本".as_bytes(), "grün ✓ 日本"),
        ];
        for (bytes, expected) in table {
            assert_eq!(&line(bytes, Colors::Strip), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn colours_stay_where_wanted_and_end_with_the_line() {
        assert_eq!(line(b"\x1b[1;31mred", Colors::Keep), "\x1b[1;31mred\x1b[0m");
        assert_eq!(line(b"\x1b[38:2::1:2:3mx", Colors::Keep), "\x1b[38:2::1:2:3mx\x1b[0m");
        assert_eq!(line(b"\x1b[>4;2mx", Colors::Keep), "x", "an xterm key setting, not a colour");
        assert_eq!(line(b"\x1b[2Kx", Colors::Keep), "x");
        let long = [b"\x1b[".as_slice(), &b"1;".repeat(500), b"mx"].concat();
        assert_eq!(line(&long, Colors::Keep), "x", "endless parameters");
    }

    #[test]
    fn every_byte_pair_after_escape_leaves_no_control_behind() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                for bytes in
                    [&[0x1b, first, second][..], &[0x1b, b'[', first, second], &[0xc2, first, second, b'x']]
                {
                    if bytes.contains(&b'\n') {
                        continue;
                    }
                    let shown = line(bytes, Colors::Strip);
                    assert!(shown.chars().all(|c| c == '\t' || !c.is_control()), "{bytes:?} -> {shown:?}");
                }
            }
        }
    }

    #[test]
    fn long_lines_break_at_columns_and_keep_their_colours() {
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("0123456789", 10), ["0123456789"]);
        assert_eq!(wrap("0123456789a", 10), ["0123456789", "a"]);
        assert_eq!(wrap("日本語日本語", 9), ["日本語日", "本語"]);
        assert_eq!(
            wrap("\x1b[31m0123456789ab\x1b[0mcd", 10),
            ["\x1b[31m0123456789\x1b[0m", "\x1b[31mab\x1b[0mcd"]
        );
        assert_eq!(wrap("a\tb", 10), ["a       b"]);
        assert_eq!(wrap("\x1b[", 10), ["\x1b["], "no sequence, no loop");
    }

    #[test]
    fn lines_are_cut_by_columns_not_by_bytes() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("a\tb", 10), "a       b");
        assert_eq!(fit("x", 0), "");
        assert_eq!(fit("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
    }
}

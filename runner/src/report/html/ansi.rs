//! Colours of terminals as elements: each line by itself, and nothing but what is made here is markup.

use std::fmt::Write as _;

use crate::report::escape::{self, Colors};

/// A colour of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Color {
    /// One of the sixteen that have names; the page says what they look like.
    Named(u8),
    /// A certain one.
    Exact(u8, u8, u8),
}

impl Color {
    /// Black or white, whichever can be read on it; `None`: the page sees to it.
    fn contrast(self) -> Option<Self> {
        let Self::Exact(red, green, blue) = self else { return None };
        let light = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue) > 128_000;
        Some(if light { Self::Exact(0, 0, 0) } else { Self::Exact(255, 255, 255) })
    }
}

/// How text looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Look {
    front: Option<Color>,
    back: Option<Color>,
    bold: bool,
    dim: bool,
    italic: bool,
    underlined: bool,
    reversed: bool,
}

/// Returns a line of a log as markup.
pub(super) fn line(bytes: &[u8]) -> String {
    let text = escape::line(bytes, Colors::Keep);
    let mut out = String::with_capacity(text.len());
    let mut look = Look::default();
    let mut rest = text.as_str();
    // Only colours are left of all sequences: `ESC [ numbers m`.
    while let Some(at) = rest.find("\x1b[") {
        look.push(&mut out, &rest[..at]);
        let sequence = &rest[at + 2..];
        let Some(end) = sequence.find('m') else { break };
        look.apply(&sequence[..end]);
        rest = &sequence[end + 1..];
    }
    look.push(&mut out, rest);
    out
}

/// Adds text with every character that means something to HTML replaced.
pub(super) fn push_text(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f'..='\u{9f}' => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push(character),
        }
    }
}

impl Look {
    fn push(self, out: &mut String, text: &str) {
        if text.is_empty() {
            return;
        }
        if self == Self::default() {
            push_text(out, text);
            return;
        }
        out.push_str("<span");
        self.push_attributes(out);
        out.push('>');
        push_text(out, text);
        out.push_str("</span>");
    }

    fn push_attributes(self, out: &mut String) {
        let (front, back) = if self.reversed { (self.back, self.front) } else { (self.front, self.back) };
        // The page's own text may have no contrast to a certain colour.
        let front = front.or_else(|| back?.contrast());
        let mut classes: Vec<String> = Vec::new();
        let flags = [
            (self.bold, "b"),
            (self.dim, "d"),
            (self.italic, "i"),
            (self.underlined, "u"),
            (self.reversed && front.is_none() && back.is_none(), "r"),
        ];
        classes.extend(flags.iter().filter(|(is, _)| *is).map(|(_, class)| (*class).to_owned()));
        let mut style = String::new();
        for (color, letter, property) in [(front, 'f', "color"), (back, 'g', "background")] {
            match color {
                Some(Color::Named(number)) => classes.push(format!("{letter}{number}")),
                Some(Color::Exact(red, green, blue)) => {
                    let _always = write!(style, "{property}:#{red:02x}{green:02x}{blue:02x};");
                }
                None => {}
            }
        }
        if !classes.is_empty() {
            let _always = write!(out, " class=\"{}\"", classes.join(" "));
        }
        if !style.is_empty() {
            let _always = write!(out, " style=\"{style}\"");
        }
    }

    fn apply(&mut self, parameters: &str) {
        let mut numbers = parameters.split([';', ':']).map(|number| number.parse::<u16>().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underlined = true,
                7 => self.reversed = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underlined = false,
                27 => self.reversed = false,
                30..=37 => self.front = Some(Color::Named((number - 30) as u8)),
                39 => self.front = None,
                40..=47 => self.back = Some(Color::Named((number - 40) as u8)),
                49 => self.back = None,
                90..=97 => self.front = Some(Color::Named((number - 82) as u8)),
                100..=107 => self.back = Some(Color::Named((number - 92) as u8)),
                38 => self.front = extended(&mut numbers).or(self.front),
                48 => self.back = extended(&mut numbers).or(self.back),
                _ => {}
            }
        }
    }
}

/// Reads `5;N` and `2;R;G;B`.
fn extended(numbers: &mut impl Iterator<Item = u16>) -> Option<Color> {
    let mut byte = || numbers.next().and_then(|number| u8::try_from(number).ok());
    match byte()? {
        5 => Some(match byte()? {
            number @ 0..=15 => Color::Named(number),
            number @ 16..=231 => {
                let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
                let cube = number - 16;
                Color::Exact(level(cube / 36), level(cube / 6 % 6), level(cube % 6))
            }
            number => {
                let gray = 8 + 10 * (number - 232);
                Color::Exact(gray, gray, gray)
            }
        }),
        2 => Some(Color::Exact(byte()?, byte()?, byte()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_elements_and_nothing_else_does() {
        for (text, expected) in [
            ("plain <b>&\"'", "plain &lt;b&gt;&amp;&quot;&#39;"),
            ("\x1b[31mred\x1b[0m x", "<span class=\"f1\">red</span> x"),
            ("\x1b[1;92;44mx", "<span class=\"b f10 g4\">x</span>"),
            ("\x1b[38;5;196mx\x1b[39my", "<span style=\"color:#ff0000;\">x</span>y"),
            ("\x1b[48;2;1;2;3mx", "<span style=\"color:#ffffff;background:#010203;\">x</span>"),
            ("\x1b[7mx\x1b[27;31;7my", "<span class=\"r\">x</span><span class=\"g1\">y</span>"),
            ("\x1b[38;5mx", "x"),
            ("\x1b[38;9;1mx", "<span class=\"b\">x</span>"),
            ("\x1b[<script>m", "cript&gt;m"),
            ("\x1b]0;</pre><script>\x07y", "y"),
            ("\x1b[31m<\x1b[0m/pre>", "<span class=\"f1\">&lt;</span>/pre&gt;"),
            ("a\x01\x1b", "a^A"),
        ] {
            assert_eq!(line(text.as_bytes()), expected, "{text:?}");
        }
    }
}

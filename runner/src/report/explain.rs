//! `runner explain`: codes and what there is to say about them.

use jobs::codes::Explained;

use super::escape;
use super::format::Paint;
use super::sink::Sink;

/// Width of a paragraph: legible, and narrower than any terminal that is not told apart here.
const COLUMNS: usize = 78;

/// Prints every code with its meaning.
pub fn list(sink: &mut Sink, codes: &[Explained], color: bool) {
    let paint = Paint { color };
    for code in codes {
        sink.line(&format!("{}  {}", paint.strong(code.id), code.meaning));
    }
    sink.flush();
}

/// Prints what a code is about.
pub fn page(sink: &mut Sink, code: &Explained, color: bool) {
    let paint = Paint { color };
    sink.line(&format!("{}: {}", paint.strong(code.id), code.meaning));
    sink.line("");
    for line in code.text.lines() {
        // An example is one as it stands.
        if line.starts_with(' ') {
            sink.line(line);
            continue;
        }
        for piece in paragraph(line) {
            sink.line(&piece);
        }
    }
    sink.flush();
}

/// Breaks a paragraph at blanks.
fn paragraph(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > COLUMNS {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| escape::line(line.as_bytes(), escape::Colors::Strip)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_broken_at_blanks() {
        let text = "word ".repeat(40);
        let lines = paragraph(text.trim());
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= COLUMNS), "{lines:?}");
        assert_eq!(lines.join(" "), text.trim());
        assert_eq!(paragraph(""), [""]);
        let long = "x".repeat(200);
        assert_eq!(paragraph(&long), [long.as_str()]);
    }
}

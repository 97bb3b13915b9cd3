//! From bytes of a scalar's text back to bytes of the file.

use std::ops::Range;

use crate::expression::OPEN;
use crate::source::Span;

/// Returns the place in the file, or the whole scalar where escapes and folded lines hide it.
pub(super) fn span(file: &str, scalar: &Span, text: &str, at: &Range<usize>) -> Span {
    exact(file, scalar, text, at).unwrap_or_else(|| scalar.clone())
}

/// Counts from the `${{` before it, or from the text's start where there is none.
fn exact(file: &str, scalar: &Span, text: &str, at: &Range<usize>) -> Option<Span> {
    let raw = file.get(scalar.clone())?;
    let upto = text.len().min(at.start + OPEN.len());
    let (anchor, there) = match text.get(..upto)?.rfind(OPEN) {
        Some(anchor) => {
            let number = text[..anchor].matches(OPEN).count();
            (anchor, raw.match_indices(OPEN).nth(number)?.0)
        }
        None => (0, raw.find(text)?),
    };
    let same = raw.get(there..there + (at.end - anchor))? == text.get(anchor..at.end)?;
    let start = scalar.start + there + (at.start - anchor);
    same.then_some(start..start + at.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let table = [
            ("a: ${{ x }} ${{ y }}", 3..20, "${{ x }} ${{ y }}", 13..14, 16..17),
            ("a: '${{ f(''b'') }}'", 3..20, "${{ f('b') }}", 4..5, 8..9),
            // Beyond the doubled quote nothing is sure any more.
            ("a: '${{ f(''b'') }}'", 3..20, "${{ f('b') }}", 4..10, 3..20),
            ("a: \"x && y\"", 3..11, "x && y", 5..6, 9..10),
            ("a: |\n  ${{ x\n  }}", 5..17, "${{ x\n}}\n", 4..5, 11..12),
        ];
        for (file, scalar, text, at, expected) in table {
            assert_eq!(span(file, &scalar, text, &at), expected, "{file:?} {at:?}");
        }
    }
}

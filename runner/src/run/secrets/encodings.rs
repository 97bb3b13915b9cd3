//! The forms in which a secret comes out by ordinary means: as it is, line by line, in base64, hexadecimal digits, as part of an
//! URL, of JSON, of a shell's word.

use super::BYTES_MIN;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Bytes that make one line of base64(1), which breaks at 76 characters, and of PEM, at 64.
const LINES_BYTES: [usize; 2] = [57, 48];

/// Returns every form of a value, none shorter than what may be hidden.
pub(super) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let value = value.trim_ascii();
    let mut forms: Vec<Vec<u8>> = Vec::new();
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for part in std::iter::once(value).chain(lines) {
        of_part(part, &mut forms);
    }
    for bytes in LINES_BYTES {
        forms.extend(value.chunks(bytes).map(|line| base64(line, STANDARD)));
        // With the newline that ends a file.
        let ended: Vec<u8> = value.iter().copied().chain([b'\n']).collect();
        forms.extend(ended.chunks(bytes).map(|line| base64(line, STANDARD)));
    }
    forms.retain(|form| form.len() >= BYTES_MIN);
    forms.sort();
    forms.dedup();
    forms
}

fn of_part(part: &[u8], forms: &mut Vec<Vec<u8>>) {
    if part.len() < BYTES_MIN {
        return;
    }
    forms.push(part.to_vec());
    for alphabet in [STANDARD, URL_SAFE] {
        forms.extend((0..3).map(|offset| within_base64(part, offset, alphabet)));
    }
    forms.push(hex(part, false));
    forms.push(hex(part, true));
    forms.push(percent(part, b"-_.~", false));
    forms.push(percent(part, b"-_.~", true));
    // encodeURIComponent of JavaScript leaves more as it is.
    forms.push(percent(part, b"-_.~!*'()", true));
    forms.push(escaped(part));
    forms.push(quoted(part));
}

/// Base64 without padding.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let block =
            chunk.iter().enumerate().fold(0_u32, |all, (at, byte)| all | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=chunk.len() {
            text.push(alphabet[(block >> (18 - 6 * at) & 63) as usize]);
        }
    }
    text
}

/// The characters of base64 that a value alone decides, when it begins so many bytes into a group of three.
fn within_base64(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
    let text = base64(&padded, alphabet);
    // What comes before has a part in the first character, what follows in the last.
    let first = [0, 2, 3][offset];
    let whole = padded.len() * 8 / 6;
    text.get(first..whole).unwrap_or_default().to_vec()
}

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

fn percent(bytes: &[u8], kept: &[u8], upper: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            text.push(*byte);
        } else {
            text.push(b'%');
            text.extend(hex(&[*byte], upper));
        }
    }
    text
}

/// As JSON has it, and most languages.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let quoted = serde_json::to_string(&*text).unwrap_or_default();
    quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default().as_bytes().to_vec()
}

/// As a shell prints a word in single quotes.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = bytes.split(|byte| *byte == b'\'').collect();
    parts.join(&b"'\\''"[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, text: &str) -> bool {
        forms(value.as_bytes())
            .iter()
            .any(|form| text.as_bytes().windows(form.len()).any(|window| window == form.as_slice()))
    }

    #[test]
    fn base64_is_found_at_every_offset() {
        assert_eq!(base64(b"Man", STANDARD), b"TWFu");
        assert_eq!(base64(b"Ma", STANDARD), b"TWE");
        let secret = "p4ss/w0rd+x";
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "\n", "zz"] {
                for alphabet in [STANDARD, URL_SAFE] {
                    let text = base64(format!("{before}{secret}{after}").as_bytes(), alphabet);
                    let text = String::from_utf8(text).expect("base64 is ASCII");
                    assert!(has(secret, &text), "{before}{secret}{after}: {text}");
                }
            }
        }
    }

    #[test]
    fn ordinary_encodings_are_found() {
        let secret = "it's \"s3cret\"/x y";
        let encoded = [
            "it's \"s3cret\"/x y",
            "it'\\''s \"s3cret\"/x y",
            "it's \\\"s3cret\\\"/x y",
            "it%27s%20%22s3cret%22%2Fx%20y",
            "it%27s%20%22s3cret%22%2fx%20y",
            "it's%20%22s3cret%22%2Fx%20y",
            "69742773202273336372657422",
        ];
        for text in &encoded[..6] {
            assert!(has(secret, text), "{text}");
        }
        assert!(has("it's \"s3cret\"", encoded[6]));
    }

    #[test]
    fn a_key_of_many_lines_is_found_line_by_line_and_wrapped() {
        let lines: Vec<String> = (0..5).map(|n| format!("{n}{}", "Abc9".repeat(15))).collect();
        let key = format!("-----BEGIN-----\n{}\n-----END-----\n", lines.join("\n"));
        for line in &lines {
            assert!(has(&key, line));
        }
        let whole = base64(key.as_bytes(), STANDARD);
        for line in whole.chunks(76).take(4) {
            assert!(has(&key, std::str::from_utf8(line).expect("ASCII")));
        }
        assert!(!forms(key.as_bytes()).iter().any(|form| form.len() < BYTES_MIN));
    }
}

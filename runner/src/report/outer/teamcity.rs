//! Service messages of TeamCity: `##teamcity[name key='value' ...]`.

/// Returns a message.
pub(super) fn message(name: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!("##teamcity[{name}");
    for (key, value) in values {
        text.push_str(&format!(" {key}='{}'", escaped(value)));
    }
    text.push(']');
    text
}

/// The escapes of a value; what is not ASCII goes by its number, since encodings of logs differ.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'\n') => out.push_str("|n"),
            Ok(b'\r') => out.push_str("|r"),
            Ok(byte @ (b'\'' | b'|' | b'[' | b']')) => {
                out.push('|');
                out.push(char::from(byte));
            }
            Ok(byte @ b' '..=b'~') => out.push(char::from(byte)),
            Ok(_) | Err(_) => out.push_str(&format!("|0x{unit:04X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_end_themselves() {
        assert_eq!(
            message("x", &[("a", "it's [1]|\r\nü\u{1f600}\x07")]),
            "##teamcity[x a='it|'s |[1|]|||r|n|0x00FC|0xD83D|0xDE00|0x0007']"
        );
    }
}

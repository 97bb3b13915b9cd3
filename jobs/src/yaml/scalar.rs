//! Scalars under the YAML 1.2 core schema: what a plain word is, with its source text kept.

use std::rc::Rc;

use crate::expression::{Expression, Template};
use crate::render::quote;

/// A scalar: its text after escapes, and what the core schema takes it for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub text: String,
    pub kind: Kind,
    pub origin: Origin,
}

/// Where a scalar's text comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// It stands in the file like this, expressions and all.
    File,
    /// What an expression came to: `${{` in it is text.
    Computed,
    /// Text whose expressions are settled while the job runs.
    Late(Rc<Template>),
    /// A condition, settled while the job runs.
    Condition(Rc<Expression>),
}

/// The core schema's types. Quoted and block scalars are always `Text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `null`, `~`, or nothing.
    Null,
    Bool(bool),
    Int,
    Float,
    Text,
}

impl Scalar {
    /// Resolves a plain scalar (YAML 1.2.2 section 10.3.2: `no`, `on` and `1_000` are text).
    pub fn plain(text: &str) -> Scalar {
        let kind = match text {
            "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
            "true" | "True" | "TRUE" => Kind::Bool(true),
            "false" | "False" | "FALSE" => Kind::Bool(false),
            _ if is_int(text) => Kind::Int,
            _ if is_float(text) => Kind::Float,
            _ => Kind::Text,
        };
        Scalar { text: text.to_owned(), kind, origin: Origin::File }
    }

    /// A scalar that is text whatever it looks like.
    pub fn text(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), kind: Kind::Text, origin: Origin::File }
    }

    /// Returns the value of an `Int` that fits.
    pub fn integer(&self) -> Option<i64> {
        let (sign, digits) = match self.text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, self.text.strip_prefix('+').unwrap_or(&self.text)),
        };
        let magnitude = match (digits.strip_prefix("0o"), digits.strip_prefix("0x")) {
            (Some(octal), _) => i64::from_str_radix(octal, 8),
            (_, Some(hex)) => i64::from_str_radix(hex, 16),
            (None, None) => digits.parse(),
        };
        magnitude.ok().map(|n| n * sign)
    }

    /// Names the scalar for "found ...".
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::Null if self.text.is_empty() => "nothing".to_owned(),
            Kind::Null => "null".to_owned(),
            Kind::Bool(_) => format!("the boolean {}", quote(&self.text)),
            Kind::Int | Kind::Float => format!("the number {}", quote(&self.text)),
            Kind::Text => format!("the text {}", quote(&self.text)),
        }
    }
}

fn is_int(text: &str) -> bool {
    let all = |text: &str, digit: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(digit);
    if let Some(octal) = text.strip_prefix("0o") {
        return all(octal, |byte| matches!(byte, b'0'..=b'7'));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return all(hex, u8::is_ascii_hexdigit);
    }
    all(text.strip_prefix(['-', '+']).unwrap_or(text), u8::is_ascii_digit)
}

fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let any_digit = !(whole.is_empty() && fraction.is_empty());
    any_digit && digits(whole) && digits(fraction) && exponent.is_none_or(|e| !e.is_empty() && digits(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema() {
        let table: &[(Kind, &[&str])] = &[
            (Kind::Null, &["", "~", "null", "NULL"]),
            (Kind::Bool(true), &["true", "True"]),
            (Kind::Bool(false), &["FALSE"]),
            (Kind::Int, &["0", "-1", "+12", "007", "0o17", "0xfF"]),
            (Kind::Float, &["1.10", "1.", ".5", "-1e3", "1E-3", ".inf", "-.Inf", ".nan"]),
            (
                Kind::Text,
                &["no", "on", "Yes", "1_000", "0b1", "1:30", "4G", "e3", ".", "-", "0x", "nULL", "1e"],
            ),
        ];
        for (kind, texts) in table {
            for text in *texts {
                assert_eq!(Scalar::plain(text).kind, *kind, "{text:?}");
            }
        }
    }

    #[test]
    fn integers() {
        for (text, value) in
            [("007", Some(7)), ("0o17", Some(15)), ("-0x10", None), ("0x10", Some(16)), ("-5", Some(-5))]
        {
            assert_eq!(Scalar::plain(text).integer().filter(|_| is_int(text)), value, "{text}");
        }
        assert_eq!(Scalar::plain("99999999999999999999").integer(), None);
    }
}

//! What expressions come to, and GitHub's rules for turning one kind into another.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A value. Copies of lists and maps share their content.
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing; what a member that is not there comes to.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(Arc<str>),
    /// A list.
    List(Arc<[Value]>),
    /// A map, in its order.
    Map(Arc<[(String, Value)]>),
}

impl Value {
    /// Makes text.
    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(Arc::from(text.as_ref()))
    }

    /// Makes a list.
    pub fn list(list: Vec<Value>) -> Value {
        Value::List(list.into())
    }

    /// Makes a map.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// Makes a value of JSON.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Value::text(text),
            serde_json::Value::Array(list) => Value::List(list.iter().map(Value::from_json).collect()),
            serde_json::Value::Object(map) => {
                Value::Map(map.iter().map(|(key, value)| (key.clone(), Value::from_json(value))).collect())
            }
        }
    }

    /// Returns the member of a map: by its exact name, else by the name in other case.
    pub fn member(&self, name: &str) -> Option<&Value> {
        let Value::Map(entries) = self else { return None };
        let exact = entries.iter().find(|(key, _)| key == name);
        exact.or_else(|| entries.iter().find(|(key, _)| same_text(key, name))).map(|(_, value)| value)
    }

    /// Returns what `value[index]` is; null where there is nothing.
    pub(crate) fn index(&self, index: &Value) -> Value {
        let found = match (self, index) {
            (Value::Map(_), Value::Text(name)) => self.member(name),
            (Value::List(list), index) => {
                let at = index.number();
                let whole = at >= 0.0 && at.fract() == 0.0 && at < list.len() as f64;
                // The comparison above keeps it inside the list.
                if whole { list.get(at as usize) } else { None }
            }
            _ => None,
        };
        found.cloned().unwrap_or_default()
    }

    /// Returns whether it counts as true: not false, null, zero, NaN or empty text.
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => *number != 0.0 && !number.is_nan(),
            Value::Text(text) => !text.is_empty(),
            Value::List(_) | Value::Map(_) => true,
        }
    }

    /// Returns the number that it counts as; NaN when it is none.
    pub(crate) fn number(&self) -> f64 {
        match self {
            Value::Null => 0.0,
            Value::Bool(value) => f64::from(u8::from(*value)),
            Value::Number(number) => *number,
            Value::Text(text) => number_of(text),
            Value::List(_) | Value::Map(_) => f64::NAN,
        }
    }

    /// Returns it as text; `None` for lists and maps, which have no one form.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Value::Null => Some(String::new()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(number) => Some(format_number(*number)),
            Value::Text(text) => Some(text.to_string()),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Names its kind for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// `==`: text without regard to case; of two kinds, by the numbers they count as; lists and maps only to themselves.
    pub(crate) fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => same_text(a, b),
            (Value::List(a), Value::List(b)) => Arc::ptr_eq(a, b),
            (Value::Map(a), Value::Map(b)) => Arc::ptr_eq(a, b),
            _ => self.number() == other.number(),
        }
    }

    /// `<` and the like: `None` when the two cannot be compared.
    pub(crate) fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => Some(upper(a).cmp(upper(b))),
            _ => self.number().partial_cmp(&other.number()),
        }
    }
}

/// Returns whether two texts differ in case at most.
pub(crate) fn same_text(a: &str, b: &str) -> bool {
    upper(a).eq(upper(b))
}

fn upper(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().flat_map(char::to_uppercase)
}

/// Reads text as JavaScript's `Number()` does: blanks around it, hexadecimal and octal, nothing is zero.
fn number_of(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    let digits = |digits: &str, radix| {
        let whole = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        whole.then(|| {
            digits.chars().fold(0.0, |sum, digit| {
                sum * f64::from(radix) + f64::from(digit.to_digit(radix).unwrap_or_default())
            })
        })
    };
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16).unwrap_or(f64::NAN);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8).unwrap_or(f64::NAN);
    }
    match text.strip_prefix(['-', '+']).unwrap_or(text) {
        "Infinity" if text.starts_with('-') => f64::NEG_INFINITY,
        "Infinity" => f64::INFINITY,
        // Rust also reads `inf`, `nan` and the like.
        unsigned if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// Writes a number with at most 15 digits, without an exponent where it is of ordinary size.
pub(crate) fn format_number(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    // Minus zero is zero to everybody who reads it.
    if number == 0.0 {
        return "0".to_owned();
    }
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    let magnitude = rounded.abs();
    if (1e-5..1e15).contains(&magnitude) {
        return rounded.to_string();
    }
    let text = format!("{rounded:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}E{sign}{digits:0>2}")
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            // JSON has one kind of number and no point in whole ones; beyond 2^53 none is exact anyway.
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 9.007_199_254_740_992e15 => {
                serializer.serialize_i64(*number as i64)
            }
            Value::Number(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(list) => {
                let mut sequence = serializer.serialize_seq(Some(list.len()))?;
                for value in list.iter() {
                    sequence.serialize_element(value)?;
                }
                sequence.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries.iter() {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

/// The same content; not what `==` of expressions means.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b || a.is_nan() && b.is_nan(),
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

//! The functions, one table and one body each.

use std::ops::Range;

use super::evaluate::Contexts;
use super::fault::{Fault, FaultKind};
use super::value::{Value, same_text};
use crate::bounds::EXPRESSION_RESULT_BYTES_MAX;

/// The functions that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Success,
    Failure,
    Always,
    Cancelled,
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Join,
    ToJson,
    FromJson,
    HashFiles,
}

/// Function, name, fewest and most arguments.
const TABLE: &[(Function, &str, usize, usize)] = &[
    (Function::Success, "success", 0, 0),
    (Function::Failure, "failure", 0, 0),
    (Function::Always, "always", 0, 0),
    (Function::Cancelled, "cancelled", 0, 0),
    (Function::Contains, "contains", 2, 2),
    (Function::StartsWith, "startsWith", 2, 2),
    (Function::EndsWith, "endsWith", 2, 2),
    (Function::Format, "format", 1, ARGUMENTS_MAX),
    (Function::Join, "join", 1, 2),
    (Function::ToJson, "toJSON", 1, 1),
    (Function::FromJson, "fromJSON", 1, 1),
    (Function::HashFiles, "hashFiles", 1, ARGUMENTS_MAX),
];

/// Most arguments of `format` and `hashFiles`: as many as GitHub takes.
const ARGUMENTS_MAX: usize = 255;

/// The names, for suggestions.
pub(super) const FUNCTION_NAMES: &[&str] = &[
    "success",
    "failure",
    "always",
    "cancelled",
    "contains",
    "startsWith",
    "endsWith",
    "format",
    "join",
    "toJSON",
    "fromJSON",
    "hashFiles",
];

impl Function {
    /// Returns the function of this name, in any case.
    pub fn named(name: &str) -> Option<Function> {
        TABLE.iter().find(|(_, known, ..)| known.eq_ignore_ascii_case(name)).map(|(function, ..)| *function)
    }

    fn row(self) -> (&'static str, usize, usize) {
        let row = TABLE.iter().find(|(function, ..)| *function == self);
        row.map_or(("", 0, 0), |(_, name, min, max)| (name, *min, *max))
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns how many arguments it takes.
    pub fn arity(self) -> (usize, usize) {
        let (_, min, max) = self.row();
        (min, max)
    }

    /// Says how many arguments it takes.
    pub fn takes(self) -> String {
        let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
        match self.arity() {
            (0, 0) => "no arguments".to_owned(),
            (min, max) if min == max => format!("{min} {}", plural(min)),
            (min, ARGUMENTS_MAX) => format!("at least {min} {}", plural(min)),
            (min, max) => format!("{min} to {max} arguments"),
        }
    }

    /// Returns whether it tells how things went so far.
    pub fn is_status(self) -> bool {
        matches!(self, Function::Success | Function::Failure | Function::Always | Function::Cancelled)
    }

    /// Calls it. The parser has counted the arguments.
    pub fn call(self, arguments: &[Value], contexts: &Contexts, at: &Range<usize>) -> Result<Value, Fault> {
        let fault = |kind: FaultKind| kind.at(at.clone());
        let argument = |index: usize| arguments.get(index).cloned().unwrap_or_default();
        let text = |value: &Value| value.to_text().ok_or_else(|| fault(FaultKind::NotText(value.kind())));
        match self {
            Function::Success | Function::Failure | Function::Always | Function::Cancelled => {
                let status = contexts.status.ok_or_else(|| fault(FaultKind::Status(self.name())))?;
                Ok(Value::Bool(status.answers(self)))
            }
            Function::Contains => Ok(Value::Bool(contains(&argument(0), &argument(1)))),
            Function::StartsWith | Function::EndsWith => {
                let (whole, part) = (text(&argument(0))?.to_uppercase(), text(&argument(1))?.to_uppercase());
                let starts = self == Function::StartsWith;
                Ok(Value::Bool(if starts { whole.starts_with(&part) } else { whole.ends_with(&part) }))
            }
            Function::Format => {
                let pattern = text(&argument(0))?;
                format(&pattern, arguments.get(1..).unwrap_or_default(), &text, &fault).map(Value::text)
            }
            Function::Join => {
                let separator = if arguments.len() > 1 { text(&argument(1))? } else { ",".to_owned() };
                let joined = match argument(0) {
                    Value::List(list) => {
                        let texts: Vec<String> = list.iter().map(text).collect::<Result<_, _>>()?;
                        limited(texts.iter().map(String::len).sum::<usize>() + separator.len() * texts.len())
                            .map_err(fault)?;
                        texts.join(&separator)
                    }
                    other => text(&other)?,
                };
                Ok(Value::text(joined))
            }
            Function::ToJson => {
                let json = serde_json::to_string_pretty(&argument(0));
                let json = json.map_err(|error| fault(FaultKind::Json(error.to_string())))?;
                limited(json.len()).map_err(fault)?;
                Ok(Value::text(json))
            }
            Function::FromJson => {
                let json = text(&argument(0))?;
                let json =
                    serde_json::from_str(&json).map_err(|error| fault(FaultKind::Json(error.to_string())))?;
                Ok(Value::from_json(&json))
            }
            Function::HashFiles => {
                let files = contexts.files.as_ref().ok_or_else(|| fault(FaultKind::Files(self.name())))?;
                let globs: Vec<String> = arguments.iter().map(text).collect::<Result<_, _>>()?;
                files.hash(&globs).map(Value::text).map_err(|why| fault(FaultKind::Unhashed(why)))
            }
        }
    }
}

fn limited(bytes: usize) -> Result<(), FaultKind> {
    if bytes > EXPRESSION_RESULT_BYTES_MAX { Err(FaultKind::Large) } else { Ok(()) }
}

/// In a list: an equal entry. In text: a part of it, without regard to case.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::List(list), part) => list.iter().any(|entry| entry.equals(part)),
        (Value::Map(_), _) | (_, Value::List(_) | Value::Map(_)) => false,
        (whole, part) => {
            let (whole, part) = (whole.to_text().unwrap_or_default(), part.to_text().unwrap_or_default());
            same_text(&whole, &part) || whole.to_uppercase().contains(&part.to_uppercase())
        }
    }
}

/// Puts the arguments in the places of `{0}`, `{1}`; `{{` and `}}` stand for braces.
fn format(
    pattern: &str,
    arguments: &[Value],
    text: &impl Fn(&Value) -> Result<String, Fault>,
    fault: &impl Fn(FaultKind) -> Fault,
) -> Result<String, Fault> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
            continue;
        }
        let Some((number, after)) = (brace == "{").then(|| rest.split_once('}')).flatten() else {
            let text = format!("a single `{brace}`; write it twice to mean itself");
            return Err(fault(FaultKind::Format(text)));
        };
        let Some(argument) = number.parse().ok().and_then(|index: usize| arguments.get(index)) else {
            return Err(fault(FaultKind::Format(format!("there is no argument for `{{{number}}}`"))));
        };
        out.push_str(&text(argument)?);
        limited(out.len()).map_err(fault)?;
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

//! The params: what the file declares, what the command line gives, and what comes of both.

use std::collections::HashMap;

use super::Checker;
use crate::codes::Code;
use crate::diagnostic::{Origin, Problems};
use crate::expression::Value;
use crate::file::{At, ParamField};
use crate::names;
use crate::render::quote;
use crate::source::Span;
use crate::suggest::nearest;

/// What the params come to.
#[derive(Debug, Default)]
pub(crate) struct Params {
    /// The context `params`: each in its own kind, in the order of the file.
    pub values: Vec<(String, Value)>,
    /// One has no value, or a wrong one. Reported.
    pub missing: bool,
}

/// What a param can be.
#[derive(Debug, Clone)]
enum Kind {
    Text,
    Bool,
    Int,
    Choice(Vec<String>),
}

/// Who says what the params are.
#[derive(Debug)]
pub(crate) enum Given<'g> {
    /// Nobody is asked, as by `runner check`.
    Nobody,
    /// The command line.
    CommandLine(&'g [(String, String)]),
    /// A step that uses the file, and where it says so.
    Step { with: &'g [(At<String>, String)], at: &'g Span },
}

impl Given<'_> {
    /// Returns the value of a param and where it stands.
    fn of(&self, name: &str) -> Option<(&str, Origin)> {
        match self {
            Given::Nobody => None,
            Given::CommandLine(given) => {
                let found = given.iter().rfind(|(known, _)| known == name);
                found.map(|(_, value)| (value.as_str(), Origin::CommandLine))
            }
            Given::Step { with, .. } => {
                let found = with.iter().find(|(known, _)| known.value == name);
                found.map(|(known, value)| (value.as_str(), Origin::from(&known.span)))
            }
        }
    }

    fn names(&self) -> Vec<(&str, Origin)> {
        match self {
            Given::Nobody => Vec::new(),
            Given::CommandLine(given) => {
                given.iter().map(|(name, _)| (name.as_str(), Origin::CommandLine)).collect()
            }
            Given::Step { with, .. } => {
                with.iter().map(|(name, _)| (name.value.as_str(), Origin::from(&name.span))).collect()
            }
        }
    }
}

/// Settles every param.
pub(crate) fn params(fields: &[ParamField], given: &Given<'_>, problems: &mut Problems) -> Params {
    let mut check = Checker { problems };
    let mut params = Params::default();
    let mut variables: HashMap<String, Span> = HashMap::new();
    for field in fields {
        check.param_name(&field.name, &mut variables);
        let value = check.param(field, given);
        params.missing |= value.is_none();
        params.values.push((field.name.value.clone(), value.unwrap_or_default()));
    }
    check.unknown_params(fields, given);
    params
}

impl Checker<'_> {
    /// Tests a name, and that no two params share a variable.
    fn param_name(&mut self, name: &At<String>, variables: &mut HashMap<String, Span>) {
        if !names::is_param_name(&name.value) {
            let text = format!("{} cannot be the name of a param", quote(&name.value));
            let hint = "letters, digits, `_` and `-`, a letter or `_` first, at most 63";
            self.problems.add(Code::ParamName, &name.span, text).hint(hint);
            return;
        }
        let variable = names::variable("PARAM", &name.value);
        if let Some(first) = variables.get(&variable) {
            let text = format!("two params have the variable `{variable}`");
            self.problems.add(Code::ParamName, &name.span, text).refer_to(first);
            return;
        }
        variables.insert(variable, name.span.clone());
    }

    fn param(&mut self, field: &ParamField, given: &Given<'_>) -> Option<Value> {
        let name = &field.name.value;
        let kind = self.param_kind(field)?;
        let required = field.required.as_ref();
        if let (Some(default), Some(At { value: true, span })) = (&field.default, required) {
            let text =
                format!("the param `{name}` is required and has the default {}", quote(&default.value));
            self.problems.add(Code::Param, span, text).hint("leave one of the two out");
        }
        let default = field.default.as_ref().map(|default| match kind.read(&default.value) {
            Ok(value) => Some(value),
            Err(expected) => {
                let value = quote(&default.value);
                let text = format!("the default of the param `{name}` cannot be {value}: it is {expected}");
                self.problems.add(Code::ParamValue, &default.span, text);
                None
            }
        });
        if let Some((given, origin)) = given.of(name) {
            return match kind.read(given) {
                Ok(value) => Some(value),
                Err(expected) => {
                    let text = format!("the param `{name}` cannot be {}: it is {expected}", quote(given));
                    self.problems.add(Code::ParamValue, origin, text);
                    None
                }
            };
        }
        if let Some(default) = default {
            return default;
        }
        if required.is_some_and(|required| !required.value) {
            return Some(kind.empty());
        }
        let text = format!("the param `{name}` has no value");
        let (at, hint) = match given {
            Given::Nobody => return None,
            Given::CommandLine(_) => (&field.name.span, format!("give it one: -p {name}=VALUE")),
            Given::Step { at, .. } => (*at, format!("give it one: `with: {{{name}: VALUE}}`")),
        };
        self.problems.add(Code::MissingParam, at, text).hint(hint);
        None
    }

    fn param_kind(&mut self, field: &ParamField) -> Option<Kind> {
        let place = format!(" of the param `{}`", field.name.value);
        let options = field.options.as_ref();
        let choices = [("string", Kind::Text), ("bool", Kind::Bool), ("int", Kind::Int)];
        let kind = match &field.kind {
            None if options.is_some() => return self.options(options?, &place),
            None => return Some(Kind::Text),
            Some(word) if word.value == "choice" => match options {
                Some(options) => return self.options(options, &place),
                None => {
                    let text = format!("the type{place} is `choice`, and there are no `options`");
                    self.problems.add(Code::Param, &word.span, text).hint("options: [first, second]");
                    return None;
                }
            },
            Some(word) => match choices.iter().find(|(name, _)| *name == word.value) {
                Some((_, kind)) => kind.clone(),
                None => {
                    let text = format!("the type{place} cannot be {}", quote(&word.value));
                    let hint = "it is one of `string`, `bool`, `int`, `choice`";
                    self.problems.add(Code::NotAChoice, &word.span, text).hint(hint);
                    return None;
                }
            },
        };
        if let Some(options) = options {
            let text = format!("the `options`{place} have no use: only a `choice` has them");
            self.problems.add(Code::Param, &options.span, text).hint("type: choice");
        }
        Some(kind)
    }

    fn options(&mut self, options: &At<Vec<At<String>>>, place: &str) -> Option<Kind> {
        if options.value.is_empty() {
            let text = format!("the `options`{place} are empty: there is nothing to choose");
            self.problems.add(Code::Param, &options.span, text);
            return None;
        }
        Some(Kind::Choice(options.value.iter().map(|option| option.value.clone()).collect()))
    }

    fn unknown_params(&mut self, fields: &[ParamField], given: &Given<'_>) {
        let known: Vec<&str> = fields.iter().map(|field| field.name.value.as_str()).collect();
        for (name, origin) in given.names().into_iter().filter(|(name, _)| !known.contains(name)) {
            let mut text = format!("the file has no param {}", quote(name));
            let similar = nearest(name, &known);
            if let Some(similar) = similar {
                text.push_str(&format!("; did you mean `{similar}`?"));
            }
            let problem = self.problems.add(Code::UnknownParam, origin, text);
            match similar {
                Some(_) => {}
                None if known.is_empty() => problem.hint("it declares none: add `params`"),
                None => problem.hint(format!("its params are {}", known.join(", "))),
            }
        }
    }
}

impl Kind {
    /// Reads a value, or says what it should be.
    fn read(&self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Text => Ok(Value::text(text)),
            Kind::Bool => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err("`true` or `false`".to_owned()),
            },
            // Beyond 2^53 a number is not what was written.
            Kind::Int => match text.parse::<i64>().ok().filter(|n| n.unsigned_abs() <= 1 << 53) {
                Some(number) => Ok(Value::Number(number as f64)),
                None => Err("a whole number".to_owned()),
            },
            Kind::Choice(options) => match options.iter().any(|option| option == text) {
                true => Ok(Value::text(text)),
                false => {
                    let options: Vec<String> = options.iter().map(|option| quote(option)).collect();
                    Err(format!("one of {}", options.join(", ")))
                }
            },
        }
    }

    /// What a param is that nobody has to give.
    fn empty(&self) -> Value {
        match self {
            Kind::Text | Kind::Choice(_) => Value::text(""),
            Kind::Bool => Value::Bool(false),
            Kind::Int => Value::Number(0.0),
        }
    }
}

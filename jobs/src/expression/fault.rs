//! What can be wrong with an expression, and where in its text.

use std::ops::Range;

use thiserror::Error;

use super::functions::FUNCTION_NAMES;
use crate::bounds::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_RESULT_BYTES_MAX};

/// A mistake and its bytes in the text that was read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Which bytes it is about.
    pub at: Range<usize>,
}

/// The mistakes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultKind {
    /// `${{ }}`
    #[error("the expression is empty")]
    Empty,
    /// `${{` without `}}`.
    #[error("`${{{{` is not closed by `}}}}`")]
    Unclosed,
    /// `'abc`
    #[error("the text is not closed by `'`")]
    UnclosedText,
    /// `"abc"`
    #[error("text in expressions stands between single quotes")]
    DoubleQuotes,
    /// `a # b`
    #[error("`{0}` has no meaning in an expression")]
    Character(char),
    /// `1.2.3`
    #[error("`{0}` is not a number")]
    Number(String),
    /// `a &&`
    #[error("the expression ends too early: {0} is missing")]
    End(&'static str),
    /// `a b`
    #[error("expected {expected}, found `{found}`")]
    Unexpected {
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// `a.*`
    #[error("the filter `*` does not exist here")]
    Filter,
    /// More than anybody writes.
    #[error("the expression has more than {EXPRESSION_BYTES_MAX} bytes")]
    Long,
    /// Parentheses in parentheses.
    #[error("the expression is nested deeper than {EXPRESSION_DEPTH_MAX} levels")]
    Deep,
    /// A function that does not exist.
    #[error("there is no function `{name}`{}", did_you_mean(*.suggestion))]
    Function {
        /// As written.
        name: String,
        /// What was probably meant.
        suggestion: Option<&'static str>,
    },
    /// A known function, wrongly called.
    #[error("`{name}` takes {takes}, {given} given")]
    Arguments {
        /// Its name.
        name: &'static str,
        /// How many it takes, in words.
        takes: String,
        /// How many there are.
        given: usize,
    },
    /// `success()` where no status is known.
    #[error("`{0}()` is only known in `if`")]
    Status(&'static str),
    /// `hashFiles()` where no files are.
    #[error("`{0}()` is only known where the workspace is there")]
    Files(&'static str),
    /// Files that cannot be read.
    #[error("`hashFiles`: {0}")]
    Unhashed(String),
    /// `secrets.X`
    #[error("`secrets` is not a context: no expression sees a secret")]
    Secrets,
    /// A context that does not exist.
    #[error("there is no context `{name}`{}", did_you_mean(.suggestion.as_deref()))]
    Context {
        /// As written.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
        /// Those that exist.
        known: String,
    },
    /// A context that exists, but not yet when this value is needed.
    #[error("`{name}` is not known yet when {key} is settled")]
    TooEarly {
        /// The context.
        name: String,
        /// The key, in words.
        key: String,
    },
    /// A member that does not exist.
    #[error("`{of}` has no `{name}`{}", did_you_mean(.suggestion.as_deref()))]
    Member {
        /// The path before it.
        of: String,
        /// As written.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
        /// Those that exist.
        known: String,
    },
    /// `a && ${{ b }}` in a condition.
    #[error("`if` is one expression: `${{{{ }}}}` stands around all of it, or is left out")]
    Whole,
    /// A step that comes later, or the step itself.
    #[error("the step `{0}` has not run yet here")]
    Later(String),
    /// `fromJSON('[')`
    #[error("`fromJSON` was given what is not JSON: {0}")]
    Json(String),
    /// `format('{0}')`
    #[error("`format`: {0}")]
    Format(String),
    /// A list or map where text must be.
    #[error("{0} cannot be written as text")]
    NotText(&'static str),
    /// More than is kept.
    #[error("the result has more than {EXPRESSION_RESULT_BYTES_MAX} bytes")]
    Large,
}

fn did_you_mean(word: Option<&str>) -> String {
    word.map_or_else(String::new, |word| format!("; did you mean `{word}`?"))
}

impl Fault {
    /// Moves the fault of a part to its place in the whole, which has so many bytes before it.
    pub(crate) fn moved(self, by: usize) -> Fault {
        Fault { kind: self.kind, at: self.at.start + by..self.at.end + by }
    }
}

impl FaultKind {
    /// Puts it at its place.
    pub(super) fn at(self, at: Range<usize>) -> Fault {
        Fault { kind: self, at }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            FaultKind::Empty => "write `${{ params.NAME }}`, for example".to_owned(),
            FaultKind::Unclosed => "put `}}` behind the expression".to_owned(),
            FaultKind::UnclosedText => "a quote inside text is written twice: 'it''s'".to_owned(),
            FaultKind::DoubleQuotes => "write 'text'".to_owned(),
            FaultKind::Character('=') => "equality is `==`".to_owned(),
            FaultKind::Character('&') => "`and` is written `&&`".to_owned(),
            FaultKind::Character('|') => "`or` is written `||`".to_owned(),
            FaultKind::Filter => "use fromJSON() and an index, or do it in a script".to_owned(),
            FaultKind::Function { suggestion: None, .. } => {
                format!("the functions are {}", FUNCTION_NAMES.join(", "))
            }
            FaultKind::Secrets => "a step that needs one gets it as a file or variable of its own".to_owned(),
            FaultKind::Context { suggestion: None, known, .. }
            | FaultKind::Member { suggestion: None, known, .. }
                if !known.is_empty() =>
            {
                format!("there are {known}")
            }
            FaultKind::Member { suggestion: None, .. } => "there are none".to_owned(),
            FaultKind::TooEarly { .. } => {
                "`needs`, `run` and `job` exist in `if`, `env`, `continue-on-error` and `outputs`; `steps` and `env` \
                 only in those of a step"
                    .to_owned()
            }
            FaultKind::Later(_) => "name a step that stands above".to_owned(),
            FaultKind::Status(_) => "put the condition into `if`".to_owned(),
            FaultKind::Files(_) => "use it in a step's `if`, `env` or `continue-on-error`, or in `outputs`".to_owned(),
            FaultKind::NotText(_) => "use toJSON(), or name one of its members".to_owned(),
            FaultKind::Character(_)
            | FaultKind::Number(_)
            | FaultKind::End(_)
            | FaultKind::Unexpected { .. }
            | FaultKind::Long
            | FaultKind::Deep
            | FaultKind::Function { .. }
            | FaultKind::Arguments { .. }
            | FaultKind::Context { .. }
            | FaultKind::Member { .. }
            | FaultKind::Json(_)
            | FaultKind::Unhashed(_)
            | FaultKind::Format(_)
            | FaultKind::Whole
            | FaultKind::Large => return None,
        })
    }
}

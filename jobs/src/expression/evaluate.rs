//! The value of an expression over contexts.

use std::fmt;
use std::rc::Rc;

use super::ast::{Expression, Kind, Node, Operator};
use super::fault::Fault;
use super::functions::Function;
use super::value::Value;

/// What expressions see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contexts {
    /// Context by name, such as `params` and `matrix`.
    pub values: Vec<(&'static str, Value)>,
    /// How things went so far; `None` where status functions do not exist.
    pub status: Option<Status>,
    /// Who reads files; `None` where there are none to read.
    pub files: Option<FileHasher>,
}

/// Reads files for `hashFiles`: this room reads none.
#[derive(Clone)]
pub struct FileHasher(Rc<Hash>);

/// From globs to the digest of all that they name, empty where they name nothing; or why it cannot be had.
type Hash = dyn Fn(&[String]) -> Result<String, String>;

impl FileHasher {
    /// Makes one of what turns globs into a digest, empty where they name nothing, or says why it cannot be had.
    pub fn new(hash: impl Fn(&[String]) -> Result<String, String> + 'static) -> Self {
        Self(Rc::new(hash))
    }

    pub(super) fn hash(&self, globs: &[String]) -> Result<String, String> {
        (self.0)(globs)
    }
}

impl fmt::Debug for FileHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileHasher")
    }
}

impl PartialEq for FileHasher {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// How things went so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing failed.
    Success,
    /// Something failed.
    Failure,
    /// Nothing failed, but something that is needed never ran.
    Skipped,
    /// The user, or a failed neighbour, wants an end.
    Cancelled,
}

impl Status {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Failure => "failure",
            Status::Skipped => "skipped",
            Status::Cancelled => "cancelled",
        }
    }

    pub(super) fn answers(self, function: Function) -> bool {
        match function {
            Function::Success => self == Status::Success,
            Function::Failure => self == Status::Failure,
            Function::Cancelled => self == Status::Cancelled,
            Function::Always => true,
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::Format
            | Function::Join
            | Function::ToJson
            | Function::FromJson
            | Function::HashFiles => false,
        }
    }
}

impl Contexts {
    /// Returns the context of this name; null if there is none.
    pub(super) fn get(&self, name: &str) -> Value {
        let found = self.values.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

impl Expression {
    /// Returns what it comes to. Members that are not there are null.
    pub fn evaluate(&self, contexts: &Contexts) -> Result<Value, Fault> {
        evaluate(&self.root, contexts)
    }

    /// Returns whether a condition holds. Without a status function in it, it holds only after success.
    pub fn holds(&self, contexts: &Contexts) -> Result<bool, Fault> {
        let in_time = self.asks_status() || contexts.status.is_none_or(|status| status == Status::Success);
        Ok(in_time && self.evaluate(contexts)?.is_truthy())
    }
}

/// The parser has limited the depth.
fn evaluate(node: &Node, contexts: &Contexts) -> Result<Value, Fault> {
    Ok(match &node.kind {
        Kind::Literal(value) => value.clone(),
        Kind::Context(name) => contexts.get(name),
        Kind::Member(of, name) => evaluate(of, contexts)?.member(name).cloned().unwrap_or_default(),
        Kind::Index(of, by) => evaluate(of, contexts)?.index(&evaluate(by, contexts)?),
        Kind::Call(function, arguments) => {
            let values = arguments.iter().map(|argument| evaluate(argument, contexts));
            function.call(&values.collect::<Result<Vec<_>, _>>()?, contexts, &node.at)?
        }
        Kind::Not(of) => Value::Bool(!evaluate(of, contexts)?.is_truthy()),
        Kind::Binary(operator, left, right) => {
            let left = evaluate(left, contexts)?;
            match operator {
                Operator::Or if left.is_truthy() => left,
                Operator::And if !left.is_truthy() => left,
                Operator::Or | Operator::And => evaluate(right, contexts)?,
                _ => Value::Bool(compare(*operator, &left, &evaluate(right, contexts)?)),
            }
        }
    })
}

fn compare(operator: Operator, left: &Value, right: &Value) -> bool {
    match operator {
        Operator::Equal => left.equals(right),
        Operator::Unequal => !left.equals(right),
        Operator::Less => left.compare(right).is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessEqual => left.compare(right).is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => left.compare(right).is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterEqual => left.compare(right).is_some_and(std::cmp::Ordering::is_ge),
        Operator::Or | Operator::And => false,
    }
}

//! YAML text to a tree of nodes with positions. Aliases share their target; `<<` is merged; duplicate keys,
//! foreign tags and unknown aliases are reported and reading goes on. Knows nothing of jobs.
//!
//! Serde would stop at the first error; the events of serde-saphyr's parser let every problem be told at once.

use std::rc::Rc;

use crate::source::Span;

mod build;
mod scalar;
mod syntax;

pub(crate) use build::parse;
pub(crate) use scalar::{Kind, Scalar};

/// A value with its place in the file.
#[derive(Debug)]
pub(crate) struct Node {
    pub span: Span,
    pub value: Value,
    /// Nodes below and including this one, aliases expanded.
    weight: usize,
    /// Bytes of scalars, aliases expanded.
    bytes: usize,
    /// Levels below and including this one, aliases followed.
    height: usize,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
    /// Something already reported; readers pass over it in silence.
    Unreadable,
}

/// One key of a map.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Rc<Node>,
}

impl Node {
    fn leaf(span: Span, value: Value, bytes: usize) -> Node {
        Node { span, value, weight: 1, bytes, height: 1 }
    }

    /// Names what was found, for "expected X, found Y".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(scalar) => scalar.describe(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Unreadable => "an unreadable value".to_owned(),
        }
    }
}

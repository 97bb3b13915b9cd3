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
pub(crate) use scalar::{Kind, Origin, Scalar};

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
    pub(crate) fn leaf(span: Span, value: Value, bytes: usize) -> Node {
        Node { span, value, weight: 1, bytes, height: 1 }
    }

    /// Makes a node of nodes that have been measured already.
    pub(crate) fn branch(span: Span, value: Value) -> Node {
        let of = |nodes: &mut dyn Iterator<Item = &Rc<Node>>| {
            nodes.fold((1, 0, 0), |(weight, bytes, height), node| {
                (weight + node.weight, bytes + node.bytes, height.max(node.height))
            })
        };
        let (weight, bytes, height) = match &value {
            Value::List(list) => of(&mut list.iter()),
            Value::Map(entries) => of(&mut entries.iter().map(|entry| &entry.value)),
            Value::Scalar(_) | Value::Unreadable => (1, 0, 0),
        };
        Node { span, value, weight, bytes, height: height + 1 }
    }

    /// Nodes below and including this one, aliases expanded.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Bytes of scalars, aliases expanded.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
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

//! The parsed form. Every node knows its bytes, so that a message can point at the name it is about.

use std::fmt;
use std::ops::Range;

use super::functions::Function;
use super::value::{Value, format_number};

/// A parsed expression and its source text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    pub(super) source: String,
    pub(super) root: Node,
}

/// A node and the bytes of the source that it stands for.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub kind: Kind,
    pub at: Range<usize>,
}

/// The meaning alone: where it stands makes no difference.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.kind == other.kind
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Literal(Value),
    /// A context's name, in lower case.
    Context(String),
    /// `a.b`
    Member(Box<Node>, String),
    /// `a[b]`
    Index(Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
    Not(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Operator {
    pub const ALL: [Operator; 8] = [
        Operator::Or,
        Operator::And,
        Operator::Equal,
        Operator::Unequal,
        Operator::LessEqual,
        Operator::Less,
        Operator::GreaterEqual,
        Operator::Greater,
    ];

    pub const fn symbol(self) -> &'static str {
        match self {
            Operator::Or => "||",
            Operator::And => "&&",
            Operator::Equal => "==",
            Operator::Unequal => "!=",
            Operator::Less => "<",
            Operator::LessEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterEqual => ">=",
        }
    }

    /// Binds tighter the larger it is.
    pub const fn strength(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Equal | Operator::Unequal => 3,
            Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => 4,
        }
    }
}

/// `!` binds tighter than any operator between two.
const NOT_STRENGTH: u8 = 5;

impl Expression {
    /// Returns the text as written, without `${{ }}`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the canonical text: no more parentheses than needed, single blanks.
    pub fn canonical(&self) -> String {
        self.root.to_string()
    }

    /// Returns whether a status function is called anywhere in it.
    pub fn asks_status(&self) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| {
            found |= matches!(node.kind, Kind::Call(function, _) if function.is_status());
        });
        found
    }

    /// Returns whether it reads files.
    pub fn asks_files(&self) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| found |= matches!(node.kind, Kind::Call(Function::HashFiles, _)));
        found
    }

    /// Returns the contexts that it names, in the order of the text, repeated as often as they are named.
    pub(crate) fn contexts(&self) -> Vec<(&str, Range<usize>)> {
        let mut found = Vec::new();
        self.root.visit(&mut |node| {
            if let Kind::Context(name) = &node.kind {
                found.push((name.as_str(), node.at.clone()));
            }
        });
        found
    }
}

impl Node {
    /// Shows each node to `see`, outer ones first.
    pub fn visit<'n>(&'n self, see: &mut impl FnMut(&'n Node)) {
        see(self);
        match &self.kind {
            Kind::Literal(_) | Kind::Context(_) => {}
            Kind::Member(of, _) | Kind::Not(of) => of.visit(see),
            Kind::Index(of, by) | Kind::Binary(_, of, by) => {
                of.visit(see);
                by.visit(see);
            }
            Kind::Call(_, arguments) => arguments.iter().for_each(|argument| argument.visit(see)),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        let strength = match &self.kind {
            Kind::Binary(operator, ..) => operator.strength(),
            Kind::Not(_) => NOT_STRENGTH,
            _ => u8::MAX,
        };
        if strength < least {
            f.write_str("(")?;
            self.write(f, 0)?;
            return f.write_str(")");
        }
        match &self.kind {
            Kind::Literal(value) => write_literal(f, value),
            Kind::Context(name) => f.write_str(name),
            Kind::Member(of, name) => {
                of.write(f, u8::MAX)?;
                write!(f, ".{name}")
            }
            Kind::Index(of, by) => {
                of.write(f, u8::MAX)?;
                write!(f, "[{by}]")
            }
            Kind::Call(function, arguments) => {
                write!(f, "{}(", function.name())?;
                for (at, argument) in arguments.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    argument.write(f, 0)?;
                }
                f.write_str(")")
            }
            Kind::Not(of) => {
                f.write_str("!")?;
                of.write(f, NOT_STRENGTH)
            }
            Kind::Binary(operator, left, right) => {
                left.write(f, strength)?;
                write!(f, " {} ", operator.symbol())?;
                right.write(f, strength + 1)
            }
        }
    }
}

fn write_literal(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
        Value::Number(number) => f.write_str(&exact(*number)),
        other => write!(f, "{other:?}"),
    }
}

/// Writes a number so that it is read back as the same one.
fn exact(number: f64) -> String {
    let short = format_number(number);
    if short.parse() == Ok(number) || !number.is_finite() { short } else { format!("{number:e}") }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

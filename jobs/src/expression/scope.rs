//! Which names exist where an expression stands. Tested before anything runs, so that a misspelt name is no empty text.

use std::sync::Arc;

use super::ast::{Expression, Kind, Node};
use super::fault::{Fault, FaultKind};
use super::functions::Function;
use super::value::{Value, same_text};
use crate::suggest::nearest;

/// What is known of a value before there is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Anything; its members cannot be tested.
    Any,
    /// Exactly these members.
    Members(Vec<(String, Shape)>),
    /// The first so many of these members, all of one shape; the others come later.
    Among(Arc<[String]>, usize, Arc<Shape>),
}

/// The names that exist for one value of the job file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Contexts whose values are known.
    pub known: Vec<(&'static str, Shape)>,
    /// Contexts that exist but come too late for this value; empty where nothing does.
    pub later: &'static [&'static str],
    /// Whether status functions may be called.
    pub status: bool,
    /// Whether there are files to read.
    pub files: bool,
    /// The key that is being read, as messages call it.
    pub key: String,
}

impl Shape {
    /// Returns the shape of a value that is known: the members it has.
    pub fn of(value: &Value) -> Shape {
        match value {
            Value::Map(entries) => {
                Shape::Members(entries.iter().map(|(key, value)| (key.clone(), Shape::of(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => Shape::Any,
        }
    }

    /// Returns the shape that has the members of both.
    pub fn or(self, other: Shape) -> Shape {
        let (Shape::Members(mut members), Shape::Members(others)) = (self, other) else { return Shape::Any };
        for (name, shape) in others {
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = std::mem::replace(known, Shape::Any).or(shape),
                None => members.push((name, shape)),
            }
        }
        Shape::Members(members)
    }

    /// Returns a shape with members of which nothing more is known.
    pub fn members<'n>(names: impl IntoIterator<Item = &'n str>) -> Shape {
        Shape::Members(names.into_iter().map(|name| (name.to_owned(), Shape::Any)).collect())
    }
}

impl Scope {
    /// Returns the first name that does not exist.
    pub fn test(&self, expression: &Expression) -> Result<(), Fault> {
        self.node(&expression.root).map(|_| ())
    }

    /// Tests a node and returns its shape.
    fn node(&self, node: &Node) -> Result<Shape, Fault> {
        match &node.kind {
            Kind::Literal(_) => Ok(Shape::Any),
            Kind::Context(name) => self.context(name, node),
            Kind::Member(of, name) => self.member(of, name, node),
            Kind::Index(of, by) => match &by.kind {
                Kind::Literal(Value::Text(name)) => self.member(of, name, node),
                _ => {
                    self.node(by)?;
                    self.node(of).map(|_| Shape::Any)
                }
            },
            Kind::Call(function, arguments) => {
                if function.is_status() && !self.status {
                    return Err(FaultKind::Status(function.name()).at(node.at.clone()));
                }
                if *function == Function::HashFiles && !self.files {
                    return Err(FaultKind::Files(function.name()).at(node.at.clone()));
                }
                arguments.iter().try_for_each(|argument| self.node(argument).map(|_| ()))?;
                Ok(Shape::Any)
            }
            Kind::Not(of) => self.node(of).map(|_| Shape::Any),
            Kind::Binary(_, left, right) => {
                self.node(left)?;
                self.node(right).map(|_| Shape::Any)
            }
        }
    }

    fn context(&self, name: &str, node: &Node) -> Result<Shape, Fault> {
        if let Some((_, shape)) = self.known.iter().find(|(known, _)| *known == name) {
            return Ok(shape.clone());
        }
        let kind = match name {
            "secrets" => FaultKind::Secrets,
            _ if self.later.contains(&name) => {
                FaultKind::TooEarly { name: name.to_owned(), key: self.key.clone() }
            }
            _ => {
                let names: Vec<&str> = self.known.iter().map(|(known, _)| *known).collect();
                let suggestion = nearest(name, &names).map(str::to_owned);
                FaultKind::Context { name: name.to_owned(), suggestion, known: listed(&names) }
            }
        };
        Err(kind.at(node.at.clone()))
    }

    fn member(&self, of: &Node, name: &str, node: &Node) -> Result<Shape, Fault> {
        match self.node(of)? {
            Shape::Any => Ok(Shape::Any),
            Shape::Members(members) => {
                let found = members.iter().find(|(known, _)| same_text(known, name));
                let names = members.iter().map(|(known, _)| known.as_str());
                found.map(|(_, shape)| shape.clone()).ok_or_else(|| unknown(of, name, node, names))
            }
            Shape::Among(all, count, shape) => match all.iter().position(|known| known == name) {
                Some(at) if at < count => Ok(Shape::clone(&shape)),
                Some(_) => Err(FaultKind::Later(name.to_owned()).at(node.at.clone())),
                None => Err(unknown(of, name, node, all.iter().take(count).map(String::as_str))),
            },
        }
    }
}

fn unknown<'n>(of: &Node, name: &str, node: &Node, names: impl Iterator<Item = &'n str>) -> Fault {
    let names: Vec<&str> = names.collect();
    let suggestion = nearest(name, &names).map(str::to_owned);
    let (of, known) = (of.to_string(), listed(&names));
    FaultKind::Member { of, name: name.to_owned(), suggestion, known }.at(node.at.clone())
}

/// Names for a message, not more than one reads.
fn listed(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 20;
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > SHOWN_MAX { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

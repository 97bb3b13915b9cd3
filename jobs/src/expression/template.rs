//! Text with `${{ }}` in it.

use serde::{Serialize, Serializer};

use super::ast::Expression;
use super::evaluate::Contexts;
use super::fault::{Fault, FaultKind};
use super::value::Value;
use crate::bounds::EXPRESSION_RESULT_BYTES_MAX;

/// Begins an expression.
pub(crate) const OPEN: &str = "${{";
/// Ends one.
const CLOSE: &str = "}}";

/// Text with expressions in it, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    source: String,
    /// Empty: the source is all there is.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// Text as it is.
    Text(String),
    /// An expression, and the byte of the source at which its own text begins.
    Expression(Expression, usize),
}

impl Template {
    /// Reads text with any number of expressions. Faults are at bytes of `source`.
    pub fn parse(source: &str) -> Result<Template, Fault> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(offset) = source[at..].find(OPEN) {
            let start = at + offset;
            if offset > 0 {
                parts.push(Part::Text(source[at..start].to_owned()));
            }
            let inner = start + OPEN.len();
            let length = closing(&source[inner..]).ok_or_else(|| unclosed(source, start))?;
            let text = &source[inner..inner + length];
            let expression = Expression::parse(text).map_err(|fault| {
                let empty = fault.kind == FaultKind::Empty;
                let end = inner + length + CLOSE.len();
                if empty { fault.kind.at(start..end) } else { fault.moved(inner) }
            })?;
            let blanks = text.len() - text.trim_start().len();
            parts.push(Part::Expression(expression, inner + blanks));
            at = inner + length + CLOSE.len();
        }
        if at < source.len() && !parts.is_empty() {
            parts.push(Part::Text(source[at..].to_owned()));
        }
        Ok(Template { source: source.to_owned(), parts })
    }

    /// Makes a template that is this text, whatever it looks like.
    pub fn literal(text: String) -> Template {
        Template { parts: Vec::new(), source: text }
    }

    /// Returns the text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the text if there is no expression in it.
    pub fn as_literal(&self) -> Option<&str> {
        self.parts.is_empty().then_some(self.source.as_str())
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the value: of a single expression with nothing around it in its own kind, else text.
    pub fn evaluate(&self, contexts: &Contexts) -> Result<Value, Fault> {
        if let [Part::Expression(expression, at)] = self.parts.as_slice() {
            return expression.evaluate(contexts).map_err(|fault| fault.moved(*at));
        }
        self.text(contexts).map(Value::text)
    }

    /// Returns the text.
    pub fn text(&self, contexts: &Contexts) -> Result<String, Fault> {
        if self.parts.is_empty() {
            return Ok(self.source.clone());
        }
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Expression(expression, at) => {
                    let here = *at..*at + expression.source().len();
                    let value = expression.evaluate(contexts).map_err(|fault| fault.moved(*at))?;
                    let text = value.to_text();
                    out.push_str(&text.ok_or_else(|| FaultKind::NotText(value.kind()).at(here.clone()))?);
                    if out.len() > EXPRESSION_RESULT_BYTES_MAX {
                        return Err(FaultKind::Large.at(here));
                    }
                }
            }
        }
        Ok(out)
    }
}

/// A template is recorded as it is written.
impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.source())
    }
}

fn unclosed(source: &str, start: usize) -> Fault {
    let line = source[start..].find('\n').map_or(source.len(), |end| start + end);
    FaultKind::Unclosed.at(start..line)
}

/// Returns the byte of the `}}` that ends an expression; one inside quotes does not.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '}' if !quoted && text[at..].starts_with(CLOSE) => return Some(at),
            _ => {}
        }
    }
    // A quote that is never closed must not hide the end.
    text.find(CLOSE).filter(|_| quoted)
}

//! Tokens to a tree, by the strength of the operators.

use std::ops::Range;

use super::ast::{Expression, Kind, Node};
use super::fault::{Fault, FaultKind};
use super::functions::{FUNCTION_NAMES, Function};
use super::lexer::{Token, TokenKind, tokens};
use super::value::Value;
use crate::bounds::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX};
use crate::suggest::nearest;

impl Expression {
    /// Reads an expression without its `${{ }}`. Names are not tested here; `Scope` does.
    pub fn parse(source: &str) -> Result<Expression, Fault> {
        if source.len() > EXPRESSION_BYTES_MAX {
            return Err(FaultKind::Long.at(0..source.len()));
        }
        let tokens = tokens(source)?;
        if tokens.is_empty() {
            return Err(FaultKind::Empty.at(0..source.len()));
        }
        let mut parser = Parser { source, tokens: &tokens, next: 0, depth: 0 };
        let root = parser.binary(1)?;
        match parser.peek() {
            None => Ok(Expression { source: source.trim().to_owned(), root: shifted(root, source) }),
            Some(token) => Err(parser.unexpected(token, "an operator")),
        }
    }
}

/// The source is kept without its blanks around: positions are moved accordingly.
fn shifted(mut root: Node, source: &str) -> Node {
    fn shift(node: &mut Node, by: usize) {
        node.at = node.at.start - by..node.at.end - by;
        match &mut node.kind {
            Kind::Literal(_) | Kind::Context(_) => {}
            Kind::Member(of, _) | Kind::Not(of) => shift(of, by),
            Kind::Index(of, with) | Kind::Binary(_, of, with) => {
                shift(of, by);
                shift(with, by);
            }
            Kind::Call(_, arguments) => arguments.iter_mut().for_each(|argument| shift(argument, by)),
        }
    }
    shift(&mut root, source.len() - source.trim_start().len());
    root
}

struct Parser<'s> {
    source: &'s str,
    tokens: &'s [Token],
    next: usize,
    depth: usize,
}

impl<'s> Parser<'s> {
    fn peek(&self) -> Option<&'s Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<&'s Token> {
        let token = self.tokens.get(self.next);
        self.next += usize::from(token.is_some());
        token
    }

    fn end(&self, missing: &'static str) -> Fault {
        FaultKind::End(missing).at(self.source.len()..self.source.len())
    }

    fn unexpected(&self, token: &Token, expected: &'static str) -> Fault {
        let found = self.source[token.at.clone()].to_owned();
        FaultKind::Unexpected { expected, found }.at(token.at.clone())
    }

    fn expect(&mut self, kind: &TokenKind, word: &'static str) -> Result<Range<usize>, Fault> {
        match self.take() {
            Some(token) if token.kind == *kind => Ok(token.at.clone()),
            Some(token) => Err(self.unexpected(token, word)),
            None => Err(self.end(word)),
        }
    }

    /// Counts the levels: the tree is walked by recursion everywhere.
    fn deeper<T>(&mut self, at: usize, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > EXPRESSION_DEPTH_MAX {
            return Err(FaultKind::Deep.at(at..at));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// Reads operators of at least this strength; equals group to the left.
    fn binary(&mut self, least: u8) -> Result<Node, Fault> {
        let mut left = self.unary()?;
        let mut chained = 0;
        while let Some(Token { kind: TokenKind::Operator(operator), .. }) = self.peek() {
            if operator.strength() < least {
                break;
            }
            self.next += 1;
            // A chain is a tree as deep as it is long.
            chained += 1;
            self.depth += 1;
            let right = self.deeper(left.at.start, |parser| parser.binary(operator.strength() + 1))?;
            let at = left.at.start..right.at.end;
            left = Node { kind: Kind::Binary(*operator, Box::new(left), Box::new(right)), at };
        }
        self.depth -= chained;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, Fault> {
        if let Some(Token { kind: TokenKind::Not, at }) = self.peek() {
            self.next += 1;
            let of = self.deeper(at.start, Parser::unary)?;
            let at = at.start..of.at.end;
            return Ok(Node { kind: Kind::Not(Box::new(of)), at });
        }
        self.postfix()
    }

    /// Reads a value and the members and indices behind it.
    fn postfix(&mut self) -> Result<Node, Fault> {
        let mut node = self.primary()?;
        let mut chained = 0;
        loop {
            let start = node.at.start;
            match self.peek().map(|token| &token.kind) {
                Some(TokenKind::Dot) => {
                    self.next += 1;
                    let (name, end) = match self.take() {
                        Some(Token { kind: TokenKind::Name(name), at }) => (name.clone(), at.end),
                        Some(token) => return Err(self.unexpected(token, "a name")),
                        None => return Err(self.end("a name")),
                    };
                    node = Node { kind: Kind::Member(Box::new(node), name), at: start..end };
                }
                Some(TokenKind::OpenIndex) => {
                    self.next += 1;
                    let by = self.deeper(start, |parser| parser.binary(1))?;
                    let end = self.expect(&TokenKind::CloseIndex, "`]`")?.end;
                    node = Node { kind: Kind::Index(Box::new(node), Box::new(by)), at: start..end };
                }
                _ => break,
            }
            chained += 1;
            self.depth += 1;
            if self.depth > EXPRESSION_DEPTH_MAX {
                return Err(FaultKind::Deep.at(node.at));
            }
        }
        self.depth -= chained;
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let Some(token) = self.take() else { return Err(self.end("a value")) };
        let at = token.at.clone();
        let kind = match &token.kind {
            TokenKind::Text(text) => Kind::Literal(Value::text(text)),
            TokenKind::Number(number) => Kind::Literal(Value::Number(*number)),
            TokenKind::Open => {
                let inner = self.deeper(at.start, |parser| parser.binary(1))?;
                let end = self.expect(&TokenKind::Close, "`)`")?.end;
                return Ok(Node { kind: inner.kind, at: at.start..end });
            }
            TokenKind::Name(name) => {
                if matches!(self.peek(), Some(Token { kind: TokenKind::Open, .. })) {
                    return self.call(name, at);
                }
                match name.as_str() {
                    "null" => Kind::Literal(Value::Null),
                    "true" => Kind::Literal(Value::Bool(true)),
                    "false" => Kind::Literal(Value::Bool(false)),
                    "NaN" => Kind::Literal(Value::Number(f64::NAN)),
                    "Infinity" => Kind::Literal(Value::Number(f64::INFINITY)),
                    context => Kind::Context(context.to_ascii_lowercase()),
                }
            }
            TokenKind::Operator(_)
            | TokenKind::Not
            | TokenKind::Dot
            | TokenKind::Comma
            | TokenKind::Close
            | TokenKind::OpenIndex
            | TokenKind::CloseIndex => return Err(self.unexpected(token, "a value")),
        };
        Ok(Node { kind, at })
    }

    fn call(&mut self, name: &str, at: Range<usize>) -> Result<Node, Fault> {
        let Some(function) = Function::named(name) else {
            let suggestion = nearest(name, FUNCTION_NAMES);
            return Err(FaultKind::Function { name: name.to_owned(), suggestion }.at(at));
        };
        self.next += 1;
        let mut arguments = Vec::new();
        let mut end = None;
        if let Some(Token { kind: TokenKind::Close, at }) = self.peek() {
            self.next += 1;
            end = Some(at.end);
        }
        while end.is_none() {
            arguments.push(self.deeper(at.start, |parser| parser.binary(1))?);
            match self.take() {
                Some(Token { kind: TokenKind::Comma, .. }) => {}
                Some(Token { kind: TokenKind::Close, at }) => end = Some(at.end),
                Some(token) => return Err(self.unexpected(token, "`,` or `)`")),
                None => return Err(self.end("`)`")),
            }
        }
        let (min, max) = function.arity();
        if !(min..=max).contains(&arguments.len()) {
            let (takes, given) = (function.takes(), arguments.len());
            let name = function.name();
            return Err(FaultKind::Arguments { name, takes, given }.at(at.start..end.unwrap_or(at.end)));
        }
        Ok(Node { kind: Kind::Call(function, arguments), at: at.start..end.unwrap_or(at.end) })
    }
}

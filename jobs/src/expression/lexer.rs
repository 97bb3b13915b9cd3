//! Text to tokens.

use std::ops::Range;

use super::ast::Operator;
use super::fault::{Fault, FaultKind};

/// A token and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub at: Range<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Name(String),
    Text(String),
    Number(f64),
    Operator(Operator),
    Not,
    Dot,
    Comma,
    Open,
    Close,
    OpenIndex,
    CloseIndex,
}

/// Characters of which names consist.
fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Returns the tokens, or the first fault.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = token(&source[at..], at)?;
        tokens.push(Token { kind, at: at..at + length });
        at += length;
    }
    Ok(tokens)
}

/// Reads one token at the start of `rest`, which begins at byte `at`.
fn token(rest: &str, at: usize) -> Result<(TokenKind, usize), Fault> {
    let first = rest.chars().next().unwrap_or_default();
    let single = match first {
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Some(TokenKind::Dot),
        ',' => Some(TokenKind::Comma),
        '(' => Some(TokenKind::Open),
        ')' => Some(TokenKind::Close),
        '[' => Some(TokenKind::OpenIndex),
        ']' => Some(TokenKind::CloseIndex),
        _ => None,
    };
    if let Some(kind) = single {
        return Ok((kind, 1));
    }
    if let Some(operator) = Operator::ALL.into_iter().find(|operator| rest.starts_with(operator.symbol())) {
        return Ok((TokenKind::Operator(operator), operator.symbol().len()));
    }
    match first {
        '!' => Ok((TokenKind::Not, 1)),
        '\'' => text(rest, at),
        '"' => Err(FaultKind::DoubleQuotes.at(at..at + 1)),
        '*' => Err(FaultKind::Filter.at(at..at + 1)),
        '.' | '-' | '+' | '0'..='9' => number(rest, at),
        c if c.is_ascii_alphabetic() || c == '_' => {
            let length = rest.find(|c| !in_name(c)).unwrap_or(rest.len());
            Ok((TokenKind::Name(rest[..length].to_owned()), length))
        }
        c => Err(FaultKind::Character(c).at(at..at + c.len_utf8())),
    }
}

/// Reads text between single quotes; two of them inside stand for one.
fn text(rest: &str, at: usize) -> Result<(TokenKind, usize), Fault> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((offset, c)) = characters.next() {
        if c != '\'' {
            text.push(c);
        } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
            text.push('\'');
        } else {
            return Ok((TokenKind::Text(text), offset + 1));
        }
    }
    Err(FaultKind::UnclosedText.at(at..at + rest.len()))
}

fn number(rest: &str, at: usize) -> Result<(TokenKind, usize), Fault> {
    let part = |(offset, c): (usize, char)| {
        let signed = matches!(c, '-' | '+') && (offset == 0 || rest[..offset].ends_with(['e', 'E']));
        !(c.is_ascii_alphanumeric() || c == '.' || signed)
    };
    let length = rest.char_indices().find(|found| part(*found)).map_or(rest.len(), |(offset, _)| offset);
    let word = &rest[..length];
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let value = match (unsigned.strip_prefix("0x"), unsigned.strip_prefix("0o")) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok().map(|n| n as f64),
        (_, Some(octal)) => u64::from_str_radix(octal, 8).ok().map(|n| n as f64),
        (None, None) if unsigned == "Infinity" => Some(f64::INFINITY),
        (None, None) => unsigned
            .starts_with(|c: char| c.is_ascii_digit() || c == '.')
            .then(|| unsigned.parse().ok())
            .flatten(),
    };
    match value {
        Some(value) => Ok((TokenKind::Number(if word.starts_with('-') { -value } else { value }), length)),
        None => Err(FaultKind::Number(word.to_owned()).at(at..at + length)),
    }
}

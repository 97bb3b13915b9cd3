//! The last words of a command that could not do its part: what, why, and what to do.

use std::error::Error;
use std::io;

use nix::errno::Errno;

use super::escape::{self, Colors};
use super::format::Paint;
use super::outer::{Note, Outer};
use super::sink::Sink;
use crate::commands::{Class, CommandError};

/// Problems of a job file that a service is told one by one.
const PROBLEMS_TOLD_MAX: usize = 10;

/// Prints `error: ...` and, where there is a remedy, `hint: ...`. `file`: the job file as the service `outer` knows it.
pub fn error(sink: &mut Sink, error: &CommandError, color: bool, outer: Option<Outer>, file: Option<&str>) {
    match outer {
        Some(outer) => {
            let mut text = words_of(error, color && outer.has_colors());
            let orders = orders(error, outer, file);
            // Of what one order says as well, the order is enough.
            if error.diagnostics.is_none() && !orders.is_empty() {
                text.clear();
            }
            text.lines().for_each(|line| sink.line(&outer.harmless(line)));
            orders.iter().for_each(|order| sink.line(order));
        }
        None => sink.write(words_of(error, color).as_bytes()),
    }
    sink.flush();
}

/// What the service is told.
fn orders(error: &CommandError, outer: Outer, file: Option<&str>) -> Vec<String> {
    let Some(diagnostics) = &error.diagnostics else {
        let hint = hint_of(error).map(|hint| format!("\nhint: {hint}"));
        let text = format!("{}{}", chain(&*error.error), hint.unwrap_or_default());
        return outer.error(&Note { title: "runner", text: &text, ..Note::default() }).into_iter().collect();
    };
    let errors =
        diagnostics.iter().filter(|diagnostic| diagnostic.severity() == jobs::codes::Severity::Error);
    let order = |diagnostic: &jobs::Diagnostic| {
        let hint = diagnostic.hint.as_ref().map(|hint| format!("\nhint: {hint}"));
        let text = format!("{}{}", diagnostic.text, hint.unwrap_or_default());
        outer.error(&Note {
            title: diagnostic.code.id(),
            text: &text,
            file: diagnostic.file.as_deref().or(file),
            line: diagnostic.position.map(|position| position.line),
            column: diagnostic.position.map(|position| position.column),
        })
    };
    errors.take(PROBLEMS_TOLD_MAX).filter_map(order).collect()
}

/// Prints what has gone wrong beside a run that is over.
pub fn warning(sink: &mut Sink, text: &str, outer: Option<Outer>) {
    let note = Note { title: "runner", text, ..Note::default() };
    match outer.and_then(|outer| outer.warning(&note)) {
        Some(order) => sink.line(&order),
        None => sink.line(&in_lines(&format!("warning: {text}"))),
    }
    sink.flush();
}

/// What is to be done about it.
fn hint_of(error: &CommandError) -> Option<String> {
    match error.class {
        Class::Internal => Some(format!(
            "this is a bug in runner {}; please report it with the line above",
            env!("CARGO_PKG_VERSION")
        )),
        Class::Usage | Class::Image | Class::Host | Class::Mismatch => error.hint.clone(),
    }
}

fn words_of(error: &CommandError, color: bool) -> String {
    let paint = Paint { color };
    if let Some(diagnostics) = &error.diagnostics {
        return diagnostics.render(color);
    }
    let words = in_lines(&chain(&*error.error));
    // One with a code brings the word along.
    let (word, rest) = match words.split_once(": ") {
        Some((code, rest)) if code.starts_with("error[") => (format!("{code}:"), rest),
        Some(_) | None => ("error:".to_owned(), words.as_str()),
    };
    let mut text = format!("{} {rest}\n", paint.bad(&word));
    if let Some(hint) = hint_of(error) {
        text.push_str(&format!("\n{} {}\n", paint.strong("hint:"), in_lines(&hint)));
    }
    text
}

/// Joins an error and its sources by colons, leaving out what has been said already.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = words(cause);
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// Words one cause; the kernel's own answers by their name: `permission denied (EACCES)`.
fn words(cause: &(dyn Error + 'static)) -> String {
    let answer = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    let answer =
        answer.or_else(|| cause.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error()));
    let Some(errno) = answer.map(Errno::from_raw).filter(|errno| *errno != Errno::UnknownErrno) else {
        return cause.to_string();
    };
    let mut letters = errno.desc().chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    format!("{}{} ({errno:?})", first.map(String::from).unwrap_or_default(), letters.as_str())
}

/// Makes the text safe for a terminal: it may quote a file's name. Lines after the first are indented.
fn in_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| escape::line(line.as_bytes(), Colors::Strip)).collect();
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::RecordError;

    #[test]
    fn the_kernels_answer_is_said_once_with_its_name() {
        let error = RecordError::io("read", "/x", io::Error::from_raw_os_error(13));
        assert_eq!(chain(&error), "cannot read /x: permission denied (EACCES)");
        let full = RecordError::io("write", "/x", io::Error::from_raw_os_error(28));
        assert_eq!(chain(&full), "cannot write /x: no space left on its file system");
        let ours = RecordError::io("write", "/x", io::Error::other("odd"));
        assert_eq!(chain(&ours), "cannot write /x: odd");
    }
}

//! `runner explain`: what a code is about, and how to mend it.

use jobs::codes;

use super::{Class, CommandError};
use crate::cli::ExplainSettings;
use crate::report::{self, Sink};

/// Prints the page of a code, or the list of all.
///
/// # Errors
/// A code that does not exist.
pub fn explain(settings: &ExplainSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let all = codes::all();
    let Some(wanted) = &settings.code else {
        report::explain::list(out, &all, settings.stdout_color);
        return Ok(0);
    };
    // As it is copied from a message.
    let id = wanted.trim_start_matches("error[").trim_start_matches("warning[").trim_end_matches(']');
    match all.iter().find(|code| code.id.eq_ignore_ascii_case(id)) {
        Some(code) => {
            report::explain::page(out, code, settings.stdout_color);
            Ok(0)
        }
        None => Err(CommandError::new(Class::Usage, format!("there is no code `{wanted}`"))
            .with_hint("`runner explain` lists all")),
    }
}

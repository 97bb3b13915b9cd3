//! The only room that prints. It hears events and calls nobody; nothing here decides.
//!
//! - [`Reporter`] shows a run while it happens: plain lines, blocks for a CI service, a live terminal, JSON lines, or passed
//!   through.
//! - [`error`] words the end of a command that could not do its part.
//! - [`html`] writes a run as a page; [`show`], [`logs`] and [`artifacts`] print what is on record, [`check`] what is wrong with job files, [`plan`] what
//!   they come to.

pub mod artifacts;
mod blocks;
pub mod cache;
pub mod check;
pub mod doctor;
pub mod error;
pub mod escape;
pub mod explain;
pub mod format;
pub mod html;
pub mod image;
mod lines;
pub mod logs;
pub mod network;
mod outer;
mod passthrough;
mod plain;
pub mod plan;
mod pull;
mod relay;
mod reporter;
pub mod runs;
mod service;
pub mod show;
mod sink;
mod terminal;

pub use outer::{Briefing, Outer, StepPlace};
pub use relay::Relay;
pub use reporter::{Output, ReportSettings, Reporter};
pub use sink::{Sink, Terminals, stdout_is_file};
pub use terminal::Screen;

/// Prints why there is nothing to do: help, or a wrong command line. Returns the exit code given.
pub fn stop(text: &str, asked_for: bool, exit_code: u8) -> u8 {
    let mut sink = if asked_for { Sink::results() } else { Sink::words() };
    sink.write(text.as_bytes());
    sink.flush();
    exit_code
}

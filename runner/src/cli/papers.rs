//! What the program knows of itself: completions for shells, manual pages; and the settings of a first job file.

use std::path::PathBuf;

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::flags::{Flags, papers as flags};

/// Kinds of projects that there are first job files for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each is named by what it is")]
pub enum Project {
    Rust,
    Node,
    Python,
    Go,
    Cmake,
    Make,
    Plain,
}

/// `runner init`
#[derive(Debug)]
pub struct InitSettings {
    /// The project's directory.
    pub directory: PathBuf,
    /// What the project is, if the user says.
    pub kind: Option<Project>,
    /// Whether the file is printed in place of written.
    pub print: bool,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// The script that completes our command line in a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "runner", &mut text);
    text
}

/// The manual page of the program, or of one command, in roff.
pub(super) fn man(flags: &flags::Man) -> Result<Vec<u8>, String> {
    let mut root = Flags::command();
    root.build();
    let mut command = &root;
    for word in &flags.command {
        command = command.find_subcommand(word).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            format!("there is no command '{}'; {} has {}", word, command.get_name(), known.join(", "))
        })?;
    }
    let page = clap_mangen::Man::new(command.clone()).title(title(&flags.command));
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    page.render(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn title(words: &[String]) -> String {
    let words = std::iter::once("runner").chain(words.iter().map(String::as_str));
    words.collect::<Vec<_>>().join("-")
}

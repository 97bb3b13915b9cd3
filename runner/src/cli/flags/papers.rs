//! Flags of the commands that print what the program knows of itself, and write a first job file.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use crate::cli::papers::Project;

#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    /// Such as E107; all codes are listed if none is named
    pub(in crate::cli) code: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub(in crate::cli) shell: Shell,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Man {
    /// Of this command, such as `exec` or `image pull`; else of the program
    pub(in crate::cli) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Init {
    /// The project's directory
    #[arg(default_value = ".")]
    pub(in crate::cli) directory: PathBuf,
    /// What the project is; else its files say it
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub(in crate::cli) kind: Option<Project>,
    /// Print the file in place of writing it
    #[arg(long)]
    pub(in crate::cli) print: bool,
}

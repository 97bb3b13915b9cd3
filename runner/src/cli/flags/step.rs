//! Flags of `runner step`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{OutputOfOne, Overrides, Sources};

#[derive(Debug, Args)]
pub(in crate::cli) struct Step {
    /// The job file and, where it has several, the job whose sandbox it is; the job's own steps do not run
    #[arg(long, value_name = "FILE[:JOB]")]
    pub(in crate::cli) job: String,
    /// The shell and its arguments, the script among them: `{0}` in a workflow
    #[arg(last = true, required = true, value_name = "SHELL")]
    pub(in crate::cli) command: Vec<String>,
    /// Give a param of the file its value
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(in crate::cli) param: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
    #[command(flatten)]
    pub(in crate::cli) sources: Sources,
    /// Show the script a secret of the job, from our variable of this name, or from a file
    #[arg(long, value_name = "NAME[=@FILE]")]
    pub(in crate::cli) secret: Vec<String>,
    /// Show it the secrets of a file that only its owner can read, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) secrets_file: Vec<PathBuf>,
    /// Also hand variables, or directories of PATH, to steps of the workflow that run outside of a sandbox
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(in crate::cli) export: Vec<Export>,
    /// How the run is shown: `auto` is the script's own output, in which a CI service around us finds no orders; `raw` is
    /// every byte of it
    #[arg(long, value_enum, value_name = "HOW", default_value_t = OutputOfOne::Auto)]
    pub(in crate::cli) output: OutputOfOne,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Export {
    /// What the script writes to `$GITHUB_ENV`
    Env,
    /// What of `$GITHUB_PATH` lies in the workspace
    Path,
}

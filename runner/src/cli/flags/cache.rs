//! Flags of `runner cache`.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(in crate::cli) struct Cache {
    #[command(subcommand)]
    pub(in crate::cli) verb: CacheVerb,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CacheVerb {
    /// List them: what each takes, when it was used last, its path, its key
    #[command(after_help = "Example:\n  runner cache list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what is kept under these keys
    #[command(after_help = "Example:\n  runner cache remove target-a1b2c3")]
    Remove {
        /// As `list` shows them
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Remove those that were not used for long; what a run uses stays until it ends
    #[command(after_help = "Example:\n  runner cache prune --older 14d --max-size 20G")]
    Prune(Prune),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["older", "max_size"]))]
pub(in crate::cli) struct Prune {
    /// Those that were not used for so long: 12h, 14d
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) older: Option<String>,
    /// The least used, until all together take at most so many bytes
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) max_size: Option<String>,
    /// Only say what would go
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

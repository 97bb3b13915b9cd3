//! Flags of the commands that look after runs.

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::cli) struct Runs {
    /// Only those that did not succeed
    #[arg(long)]
    pub(in crate::cli) failed: bool,
    /// Only the last N
    #[arg(short = 'n', long, value_name = "N")]
    pub(in crate::cli) last: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Ps {
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Cancel {
    /// An id, the beginning of one, or `latest`
    pub(in crate::cli) run: String,
    /// Kill what runs, in place of ending it gently
    #[arg(long)]
    pub(in crate::cli) now: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Wait {
    /// An id, the beginning of one, or `latest`
    #[arg(default_value = "latest")]
    pub(in crate::cli) run: String,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["older", "max_size"]))]
pub(in crate::cli) struct Prune {
    /// Those that ended so long ago: 12h, 30d
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) older: Option<String>,
    /// The oldest, until all together take at most so many bytes
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) max_size: Option<String>,
    /// Only say what would go
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Shell {
    /// The step: RUN[/JOB][:STEP]; what failed last if none is given
    #[arg(value_name = "WHERE")]
    pub(in crate::cli) at: Option<String>,
    /// As root inside, whoever the step ran as
    #[arg(long)]
    pub(in crate::cli) root: bool,
    #[command(flatten)]
    pub(in crate::cli) sources: super::Sources,
    /// The command; without one, a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(in crate::cli) command: Vec<String>,
}

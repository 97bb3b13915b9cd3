//! Flags as typed. What clap prints for `--help` stands here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs CI jobs in fresh, capped, isolated sandboxes, and keeps logs, artifacts and measurements.
#[derive(Debug, Parser)]
#[command(name = "runner", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Example:\n  runner exec job.yml")]
pub(super) struct Flags {
    #[command(subcommand)]
    pub(super) command: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run a job file
    #[command(after_help = "Example:\n  runner exec job.yml --limits cpus=2,memory=1G -e VERSION=1.2")]
    Exec(Exec),
    /// Run one command in an image, without a job file; its exit code is passed through
    #[command(after_help = "Example:\n  runner run ./rootfs.tar.zst --limits memory=512M -- make test\n\n\
        Exit codes: the command's own; 125 the runner failed, 126 cannot execute, 127 not found.")]
    Run(Run),
    /// Check job files without running anything
    #[command(after_help = "Example:\n  runner check job.yml ci/*.yml --format json")]
    Check(Check),
    /// Print the output of a run's steps
    #[command(after_help = "Example:\n  runner logs latest-failed --step test --tail 50")]
    Logs(Logs),
    /// Show how a run went: steps, outcomes, what they used
    #[command(after_help = "Example:\n  runner show latest --json")]
    Show(Show),
    /// List, copy out or check what a run collected
    #[command(after_help = "Example:\n  runner artifacts list latest")]
    Artifacts(Artifacts),
    /// Work with images
    #[command(after_help = "Example:\n  runner image unpack rootfs.tar.zst ./rootfs")]
    Image(Image),
    /// Say what this machine can do, what is missing, and the command that fixes it
    #[command(after_help = "Example:\n  runner doctor")]
    Doctor(Doctor),
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// The job file
    #[arg(default_value = "job.yml")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) overrides: Overrides,
    /// How the run is shown: `auto` is `tty` on a terminal, else `plain`
    #[arg(long, value_enum, default_value_t = Output::Auto)]
    pub(super) output: Output,
    /// Print events as JSON lines on standard output, everything for people on standard error
    #[arg(long)]
    pub(super) json: bool,
    /// Also copy collected artifacts to DIR/NAME
    #[arg(long, value_name = "DIR")]
    pub(super) artifacts_dir: Option<PathBuf>,
    /// The run's id, instead of a fresh one
    #[arg(long, value_name = "ID")]
    pub(super) run_id: Option<String>,
    /// Print the `network.allow` list that the run needed
    #[arg(long)]
    pub(super) suggest_network: bool,
    /// Whose exit code to use: the run's, or that of the step that failed
    #[arg(long, value_enum, value_name = "WHOSE", default_value_t = ExitCode::Run)]
    pub(super) exit_code: ExitCode,
}

#[derive(Debug, Args)]
pub(super) struct Overrides {
    /// Set a variable in every step; without a value, pass on ours
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Set the variables of a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Limit what the steps may use: cpus, memory, swap, pids, files, log
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) limits: Vec<String>,
    /// What the steps can reach: `full` is the world, `none` is loopback only, `host` is this machine's network
    #[arg(long, value_enum, value_name = "NETWORK")]
    pub(super) network: Option<Network>,
    /// Longest time of the whole run, such as 90s or 1h30m
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// `host`, dir:PATH, the path of a rootfs tarball, or its http(s) URL
    pub(super) image: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<String>,
    #[command(flatten)]
    pub(super) overrides: Overrides,
    /// Show a directory or file of this machine inside; read-only unless `:rw`
    #[arg(long, value_name = "HOST:PATH[:rw]")]
    pub(super) mount: Vec<String>,
    /// Who runs the command: `root`, `me`, a uid, uid:gid, or a name
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// Where the command runs; relative to the workspace
    #[arg(long, value_name = "PATH")]
    pub(super) workdir: Option<String>,
    /// The host name inside
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// What the command finds in its working directory: this directory, a copy of it, or nothing
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Workspace::InPlace)]
    pub(super) workspace: Workspace,
    /// Pass standard input to the command
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// The digest that the tarball must have
    #[arg(long, value_name = "HEX")]
    pub(super) sha256: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The job files
    #[arg(default_value = "job.yml")]
    pub(super) files: Vec<PathBuf>,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// An id, the beginning of one, `latest` or `latest-failed`
    #[arg(default_value = "latest")]
    pub(super) run: String,
    /// Only this step: its id, or JOB/STEP
    #[arg(long)]
    pub(super) step: Option<String>,
    /// Begin each line with the time it came
    #[arg(long)]
    pub(super) timestamps: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    pub(super) tail: Option<u64>,
    /// Print bytes as they are, on a terminal too
    #[arg(long)]
    pub(super) raw: bool,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// An id, the beginning of one, `latest` or `latest-failed`
    #[arg(default_value = "latest")]
    pub(super) run: String,
    /// Print the record, run.json
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Artifacts {
    #[command(subcommand)]
    pub(super) verb: ArtifactsVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum ArtifactsVerb {
    /// List files with sizes and digests
    #[command(after_help = "Example:\n  runner artifacts list latest")]
    List {
        /// An id, the beginning of one, `latest` or `latest-failed`
        #[arg(default_value = "latest")]
        run: String,
    },
    /// Copy artifacts to DIR/NAME, checking digests
    #[command(after_help = "Example:\n  runner artifacts get latest app --extract ./out")]
    Get {
        /// An id, the beginning of one, `latest` or `latest-failed`
        #[arg(default_value = "latest")]
        run: String,
        /// Which artifacts; all if none is named
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Where to
        #[arg(long, value_name = "DIR", required = true)]
        extract: PathBuf,
        /// Replace files that exist
        #[arg(long)]
        force: bool,
    },
    /// Hash all files again and compare them with the manifest
    #[command(after_help = "Example:\n  runner artifacts verify latest")]
    Verify {
        /// An id, the beginning of one, `latest` or `latest-failed`
        #[arg(default_value = "latest")]
        run: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Image {
    #[command(subcommand)]
    pub(super) verb: ImageVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImageVerb {
    /// Unpack a rootfs tarball to a plain directory
    #[command(
        after_help = "Example:\n  runner image unpack https://example.org/rootfs.tar.xz ./rootfs --max-bytes 2G"
    )]
    Unpack {
        /// The path of a tarball, or its http(s) URL
        source: String,
        /// Where to: a directory that is empty or does not exist
        directory: PathBuf,
        /// Most bytes of all files
        #[arg(long, value_name = "SIZE")]
        max_bytes: Option<String>,
        /// Most files, directories and links
        #[arg(long, value_name = "N")]
        max_entries: Option<u64>,
        /// Read whiteouts: the tarball is a layer of an image
        #[arg(long)]
        layer: bool,
        /// The digest that the tarball must have
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Look at this only: `net` is what a job's network needs
    #[arg(value_enum)]
    pub(super) topic: Option<Topic>,
    /// Print the checks as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Topic {
    Net,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Auto,
    Plain,
    Tty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ExitCode {
    Run,
    Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Network {
    Full,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Workspace {
    #[value(name = ".")]
    InPlace,
    Copy,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

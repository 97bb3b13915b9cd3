//! Flags as typed. What clap prints for `--help` stands here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) mod cache;
pub(super) mod papers;
pub(super) mod records;

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
    #[command(after_help = "Example:\n  runner run debian:12 --limits memory=512M -- make test\n\n\
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
    /// List runs, the newest first
    #[command(after_help = "Example:\n  runner runs --failed --last 10")]
    Runs(records::Runs),
    /// Show what runs just now: runs, their jobs, steps and processes
    #[command(after_help = "Example:\n  runner ps")]
    Ps(records::Ps),
    /// End a run that is under way, as a signal to it would
    #[command(after_help = "Example:\n  runner cancel latest")]
    Cancel(records::Cancel),
    /// Wait for the end of a run, and exit with its code
    #[command(after_help = "Example:\n  runner wait latest")]
    Wait(records::Wait),
    /// Look around where a step left off, after the run is over: same files, variables, user and rights
    #[command(after_help = "Example:\n  runner shell\n  runner shell latest-failed:test -- ls -l /tmp\n\n\
        Exit codes: the command's own; 125 the runner failed, 126 cannot execute, 127 not found.")]
    Shell(records::Shell),
    /// Remove the records of old runs; those that are under way stay
    #[command(after_help = "Example:\n  runner prune --older 30d --max-size 50G --dry-run")]
    Prune(records::Prune),
    /// List, copy out or check what a run collected
    #[command(after_help = "Example:\n  runner artifacts list latest")]
    Artifacts(Artifacts),
    /// Look after what jobs have kept for later ones: `caches`
    #[command(after_help = "Example:\n  runner cache list")]
    Cache(cache::Cache),
    /// Work with images and the store
    #[command(after_help = "Example:\n  runner image pull alpine:3.20")]
    Image(Image),
    /// Say what this machine can do, what is missing, and the command that fixes it
    #[command(after_help = "Example:\n  runner doctor")]
    Doctor(Doctor),
    /// Write a first job file for a project, by what it is
    #[command(after_help = "Example:\n  runner init --type rust")]
    Init(papers::Init),
    /// Explain an error or a warning by its code
    #[command(after_help = "Example:\n  runner explain E107")]
    Explain(papers::Explain),
    /// Print the JSON schema of job files, for editors
    #[command(after_help = "Example:\n  runner schema")]
    Schema,
    /// Print the script that completes this command line in a shell
    #[command(after_help = "Example:\n  runner completions bash\n\n\
        For all users: > /usr/share/bash-completion/completions/runner")]
    Completions(papers::Completions),
    /// Print a manual page
    #[command(after_help = "Example:\n  runner man exec\n  runner man image pull | man -l -")]
    Man(papers::Man),
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// The job file
    #[arg(default_value = "job.yml")]
    pub(super) file: PathBuf,
    /// Run only these jobs, or cells of a matrix, and what they need
    #[arg(value_name = "JOB")]
    pub(super) only_jobs: Vec<String>,
    /// Run this step alone, whatever its condition
    #[arg(long, value_name = "[JOB/]STEP", group = "part")]
    pub(super) only: Option<String>,
    /// Run the steps of its job up to this one
    #[arg(long, value_name = "[JOB/]STEP", group = "part")]
    pub(super) until: Option<String>,
    /// Run the steps of its job from this one on
    #[arg(long, value_name = "[JOB/]STEP", group = "part")]
    pub(super) from: Option<String>,
    /// Only print what would run
    #[arg(long, conflicts_with_all = ["json", "suggest_network"])]
    pub(super) dry_run: bool,
    /// Give a param of the file its value
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(super) param: Vec<String>,
    /// Run at most N jobs at once; else as many as their CPUs and memory allow
    #[arg(short = 'j', long, value_name = "N")]
    pub(super) jobs: Option<std::num::NonZero<usize>>,
    #[command(flatten)]
    pub(super) overrides: Overrides,
    #[command(flatten)]
    pub(super) sources: Sources,
    /// Give a secret its value, from our variable of this name, or from a file
    #[arg(long, value_name = "NAME[=@FILE]")]
    pub(super) secret: Vec<String>,
    /// Give secrets the values of a file that only its owner can read, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(super) secrets_file: Vec<PathBuf>,
    /// Keep artifacts although a secret is in them
    #[arg(long)]
    pub(super) allow_secret_in_artifacts: bool,
    /// Of which steps the root filesystem is kept for `runner shell`
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Keep::Failed)]
    pub(super) keep: Keep,
    /// Make the layers of `setup` anew
    #[arg(long)]
    pub(super) no_reuse: bool,
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
    /// Limit what the steps may use: cpus, cpu-weight, memory, swap, pids, files, log, disk
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) limits: Vec<String>,
    /// What the steps can reach: `full` is the world, `none` is loopback only, `services` the job's services too, `host` is this machine's network
    #[arg(long, value_enum, value_name = "NETWORK")]
    pub(super) network: Option<Network>,
    /// Longest time of the whole run, such as 90s or 1h30m
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    /// Nobody vouches for what runs: refuse all that reaches beyond the sandbox, work on a copy, no debuggers
    #[arg(long)]
    pub(super) untrusted: bool,
}

#[derive(Debug, Default, Args)]
pub(super) struct Sources {
    /// Connect to nothing: images are in the store, or the run fails
    #[arg(long, conflicts_with = "refresh")]
    pub(super) offline: bool,
    /// Ask where images come from although the store has them: a tag may have moved
    #[arg(long)]
    pub(super) refresh: bool,
    /// Trust the certificates of this PEM file as well
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Vec<PathBuf>,
    /// What is known of registries; else RUNNER_CONFIG, ~/.config/runner/config.yml or /etc/runner/config.yml
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The name of an image, the path of a rootfs tarball or its http(s) URL, dir:PATH, oci:PATH[:TAG], archive:PATH,
    /// local:NAME or `host`
    pub(super) image: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<String>,
    #[command(flatten)]
    pub(super) overrides: Overrides,
    #[command(flatten)]
    pub(super) sources: Sources,
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
    /// The digest that the tarball, or the image's manifest, must have
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
    /// Give a param of the file its value
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(super) param: Vec<String>,
    /// Print what a file comes to: its jobs and steps, their graph for Graphviz, or all of it as JSON
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "format")]
    pub(super) print: Option<Print>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Print {
    Plan,
    Graph,
    Resolved,
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// An id, the beginning of one, `latest` or `latest-failed`
    #[arg(default_value = "latest")]
    pub(super) run: String,
    /// Only this step: its id, or JOB/STEP
    #[arg(long)]
    pub(super) step: Option<String>,
    /// A service instead of steps: its name, or JOB/SERVICE
    #[arg(long, value_name = "NAME", conflicts_with_all = ["step", "attempt"])]
    pub(super) service: Option<String>,
    /// Begin each line with the time it came
    #[arg(long)]
    pub(super) timestamps: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    pub(super) tail: Option<u64>,
    /// Only this attempt, from 1; else the last one
    #[arg(long, value_name = "N")]
    pub(super) attempt: Option<std::num::NonZero<u32>>,
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
    /// Bring images into the store, so that runs need no network
    #[command(after_help = "Example:\n  runner image pull alpine:3.20 ghcr.io/owner/image@sha256:...")]
    Pull {
        /// What `image` of a job file takes
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        #[command(flatten)]
        sources: Sources,
    },
    /// Give a root filesystem a name of your own: `local:NAME`
    #[command(
        after_help = "Example:\n  runner image import ./rootfs.tar.zst base:1\n  tar c -C rootfs . | runner image import - base"
    )]
    Import {
        /// What `image` of a job file takes, or `-` for a tarball on standard input
        source: String,
        /// Lower-case, with or without a tag
        name: String,
        #[command(flatten)]
        sources: Sources,
    },
    /// List what is in the store, the last used first
    #[command(after_help = "Example:\n  runner image list")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is known of an image: layers, configuration, names
    #[command(after_help = "Example:\n  runner image inspect alpine:3.20")]
    Inspect {
        /// A name, or the beginning of a digest
        image: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove images that no run uses
    #[command(after_help = "Example:\n  runner image remove alpine:3.20")]
    Remove {
        /// Names, or beginnings of digests
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Remove images that lie idle; imported ones and those that runs use stay
    #[command(after_help = "Example:\n  runner image prune --older 30d --max-size 20G")]
    Prune {
        /// Those that no run has used for so long: 12h, 30d
        #[arg(long, value_name = "TIME")]
        older: Option<String>,
        /// The longest idle, until the store has at most so many bytes
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything in the store again and name what has changed
    #[command(after_help = "Example:\n  runner image verify\n\nExit codes: 6 if anything has changed.")]
    Verify {
        /// Names, or beginnings of digests; everything if none is given
        #[arg(value_name = "IMAGE")]
        images: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an image as an OCI layout, which other tools load, or as a tar of its files
    #[command(
        after_help = "Example:\n  runner image export alpine:3.20 alpine.tar && docker load -i alpine.tar"
    )]
    Export {
        /// A name, or the beginning of a digest
        image: String,
        /// Where to: a directory or file that does not exist
        target: PathBuf,
        /// What is written; a layout in a tar if TARGET ends with .tar
        #[arg(long, value_enum)]
        format: Option<ExportFormat>,
    },
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
pub(super) enum ExportFormat {
    /// An OCI layout in a directory
    Oci,
    /// An OCI layout in a tar
    OciTar,
    /// A tar of all files
    Rootfs,
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
pub(super) enum Keep {
    Always,
    Failed,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Network {
    Full,
    None,
    Services,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Workspace {
    #[value(name = ".")]
    InPlace,
    Copy,
    Git,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

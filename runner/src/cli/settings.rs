//! Settings: what a command gets. Values are parsed, defaults of the environment applied.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use images::RegistrySettings;
use jobs::units::{parse_cpus, parse_duration, parse_size};
use jobs::{ImageSpec, LimitsOverride, Mount, Overrides, Pull, Selection, StepChoice, User};

use super::cache::{self, CacheSettings};
use super::config;
use super::environment::Environment;
use super::flags::{self, Verb};
use super::image::{self, ImageSettings, UnpackSettings};
use super::papers::{self, InitSettings};
use super::records::{self, RunsSettings};
use super::secrets;
use super::shell::{self, ShellSettings};
use crate::outcome::Keep;
use crate::report::{Output, ReportSettings};

/// Bytes of a file of variables; a larger one is another file.
const ENV_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// `runner exec`
    Exec(ExecSettings),
    /// `runner run`
    Run(RunSettings),
    /// `runner check`
    Check(CheckSettings),
    /// `runner logs`
    Logs(LogsSettings),
    /// `runner show`
    Show(ShowSettings),
    /// `runner artifacts`
    Artifacts(ArtifactsSettings),
    /// `runner image unpack`
    ImageUnpack(UnpackSettings),
    /// `runner image` with what concerns the store
    Image(ImageSettings),
    /// `runner cache`
    Cache(CacheSettings),
    /// `runner doctor`
    Doctor(DoctorSettings),
    /// `runner shell`
    Shell(ShellSettings),
    /// `runner runs` and the others that look after runs
    Runs(RunsSettings),
    /// `runner init`
    Init(InitSettings),
    /// `runner explain`
    Explain(ExplainSettings),
    /// A text that is only printed
    Print(Vec<u8>),
}

impl Command {
    /// Whether words on standard error have colours.
    pub fn stderr_color(&self) -> bool {
        match self {
            Self::Exec(settings) => settings.stderr_color,
            Self::Run(settings) => settings.report.color,
            Self::Shell(settings) => settings.report.color,
            Self::Check(settings) => settings.stderr_color,
            Self::Logs(settings) => settings.stderr_color,
            Self::Show(settings) => settings.stderr_color,
            Self::Artifacts(settings) => settings.stderr_color,
            Self::ImageUnpack(settings) => settings.report.color,
            Self::Image(settings) => settings.report.color,
            Self::Cache(settings) => settings.stderr_color,
            Self::Doctor(settings) => settings.stderr_color,
            Self::Runs(settings) => settings.stderr_color,
            Self::Init(settings) => settings.stderr_color,
            Self::Explain(settings) => settings.stderr_color,
            Self::Print(_) => false,
        }
    }
}

/// Whose exit code a run ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCodeOf {
    /// The run's: docs/exit-codes.md.
    Run,
    /// That of the step that failed; 125 for what no step did, which `git bisect run` skips.
    Step,
}

/// How images are come by.
#[derive(Debug, Clone, Default)]
pub struct ImageSources {
    /// Connect to nothing.
    pub offline: bool,
    /// Ask sources although the store has the image.
    pub refresh: bool,
    /// Files with certificates to trust besides the system's.
    pub authorities: Vec<PathBuf>,
    /// What the configuration file knows of registries.
    pub registries: BTreeMap<String, RegistrySettings>,
    /// Files with logins.
    pub logins: Vec<PathBuf>,
}

/// `runner exec`
#[derive(Debug)]
pub struct ExecSettings {
    /// Where records and the store are.
    pub home: PathBuf,
    /// The job file.
    pub file: PathBuf,
    /// Which part of it is run.
    pub selection: Selection,
    /// Only say what would run.
    pub dry_run: bool,
    /// What wins over the file.
    pub overrides: Overrides,
    /// The values of secrets, by name.
    pub secrets: Vec<(String, Vec<u8>)>,
    /// Whether artifacts may have them in them.
    pub secrets_in_artifacts: bool,
    /// Of which steps the root filesystem is kept.
    pub keep: Keep,
    /// Whether what earlier runs made is used.
    pub reuse: bool,
    /// Most jobs at once.
    pub jobs_max: Option<usize>,
    /// How images are come by.
    pub sources: ImageSources,
    /// Where artifacts are copied, besides the records.
    pub artifacts_dir: Option<PathBuf>,
    /// The run's id, if not a fresh one.
    pub run_id: Option<String>,
    /// Print the list of hosts that the run needed.
    pub suggest_network: bool,
    /// Whose exit code to end with.
    pub exit_code: ExitCodeOf,
    /// How the run is shown.
    pub report: ReportSettings,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// `runner run`
#[derive(Debug)]
pub struct RunSettings {
    /// Where records and the store are.
    pub home: PathBuf,
    /// What the command runs in.
    pub image: ImageSpec,
    /// The command and its arguments; not empty.
    pub command: Vec<String>,
    /// Environment, limits, network, time, user, directory, host name.
    pub overrides: Overrides,
    /// How images are come by.
    pub sources: ImageSources,
    /// What else is shown inside.
    pub mounts: Vec<Mount>,
    /// What the command finds in its working directory.
    pub workspace: jobs::Workspace,
    /// Whether standard input is passed on.
    pub interactive: bool,
    /// How the run is shown.
    pub report: ReportSettings,
}

/// How `runner check` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// An array with an object for each file.
    Json,
}

/// What `runner check` prints of a file that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    /// Jobs and steps, for people.
    Plan,
    /// Jobs and needs, for Graphviz.
    Graph,
    /// The record of a plan, JSON.
    Resolved,
}

/// `runner check`
#[derive(Debug)]
pub struct CheckSettings {
    /// The job files; at least one.
    pub files: Vec<PathBuf>,
    /// How problems are printed.
    pub format: CheckFormat,
    /// Values of params.
    pub params: Vec<(String, String)>,
    /// What is printed of a file that is right.
    pub print: Option<Printed>,
    /// Whether text on standard output has colours.
    pub stdout_color: bool,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// `runner logs`
#[derive(Debug)]
pub struct LogsSettings {
    /// Where records are.
    pub home: PathBuf,
    /// The run as the user names it.
    pub run: String,
    /// Only this step.
    pub step: Option<String>,
    /// This service instead of steps.
    pub service: Option<String>,
    /// Whether lines begin with times.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Only this attempt, from 1.
    pub attempt: Option<u32>,
    /// Whether bytes are printed as they are: asked for, or standard output is no terminal.
    pub raw: bool,
    /// Whether standard output is a terminal: headings are for eyes.
    pub terminal: bool,
    /// Whether text on standard output has colours.
    pub stdout_color: bool,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// `runner show`
#[derive(Debug)]
pub struct ShowSettings {
    /// Where records are.
    pub home: PathBuf,
    /// The run as the user names it.
    pub run: String,
    /// Whether the record itself is printed.
    pub json: bool,
    /// Whether text on standard output has colours.
    pub stdout_color: bool,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// What to do with artifacts.
#[derive(Debug)]
pub enum ArtifactsVerb {
    /// List them.
    List,
    /// Copy them out.
    Get {
        /// Which; all if empty.
        names: Vec<String>,
        /// Where to.
        into: PathBuf,
        /// Whether existing files are replaced.
        force: bool,
    },
    /// Check their digests.
    Verify,
}

/// `runner artifacts`
#[derive(Debug)]
pub struct ArtifactsSettings {
    /// Where records are.
    pub home: PathBuf,
    /// The run as the user names it.
    pub run: String,
    /// What to do.
    pub verb: ArtifactsVerb,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// `runner doctor`
#[derive(Debug)]
pub struct DoctorSettings {
    /// Where records and the store are.
    pub home: PathBuf,
    /// Look at what a job's network needs only.
    pub network_only: bool,
    /// Whether the checks are printed as JSON.
    pub json: bool,
    /// Whether text on standard output has colours.
    pub stdout_color: bool,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// `runner explain`
#[derive(Debug)]
pub struct ExplainSettings {
    /// The code; all are listed without one.
    pub code: Option<String>,
    /// Whether text on standard output has colours.
    pub stdout_color: bool,
    /// Whether words on standard error have colours.
    pub stderr_color: bool,
}

/// Settles flags. Errors: what is wrong with them, fit to stand after `error: `.
pub(super) fn command(verb: Verb, environment: &Environment) -> Result<Command, String> {
    let home = || {
        environment.home.clone().ok_or_else(|| {
            "cannot tell where to keep records: RUNNER_HOME, XDG_STATE_HOME and HOME are not set".to_owned()
        })
    };
    let Environment { stdout_color, stderr_color, .. } = *environment;
    Ok(match verb {
        Verb::Exec(flags) => Command::Exec(exec(flags, home()?, environment)?),
        Verb::Run(flags) => Command::Run(run(flags, home()?, environment)?),
        Verb::Check(flags::Check { files, format, param, print }) => {
            let format = match format {
                flags::Format::Text => CheckFormat::Text,
                flags::Format::Json => CheckFormat::Json,
            };
            let print = print.map(|print| match print {
                flags::Print::Plan => Printed::Plan,
                flags::Print::Graph => Printed::Graph,
                flags::Print::Resolved => Printed::Resolved,
            });
            let params = params(&param)?;
            Command::Check(CheckSettings { files, format, params, print, stdout_color, stderr_color })
        }
        Verb::Logs(flags) => Command::Logs(logs(flags, home()?, environment)),
        Verb::Show(flags::Show { run, json }) => {
            Command::Show(ShowSettings { home: home()?, run, json, stdout_color, stderr_color })
        }
        Verb::Artifacts(flags::Artifacts { verb }) => {
            let (run, verb) = match verb {
                flags::ArtifactsVerb::List { run } => (run, ArtifactsVerb::List),
                flags::ArtifactsVerb::Verify { run } => (run, ArtifactsVerb::Verify),
                flags::ArtifactsVerb::Get { run, names, extract, force } => {
                    (run, ArtifactsVerb::Get { names, into: extract, force })
                }
            };
            Command::Artifacts(ArtifactsSettings { home: home()?, run, verb, stderr_color })
        }
        Verb::Runs(flags) => records::runs(&flags, home()?, environment),
        Verb::Ps(flags) => records::ps(&flags, home()?, environment),
        Verb::Cancel(flags) => records::cancel(flags, home()?, environment),
        Verb::Wait(flags) => records::wait(flags, home()?, environment),
        Verb::Shell(flags) => shell::shell(flags, home()?, environment)?,
        Verb::Prune(flags) => records::prune(&flags, home()?, environment)?,
        Verb::Cache(flags) => cache::command(flags, home()?, stderr_color)?,
        Verb::Init(flags::papers::Init { directory, kind, print }) => {
            Command::Init(InitSettings { directory, kind, print, stderr_color })
        }
        Verb::Explain(flags::papers::Explain { code }) => {
            Command::Explain(ExplainSettings { code, stdout_color, stderr_color })
        }
        Verb::Schema => Command::Print(jobs::SCHEMA.as_bytes().to_vec()),
        Verb::Completions(flags) => Command::Print(papers::completions(flags.shell)),
        Verb::Man(flags) => Command::Print(papers::man(&flags)?),
        Verb::Image(flags::Image { verb }) => image::command(verb, home()?, environment)?,
        Verb::Doctor(flags::Doctor { topic, json }) => {
            let network_only = topic == Some(flags::Topic::Net);
            Command::Doctor(DoctorSettings { home: home()?, network_only, json, stdout_color, stderr_color })
        }
    })
}

fn logs(flags: flags::Logs, home: PathBuf, environment: &Environment) -> LogsSettings {
    let terminal = environment.terminals.stdout;
    LogsSettings {
        home,
        run: flags.run,
        step: flags.step,
        service: flags.service,
        timestamps: flags.timestamps,
        tail: flags.tail,
        attempt: flags.attempt.map(std::num::NonZero::get),
        raw: flags.raw || !terminal,
        terminal,
        stdout_color: environment.stdout_color,
        stderr_color: environment.stderr_color,
    }
}

fn exec(flags: flags::Exec, home: PathBuf, environment: &Environment) -> Result<ExecSettings, String> {
    let output = match flags.output {
        flags::Output::Auto => environment.output(flags.json),
        flags::Output::Plain => Output::Plain,
        flags::Output::Tty => Output::Terminal,
    };
    let color = if flags.json { environment.stderr_color } else { environment.stdout_color };
    Ok(ExecSettings {
        home,
        file: flags.file,
        selection: Selection {
            jobs: flags.only_jobs,
            steps: match (flags.only, flags.until, flags.from) {
                (Some(step), _, _) => Some(StepChoice::Only(step)),
                (None, Some(step), _) => Some(StepChoice::Until(step)),
                (None, None, Some(step)) => Some(StepChoice::From(step)),
                (None, None, None) => None,
            },
        },
        dry_run: flags.dry_run,
        secrets: secrets::read(&flags.secret, &flags.secrets_file, environment)?,
        secrets_in_artifacts: flags.allow_secret_in_artifacts,
        reuse: !flags.no_reuse,
        keep: match flags.keep {
            flags::Keep::Always => Keep::Always,
            flags::Keep::Failed => Keep::Failed,
            flags::Keep::Never => Keep::Never,
        },
        overrides: Overrides {
            params: params(&flags.param)?,
            pull: pull(&flags.sources),
            ..overrides(flags.overrides, environment)?
        },
        jobs_max: flags.jobs.map(std::num::NonZero::get),
        sources: sources(flags.sources, environment)?,
        artifacts_dir: flags.artifacts_dir,
        run_id: flags.run_id,
        suggest_network: flags.suggest_network,
        exit_code: match flags.exit_code {
            flags::ExitCode::Run => ExitCodeOf::Run,
            flags::ExitCode::Step => ExitCodeOf::Step,
        },
        report: report(output, color, flags.json, environment),
        stderr_color: environment.stderr_color,
    })
}

/// What the flags say about asking, over what the job file says.
fn pull(flags: &flags::Sources) -> Option<Pull> {
    match (flags.offline, flags.refresh) {
        (true, _) => Some(Pull::Never),
        (false, true) => Some(Pull::Always),
        (false, false) => None,
    }
}

pub(super) fn sources(flags: flags::Sources, environment: &Environment) -> Result<ImageSources, String> {
    let named = flags.config.as_deref().or(environment.config.as_deref());
    Ok(ImageSources {
        offline: flags.offline,
        refresh: flags.refresh,
        authorities: flags.ca_file,
        registries: config::registries(named, &environment.config_defaults)?,
        logins: environment.logins.clone(),
    })
}

pub(super) fn report(output: Output, color: bool, json: bool, environment: &Environment) -> ReportSettings {
    let stderr_is_terminal = environment.terminals.stderr && environment.live;
    ReportSettings { output, color, json, stderr_is_terminal }
}

fn run(flags: flags::Run, home: PathBuf, environment: &Environment) -> Result<RunSettings, String> {
    let mut overrides = overrides(flags.overrides, environment)?;
    if let Some(user) = &flags.user {
        let _: User = user.parse().map_err(|error| invalid("--user", user, error))?;
    }
    overrides.pull = pull(&flags.sources);
    overrides.user = flags.user;
    overrides.workdir = flags.workdir;
    overrides.hostname = flags.hostname;
    let mut image = ImageSpec::parse(&flags.image).map_err(|error| invalid("IMAGE", &flags.image, error))?;
    if let Some(digest) = &flags.sha256 {
        image = image.with_sha256(digest).map_err(|error| invalid("--sha256", digest, error))?;
    }
    let mounts =
        flags.mount.iter().map(|mount| mount.parse().map_err(|error| invalid("--mount", mount, error)));
    Ok(RunSettings {
        home,
        image,
        command: flags.command,
        overrides,
        sources: sources(flags.sources, environment)?,
        mounts: mounts.collect::<Result<_, _>>()?,
        workspace: match flags.workspace {
            flags::Workspace::InPlace => jobs::Workspace::InPlace,
            flags::Workspace::Copy => jobs::Workspace::Copy,
            flags::Workspace::Git => jobs::Workspace::Git,
            flags::Workspace::Empty => jobs::Workspace::Empty,
        },
        interactive: flags.interactive,
        report: report(Output::Passthrough, environment.stderr_color, false, environment),
    })
}

pub(super) fn invalid(flag: &str, value: &str, error: impl Display) -> String {
    format!("invalid value '{value}' for {flag}: {error}")
}

fn overrides(flags: flags::Overrides, environment: &Environment) -> Result<Overrides, String> {
    let mut env = Vec::new();
    for file in &flags.env_file {
        env.extend(read_env_file(file, environment)?);
    }
    for text in &flags.env {
        env.push(variable(text, environment).map_err(|error| invalid("--env", text, error))?);
    }
    let timeout = flags.timeout.as_deref();
    let timeout = timeout.map(|text| parse_duration(text).map_err(|error| invalid("--timeout", text, error)));
    Ok(Overrides {
        env,
        limits: limits(&flags.limits)?,
        network: flags.network.map(|network| match network {
            flags::Network::Full => jobs::Network::Full,
            flags::Network::None => jobs::Network::None,
            flags::Network::Services => jobs::Network::Services,
            flags::Network::Host => jobs::Network::Host,
        }),
        timeout: timeout.transpose()?,
        untrusted: flags.untrusted,
        ..Overrides::default()
    })
}

/// Reads `NAME=VALUE` of params.
fn params(flags: &[String]) -> Result<Vec<(String, String)>, String> {
    let param = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(invalid("--param", text, "it is not NAME=VALUE")),
    };
    flags.iter().map(param).collect()
}

/// Reads `NAME=VALUE`, or `NAME` with our own value.
fn variable(text: &str, environment: &Environment) -> Result<(String, Option<String>), String> {
    if let Some((name, value)) = text.split_once('=') {
        return Ok((name.to_owned(), Some(value.to_owned())));
    }
    match environment.variables.get(text) {
        Some(value) => Ok((text.to_owned(), Some(value.clone()))),
        None => Err(format!("{text} is not set here; {text}= sets it to nothing")),
    }
}

/// Reads lines as `--env` takes them; empty ones and those that begin with `#` are skipped. Values are taken
/// as they are: quotes are part of them.
fn read_env_file(path: &Path, environment: &Environment) -> Result<Vec<(String, Option<String>)>, String> {
    let wrong = |error: &dyn Display| format!("cannot read {}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
    if length > ENV_FILE_BYTES_MAX {
        return Err(wrong(&format_args!("it has more than {ENV_FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = variable(line, environment);
        variables.push(read.map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?);
    }
    Ok(variables)
}

/// Reads `cpus=2,memory=1G`; a later value wins over an earlier one.
fn limits(texts: &[String]) -> Result<LimitsOverride, String> {
    let mut limits = LimitsOverride::default();
    for part in texts.iter().flat_map(|text| text.split(',')).filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(invalid("--limits", part, "expected KEY=VALUE"));
        };
        let size = || parse_size(value).map_err(|error| invalid("--limits", part, error));
        let count = || value.parse().map_err(|_| invalid("--limits", part, "expected a whole number"));
        match key {
            "cpus" => {
                limits.cpus = Some(parse_cpus(value).map_err(|error| invalid("--limits", part, error))?)
            }
            "cpu-weight" => limits.cpu_weight = Some(count()?),
            "memory" => limits.memory_bytes = Some(size()?),
            "swap" => limits.swap_bytes = Some(size()?),
            "pids" => limits.pids = Some(count()?),
            "files" => limits.files = Some(count()?),
            "log" => limits.log_bytes = Some(size()?),
            "disk" => limits.disk_bytes = Some(size()?),
            _ => {
                return Err(invalid(
                    "--limits",
                    part,
                    "expected one of cpus, cpu-weight, memory, swap, pids, files, log, disk",
                ));
            }
        }
    }
    Ok(limits)
}

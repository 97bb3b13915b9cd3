//! One file per verb. A command returns its exit code, or the reason why it could not do its part.
//!
//! Exit codes are settled here and explained in docs/exit-codes.md; outcomes of runs have theirs in
//! [`crate::outcome::Outcome::run_exit_code`].

pub mod artifacts;
pub mod cache;
pub mod check;
pub mod doctor;
pub mod exec;
pub mod explain;
mod files;
mod github;
pub mod image;
pub mod init;
mod launch;
pub mod logs;
pub mod run;
pub mod runs;
mod secrets;
mod shell;
pub mod show;
pub mod step;

use std::error::Error;
use std::fmt;

use jobs::Diagnostics;
use rustix::io::Errno;

use crate::cli::{Command, ExitCodeOf};
use crate::report::{self, Sink};

use crate::run::record::RecordError;
use crate::sandbox::zygote::Zygote;

/// Whose turn it is when a command could not do its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The user: the command line or the job file is wrong, nothing ran.
    Usage,
    /// Whoever provides the image: it cannot be had, or is not what it should be.
    Image,
    /// This machine: it cannot do what is asked, or its disk is full.
    Host,
    /// Whoever changed what was recorded: a digest does not match.
    Mismatch,
    /// Us: a bug.
    Internal,
}

impl Class {
    /// Returns the exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Image | Self::Host => 3,
            Self::Mismatch => 6,
            Self::Internal => 70,
        }
    }
}

/// The exit code of `runner run` and `runner step` for everything that is not the command's own doing.
pub const RUN_ERROR_EXIT_CODE: u8 = 125;

/// Why a command could not do its part.
#[derive(Debug)]
pub struct CommandError {
    /// Whose turn it is.
    pub class: Class,
    /// What happened; its sources are shown behind it.
    pub error: Box<dyn Error + Send + Sync>,
    /// What the user can do, one line.
    pub hint: Option<String>,
    /// What is wrong with the job file, when that is the reason: printed instead of `error`.
    pub diagnostics: Option<Diagnostics>,
}

impl CommandError {
    /// Wraps an error of a room.
    pub fn new(class: Class, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { class, error: error.into(), hint: None, diagnostics: None }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl From<RecordError> for CommandError {
    fn from(error: RecordError) -> Self {
        let class = if error.is_usage() { Class::Usage } else { Class::Host };
        let hint = error.hint();
        Self { class, error: Box::new(error), hint, diagnostics: None }
    }
}

/// Does what the command line asks for, and returns what to exit with.
pub fn dispatch(command: Command, zygote: Result<Zygote, Errno>) -> u8 {
    let color = command.stderr_color();
    let infrastructure = infrastructure_exit_code(&command);
    let (outer, file) = (command.outer(), github::file_of(&command));
    let zygote = || zygote.map_err(no_zygote);
    let mut out = Sink::results();
    let done = match command {
        Command::Exec(settings) => zygote().and_then(|zygote| exec::exec(zygote, settings)),
        Command::Run(settings) => zygote().and_then(|zygote| run::run(zygote, settings)),
        Command::Step(settings) => zygote().and_then(|zygote| step::step(zygote, *settings)),
        Command::Shell(settings) => zygote().and_then(|zygote| shell::shell(zygote, settings)),
        Command::Check(settings) => check::check(&settings, &mut out),
        Command::Logs(settings) => logs::logs(&settings, &mut out),
        Command::Show(settings) => show::show(&settings, &mut out),
        Command::Artifacts(settings) => artifacts::artifacts(&settings, &mut out),
        Command::ImageUnpack(settings) => image::unpack(&settings, &mut out),
        Command::Image(settings) => zygote().and_then(|zygote| image::image(zygote, &settings, &mut out)),
        Command::Cache(settings) => zygote().and_then(|zygote| cache::cache(&zygote, &settings, &mut out)),
        Command::Doctor(settings) => doctor::doctor(zygote, &settings, &mut out),
        Command::Runs(settings) => runs::runs(zygote, &settings, &mut out),
        Command::Init(settings) => init::init(&settings, &mut out),
        Command::Explain(settings) => explain::explain(&settings, &mut out),
        Command::Print(text) => {
            out.write(&text);
            Ok(0)
        }
    };
    out.flush();
    done.unwrap_or_else(|error| {
        report::error::error(&mut Sink::words(), &error, color, outer, file.as_deref());
        infrastructure.unwrap_or(error.class.exit_code())
    })
}

/// What is in the way of every run's first process, in words.
fn no_zygote(errno: Errno) -> CommandError {
    let error = CommandError::new(Class::Host, format!("cannot fork the zygote: {errno}"));
    match errno {
        Errno::NOSYS => error.with_hint(
            "clone3 is refused: in a step of the runner, give the step `privileges: nested`; in a container, start it with --security-opt seccomp=unconfined",
        ),
        _ => error,
    }
}

/// Where a step's own exit code is passed through, one code stands for everything that is not the step's doing.
fn infrastructure_exit_code(command: &Command) -> Option<u8> {
    match command {
        Command::Run(_) | Command::Step(_) | Command::Shell(_) => Some(RUN_ERROR_EXIT_CODE),
        Command::Exec(settings) if settings.exit_code == ExitCodeOf::Step => Some(RUN_ERROR_EXIT_CODE),
        Command::Exec(_)
        | Command::Check(_)
        | Command::Logs(_)
        | Command::Show(_)
        | Command::Artifacts(_)
        | Command::ImageUnpack(_)
        | Command::Image(_)
        | Command::Cache(_)
        | Command::Doctor(_)
        | Command::Runs(_)
        | Command::Init(_)
        | Command::Explain(_)
        | Command::Print(_) => None,
    }
}

//! What `exec` and `run` share: the runtime, the reporter, and the end of a run as an exit code.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use images::{FetchSettings, Refresh};

use super::{Class, CommandError};
use crate::cli::ImageSources;
use crate::report::{Briefing, ReportSettings, Reporter};
use crate::run::credentials::Logins;
use crate::run::error::RunError;
use crate::run::execute::{Execution, Finished, execute};
use crate::sandbox::zygote::Zygote;

/// Runs a plan to its end, showing it.
///
/// # Errors
/// When nothing ran. That our own part failed on the way is in what is returned.
pub fn launch(
    zygote: Zygote,
    execution: Execution,
    settings: ReportSettings,
    briefing: Briefing,
) -> Result<Finished, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::new(Class::Host, error))?;
    let reporter = Rc::new(RefCell::new(Reporter::new(settings).briefed(briefing)));
    let shown = Rc::clone(&reporter);
    let show = Box::new(move |event: Option<&crate::event::Event>| {
        let mut reporter = shown.borrow_mut();
        match event {
            Some(event) => reporter.event(event, Instant::now()),
            None => reporter.tick(Instant::now()),
        }
    });
    let finished = runtime.block_on(execute(Arc::new(zygote), execution, show));
    reporter.borrow_mut().finish();
    Ok(finished?)
}

/// Takes a failure of our own part out of how a run ended.
///
/// # Errors
/// That failure.
pub fn ours(mut finished: Finished) -> Result<Finished, CommandError> {
    match finished.error.take() {
        Some(error) => Err(error.into()),
        None => Ok(finished),
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        let class = match &error {
            _ if error.is_usage() => Class::Usage,
            RunError::Image(_) => Class::Image,
            _ => Class::Host,
        };
        let hint = error.hint();
        Self { hint, ..Self::new(class, error) }
    }
}

/// How images are come by, in the words of the crate that fetches them.
pub(super) fn fetch_settings(sources: &ImageSources) -> FetchSettings {
    FetchSettings {
        offline: sources.offline,
        refresh: if sources.refresh { Refresh::Always } else { Refresh::Default },
        authorities: sources.authorities.clone(),
        registries: sources.registries.clone(),
        credentials: Arc::new(Logins { files: sources.logins.clone() }),
        ..FetchSettings::default()
    }
}

/// What steps read that get no input.
///
/// # Errors
/// A machine without /dev/null.
pub fn no_input() -> Result<OwnedFd, CommandError> {
    let null = std::fs::File::open("/dev/null");
    null.map(OwnedFd::from).map_err(|error| CommandError::new(Class::Host, error))
}

//! `runner check`: what is wrong with job files, without running anything.

use std::io::Read;
use std::path::Path;

use images::FetchSettings;
use jobs::{Diagnostics, Overrides};

use super::exec::{base_of, facts};
use super::files::NamedFiles;
use super::{Class, CommandError};
use crate::cli::{CheckFormat, CheckSettings, Printed};
use crate::report::{self, Sink};
use crate::run::workspace::root_of;

/// Checks each file; prints all problems on standard output, and fails when one has errors.
pub fn check(settings: &CheckSettings, out: &mut Sink) -> Result<u8, CommandError> {
    if settings.print.is_some() || !settings.params.is_empty() {
        return planned(settings, out);
    }
    let mut all = Vec::new();
    let mut good = true;
    for path in &settings.files {
        let (file, text) = read_job_file(path)?;
        let diagnostics = jobs::check(&file.name, &text, &mut files(path)?);
        good &= diagnostics.errors() == 0;
        all.push((file.name, diagnostics));
    }
    match settings.format {
        CheckFormat::Text => report::check::text(out, &all, settings.stdout_color),
        CheckFormat::Json => report::check::json(out, &all),
    }
    Ok(if good { 0 } else { Class::Usage.exit_code() })
}

/// Plans each file with the params given, and prints what it comes to; of a wrong one, its problems.
fn planned(settings: &CheckSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let mut good = true;
    for path in &settings.files {
        let (file, text) = read_job_file(path)?;
        let facts = facts(&base_of(path)?);
        let overrides = Overrides { params: settings.params.clone(), facts, ..Overrides::default() };
        let (plan, diagnostics) =
            match jobs::plan_with(&file.name, &file.stem, &text, &overrides, &mut files(path)?) {
                Ok(planned) => (Some(planned.plan), planned.warnings),
                Err(errors) => (None, errors),
            };
        good &= plan.is_some();
        match (settings.print, &plan) {
            (Some(Printed::Plan), Some(plan)) => report::plan::plan(out, plan),
            (Some(Printed::Graph), Some(plan)) => report::plan::graph(out, plan),
            (Some(Printed::Resolved), Some(plan)) => report::plan::resolved(out, plan),
            (_, None) | (None, Some(_)) => {
                let all = [(file.name, diagnostics)];
                match settings.format {
                    CheckFormat::Text => report::check::text(out, &all, settings.stdout_color),
                    CheckFormat::Json => report::check::json(out, &all),
                }
            }
        }
    }
    Ok(if good { 0 } else { Class::Usage.exit_code() })
}

/// Who reads the files that a job file names.
fn files(file: &Path) -> Result<NamedFiles, CommandError> {
    Ok(NamedFiles::new(FetchSettings::default(), root_of(&base_of(file)?), false))
}

/// A job file as it is named in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFileName {
    /// As the user wrote it; `-` is standard input.
    pub name: String,
    /// Names the run when the file does not.
    pub stem: String,
}

/// Reads a job file; `-` is standard input. One byte more than the format allows is read at most, so that
/// `jobs` can refuse it.
pub fn read_job_file(path: &Path) -> Result<(JobFileName, Vec<u8>), CommandError> {
    let name = path.to_string_lossy().into_owned();
    let stem = path.file_stem().map_or_else(|| name.clone(), |stem| stem.to_string_lossy().into_owned());
    let mut text = Vec::new();
    let limit = jobs::bounds::FILE_BYTES_MAX as u64 + 1;
    let read = if name == "-" {
        std::io::stdin().take(limit).read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text))
    };
    match read {
        Ok(_) => Ok((JobFileName { name, stem }, text)),
        Err(error) => {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = anyhow::Error::new(error).context(format!("cannot read the job file {name}"));
            let failed = CommandError::new(Class::Usage, error);
            Err(if missing {
                failed.with_hint("name another one; docs/job-file.md says how to write one")
            } else {
                failed
            })
        }
    }
}

impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self { diagnostics: Some(diagnostics.clone()), ..Self::new(Class::Usage, diagnostics) }
    }
}

//! `runner show`: how a run went.

use std::path::Path;

use super::CommandError;
use crate::cli::ShowSettings;
use crate::report::html::Pages;
use crate::report::{self, Sink};
use crate::run::artifacts::Manifest;
use crate::run::record::{RecordError, RunDirectory, RunRecord, Selector};

/// Prints a run as a table, or its record.
pub fn show(settings: &ShowSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let directory = find(&settings.home, &settings.run)?;
    let run = directory.read_run()?;
    if let Some(file) = &settings.html {
        page(file, &directory, &run, out)?;
    } else if settings.json {
        report::show::json(out, &run);
    } else {
        report::show::table(out, &run, &directory.path().display().to_string(), settings.stdout_color);
    }
    Ok(0)
}

/// Writes the page: whole, or not at all.
fn page(file: &Path, directory: &RunDirectory, run: &RunRecord, out: &mut Sink) -> Result<(), CommandError> {
    let report = |name: &str| {
        let bytes = std::fs::read(directory.path().join("reports").join(name)).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    };
    let manifest = Manifest::load(&directory.artifacts_path())?;
    let pages = Pages {
        run,
        directory: directory.path(),
        manifest: &manifest,
        reports: ["junit.json", "coverage.json", "sarif.json"].map(report),
    };
    if file == Path::new("-") {
        report::html::page(out, &pages);
        return Ok(());
    }
    let wrong = |action, source| RecordError::io(action, file, source);
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let opened = std::fs::File::create(&partial).map_err(|source| wrong("create", source))?;
    let mut sink = Sink::new(Box::new(std::io::BufWriter::new(opened)));
    report::html::page(&mut sink, &pages);
    let written = match sink.error() {
        None => std::fs::rename(&partial, file),
        Some(error) => Err(error.kind().into()),
    };
    written.map_err(|source| {
        // The first error is the one to tell.
        let _rest = std::fs::remove_file(&partial);
        wrong("write", source).into()
    })
}

/// Finds the run that the user names.
pub(super) fn find(home: &std::path::Path, run: &str) -> Result<RunDirectory, CommandError> {
    let selector = match run.parse::<Selector>() {
        Ok(selector) => selector,
        Err(never) => match never {},
    };
    Ok(RunDirectory::open(home, &selector)?)
}

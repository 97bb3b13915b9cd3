//! `jobs/<job>/services/<name>/`: what one service was given, what it said, and what came of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::step::{StagedStep, StepDirectory, names};
use super::write::{Durability, write_file_atomic};
use super::{RecordError, read_json};
use crate::outcome::ServiceResult;

/// Where the services of a job are, relative to the run directory.
pub(super) fn services_path(job: &str) -> PathBuf {
    Path::new("jobs").join(job).join("services")
}

/// Makes the directory of a service, hidden until it starts. It is a directory as a step has it, of no number.
pub(super) fn stage(run: &Path, job: &str, name: &str) -> Result<StagedStep, RecordError> {
    let relative = services_path(job).join(name);
    let path = run.join(&relative);
    StagedStep::create_at(
        run,
        StepDirectory { job: job.to_owned(), index: 0, id: name.to_owned(), relative, path },
    )
}

/// Lists the services of all jobs that were started, the jobs by name.
pub(super) fn all(run: &Path) -> Result<Vec<StepDirectory>, RecordError> {
    let mut services = Vec::new();
    for job in names(&run.join("jobs"))? {
        let parent = services_path(&job);
        for name in names(&run.join(&parent))?.into_iter().filter(|name| !name.starts_with('.')) {
            let relative = parent.join(&name);
            let path = run.join(&relative);
            services.push(StepDirectory { job: job.clone(), index: 0, id: name, relative, path });
        }
    }
    Ok(services)
}

/// Reads the results of a job's services that are over.
pub(super) fn read_results(run: &Path, job: &str) -> Result<Vec<ServiceResult>, RecordError> {
    let mut results = Vec::new();
    for service in all(run)?.iter().filter(|service| service.job == job) {
        results.extend(service.read_service_result()?);
    }
    Ok(results)
}

/// Changes the paths of results whose directory was moved.
pub(super) fn moved(
    run: &Path,
    from: &Path,
    to: &Path,
    results: &mut [ServiceResult],
) -> Result<(), RecordError> {
    for result in results {
        if let Ok(below) = Path::new(&result.log.path).strip_prefix(from) {
            result.log.path = to.join(below).display().to_string();
        }
        let place = run.join(&result.log.path);
        if let Some(place) = place.parent().filter(|place| place.join("result.json").exists()) {
            let path = place.join("result.json");
            write_file_atomic(&path, &super::to_json(&path, result)?, Durability::Cheap)?;
        }
    }
    Ok(())
}

impl StepDirectory {
    /// Keeps how a service ended.
    pub fn write_service_result(&self, result: &ServiceResult) -> Result<(), RecordError> {
        let path = self.path.join("result.json");
        write_file_atomic(&path, &super::to_json(&path, result)?, Durability::Cheap)
    }

    /// Reads how a service ended; `None` when it has not.
    pub fn read_service_result(&self) -> Result<Option<ServiceResult>, RecordError> {
        match read_json(&self.path.join("result.json")) {
            Ok(result) => Ok(Some(result)),
            Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the last lines of its log, at most so many and so many bytes, invalid UTF-8 replaced.
    pub fn log_tail(&self, lines_max: usize, bytes_max: u64) -> Vec<String> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let read = || -> io::Result<(bool, Vec<u8>)> {
            let mut file = fs::File::open(self.log_path())?;
            let length = file.metadata()?.len();
            let start = length.saturating_sub(bytes_max);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(bytes_max).read_to_end(&mut bytes)?;
            Ok((start > 0, bytes))
        };
        let Ok((is_cut, bytes)) = read() else { return Vec::new() };
        let text = String::from_utf8_lossy(&bytes);
        // The first line of a cut log is a part of one.
        let lines: Vec<&str> = text.lines().skip(usize::from(is_cut)).collect();
        let first = lines.len().saturating_sub(lines_max);
        lines[first..].iter().map(|line| (*line).to_owned()).collect()
    }
}

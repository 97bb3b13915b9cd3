//! `runner artifacts`: what a run collected.

use std::path::Path;

use super::show::find;
use super::{Class, CommandError};
use crate::cli::{ArtifactsSettings, ArtifactsVerb};
use crate::report::{self, Sink};
use crate::run::artifacts::{ArtifactError, Manifest, extract, verify};

/// Lists, copies out or checks artifacts.
pub fn artifacts(settings: &ArtifactsSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let run = find(&settings.home, &settings.run)?;
    let directory = run.artifacts_path();
    match &settings.verb {
        ArtifactsVerb::List => {
            report::artifacts::list(out, &Manifest::load(&directory)?);
            Ok(0)
        }
        ArtifactsVerb::Get { names, into, force } => {
            let extracted = extract(&directory, names, into, *force)?;
            report::artifacts::extracted(out, &extracted, into);
            Ok(0)
        }
        ArtifactsVerb::Verify => check(&directory, out),
    }
}

fn check(directory: &Path, out: &mut Sink) -> Result<u8, CommandError> {
    let verification = verify(directory)?;
    report::artifacts::verification(out, &verification);
    Ok(if verification.problems.is_empty() { 0 } else { Class::Mismatch.exit_code() })
}

impl From<ArtifactError> for CommandError {
    fn from(error: ArtifactError) -> Self {
        let class = match &error {
            ArtifactError::Record(error) if !error.is_usage() => Class::Host,
            ArtifactError::Mismatch { .. } => Class::Mismatch,
            ArtifactError::Record(_)
            | ArtifactError::Unknown { .. }
            | ArtifactError::Occupied { .. }
            | ArtifactError::NoMatch { .. }
            | ArtifactError::Secret { .. }
            | ArtifactError::LinkOut { .. }
            | ArtifactError::Limit { .. }
            | ArtifactError::Changed { .. }
            | ArtifactError::Read { .. }
            | ArtifactError::BadName { .. }
            | ArtifactError::Exists { .. } => Class::Usage,
        };
        let hint = error.hint();
        Self { class, error: Box::new(error), hint, diagnostics: None }
    }
}

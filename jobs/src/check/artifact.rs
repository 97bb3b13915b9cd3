//! The artifacts, and that no two of them have one name.

use std::collections::HashMap;

use super::{Checker, given};
use crate::codes::Code;
use crate::file::{ArtifactField, At, Required};
use crate::glob::{self, GlobError};
use crate::job::{Artifact, Step};
use crate::names;
use crate::plan::When;
use crate::render::quote;
use crate::source::Span;

impl Checker<'_> {
    pub(super) fn artifacts(&mut self, fields: Vec<ArtifactField>, place: &str) -> Vec<Artifact> {
        fields.into_iter().filter_map(|field| self.artifact(field, place)).collect()
    }

    fn artifact(&mut self, field: ArtifactField, place: &str) -> Option<Artifact> {
        let ends = [("success", When::Success), ("failure", When::Failure), ("always", When::Always)];
        let when = match field.when {
            Some(word) => self.choice(&word, "when", " in the artifact", &ends),
            None => Some(When::Success),
        };
        let name = field.name.filter(|name| self.artifact_name(name));
        if field.paths == Required::Absent {
            let text = format!("the artifact{place} has no `paths`");
            self.problems.add(Code::NoPaths, &field.span, text).hint("paths: [target/app, \"logs/*.txt\"]");
        }
        let paths = self.patterns(given(field.paths)?)?;
        Some(Artifact { name, paths, when: when?, optional: field.optional })
    }

    fn artifact_name(&mut self, name: &At<String>) -> bool {
        let good = names::is_artifact_name(&name.value);
        if !good {
            let text = format!("{} cannot be the name of an artifact", quote(&name.value));
            let hint = "it becomes a directory: letters, digits, `.`, `_`, `-`, not a dot first";
            self.problems.add(Code::ArtifactName, &name.span, text).hint(hint);
        }
        good
    }

    fn patterns(&mut self, paths: At<Vec<At<String>>>) -> Option<Vec<String>> {
        let mut good = true;
        for pattern in &paths.value {
            if let Err(error) = glob::check(&pattern.value) {
                good = false;
                self.pattern_fault(pattern, &error);
            }
        }
        if good && paths.value.iter().all(|pattern| glob::is_exclusion(&pattern.value)) {
            let text = match paths.value.is_empty() {
                true => "`paths` is empty",
                false => "`paths` only excludes: nothing is ever collected",
            };
            self.problems.add(Code::NoPaths, &paths.span, text);
            return None;
        }
        good.then(|| paths.value.into_iter().map(|pattern| pattern.value).collect())
    }

    pub(super) fn pattern_fault(&mut self, pattern: &At<String>, error: &GlobError) {
        let (code, hint) = match error {
            GlobError::Absolute | GlobError::Parent => {
                (Code::GlobLeaves, Some("copy the file into the workspace in a step"))
            }
            GlobError::Empty | GlobError::Long | GlobError::WideClass => (Code::GlobSyntax, None),
            GlobError::Syntax(_) => {
                (Code::GlobSyntax, Some("put a backslash before a character that is to stand for itself"))
            }
        };
        let text = format!("{} is not accepted: {error}", quote(&pattern.value));
        let problem = self.problems.add(code, &pattern.span, text);
        if let Some(hint) = hint {
            problem.hint(hint);
        }
    }

    /// Reports names that are given twice, wherever in the job.
    pub(super) fn artifact_names(&mut self, steps: &[Step], of_job: &[Artifact]) {
        let mut seen: HashMap<&str, &Span> = HashMap::new();
        let mut names: Vec<&At<String>> =
            of_job.iter().filter_map(|artifact| artifact.name.as_ref()).collect();
        names.extend(
            steps.iter().flat_map(|step| &step.artifacts).filter_map(|artifact| artifact.name.as_ref()),
        );
        names.sort_by_key(|name| name.span.start);
        for name in names {
            if let Some(first) = seen.get(name.value.as_str()) {
                let text = format!("two artifacts have the name {}", quote(&name.value));
                self.problems.add(Code::DuplicateArtifact, &name.span, text).refer_to(first);
            } else {
                seen.insert(&name.value, &name.span);
            }
        }
    }
}

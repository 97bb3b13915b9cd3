//! The jobs among each other: ids, needs, and that no job waits for itself.

use std::collections::{HashMap, HashSet};

use super::Checker;
use crate::codes::Code;
use crate::diagnostic::Problems;
use crate::file::{EarlyFields, JobSource, NeedField};
use crate::job::Early;
use crate::names;
use crate::plan::{Need, When};
use crate::render::quote;
use crate::source::Span;
use crate::suggest::nearest;

/// Checks what of the jobs is settled early, and the graph that they make.
pub(crate) fn early(sources: &[JobSource], fields: Vec<EarlyFields>, problems: &mut Problems) -> Vec<Early> {
    let mut check = Checker { problems };
    let ids: Vec<&str> = sources.iter().map(|source| source.id.value.as_str()).collect();
    let spans: Vec<Vec<Span>> =
        fields.iter().map(|early| early.needs.iter().map(|need| need.job.span.clone()).collect()).collect();
    let mut all = Vec::with_capacity(fields.len());
    for (source, fields) in sources.iter().zip(fields) {
        check.job_id(source);
        let cells = check.cells(fields.matrix, fields.unreadable, &source.place);
        let needs = check.needs(fields.needs, source, &ids);
        let max_parallel = fields.max_parallel.and_then(|max| match usize::try_from(max.value) {
            Ok(count @ 1..) => Some(count),
            _ => {
                let text = format!("`max-parallel`{} must be at least 1", source.place);
                check.problems.add(Code::LimitTooSmall, &max.span, text);
                None
            }
        });
        let (fail_fast, outputs) = (fields.fail_fast.unwrap_or(true), fields.outputs);
        all.push(Early { needs, cells, fail_fast, max_parallel, outputs });
    }
    check.no_cycles(&ids, &all, &spans);
    all
}

impl Checker<'_> {
    fn job_id(&mut self, source: &JobSource) {
        if names::is_id(&source.id.value) {
            return;
        }
        let text = format!("{} cannot be a job's id", quote(&source.id.value));
        let hint = match names::slug(&source.id.value) {
            Some(slug) => {
                format!("a lower-case letter, then letters, digits, `-`, `_`: `{slug}`, for example")
            }
            None => "a lower-case letter, then up to 62 letters, digits, `-`, `_`".to_owned(),
        };
        self.problems.add(Code::BadId, &source.id.span, text).hint(hint);
    }

    fn needs(&mut self, fields: Vec<NeedField>, source: &JobSource, ids: &[&str]) -> Vec<Need> {
        let ends = [("success", When::Success), ("failure", When::Failure), ("always", When::Always)];
        let mut needs: Vec<Need> = Vec::with_capacity(fields.len());
        for NeedField { job, on, artifacts } in fields {
            let on = on.and_then(|word| self.choice(&word, "if", " in `needs`", &ends));
            let known = ids.contains(&job.value.as_str());
            if !known {
                let mut text = format!("{} needs {}, which does not exist", source.label, quote(&job.value));
                let similar = nearest(&job.value, ids);
                if let Some(similar) = similar {
                    text.push_str(&format!("; did you mean `{similar}`?"));
                }
                let problem = self.problems.add(Code::UnknownNeed, &job.span, text);
                if similar.is_none() {
                    problem.hint("`needs` names other jobs of this file, by their keys below `jobs`");
                }
            } else if needs.iter().any(|need| need.job == job.value) {
                let text = format!("{} needs {} twice", source.label, quote(&job.value));
                self.problems.add(Code::DuplicateId, &job.span, text);
            } else {
                needs.push(Need { job: job.value, on, artifacts: artifacts.unwrap_or(true) });
            }
        }
        needs
    }

    /// Reports each circle of jobs once, where the need that closes it stands.
    fn no_cycles(&mut self, ids: &[&str], jobs: &[Early], spans: &[Vec<Span>]) {
        let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let mut done: HashSet<usize> = HashSet::new();
        for start in 0..jobs.len() {
            // Depth first with a stack of our own: a chain may be as long as the file has jobs.
            let mut path: Vec<(usize, usize)> = vec![(start, 0)];
            while let Some((job, next)) = path.last_mut() {
                let job = *job;
                if done.contains(&job) {
                    path.pop();
                    continue;
                }
                let Some(need) = jobs[job].needs.get(*next) else {
                    done.insert(job);
                    path.pop();
                    continue;
                };
                *next += 1;
                let Some(&needed) = places.get(need.job.as_str()) else { continue };
                match path.iter().position(|(on_path, _)| *on_path == needed) {
                    Some(from) => {
                        let circle: Vec<&str> = path[from..].iter().map(|(at, _)| ids[*at]).collect();
                        let text = match circle.as_slice() {
                            [one] => format!("the job `{one}` needs itself"),
                            _ => {
                                format!("jobs need each other: {} → {}", circle.join(" → "), ids[needed])
                            }
                        };
                        self.problems.add(Code::NeedCycle, spans[job].first().cloned(), text);
                    }
                    None => path.push((needed, 0)),
                }
            }
        }
    }
}

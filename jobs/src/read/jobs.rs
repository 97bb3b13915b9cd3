//! The map `jobs`: which jobs there are, each with the file's defaults.

use super::{JOB_KEYS, NEED_KEYS, Place, Reader};
use crate::bounds::JOBS_MAX;
use crate::codes::Code;
use crate::file::{At, JobSource, NeedField};
use crate::merge;
use crate::render::quote;
use crate::yaml::{Entry, Kind, Node, Value};

impl Reader<'_> {
    /// Reports `steps` beside `jobs`: a file is one job or several.
    pub(super) fn no_steps_beside_jobs(&mut self, map: &[Entry]) {
        for entry in map.iter().filter(|entry| entry.key == "steps") {
            let text = "`steps` and `jobs` stand at the same level: a file is one job or several";
            let hint = "put the steps into a job below `jobs`";
            self.problems.add(Code::StepsAndJobs, &entry.key_span, text).hint(hint);
        }
    }

    /// Reads the jobs. `defaults`: what the top level says for each.
    pub(super) fn jobs(&mut self, entry: &Entry, defaults: &[Entry]) -> Vec<JobSource> {
        let nothing = matches!(&entry.value.value, Value::Scalar(scalar) if scalar.kind == Kind::Null);
        let map = if nothing { Some(&[][..]) } else { self.map(&entry.value, "jobs", "") };
        let Some(map) = map else { return Vec::new() };
        if map.is_empty() {
            let hint = "jobs: {build: {image: ..., steps: [...]}}";
            self.problems.add(Code::NoJobs, &entry.key_span, "`jobs` is empty").hint(hint);
        }
        self.at_most(map.len(), JOBS_MAX, "jobs", &entry.key_span);
        map.iter().take(JOBS_MAX).filter_map(|entry| self.job(entry, defaults)).collect()
    }

    fn job(&mut self, entry: &Entry, defaults: &[Entry]) -> Option<JobSource> {
        let label = format!("the job {}", quote(&entry.key));
        let place = format!(" in job {}", quote(&entry.key));
        let map = self.map(&entry.value, &format!("a job, here {},", quote(&entry.key)), "")?;
        let meant = self.known_keys(map, JOB_KEYS, Place { within: &place, ignored_prefix: None });
        let known = |entry: &&Entry| JOB_KEYS.contains(&entry.key.as_str());
        let own: Vec<Entry> = map.iter().filter(known).cloned().collect();
        let entries = merge::job(&own, defaults);
        let id = At { value: entry.key.clone(), span: entry.key_span.clone() };
        // Nothing of a long map is marked where something is missing from it.
        let span = entry.key_span.clone();
        Some(JobSource { id, label, place, span, entries, meant })
    }

    /// Reads `needs`: a list of jobs. `None`: one could not be read.
    pub(super) fn needs(&mut self, node: &Node, place: &str) -> Option<Vec<NeedField>> {
        let list = self.list(node, "needs", "jobs", place)?;
        let needs: Vec<_> = list.iter().map(|entry| self.need(entry, place)).collect();
        needs.into_iter().collect()
    }

    fn need(&mut self, node: &Node, place: &str) -> Option<NeedField> {
        let Value::Map(map) = &node.value else {
            let job = self.text_as(node, "an entry of `needs`", "a job's id or a map with `job`", place)?;
            return Some(NeedField { job, on: None, artifacts: None });
        };
        let place = " in `needs`";
        let meant = self.known_keys(map, NEED_KEYS, Place { within: place, ignored_prefix: None });
        let (mut job, mut on, mut artifacts) = (None, None, None);
        for Entry { key, value, .. } in map {
            match key.as_str() {
                "job" => job = self.text(value, "job", place),
                "if" => on = self.text(value, "if", place),
                "artifacts" => artifacts = self.boolean(value, "artifacts", place),
                _ => {}
            }
        }
        self.require(map, "job", &meant, &node.span, place);
        Some(NeedField { job: job?, on, artifacts: artifacts.map(|given| given.value) })
    }
}

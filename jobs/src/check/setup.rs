//! What all steps start from.

use std::collections::HashMap;

use super::Checker;
use crate::codes::Code;
use crate::file::{At, Required, SetupField};
use crate::glob;
use crate::job::Setup;

impl Checker<'_> {
    /// Returns the entries that are valid.
    pub(super) fn setup(&mut self, fields: Vec<SetupField>) -> Vec<Setup> {
        fields.into_iter().filter_map(|field| self.setup_entry(field)).collect()
    }

    fn setup_entry(&mut self, field: SetupField) -> Option<Setup> {
        let SetupField { step, reads, network, max_age } = field;
        let place = format!(" in {}", step.label);
        if step.run == Required::Absent {
            let text = format!("`run` is missing{place}");
            let start = step.span.start..step.span.start;
            self.problems
                .add(Code::NoRun, start, text)
                .hint("an entry of `setup` is a command, or a map with `run`");
        }
        let step = self.step(step, None, &[], &mut HashMap::new());
        let reads = reads.map(|reads| self.reads(reads)).unwrap_or_default();
        let network = network.and_then(|network| self.network(network, &place));
        let max_age = max_age.and_then(|age| self.time(&age, "max-age", &place, true));
        Some(Setup { step: step?, reads, network, max_age })
    }

    fn reads(&mut self, patterns: At<Vec<At<String>>>) -> Vec<String> {
        for pattern in &patterns.value {
            if let Err(error) = glob::check(&pattern.value) {
                self.pattern_fault(pattern, &error);
            }
        }
        patterns.value.into_iter().map(|pattern| pattern.value).collect()
    }
}

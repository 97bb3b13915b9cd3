//! The secrets of a job's steps: which variables have them, and what of records and values they must not be in.

use std::collections::BTreeMap;

use jobs::StepPlan;

use super::Job;
use crate::run::secrets::Masker;
use crate::run::step_files::Handed;

impl Job<'_> {
    /// The step's secrets that are variables.
    pub(super) fn secret_variables(&self, step: &StepPlan) -> Vec<(String, String)> {
        self.variables_of(&step.secrets)
    }

    /// Those of these secrets that are variables.
    pub(super) fn variables_of(&self, secrets: &[jobs::StepSecret]) -> Vec<(String, String)> {
        let variable = |secret: &jobs::StepSecret| {
            // Whoever gave it has been told when it cannot be one.
            let value = std::str::from_utf8(self.secrets.get(&secret.name)?).ok()?;
            Some((secret.env.clone()?, value.to_owned()))
        };
        secrets.iter().filter_map(variable).collect()
    }

    /// An environment as it is recorded.
    pub(super) fn shown(&self, environment: BTreeMap<String, String>) -> BTreeMap<String, String> {
        if self.secrets.is_empty() {
            return environment;
        }
        let shown = environment.into_iter();
        shown.map(|(name, value)| (name, self.secrets.masked(&value).into_owned())).collect()
    }

    /// Bytes as they are recorded.
    pub(super) fn shown_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut masker = Masker::default();
        let mut shown = masker.push(self.secrets, bytes);
        shown.extend(masker.finish());
        shown
    }

    /// Names a secret that is in what a step hands on: it would become a part of other steps' records.
    pub(super) fn leaked(&self, handed: &Handed) -> Option<String> {
        let pairs = handed.outputs.iter().chain(&handed.env).flat_map(|(name, value)| [name, value]);
        let mut texts = pairs.chain(&handed.path);
        texts.find_map(|text| self.secrets.find(text.as_bytes()).map(|(name, _)| name.to_owned()))
    }
}

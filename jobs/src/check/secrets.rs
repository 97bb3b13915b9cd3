//! Which secrets a job knows, and which of them a step sees.

use super::Checker;
use crate::codes::Code;
use crate::file::{At, SecretField};
use crate::names;
use crate::plan::{SecretPlan, StepSecret};
use crate::render::quote;
use crate::suggest::nearest;

impl Checker<'_> {
    /// Returns what a job declares.
    pub(super) fn secrets(&mut self, fields: Vec<SecretField>, place: &str) -> Vec<SecretPlan> {
        let mut secrets: Vec<SecretPlan> = Vec::with_capacity(fields.len());
        for SecretField { name, required, env } in fields {
            let known = secrets.iter().any(|secret| secret.name == name.value);
            if !self.secret_name(&name, known, place) {
                continue;
            }
            let env = env.and_then(|env| self.secret_variable(env, place));
            let required = required.is_none_or(|required| required.value);
            secrets.push(SecretPlan { name: name.value, required, env });
        }
        secrets
    }

    /// Returns what a step sees; as a variable where it says so, or the job does.
    pub(super) fn step_secrets(
        &mut self,
        fields: Vec<SecretField>,
        declared: &[SecretPlan],
        place: &str,
    ) -> Vec<StepSecret> {
        let mut secrets: Vec<StepSecret> = Vec::with_capacity(fields.len());
        for SecretField { name, env, .. } in fields {
            let known = secrets.iter().any(|secret| secret.name == name.value);
            if !self.secret_name(&name, known, place) {
                continue;
            }
            let own = env.and_then(|env| self.secret_variable(env, place));
            match declared.iter().find(|secret| secret.name == name.value) {
                Some(secret) => {
                    let env = own.or_else(|| secret.env.clone());
                    secrets.push(StepSecret { name: name.value, env });
                }
                None => self.undeclared(&name, declared, place),
            }
        }
        secrets
    }

    fn undeclared(&mut self, name: &At<String>, declared: &[SecretPlan], place: &str) {
        let names: Vec<&str> = declared.iter().map(|secret| secret.name.as_str()).collect();
        let mut text = format!("the secret {}{place} is not declared by the job", quote(&name.value));
        if let Some(similar) = nearest(&name.value, &names) {
            text.push_str(&format!("; did you mean `{similar}`?"));
        }
        let hint = format!("add it to the job: secrets: [{}]", name.value);
        self.problems.add(Code::UnknownSecret, &name.span, text).hint(hint);
    }

    fn secret_name(&mut self, name: &At<String>, known: bool, place: &str) -> bool {
        let fault = if !names::is_env_name(&name.value) {
            "cannot be the name of a secret"
        } else if known {
            "is named twice"
        } else {
            return true;
        };
        let text = format!("{}{place} {fault}", quote(&name.value));
        let hint = "letters, digits and `_`, not a digit first";
        self.problems.add(Code::SecretName, &name.span, text).hint(hint);
        false
    }

    fn secret_variable(&mut self, env: At<String>, place: &str) -> Option<String> {
        self.variable(&env.value, None, &env.span, &env.span, place).then_some(env.value)
    }
}

//! The secrets of a run: what was given, held against what the plan declares.

use jobs::Plan;

use super::{Class, CommandError};
use crate::run::secrets::{Secrets, strong};

/// Takes the values that the plan's jobs declare.
///
/// # Errors
/// One that is missing, that no job declares, that cannot be hidden, or that cannot be the variable it is to be.
pub(super) fn of(plan: &Plan, mut given: Vec<(String, Vec<u8>)>) -> Result<Secrets, CommandError> {
    // CI services set the variables of secrets that a fork may not see to nothing.
    given.retain(|(_, value)| !value.is_empty());
    let declared = || plan.jobs.iter().flat_map(|job| &job.secrets);
    for (name, value) in &given {
        if !declared().any(|secret| secret.name == *name) {
            let mut names: Vec<&str> = declared().map(|secret| secret.name.as_str()).collect();
            names.dedup();
            let known = if names.is_empty() {
                "it declares none".to_owned()
            } else {
                format!("it has {}", names.join(", "))
            };
            let text = format!("error[E309]: no job declares the secret `{name}`");
            return Err(CommandError::new(Class::Usage, text).with_hint(known));
        }
        if let Err(weak) = strong(value) {
            let text = format!("error[E302]: the secret `{name}` cannot be hidden in output: {weak}");
            let hint = "give it as a variable (`-e`) if it is none, or make it longer";
            return Err(CommandError::new(Class::Usage, text).with_hint(hint));
        }
    }
    let missing =
        declared().find(|secret| secret.required && !given.iter().any(|(name, _)| *name == secret.name));
    if let Some(secret) = missing {
        let text = format!("error[E308]: the secret `{}` has no value", secret.name);
        let hint = format!(
            "give it: --secret {0}, or --secret {0}=@FILE; `required: false` does without",
            secret.name
        );
        return Err(CommandError::new(Class::Usage, text).with_hint(hint));
    }
    let secrets = Secrets::new(given);
    let steps = plan.jobs.iter().flat_map(|job| &job.steps);
    for secret in steps.flat_map(|step| &step.secrets).filter(|secret| secret.env.is_some()) {
        let value = secrets.get(&secret.name).unwrap_or_default();
        if std::str::from_utf8(value).is_err()
            || value.contains(&0)
            || value.len() >= jobs::bounds::ARGUMENT_BYTES_MAX
        {
            let text =
                format!("error[E302]: the secret `{}` cannot be a variable: it is no text", secret.name);
            let hint = "leave `env` out: the step finds it in /run/secrets";
            return Err(CommandError::new(Class::Usage, text).with_hint(hint));
        }
    }
    Ok(secrets)
}

//! What the expressions of a running job see, and what its steps hand to later ones. Values only.

use std::collections::BTreeMap;

use jobs::expression::{Contexts, Expression, Fault, Status, Template, Value};
use jobs::{JobPlan, StepPlan, Switch};

use super::step_files::Handed;
use crate::outcome::Outcome;

/// Most bytes of outputs and variables of all steps of a job together: the keeper holds them.
const HANDED_BYTES_MAX: usize = 16 << 20;

/// The values of one job, growing with its steps.
#[derive(Debug)]
pub struct Values {
    fixed: Vec<(&'static str, Value)>,
    job: String,
    status: Status,
    steps: Vec<(String, Value)>,
    /// The job's own variables, settled.
    own: Env,
    /// Variables by `$RUNNER_ENV`, which win over the job's own.
    added: BTreeMap<String, String>,
    /// Directories by `$RUNNER_PATH`.
    path: Vec<String>,
    bytes: usize,
}

/// What a step is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Variables from the lowest layer up: the job's own, what earlier steps added, the step's.
    pub env: Env,
    /// Directories for the front of PATH.
    pub path: Vec<String>,
    /// A failure does not stop the job.
    pub forgiving: bool,
}

/// Variables settled; `None` unsets.
pub type Env = Vec<(String, Option<String>)>;

impl Values {
    /// Begins with what is known before the job. `fixed`: the contexts of the plan and the run.
    pub fn new(mut fixed: Vec<(&'static str, Value)>, job: &JobPlan) -> Self {
        fixed.push(("matrix", job.matrix.clone()));
        Self {
            fixed,
            job: job.id.clone(),
            status: Status::Success,
            steps: Vec::new(),
            own: Vec::new(),
            added: BTreeMap::new(),
            path: Vec::new(),
            bytes: 0,
        }
    }

    /// Settles the job's own variables.
    ///
    /// # Errors
    /// One that cannot be settled.
    pub fn with_env(mut self, job: &JobPlan) -> Result<Self, Unsettled> {
        self.own = self.settle_env(&job.env)?;
        Ok(self)
    }

    /// Says how things stand.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// Whether a step's or the job's condition holds; without one, it is `success()`.
    ///
    /// # Errors
    /// A condition that cannot be settled.
    pub fn holds(&self, condition: Option<&Expression>) -> Result<bool, Unsettled> {
        let Some(condition) = condition else { return Ok(self.status == Status::Success) };
        let contexts = Contexts { status: Some(self.status), ..self.contexts() };
        condition.holds(&contexts).map_err(|fault| unsettled("if", condition.source(), fault))
    }

    /// What a step is run with; `None` when its turn does not come.
    ///
    /// # Errors
    /// An expression of the step that cannot be settled.
    pub fn turn(&self, step: &StepPlan) -> Result<Option<Turn>, Unsettled> {
        if !self.holds(step.condition.as_ref())? {
            return Ok(None);
        }
        let own = self.settle_env(&step.env)?;
        let added = self.added.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        Ok(Some(Turn {
            env: self.own.iter().cloned().chain(added).chain(own).collect(),
            path: self.path.clone(),
            forgiving: self.switch(&step.continue_on_error)?,
        }))
    }

    /// Settles variables.
    ///
    /// # Errors
    /// The first that cannot be settled, or that no process can be given.
    pub fn settle_env(&self, env: &[(String, Option<Template>)]) -> Result<Env, Unsettled> {
        let mut contexts = None;
        let settle = |(name, template): &(String, Option<Template>)| {
            let Some(template) = template else { return Ok((name.clone(), None)) };
            if let Some(text) = template.as_literal() {
                return Ok((name.clone(), Some(text.to_owned())));
            }
            let contexts = contexts.get_or_insert_with(|| self.contexts());
            let text = template.text(contexts).map_err(|fault| unsettled(name, template.source(), fault))?;
            if text.contains('\0') || name.len() + text.len() + 2 > jobs::bounds::ARGUMENT_BYTES_MAX {
                let why = if text.contains('\0') { "contains a NUL character" } else { "is too long" };
                return Err(Unsettled { what: name.clone(), why: format!("what it comes to {why}") });
            }
            Ok((name.clone(), Some(text)))
        };
        env.iter().map(settle).collect()
    }

    /// Settles what the job hands to others.
    ///
    /// # Errors
    /// The first output that cannot be settled.
    pub fn outputs(&self, job: &JobPlan) -> Result<Vec<(String, String)>, Unsettled> {
        let contexts = self.contexts();
        let settle = |(name, template): &(String, Template)| match template.text(&contexts) {
            Ok(text) => Ok((name.clone(), text)),
            Err(fault) => Err(unsettled(name, template.source(), fault)),
        };
        job.outputs.iter().map(settle).collect()
    }

    /// Settles a switch.
    ///
    /// # Errors
    /// One that cannot be settled, or comes to neither true nor false.
    pub fn switch(&self, switch: &Switch) -> Result<bool, Unsettled> {
        let template = match switch {
            Switch::Is(value) => return Ok(*value),
            Switch::When(template) => template,
        };
        let value = template.evaluate(&self.contexts());
        match value.map_err(|fault| unsettled("continue-on-error", template.source(), fault))? {
            Value::Bool(value) => Ok(value),
            Value::Text(text) if matches!(&*text, "true" | "false") => Ok(&*text == "true"),
            other => Err(Unsettled {
                what: "continue-on-error".to_owned(),
                why: format!("`{}` is {other:?}, neither true nor false", template.source()),
            }),
        }
    }

    /// Takes what a step handed on. Returns false when the job's steps have handed on too much; nothing is taken then.
    pub fn take(&mut self, handed: &Handed) -> bool {
        let pairs = handed.outputs.iter().chain(&handed.env);
        let bytes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
        let bytes = bytes + handed.path.iter().map(String::len).sum::<usize>();
        if self.bytes + bytes > HANDED_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.added.extend(handed.env.iter().cloned());
        self.path.splice(0..0, handed.path.iter().cloned());
        true
    }

    /// Notes how a step ended.
    pub fn ended(&mut self, id: &str, outcome: Outcome, conclusion: Outcome, outputs: &[(String, String)]) {
        let outputs = Value::map(outputs.iter().map(|(name, value)| (name.clone(), Value::text(value))));
        let step = [
            ("outcome", Value::text(outcome.as_str())),
            ("conclusion", Value::text(conclusion.as_str())),
            ("outputs", outputs),
        ];
        self.steps.push((id.to_owned(), Value::map(step)));
    }

    fn contexts(&self) -> Contexts {
        let mut values = self.fixed.clone();
        let mut env: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in &self.own {
            match value {
                Some(value) => drop(env.insert(name, value)),
                None => drop(env.remove(name.as_str())),
            }
        }
        env.extend(self.added.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let job = [("id", Value::text(&self.job)), ("status", Value::text(self.status.as_str()))];
        values.push(("env", Value::map(env.into_iter().map(|(name, value)| (name, Value::text(value))))));
        values.push(("job", Value::map(job)));
        values.push(("steps", Value::map(self.steps.iter().cloned())));
        Contexts { values, status: None }
    }
}

/// An expression that comes to nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{what}`: {why}")]
pub struct Unsettled {
    what: String,
    why: String,
}

fn unsettled(what: &str, source: &str, fault: Fault) -> Unsettled {
    Unsettled { what: what.to_owned(), why: format!("{fault}, in `{source}`") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs::Overrides;

    fn job(text: &str) -> JobPlan {
        let text = format!("image: host\n{text}");
        jobs::plan("job.yml", "job", text.as_bytes(), &Overrides::default()).unwrap().plan.jobs.remove(0)
    }

    fn handed(outputs: &[(&str, &str)], env: &[(&str, &str)], path: &[&str]) -> Handed {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let path = path.iter().map(|path| (*path).to_owned()).collect();
        Handed { outputs: own(outputs), env: own(env), path, ..Handed::default() }
    }

    #[test]
    fn later_steps_see_what_earlier_ones_handed_on() {
        let job = job("env: {A: job, B: job}\nsteps:\n\
            \x20 - {id: one, run: x}\n\
            \x20 - run: y\n\
            \x20   if: steps.one.outputs.go == 'yes' && steps.one.outcome == 'failure'\n\
            \x20   continue-on-error: ${{ steps.one.outputs.soft }}\n\
            \x20   env: {B: step, V: \"${{ env.A }}/${{ steps.one.outputs.go }}/${{ job.status }}\"}\n");
        let mut values = Values::new(Vec::new(), &job).with_env(&job).unwrap();
        let given =
            handed(&[("go", "yes"), ("soft", "true")], &[("A", "added"), ("B", "added")], &["/b", "/a"]);
        assert!(values.take(&given));
        values.ended("one", Outcome::Failure, Outcome::Success, &given.outputs);
        let step = &job.steps[1];
        let Turn { env, path, forgiving } = values.turn(step).unwrap().unwrap();
        assert_eq!((forgiving, path), (true, vec!["/b".to_owned(), "/a".to_owned()]));
        let last = |name: &str| env.iter().rfind(|(known, _)| known == name).unwrap().1.clone().unwrap();
        assert_eq!(
            (last("A"), last("B"), last("V")),
            ("added".into(), "step".into(), "added/yes/success".into())
        );
        assert!(values.take(&handed(&[], &[], &["/c"])));
        assert_eq!(values.turn(step).unwrap().unwrap().path, ["/c", "/b", "/a"]);
        values.set_status(Status::Failure);
        assert_eq!(values.turn(step).unwrap(), None);
        assert!(!values.holds(None).unwrap());
    }

    #[test]
    fn what_comes_to_nothing_sensible_is_told() {
        let job = job("steps:\n\
            \x20 - {id: one, run: x}\n\
            \x20 - run: y\n\
            \x20   if: fromJSON(steps.one.outputs.x)\n\
            \x20   continue-on-error: ${{ steps.one.outputs.x }}\n\
            \x20   env: {V: \"${{ steps.one.outputs }}\"}\n");
        let mut values = Values::new(Vec::new(), &job);
        values.ended("one", Outcome::Success, Outcome::Success, &[("x".into(), "[".into())]);
        let step = &job.steps[1];
        let found = [
            values.holds(step.condition.as_ref()).unwrap_err().to_string(),
            values.switch(&step.continue_on_error).unwrap_err().to_string(),
            values.settle_env(&step.env).unwrap_err().to_string(),
        ];
        let expected = [
            "`if`: `fromJSON` was given what is not JSON: EOF while parsing a list at line 1 column 1, in \
             `fromJSON(steps.one.outputs.x)`",
            "`continue-on-error`: `${{ steps.one.outputs.x }}` is \"[\", neither true nor false",
            "`V`: a map cannot be written as text, in `${{ steps.one.outputs }}`",
        ];
        assert_eq!(found, expected);
        let big = "x".repeat(HANDED_BYTES_MAX);
        assert!(!values.take(&handed(&[("o", &big)], &[], &[])));
    }
}
